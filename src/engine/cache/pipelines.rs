//! Records of the pipelines that have run in a cache. `gc` keeps the results that they request.
//!
//! A project is identified by the path and the inode of its folder: on another machine, or after a
//! move, another folder may have the path. If the cache is inside the project's folder, both move
//! together, so the folder that contains the cache is the project if it has the recorded inode.
//!
//! Knows no plan: the caller determines the results that a pipeline requests.

use super::store::Store;
use crate::engine::key::Digest;
use crate::fs;
use anyhow::{Context as _, Result};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The folder of the records.
const PIPELINES: &str = "pipelines";

/// The record of a pipeline file of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineRecord {
    /// The project's folder, absolute, without links.
    pub folder: PathBuf,
    /// The inode of that folder.
    inode: u64,
    /// Whether the cache was inside that folder.
    holds_cache: bool,
    /// The pipeline file, relative to the folder, or absolute.
    pub pipeline: PathBuf,
}

fn inode(folder: &Path) -> Option<u64> {
    std::fs::metadata(folder).ok().filter(|meta| meta.is_dir()).map(|meta| meta.ino())
}

/// The folder that contains `cache/<version>`, links resolved.
fn container(root: &Path) -> Option<PathBuf> {
    Some(root.canonicalize().ok()?.parent()?.parent()?.to_owned())
}

impl PipelineRecord {
    /// The record of `pipeline`, a path relative to the project's `folder`.
    fn new(store: &Store, folder: &Path, pipeline: &Path) -> Result<PipelineRecord> {
        let unreadable = || format!("cannot read the project's folder `{}`", folder.display());
        let folder = folder.canonicalize().with_context(unreadable)?;
        let inode = inode(&folder).with_context(unreadable)?;
        let holds_cache = store.is_inside(&folder);
        Ok(PipelineRecord { folder, inode, holds_cache, pipeline: pipeline.to_owned() })
    }

    /// The current path of the project's folder; `None` if it was moved or removed, is not mounted,
    /// or is on another machine.
    fn find_project(&self, root: &Path) -> Option<PathBuf> {
        let with_cache = || container(root).filter(|_| self.holds_cache);
        let is_project = |folder: &PathBuf| inode(folder) == Some(self.inode);
        let at_path = || Some(self.folder.clone()).filter(is_project);
        with_cache().filter(is_project).or_else(at_path)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let PipelineRecord { folder, inode, holds_cache, pipeline } = self;
        let [folder, pipeline] = [folder, pipeline].map(|path| path.as_os_str().as_bytes());
        let first = format!("{}\0{inode}", if *holds_cache { "inside" } else { "outside" });
        [first.as_bytes(), folder, pipeline].join(&0)
    }

    fn from_bytes(bytes: &[u8]) -> Option<PipelineRecord> {
        let mut parts = bytes.split(|byte| *byte == 0);
        let mut next = || parts.next();
        let holds_cache = next()? == b"inside";
        let inode = std::str::from_utf8(next()?).ok()?.parse().ok()?;
        let path = |bytes| PathBuf::from(OsStr::from_bytes(bytes));
        let (folder, pipeline) = (path(next()?), path(next()?));
        let record = PipelineRecord { folder, inode, holds_cache, pipeline };
        parts.next().is_none().then_some(record)
    }
}

impl Store {
    /// Records that `pipeline` of the project in `folder` runs in this cache.
    pub fn record_pipeline(&self, folder: &Path, pipeline: &Path) -> Result<()> {
        let bytes = PipelineRecord::new(self, folder, pipeline)?.to_bytes();
        let path = self.path(PIPELINES).join(Digest::of(&bytes).to_string());
        if fs::read_if_regular(&path)?.is_some_and(|recorded| recorded == bytes) {
            return Ok(());
        }
        fs::create_dir_all(&self.path(PIPELINES))?;
        fs::write_atomic(&path, &self.scratch()?, &bytes)
    }

    /// The records of all pipelines, each with the path of its file; `None` for a damaged one.
    pub fn pipelines(&self) -> Result<Vec<(PathBuf, Option<PipelineRecord>)>> {
        let folder = self.path(PIPELINES);
        let read = |name: String| {
            let (digest, path) = (name.parse::<Digest>().ok()?, folder.join(name));
            let is_whole = |bytes: &Vec<u8>| Digest::of(bytes) == digest;
            let bytes = fs::read_if_regular(&path).map(|bytes| bytes.filter(is_whole));
            let record = |bytes: Vec<u8>| PipelineRecord::from_bytes(&bytes);
            Some(bytes.map(|bytes| (path, bytes.and_then(record))))
        };
        fs::list(&folder)?.into_iter().filter_map(read).collect()
    }

    /// Whether this cache is inside the folder of `project`, not only linked from there.
    pub fn is_inside(&self, project: &Path) -> bool {
        container(&self.local.root)
            .is_some_and(|folder| project.canonicalize().is_ok_and(|project| project == folder))
    }

    /// The current folder of a recorded pipeline's project; `None` if it cannot be found.
    pub fn find_project(&self, record: &PipelineRecord) -> Option<PathBuf> {
        record.find_project(&self.local.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_project_is_found_after_a_move_with_its_cache_and_no_other_folder_is_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("a/cache/v2")).unwrap();
        fs::create_dir(path("b")).unwrap();
        std::os::unix::fs::symlink(path("a/cache"), path("b/cache")).unwrap();
        let of = |folder: &str| {
            PipelineRecord::new(
                &Store::at(&path(folder).join("cache")),
                &path(folder),
                Path::new("p.yaml"),
            )
            .unwrap()
        };
        let (inside, outside) = (of("a"), of("b"));
        for record in [&inside, &outside] {
            assert_eq!(PipelineRecord::from_bytes(&record.to_bytes()).as_ref(), Some(record));
        }
        let found = |record: &PipelineRecord, root: &str| record.find_project(&path(root));
        assert_eq!(found(&inside, "b/cache/v2"), path("a").canonicalize().ok());
        assert_eq!(found(&outside, "a/cache/v2"), path("b").canonicalize().ok());
        for moved in ["a", "b"] {
            fs::rename(path(moved), path(&format!("{moved}2"))).unwrap();
            fs::create_dir(path(moved)).unwrap();
        }
        assert_eq!(found(&inside, "a2/cache/v2"), path("a2").canonicalize().ok());
        assert_eq!(found(&outside, "a2/cache/v2"), None, "another folder has the path");
        fs::rename(path("a2/cache"), path("cache")).unwrap();
        assert_eq!(found(&inside, "cache/v2"), None, "another folder holds the cache");
    }

    #[test]
    fn damaged_bytes_are_no_record() {
        for bytes in ["", "inside", "inside\0x\0/a\0p", "outside\x001\0/a", "outside\x001\0/a\0p\0"]
        {
            assert_eq!(PipelineRecord::from_bytes(bytes.as_bytes()), None, "{bytes:?}");
        }
    }
}
