//! Lays outputs out for people, in a folder such as `reports/<profile>/`, kept equal to the cache.
//!
//! The folder is a copy that may be edited or deleted at will; the next run restores it. What was laid out there before and
//! is no longer made is taken away again, unless it was edited since. Files there that are not ours are left alone, and so
//! is a whole folder that nothing is delivered to any more.

use crate::engine::cache::store::Store;
use crate::engine::key::{Artifact, Content, Digest};
use crate::fs;
use anyhow::{Context as _, Result};
use std::path::{Path, absolute};

/// What was done to a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// How many files had to be written.
    pub written: usize,
    /// How many that are no longer made were taken away.
    pub removed: usize,
}

/// Makes the files of `artifact` lie in `folder` below `project`.
pub fn deliver(
    store: &Store,
    artifact: &Artifact,
    project: &Path,
    folder: &str,
) -> Result<Delivered> {
    let here = project.join(folder);
    let lost = || format!("cannot look at `{}`", here.display());
    // Of two projects that share a cache, each has such a folder.
    let note = &if store.is_inside(project) {
        folder.into()
    } else {
        absolute(&here).with_context(lost)?.to_string_lossy().into_owned()
    };
    let before = store.exported(note)?;
    if before != *artifact {
        // Both, should this be cut short: what lies there then is known to be ours.
        let either =
            before.iter().chain(artifact).map(|(name, content)| (name.clone(), *content)).collect();
        store.record_export(note, &either)?;
    }
    let (mut written, mut removed) = (0, 0);
    for (name, content) in before.iter().filter(|(name, _)| !artifact.contains_key(*name)) {
        let path = here.join(name);
        if !lies_at(&path, content) {
            continue;
        }
        match content {
            Content::File { .. } => fs::remove_if_exists(&path)?,
            // Unless there are files in it that are not ours.
            Content::EmptyFolder if std::fs::remove_dir(&path).is_err() => continue,
            Content::EmptyFolder => {}
        }
        removed += 1;
    }
    for (name, content) in artifact {
        let path = here.join(name);
        // A folder or an unreadable file in its place is an error that the write below reports.
        if lies_at(&path, content) {
            continue;
        }
        match content {
            Content::File { digest, executable } => {
                fs::create_dir_all(path.parent().unwrap_or(&here))?;
                fs::write_beside(&path, &store.read_object(*digest)?)?;
                if *executable {
                    fs::set_executable(&path, true)?;
                }
            }
            Content::EmptyFolder => fs::create_dir_all(&path)?,
        }
        written += 1;
    }
    if before != *artifact {
        store.record_export(note, artifact)?;
    }
    Ok(Delivered { written, removed })
}

/// Whether the file or folder at `path` is `content`. On some disks every file is executable: only the want of it counts.
fn lies_at(path: &Path, content: &Content) -> bool {
    match content {
        Content::File { digest, executable } => {
            fs::read(path).is_ok_and(|bytes| Digest::of(&bytes) == *digest)
                && (!executable
                    || std::fs::metadata(path).is_ok_and(|meta| fs::is_executable(&meta)))
        }
        Content::EmptyFolder => path.is_dir(),
    }
}

/// The longest name of a folder that every disk takes, with room for a digest.
const LONGEST: usize = 180;

/// What the folder of a node, or of a pipeline, is called: as that is, unless it has in its name what no folder can be
/// called by, or what would lead out of it.
pub fn folder_name(node: &str) -> String {
    let fits = |c: char| c.is_alphanumeric() || " @=,.-_+".contains(c);
    let mut name = node.replace(|c| !fits(c), "-");
    while name.len() > LONGEST {
        name.pop();
    }
    let escapes_root = !name.contains(|c| c != '.');
    // Nodes apart stay apart.
    if name == node && !escapes_root {
        name
    } else {
        format!("{name}-{}", &Digest::of(node.as_bytes()).to_string()[..10])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::TestSpace;
    use std::path::PathBuf;

    const FOLDER: &str = "reports/quick";

    /// Delivers, and gives how many files were written and removed.
    fn again(bench: &TestSpace, artifact: &Artifact) -> (usize, usize) {
        let Delivered { written, removed } =
            deliver(&bench.store, artifact, bench.path(), FOLDER).unwrap();
        (written, removed)
    }

    /// An artifact of a file and one in a folder, and where it was delivered to.
    fn delivered(bench: &TestSpace) -> (Artifact, PathBuf) {
        let mut artifact = Artifact::new();
        for (name, bytes) in [("report.md", "text"), ("figures/a.svg", "<svg/>")] {
            let made = bench.path().join("made");
            fs::write(&made, bytes).unwrap();
            artifact.insert(name.to_owned(), bench.store.ingest(&made).unwrap().digest.into());
        }
        assert_eq!(again(bench, &artifact), (2, 0));
        (artifact, bench.path().join(FOLDER))
    }

    #[test]
    fn a_nodes_folder_is_one_folder_whatever_its_values_are_and_no_two_share_one() {
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
    fn what_lies_there_as_made_is_not_written_again() {
        let bench = TestSpace::new();
        let (artifact, folder) = delivered(&bench);
        assert_eq!(fs::read_text(&folder.join("figures/a.svg")).unwrap(), "<svg/>");
        assert_eq!(again(&bench, &artifact), (0, 0));
    }

    #[test]
    fn deleted_and_edited_files_are_restored() {
        let bench = TestSpace::new();
        let (artifact, folder) = delivered(&bench);
        fs::write(&folder.join("report.md"), "edited").unwrap();
        std::fs::remove_dir_all(folder.join("figures")).unwrap();
        assert_eq!(again(&bench, &artifact), (2, 0));
        assert_eq!(fs::read_text(&folder.join("report.md")).unwrap(), "text");
        assert_eq!(fs::read_text(&folder.join("figures/a.svg")).unwrap(), "<svg/>");
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(again(&bench, &artifact), (2, 0));
    }

    #[test]
    fn files_that_are_not_ours_are_left_alone() {
        let bench = TestSpace::new();
        let (artifact, folder) = delivered(&bench);
        fs::write(&folder.join("figures/notes.txt"), "mine").unwrap();
        again(&bench, &artifact);
        assert_eq!(fs::list(&folder.join("figures")).unwrap(), ["a.svg", "notes.txt"]);
        assert_eq!(fs::read_text(&folder.join("figures/notes.txt")).unwrap(), "mine");
    }

    #[test]
    fn an_executable_file_and_an_empty_folder_are_laid_out_as_such_and_taken_away() {
        let bench = TestSpace::new();
        let (plain, folder) = delivered(&bench);
        let mut artifact = plain.clone();
        let digest = plain["report.md"].digest().unwrap();
        artifact.insert("report.md".into(), Content::File { digest, executable: true });
        artifact.insert("empty/".into(), Content::EmptyFolder);
        assert_eq!(again(&bench, &artifact), (2, 0));
        assert!(fs::is_executable(&std::fs::metadata(folder.join("report.md")).unwrap()));
        assert_eq!(fs::list(&folder.join("empty")).unwrap(), [""; 0]);
        assert_eq!(again(&bench, &artifact), (0, 0));
        fs::write(&folder.join("empty/mine"), "").unwrap();
        assert_eq!(
            again(&bench, &plain),
            (0, 0),
            "a folder in which there is something now is not ours alone"
        );
        assert_eq!(again(&bench, &artifact), (0, 0));
        std::fs::remove_file(folder.join("empty/mine")).unwrap();
        assert_eq!(again(&bench, &plain), (0, 1));
        assert!(!folder.join("empty").exists());
    }

    #[test]
    fn what_is_no_longer_made_is_taken_away_unless_it_was_edited_or_is_not_ours() {
        let bench = TestSpace::new();
        let (mut artifact, folder) = delivered(&bench);
        let figure = artifact.remove("figures/a.svg").unwrap();
        fs::write(&folder.join("figures/mine.svg"), "<svg/>").unwrap();
        assert_eq!(again(&bench, &artifact), (0, 1));
        assert_eq!(
            fs::list(&folder.join("figures")).unwrap(),
            ["mine.svg"],
            "though its bytes are those of ours"
        );
        artifact.insert("figures/a.svg".into(), figure);
        assert_eq!(again(&bench, &artifact), (1, 0));
        fs::write(&folder.join("figures/a.svg"), "edited").unwrap();
        artifact.remove("figures/a.svg");
        assert_eq!(again(&bench, &artifact), (0, 0));
        assert_eq!(fs::list(&folder.join("figures")).unwrap(), ["a.svg", "mine.svg"]);
    }

    #[test]
    fn of_two_projects_that_share_a_cache_each_knows_what_was_laid_out_in_its_own_folder() {
        let bench = TestSpace::new();
        let (mut artifact, folder) = delivered(&bench);
        artifact.remove("figures/a.svg");
        let other = tempfile::tempdir().unwrap();
        let beside = deliver(&bench.store, &artifact, other.path(), FOLDER).unwrap();
        assert_eq!(beside, Delivered { written: 1, removed: 0 });
        assert_eq!(again(&bench, &artifact), (0, 1));
        assert!(!folder.join("figures/a.svg").exists());
    }

    #[test]
    fn a_delivered_file_is_for_everyone_and_may_be_edited_without_harm_to_the_cache() {
        let bench = TestSpace::new();
        let (artifact, folder) = delivered(&bench);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(folder.join("report.md")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o644);
        }
        fs::write(&folder.join("report.md"), "edited").unwrap();
        assert!(bench.store.is_intact(artifact["report.md"].digest().unwrap()).unwrap());
    }

    #[test]
    fn a_folder_in_the_place_of_a_file_is_an_error_that_names_it() {
        let bench = TestSpace::new();
        let (artifact, folder) = delivered(&bench);
        let path = folder.join("report.md");
        std::fs::remove_file(&path).unwrap();
        fs::create_dir_all(&path.join("inside")).unwrap();
        let error = deliver(&bench.store, &artifact, bench.path(), FOLDER).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write `{}`", path.display()));
    }
}
