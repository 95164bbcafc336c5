//! Records of exports: the files that were last written to each folder of `reports/`, so that a
//! file that is no longer an output can be removed.

use super::entry::escapes_root;
use super::store::Store;
use crate::engine::key::{Artifact, Digest};
use crate::fs;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The folder of the records.
pub(super) const EXPORTS: &str = "exports";

/// The content of a file in `exports/`.
#[derive(Serialize, Deserialize)]
struct Export {
    folder: String,
    files: Artifact,
}

impl Store {
    /// The files that were last exported to `folder`; empty without a record.
    pub fn exported(&self, folder: &str) -> Result<Artifact> {
        let export: Option<Export> = self.local.read_enveloped(&self.export_path(folder))?;
        let mut files = export.map(|export| export.files).unwrap_or_default();
        files.retain(|name, _| !escapes_root(name.strip_suffix('/').unwrap_or(name)));
        Ok(files)
    }

    /// Records the files that are exported to `folder`.
    pub fn record_export(&self, folder: &str, artifact: &Artifact) -> Result<()> {
        fs::create_dir_all(&self.path(EXPORTS))?;
        let export = Export { folder: folder.to_owned(), files: artifact.clone() };
        self.local.write_enveloped(&self.export_path(folder), &export)
    }

    fn export_path(&self, folder: &str) -> PathBuf {
        self.path(EXPORTS).join(Digest::of(folder.as_bytes()).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::TestSpace;

    #[test]
    fn the_record_of_one_folder_does_not_count_for_another() {
        let TestSpace { store, .. } = &TestSpace::new();
        let files: Artifact = [("report.md".to_owned(), Digest::of(b"text").into())].into();
        store.record_export("reports/a", &files).unwrap();
        std::fs::copy(store.export_path("reports/a"), store.export_path("reports/b")).unwrap();
        assert_eq!(store.exported("reports/a").unwrap(), files);
        assert_eq!(store.exported("reports/b").unwrap(), Artifact::new());
    }
}
