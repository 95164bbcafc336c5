//! Records of exports: the files that were last written to each folder of `reports/`, so that a
//! file that is no longer an output can be removed.

use super::entry::escapes_root;
use super::store::Store;
use crate::engine::key::{Artifact, Digest};
use crate::fs;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The folder of the records.
pub(super) const EXPORTS: &str = "exports";

/// The content of a file in `exports/`.
#[derive(Serialize, Deserialize)]
struct Export {
    folder: String,
    #[serde(flatten)]
    files: ExportedFiles,
}

/// The files that were last exported to a folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExportedFiles {
    /// The outputs.
    pub files: Artifact,
    /// The copies that contain provenance, by the name of their output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotated: BTreeMap<String, AnnotatedFile>,
}

/// A copy of an output that contains provenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnotatedFile {
    /// The digest of the copy.
    pub copy: Digest,
    /// The digest of the provenance in it.
    pub provenance: Digest,
}

impl Store {
    /// The files that were last exported to `folder`; empty without a record.
    pub fn exported(&self, folder: &str) -> Result<ExportedFiles> {
        let export: Option<Export> = self.local.read_enveloped(&self.export_path(folder))?;
        let mut files = export.map(|export| export.files).unwrap_or_default();
        files.files.retain(|name, _| !escapes_root(name.strip_suffix('/').unwrap_or(name)));
        Ok(files)
    }

    /// Records the files that are exported to `folder`.
    pub fn record_export(&self, folder: &str, files: &ExportedFiles) -> Result<()> {
        fs::create_dir_all(&self.path(EXPORTS))?;
        let export = Export { folder: folder.to_owned(), files: files.clone() };
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
        let files = [("report.md".to_owned(), Digest::of(b"text").into())].into();
        let files = ExportedFiles { files, ..ExportedFiles::default() };
        store.record_export("reports/a", &files).unwrap();
        std::fs::copy(store.export_path("reports/a"), store.export_path("reports/b")).unwrap();
        assert_eq!(store.exported("reports/a").unwrap(), files);
        assert_eq!(store.exported("reports/b").unwrap(), ExportedFiles::default());
    }
}
