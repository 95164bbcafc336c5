//! Exports of outputs to folders for people, such as `reports/<profile>/`.
//!
//! A folder contains copies of the outputs. The next run restores copies that were edited or
//! deleted, and removes copies that are no longer outputs, unless they were edited. It keeps all
//! other files, and folders to which it no longer exports.
//!
//! Some outputs have a place for provenance ([`Kind::annotated`]), which is filled in their copies.
//! The record of the export has the digest of each such copy, so that the next export recognizes
//! it.

use crate::engine::cache::exports::{AnnotatedFile, ExportedFiles};
use crate::engine::cache::store::Store;
use crate::engine::key::{Artifact, Content, Digest};
use crate::engine::provenance::Provenance;
use crate::engine::stage::Kind;
use crate::fs;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::path::{Path, absolute};

/// The changes of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Number of files that were written.
    pub written: usize,
    /// Number of files that were removed.
    pub removed: usize,
}

/// The provenance for the copies of a node's outputs.
pub struct Annotation<'a> {
    /// The kind of the node.
    pub kind: &'static dyn Kind,
    /// Finds the provenance, which takes time for many nodes.
    pub provenance: &'a dyn Fn() -> Result<Provenance>,
    /// Whether the provenance may differ from that of the last export.
    pub may_differ: bool,
}

/// Exports `artifact` to `folder` in `project`.
pub fn export(
    store: &Store,
    artifact: &Artifact,
    project: &Path,
    folder: &str,
    annotation: &Annotation,
) -> Result<Exported> {
    let here = project.join(folder);
    let context = || format!("cannot find the path of `{}`", here.display());
    // An absolute path, because projects that share a cache can have folders with the same name.
    let name = &if store.is_inside(project) {
        folder.into()
    } else {
        absolute(&here).with_context(context)?.to_string_lossy().into_owned()
    };
    let before = store.exported(name)?;
    if before.files != *artifact {
        // Records the earlier and the new files, so that the next export recognizes the files of an
        // interrupted one.
        let both = before.files.iter().chain(artifact);
        let files = both.map(|(name, content)| (name.clone(), *content)).collect();
        let annotated = before.annotated.clone();
        store.record_export(name, &ExportedFiles { files, annotated })?;
    }
    let (mut written, mut removed) = (0, 0);
    for (name, content) in before.files.iter().filter(|(name, _)| !artifact.contains_key(*name)) {
        let path = here.join(name);
        let is_copy =
            is_exported(&path, content) || is_annotated_copy(&path, name, content, annotation.kind);
        if !is_copy {
            continue;
        }
        match content {
            Content::File { .. } => fs::remove_if_exists(&path)?,
            // Fails if the folder contains other files.
            Content::EmptyFolder if std::fs::remove_dir(&path).is_err() => continue,
            Content::EmptyFolder => {}
        }
        removed += 1;
    }
    let mut annotated =
        Annotated { annotation, found: None, before: &before, now: BTreeMap::new() };
    for (name, content) in artifact {
        let path = here.join(name);
        // If the path is a folder or an unreadable file, the write below fails.
        if annotated.expected(name, content)?.is_some_and(|expected| is_exported(&path, &expected))
        {
            continue;
        }
        match content {
            Content::File { digest, executable } => {
                fs::create_dir_all(path.parent().unwrap_or(&here))?;
                let bytes = annotated.copy(name, store.read_object(*digest)?)?;
                fs::write_beside(&path, &bytes)?;
                if *executable {
                    fs::set_executable(&path, true)?;
                }
            }
            Content::EmptyFolder => fs::create_dir_all(&path)?,
        }
        written += 1;
    }
    let now = ExportedFiles { files: artifact.clone(), annotated: annotated.now };
    if before != now {
        store.record_export(name, &now)?;
    }
    Ok(Exported { written, removed })
}

/// The copies of outputs with provenance in them.
struct Annotated<'a> {
    annotation: &'a Annotation<'a>,
    /// The provenance and its digest, once it was needed.
    found: Option<(Provenance, Digest)>,
    before: &'a ExportedFiles,
    now: BTreeMap<String, AnnotatedFile>,
}

impl Annotated<'_> {
    fn is_annotated(&self, name: &str) -> bool {
        self.annotation.kind.annotated().contains(&name)
    }

    fn provenance(&mut self) -> Result<&(Provenance, Digest)> {
        let found = match self.found.take() {
            Some(found) => found,
            None => {
                let provenance = (self.annotation.provenance)()?;
                let json = serde_json::to_vec(&provenance).context("cannot write provenance")?;
                (provenance, Digest::of(&json))
            }
        };
        Ok(self.found.insert(found))
    }

    /// The content of the copy of an output from the last export; `None` if that copy is out of
    /// date.
    fn expected(&mut self, name: &str, content: &Content) -> Result<Option<Content>> {
        let Content::File { executable, .. } = *content else { return Ok(Some(*content)) };
        if !self.is_annotated(name) {
            return Ok(Some(*content));
        }
        let is_of_output = self.before.files.get(name) == Some(content);
        let Some(last) = self.before.annotated.get(name).copied().filter(|_| is_of_output) else {
            return Ok(None);
        };
        if self.annotation.may_differ && self.provenance()?.1 != last.provenance {
            return Ok(None);
        }
        self.now.insert(name.to_owned(), last);
        Ok(Some(Content::File { digest: last.copy, executable }))
    }

    /// The copy of an output with these bytes.
    fn copy(&mut self, name: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
        if !self.is_annotated(name) {
            return Ok(bytes);
        }
        let kind = self.annotation.kind;
        let (provenance, digest) = self.provenance()?;
        let provenance_digest = *digest;
        let copy = kind.annotate(name, &bytes, provenance).unwrap_or(bytes);
        let file = AnnotatedFile { copy: Digest::of(&copy), provenance: provenance_digest };
        self.now.insert(name.to_owned(), file);
        Ok(copy)
    }
}

/// Whether the file at `path` is the output `name` with provenance in it.
fn is_annotated_copy(path: &Path, name: &str, content: &Content, kind: &dyn Kind) -> bool {
    let is_output = |bytes: Vec<u8>| {
        kind.plain(name, &bytes).is_some_and(|plain| Some(Digest::of(&plain)) == content.digest())
    };
    kind.annotated().contains(&name) && fs::read(path).is_ok_and(is_output)
}

/// Whether the file or folder at `path` is `content`. Ignores an unexpected executable bit, because
/// on some file systems all files have it.
fn is_exported(path: &Path, content: &Content) -> bool {
    match content {
        Content::File { digest, executable } => {
            fs::read(path).is_ok_and(|bytes| Digest::of(&bytes) == *digest)
                && (!executable
                    || std::fs::metadata(path).is_ok_and(|meta| fs::is_executable(&meta)))
        }
        Content::EmptyFolder => path.is_dir(),
    }
}

/// The longest folder name, in bytes, with room for a digest.
const MAX_NAME: usize = 180;

/// The folder name of a node or pipeline: its own name or, if that is not a valid folder name, a
/// similar name with a digest.
pub fn folder_name(node: &str) -> String {
    let fits = |c: char| c.is_alphanumeric() || " @=,.-_+".contains(c);
    let mut name = node.replace(|c| !fits(c), "-");
    while name.len() > MAX_NAME {
        name.pop();
    }
    let escapes_root = !name.contains(|c| c != '.');
    // The digest makes the folder names of different nodes distinct.
    if name == node && !escapes_root {
        name
    } else {
        format!("{name}-{}", &Digest::of(node.as_bytes()).to_string()[..10])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::stage::{Context, KindOf, Slot, Stage};
    use crate::engine::testing::{Source, TestSpace};
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use std::path::PathBuf;

    const FOLDER: &str = "reports/quick";

    /// Exports to `project`, without provenance.
    fn export_plain(space: &TestSpace, artifact: &Artifact, project: &Path) -> Result<Exported> {
        let none = &|| panic!("no file has a place for provenance");
        let annotation =
            Annotation { kind: &KindOf::<Source>::KIND, provenance: none, may_differ: true };
        export(&space.store, artifact, project, FOLDER, &annotation)
    }

    /// Exports again; returns the numbers of written and removed files.
    fn again(space: &TestSpace, artifact: &Artifact) -> (usize, usize) {
        let Exported { written, removed } = export_plain(space, artifact, space.path()).unwrap();
        (written, removed)
    }

    /// A kind whose page ends with the name of the node of its provenance.
    struct Page;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct NoParams {}

    impl Stage for Page {
        const NAME: &'static str = "page";
        const VERSION: u32 = 1;
        const SLOTS: &'static [Slot] = &[];
        const OUTPUTS: &'static [&'static str] = &["report.md"];
        const ANNOTATED: &'static [&'static str] = &["report.md"];
        type Params = NoParams;

        fn annotate(_: &str, bytes: &[u8], provenance: &Provenance) -> Option<Vec<u8>> {
            Some([bytes, b" by ", provenance.node.as_bytes()].concat())
        }

        fn plain(_: &str, bytes: &[u8]) -> Option<Vec<u8>> {
            Some(str::from_utf8(bytes).ok()?.split(" by ").next()?.into())
        }

        fn run(_: NoParams, _: &Context) -> Result<()> {
            Ok(())
        }
    }

    /// Exports a page with the provenance `node`; returns the numbers of written and removed files.
    fn export_page(
        space: &TestSpace,
        artifact: &Artifact,
        node: Option<&str>,
        may_differ: bool,
    ) -> (usize, usize) {
        let provenance = || {
            let node = node.expect("the provenance is not needed").to_owned();
            Ok(Provenance { node, profile: None, nodes: Vec::new() })
        };
        let annotation =
            Annotation { kind: &KindOf::<Page>::KIND, provenance: &provenance, may_differ };
        let Exported { written, removed } =
            export(&space.store, artifact, space.path(), FOLDER, &annotation).unwrap();
        (written, removed)
    }

    #[test]
    fn a_copy_has_the_provenance_and_is_written_again_only_if_it_may_differ_and_does() {
        let space = TestSpace::new();
        let (artifact, folder) = exported(&space);
        let page = || fs::read_text(&folder.join("report.md")).unwrap();
        assert_eq!(export_page(&space, &artifact, Some("a"), true), (1, 0));
        assert_eq!(page(), "text by a");
        assert_eq!(export_page(&space, &artifact, Some("a"), true), (0, 0));
        assert_eq!(export_page(&space, &artifact, None, false), (0, 0), "nothing is read");
        assert_eq!(export_page(&space, &artifact, Some("b"), false), (0, 0));
        assert_eq!(export_page(&space, &artifact, Some("b"), true), (1, 0));
        assert_eq!(page(), "text by b");
        for edited in ["text by me", "text", "other by b"] {
            fs::write(&folder.join("report.md"), edited).unwrap();
            assert_eq!(export_page(&space, &artifact, Some("b"), false), (1, 0), "{edited}");
            assert_eq!(page(), "text by b");
        }
        let svg = fs::read_text(&folder.join("figures/a.svg")).unwrap();
        assert_eq!(svg, "<svg/>", "it has no place for provenance");
    }

    #[test]
    fn an_outdated_copy_is_recognized_by_its_plain_content_and_removed_unless_edited() {
        let space = TestSpace::new();
        let (mut artifact, folder) = exported(&space);
        export_page(&space, &artifact, Some("a"), true);
        // As an interrupted export leaves it.
        fs::write(&folder.join("report.md"), "text by b").unwrap();
        let page = artifact.remove("report.md").unwrap();
        assert_eq!(export_page(&space, &artifact, None, true), (0, 1));
        artifact.insert("report.md".into(), page);
        export_page(&space, &artifact, Some("a"), true);
        fs::write(&folder.join("report.md"), "my text by a").unwrap();
        artifact.remove("report.md");
        assert_eq!(export_page(&space, &artifact, None, true), (0, 0));
        assert!(folder.join("report.md").exists());
    }

    /// An exported artifact with a file and a file in a folder, and its folder.
    fn exported(space: &TestSpace) -> (Artifact, PathBuf) {
        let mut artifact = Artifact::new();
        for (name, bytes) in [("report.md", "text"), ("figures/a.svg", "<svg/>")] {
            let made = space.path().join("made");
            fs::write(&made, bytes).unwrap();
            artifact.insert(name.to_owned(), space.store.ingest(&made).unwrap().digest.into());
        }
        assert_eq!(again(space, &artifact), (2, 0));
        (artifact, space.path().join(FOLDER))
    }

    #[test]
    fn every_node_has_a_distinct_valid_folder_name() {
        for plain in [
            "report",
            "report@about=A first look, 2.5",
            "nets@prior=dropout-0.5,end=a",
            "r@about=Überblick",
        ] {
            assert_eq!(folder_name(plain), plain);
        }
        let long = "ä".repeat(10_000);
        for dots in [".", ".."] {
            assert!(folder_name(dots).starts_with(&format!("{dots}-")));
        }
        let values = [
            "/../../x",
            "-..-..-x",
            "..\0",
            "\u{202e}x",
            "\n",
            "\u{1b}[2J",
            "a:b",
            "a\\b",
            &long,
            &long[2..],
        ];
        let names: std::collections::BTreeSet<String> =
            values.iter().map(|value| folder_name(&format!("r@about={value}"))).collect();
        assert_eq!(names.len(), values.len());
        assert!(
            names
                .iter()
                .all(|name| name.len() <= 200 && !name.contains(['/', '\0', '\u{202e}', '\n'])),
            "{names:?}"
        );
    }

    #[test]
    fn an_unchanged_file_is_not_written_again() {
        let space = TestSpace::new();
        let (artifact, folder) = exported(&space);
        assert_eq!(fs::read_text(&folder.join("figures/a.svg")).unwrap(), "<svg/>");
        assert_eq!(again(&space, &artifact), (0, 0));
    }

    #[test]
    fn deleted_and_edited_files_are_restored() {
        let space = TestSpace::new();
        let (artifact, folder) = exported(&space);
        fs::write(&folder.join("report.md"), "edited").unwrap();
        std::fs::remove_dir_all(folder.join("figures")).unwrap();
        assert_eq!(again(&space, &artifact), (2, 0));
        assert_eq!(fs::read_text(&folder.join("report.md")).unwrap(), "text");
        assert_eq!(fs::read_text(&folder.join("figures/a.svg")).unwrap(), "<svg/>");
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(again(&space, &artifact), (2, 0));
    }

    #[test]
    fn other_files_are_kept() {
        let space = TestSpace::new();
        let (artifact, folder) = exported(&space);
        fs::write(&folder.join("figures/notes.txt"), "mine").unwrap();
        again(&space, &artifact);
        assert_eq!(fs::list(&folder.join("figures")).unwrap(), ["a.svg", "notes.txt"]);
        assert_eq!(fs::read_text(&folder.join("figures/notes.txt")).unwrap(), "mine");
    }

    #[test]
    fn executable_files_and_empty_folders_are_exported_and_removed() {
        let space = TestSpace::new();
        let (plain, folder) = exported(&space);
        let mut artifact = plain.clone();
        let digest = plain["report.md"].digest().unwrap();
        artifact.insert("report.md".into(), Content::File { digest, executable: true });
        artifact.insert("empty/".into(), Content::EmptyFolder);
        assert_eq!(again(&space, &artifact), (2, 0));
        assert!(fs::is_executable(&std::fs::metadata(folder.join("report.md")).unwrap()));
        assert_eq!(fs::list(&folder.join("empty")).unwrap(), [""; 0]);
        assert_eq!(again(&space, &artifact), (0, 0));
        fs::write(&folder.join("empty/mine"), "").unwrap();
        assert_eq!(again(&space, &plain), (0, 0), "a folder with other files is kept");
        assert_eq!(again(&space, &artifact), (0, 0));
        std::fs::remove_file(folder.join("empty/mine")).unwrap();
        assert_eq!(again(&space, &plain), (0, 1));
        assert!(!folder.join("empty").exists());
    }

    #[test]
    fn an_output_that_no_longer_exists_is_removed_unless_it_was_edited() {
        let space = TestSpace::new();
        let (mut artifact, folder) = exported(&space);
        let figure = artifact.remove("figures/a.svg").unwrap();
        fs::write(&folder.join("figures/mine.svg"), "<svg/>").unwrap();
        assert_eq!(again(&space, &artifact), (0, 1));
        assert_eq!(
            fs::list(&folder.join("figures")).unwrap(),
            ["mine.svg"],
            "a file of another name is kept, even with the same bytes"
        );
        artifact.insert("figures/a.svg".into(), figure);
        assert_eq!(again(&space, &artifact), (1, 0));
        fs::write(&folder.join("figures/a.svg"), "edited").unwrap();
        artifact.remove("figures/a.svg");
        assert_eq!(again(&space, &artifact), (0, 0));
        assert_eq!(fs::list(&folder.join("figures")).unwrap(), ["a.svg", "mine.svg"]);
    }

    #[test]
    fn projects_that_share_a_cache_export_independently() {
        let space = TestSpace::new();
        let (mut artifact, folder) = exported(&space);
        artifact.remove("figures/a.svg");
        let other = tempfile::tempdir().unwrap();
        let beside = export_plain(&space, &artifact, other.path()).unwrap();
        assert_eq!(beside, Exported { written: 1, removed: 0 });
        assert_eq!(again(&space, &artifact), (0, 1));
        assert!(!folder.join("figures/a.svg").exists());
    }

    #[test]
    fn an_exported_file_is_readable_by_all_and_an_edit_does_not_harm_the_cache() {
        let space = TestSpace::new();
        let (artifact, folder) = exported(&space);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(folder.join("report.md")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o644);
        }
        fs::write(&folder.join("report.md"), "edited").unwrap();
        assert!(space.store.is_intact(artifact["report.md"].digest().unwrap()).unwrap());
    }

    #[test]
    fn a_folder_with_the_name_of_an_output_is_an_error() {
        let space = TestSpace::new();
        let (artifact, folder) = exported(&space);
        let path = folder.join("report.md");
        std::fs::remove_file(&path).unwrap();
        fs::create_dir_all(&path.join("inside")).unwrap();
        let error = export_plain(&space, &artifact, space.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write `{}`", path.display()));
    }
}
