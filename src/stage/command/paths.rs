//! The paths that a `command` declares: `files` and `outputs`.

use crate::engine::stage::Hinted;
use serde::{Deserialize, Serialize};

/// The folder of the inputs.
pub(super) const INPUTS: &str = "inputs";

/// A normalized path: `./x`, `a//b` and `a/./b` become `x`, `a/b` and `a/b`. A trailing slash is
/// kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(super) struct ProjectPath(pub(super) String);

impl From<String> for ProjectPath {
    fn from(path: String) -> ProjectPath {
        let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        // Invalid: `check_path` reports the path as written.
        if parts.is_empty() || path.starts_with('/') {
            return ProjectPath(path);
        }
        let end = if path.ends_with('/') || path.ends_with("/.") { "/" } else { "" };
        ProjectPath(parts.join("/") + end)
    }
}

impl From<ProjectPath> for String {
    fn from(path: ProjectPath) -> String {
        path.0
    }
}

/// Rejects invalid and overlapping paths: if a path were both an input and an output, an input that
/// the program left unchanged would pass as its output.
pub(super) fn check(files: &[ProjectPath], outputs: &[ProjectPath]) -> Result<(), Hinted> {
    let files = files.iter().map(|path| ("files", &path.0));
    let paths: Vec<(&str, &String)> =
        files.chain(outputs.iter().map(|path| ("outputs", &path.0))).collect();
    paths.iter().try_for_each(|(field, path)| check_path(field, path))?;
    let plain = |path: &str| format!("{}/", path.trim_end_matches('/'));
    // In this order, a folder directly precedes the paths in it.
    let mut sorted: Vec<(String, &str, &String)> =
        paths.into_iter().map(|(field, path)| (plain(path).to_lowercase(), field, path)).collect();
    sorted.sort();
    let overlap = sorted.windows(2).find(|pair| pair[1].0.starts_with(&pair[0].0));
    let Some([(_, outer_field, outer), (_, inner_field, inner)]) = overlap else { return Ok(()) };
    let same_field = outer_field == inner_field;
    Err(match (plain(outer), plain(inner)) {
        (a, b) if a == b && same_field => {
            Hinted::new(format!("`{outer_field}` lists `{inner}` twice"), "remove one")
        }
        (a, b) if a == b => Hinted::new(
            format!("`{inner}` is in both `files` and `outputs`"),
            "write to another file",
        ),
        (a, b) if !b.starts_with(&a) => Hinted::new(
            format!("`{outer}` and `{inner}` differ only in case, which some file systems ignore"),
            "rename one",
        ),
        _ if same_field => Hinted::new(
            format!("`{inner}` in `{inner_field}` is part of `{outer}`"),
            format!("remove `{inner}`"),
        ),
        _ => Hinted::new(
            format!("`{inner}` in `{inner_field}` is part of `{outer}` in `{outer_field}`"),
            "read from one folder and write to another",
        ),
    })
}

/// Rejects a path that is not below the folder that the program runs in, or is among its inputs.
fn check_path(field: &str, path: &str) -> Result<(), Hinted> {
    let parts = || path.strip_suffix('/').unwrap_or(path).split('/');
    let shown: String = path.chars().take(40).flat_map(char::escape_default).collect();
    if path.contains('\0') || parts().any(|part| matches!(part, "" | "." | "..")) {
        let hint = match field {
            _ if matches!(path, "." | "./") => "list the files and folders in it",
            "files" => "import files from outside the project with a stage of kind `file`",
            _ => "name a file below the folder that the command runs in",
        };
        let cause = format!("`{shown}` in `{field}` is not a path below the project's folder");
        return Err(Hinted::new(cause, hint));
    }
    if parts().next() == Some("~") {
        let cause = format!("`~` is not expanded in `{shown}` in `{field}`");
        return Err(Hinted::new(cause, "write the path out"));
    }
    if parts().next() == Some(INPUTS) {
        let cause = format!("`{shown}` in `{field}` is in the folder of the inputs");
        return Err(Hinted::new(cause, "choose another folder"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paths(paths: &[&str]) -> Vec<ProjectPath> {
        paths.iter().map(|path| (*path).to_owned().into()).collect()
    }

    fn cause(files: &[&str], outputs: &[&str]) -> String {
        check(&paths(files), &paths(outputs)).unwrap_err().cause
    }

    #[test]
    fn paths_outside_of_the_working_folder_or_among_the_inputs_are_errors() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "./../x", ".", "./", "a\0b"] {
            for (files, outputs) in [(&[path][..], &["x"][..]), (&[], &[path])] {
                let error = cause(files, outputs);
                assert!(error.contains("is not a path below the project's folder"), "{error}");
            }
        }
        assert_eq!(
            cause(&[], &["inputs/x"]),
            "`inputs/x` in `outputs` is in the folder of the inputs"
        );
        assert_eq!(cause(&["~/x"], &["x"]), "`~` is not expanded in `~/x` in `files`");
    }

    #[test]
    fn paths_are_normalized() {
        for path in ["./a/b", "a//b", "a/./b", ".//a/.//b", "././a/b"] {
            assert_eq!(paths(&[path]), paths(&["a/b"]), "{path}");
            assert_eq!(check(&paths(&[path]), &paths(&["x"])), Ok(()));
        }
        for folder in ["./a/b/", "a/b//", "a/b/.", "a/b/./"] {
            assert_eq!(paths(&[folder]), paths(&["a/b/"]), "{folder}");
        }
        assert_eq!(cause(&["a", "./a"], &["x"]), "`files` lists `a` twice");
    }

    #[test]
    fn the_error_says_how_two_paths_overlap() {
        assert_eq!(cause(&["data"], &["data/"]), "`data/` is in both `files` and `outputs`");
        assert_eq!(
            cause(&["data"], &["data/a"]),
            "`data/a` in `outputs` is part of `data` in `files`"
        );
        assert_eq!(
            cause(&["out/seed"], &["out/"]),
            "`out/seed` in `files` is part of `out/` in `outputs`"
        );
        assert_eq!(cause(&[], &["a", "b/", "b"]), "`outputs` lists `b/` twice");
        assert_eq!(cause(&[], &["a/b", "a/"]), "`a/b` in `outputs` is part of `a/`");
        assert_eq!(cause(&["src", "src/a.c"], &["x"]), "`src/a.c` in `files` is part of `src`");
        assert_eq!(
            cause(&[], &["A", "a/"]),
            "`A` and `a/` differ only in case, which some file systems ignore"
        );
    }

    fn path() -> impl Strategy<Value = String> {
        ("(a|b|a-|B|ä)(/(a|b|a-)){0,2}", any::<bool>())
            .prop_map(|(path, slash)| path + if slash { "/" } else { "" })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn paths_are_rejected_if_and_only_if_two_of_them_overlap(
            files in prop::collection::vec(path(), 0..4),
            outputs in prop::collection::vec(path(), 1..4),
        ) {
            let parts = |path: &String| -> Vec<String> {
                path.split('/').filter(|part| !part.is_empty()).map(str::to_lowercase).collect()
            };
            let all: Vec<Vec<String>> = files.iter().chain(&outputs).map(parts).collect();
            let overlap = (0..all.len())
                .any(|i| (0..all.len()).any(|j| i != j && all[i].starts_with(&all[j])));
            let [files, outputs] = [files, outputs]
                .map(|paths| paths.into_iter().map(ProjectPath::from).collect::<Vec<_>>());
            prop_assert_eq!(check(&files, &outputs).is_err(), overlap);
        }
    }
}
