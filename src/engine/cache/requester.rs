//! A pipeline that has run in a cache, remembered so that `gc` of another project keeps what it
//! requests.
//!
//! A project is known by the path and the inode of its folder, for on another machine, or after a
//! move, another folder may have the path. If the cache is inside the project's folder, the two are
//! moved together, so the folder that holds the cache is the project too, if its inode says so.
//!
//! Knows no plan: what a pipeline requests is for the caller to find out.

use super::store::Store;
use crate::engine::key::Digest;
use crate::fs;
use anyhow::{Context as _, Result};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The folder of the cache where pipelines are remembered.
const PIPELINES: &str = "pipelines";

/// A pipeline file of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    /// The project's folder, absolute, without links.
    pub folder: PathBuf,
    /// The inode of that.
    inode: u64,
    /// Whether the cache was inside it.
    holds_cache: bool,
    /// The pipeline file, from the folder on, or absolute.
    pub pipeline: PathBuf,
}

fn inode(folder: &Path) -> Option<u64> {
    std::fs::metadata(folder).ok().filter(|meta| meta.is_dir()).map(|meta| meta.ino())
}

/// The folder that holds `cache/<version>`, links resolved.
fn holder(root: &Path) -> Option<PathBuf> {
    Some(root.canonicalize().ok()?.parent()?.parent()?.to_owned())
}

impl Requester {
    /// That of `pipeline`, a path from the project's `folder` on, which runs in the cache.
    fn of(store: &Store, folder: &Path, pipeline: &Path) -> Result<Requester> {
        let lost = || format!("cannot look at the project's folder `{}`", folder.display());
        let folder = folder.canonicalize().with_context(lost)?;
        let inode = inode(&folder).with_context(lost)?;
        let holds_cache = store.is_inside(&folder);
        Ok(Requester { folder, inode, holds_cache, pipeline: pipeline.to_owned() })
    }

    /// The project's folder now; `None` if it cannot be found: it was moved or removed, its disk is
    /// not mounted, or it is another machine's.
    fn found(&self, root: &Path) -> Option<PathBuf> {
        let with_cache = || holder(root).filter(|_| self.holds_cache);
        let is_it = |folder: &PathBuf| inode(folder) == Some(self.inode);
        with_cache().filter(is_it).or_else(|| Some(self.folder.clone()).filter(is_it))
    }

    fn to_bytes(&self) -> Vec<u8> {
        let Requester { folder, inode, holds_cache, pipeline } = self;
        let [folder, pipeline] = [folder, pipeline].map(|path| path.as_os_str().as_bytes());
        let lead = format!("{}\0{inode}", if *holds_cache { "inside" } else { "outside" });
        [lead.as_bytes(), folder, pipeline].join(&0)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Requester> {
        let mut parts = bytes.split(|byte| *byte == 0);
        let mut next = || parts.next();
        let (inside, inode) =
            (next()? == b"inside", std::str::from_utf8(next()?).ok()?.parse().ok()?);
        let path = |bytes| PathBuf::from(OsStr::from_bytes(bytes));
        let (folder, pipeline) = (path(next()?), path(next()?));
        parts.next().is_none().then_some(Requester { folder, inode, holds_cache: inside, pipeline })
    }
}

impl Store {
    /// Remembers that `pipeline` of the project in `folder` runs here.
    pub fn remember_pipeline(&self, folder: &Path, pipeline: &Path) -> Result<()> {
        let bytes = Requester::of(self, folder, pipeline)?.to_bytes();
        let note = self.root.join(PIPELINES).join(Digest::of(&bytes).to_string());
        if fs::read_if_regular(&note)?.is_some_and(|noted| noted == bytes) {
            return Ok(());
        }
        fs::create_dir_all(&self.root.join(PIPELINES))?;
        fs::write_atomic(&note, &self.scratch()?, &bytes)
    }

    /// The pipelines that have run here, each with the file that remembers it; none where that is
    /// damaged.
    pub fn pipelines(&self) -> Result<Vec<(PathBuf, Option<Requester>)>> {
        let folder = self.root.join(PIPELINES);
        let read = |name: String| {
            let (digest, path) = (name.parse::<Digest>().ok()?, folder.join(name));
            let whole = |bytes: &Vec<u8>| Digest::of(bytes) == digest;
            let bytes = fs::read_if_regular(&path).map(|bytes| bytes.filter(whole));
            Some(bytes.map(|bytes| (path, bytes.and_then(|bytes| Requester::from_bytes(&bytes)))))
        };
        fs::list(&folder)?.into_iter().filter_map(read).collect()
    }

    /// Whether this cache is inside the folder of `project`, not linked to from there.
    pub fn is_inside(&self, project: &Path) -> bool {
        holder(&self.root)
            .is_some_and(|holder| project.canonicalize().is_ok_and(|project| project == holder))
    }

    /// The folder of the project that a pipeline is of; `None` if it cannot be found.
    pub fn project_of(&self, requester: &Requester) -> Option<PathBuf> {
        requester.found(&self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_project_is_found_after_a_move_with_its_cache_and_another_folder_of_its_path_is_not_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("a/cache/v2")).unwrap();
        fs::create_dir(path("b")).unwrap();
        std::os::unix::fs::symlink(path("a/cache"), path("b/cache")).unwrap();
        let of = |folder: &str| {
            Requester::of(
                &Store::at(&path(folder).join("cache")),
                &path(folder),
                Path::new("p.yaml"),
            )
            .unwrap()
        };
        let (inside, outside) = (of("a"), of("b"));
        for requester in [&inside, &outside] {
            assert_eq!(Requester::from_bytes(&requester.to_bytes()).as_ref(), Some(requester));
        }
        let found = |requester: &Requester, root: &str| requester.found(&path(root));
        assert_eq!(found(&inside, "b/cache/v2"), path("a").canonicalize().ok());
        assert_eq!(found(&outside, "a/cache/v2"), path("b").canonicalize().ok());
        for moved in ["a", "b"] {
            fs::rename(path(moved), path(&format!("{moved}2"))).unwrap();
            fs::create_dir(path(moved)).unwrap();
        }
        assert_eq!(found(&inside, "a2/cache/v2"), path("a2").canonicalize().ok());
        assert_eq!(found(&outside, "a2/cache/v2"), None, "the folder there now is another");
        fs::rename(path("a2/cache"), path("cache")).unwrap();
        assert_eq!(found(&inside, "cache/v2"), None, "nor is that which holds the cache now");
    }

    #[test]
    fn what_is_no_note_names_no_pipeline() {
        for bytes in ["", "inside", "inside\0x\0/a\0p", "outside\x001\0/a", "outside\x001\0/a\0p\0"]
        {
            assert_eq!(Requester::from_bytes(bytes.as_bytes()), None, "{bytes:?}");
        }
    }
}
