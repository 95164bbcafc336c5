//! The environment of a `command`: `$PROJECT` in the values of `env`, and where programs are found.
//!
//! In the values of `env`, `$PROJECT` and `${PROJECT}` are replaced by the project's folder when
//! the program starts. The key holds the text before replacement, so it does not depend on where
//! the project is. `$$PROJECT` is the text `$PROJECT`. Any other `$` is kept, since no shell reads
//! these values; in `PATH`, any other `$` is an error.
//!
//! The program's environment has no variable `PROJECT`: it would invite programs to read files of
//! the project that they do not declare, and whose edits would not make the result stale.

use crate::engine::stage::Hinted;
use anyhow::{Context as _, Result, bail};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The default `PATH`.
pub(super) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The name that is replaced by the project's folder.
const PROJECT: &str = "PROJECT";

/// The rest of a `text` that follows a `$` and begins with `PROJECT` or `{PROJECT}`.
fn after_name(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('{') {
        return rest.strip_prefix(PROJECT)?.strip_prefix('}');
    }
    text.strip_prefix(PROJECT)
        .filter(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
}

/// Whether the value of a variable differs from the text in the pipeline file.
pub(super) fn is_replaced(written: &str) -> bool {
    replace(written, OsStr::new("")) != written
}

/// The value of a variable in the project in folder `project`.
pub(super) fn value(written: &str, project: Option<&Path>) -> Result<OsString> {
    if !is_replaced(written) {
        return Ok(written.into());
    }
    let folder = project.context("the folder for `$PROJECT` is not known")?;
    Ok(replace(written, folder.as_os_str()))
}

fn replace(written: &str, project: &OsStr) -> OsString {
    let (mut value, mut rest) = (Vec::new(), written);
    while let Some((before, after)) = rest.split_once('$') {
        value.extend(before.as_bytes());
        if let Some(next) = after_name(after) {
            value.extend(project.as_bytes());
            rest = next;
            continue;
        }
        value.push(b'$');
        rest = after;
        // `$$PROJECT` loses its first `$`.
        if let Some(name) = after.strip_prefix('$')
            && let Some(next) = after_name(name)
        {
            value.extend(&name.as_bytes()[..name.len() - next.len()]);
            rest = next;
        }
    }
    value.extend(rest.as_bytes());
    OsString::from_vec(value)
}

/// Rejects a `PATH` with a variable other than `$PROJECT`.
pub(super) fn check_path(path: &str) -> Result<(), Hinted> {
    let mut names = path.match_indices('$').map(|(at, _)| &path[at..]);
    let Some(name) = names.find(|text| after_name(&text[1..]).is_none()) else { return Ok(()) };
    let name = &name[..name.find([':', '/']).unwrap_or(name.len())];
    Err(Hinted::new(
        format!("`{name}` is not expanded in `PATH`"),
        "write the path out, or use `$PROJECT` for the project's folder",
    ))
}

/// The executable file `word` in the first folder of `path` that has one.
fn find(word: &str, path: &OsStr) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| {
        std::fs::metadata(file)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path).map(|folder| folder.join(word)).find(is_program)
}

/// The programs of a shell script: the first words of its commands that are plain names.
pub(super) fn programs(lines: &str) -> Vec<&str> {
    let commands = lines.split(['\n', ';', '|', '&', '(']);
    let first = commands.filter_map(|command| {
        let mut words =
            command.split_whitespace().skip_while(|word| word.contains('=') || *word == "!");
        words.next()
    });
    let is_name =
        |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c));
    first.filter(is_name).collect()
}

/// A hint for the first of these programs that the user's own `PATH` finds in another folder than
/// `path`.
pub(super) fn hint(words: &[&str], path: &OsStr, project: Option<&Path>) -> Option<String> {
    let user_path = std::env::var_os("PATH")?;
    path_hint(words, path, &user_path, project)
}

fn path_hint(
    words: &[&str],
    path: &OsStr,
    user_path: &OsStr,
    project: Option<&Path>,
) -> Option<String> {
    words.iter().find_map(|word| {
        let expected = find(word, user_path)?;
        let found = find(word, path);
        // `/bin` and `/usr/bin` may be the same folder.
        let folder = |file: &Path| file.parent().and_then(|folder| folder.canonicalize().ok());
        if found.as_deref().and_then(folder) == folder(&expected) {
            return None;
        }
        let is = match found {
            Some(found) => format!("is `{}`", found.display()),
            None => "is not found".to_owned(),
        };
        let bin = expected.parent()?;
        let bin = match project.and_then(|project| bin.strip_prefix(project).ok()) {
            Some(below) => format!("$PROJECT/{}", below.display()),
            None => bin.display().to_string(),
        };
        Some(format!(
            "the command does not inherit your PATH, so `{word}` {is}; to use `{}`, add \
             `env: {{ PATH: \"{bin}:{PATH}\" }}`",
            expected.display()
        ))
    })
}

/// Rejects a project's folder that cannot be part of `PATH`.
pub(super) fn check_project_in_path(path: &str, project: Option<&Path>) -> Result<()> {
    if is_replaced(path)
        && project.is_some_and(|project| project.as_os_str().as_bytes().contains(&b':'))
    {
        bail!("`$PROJECT` contains a `:` and cannot be used in `PATH`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_project(written: &str) -> String {
        value(written, Some(Path::new("/p"))).unwrap().into_string().unwrap()
    }

    #[test]
    fn only_the_project_variable_is_replaced() {
        for (written, expected) in [
            ("$PROJECT/.venv/bin:/bin", "/p/.venv/bin:/bin"),
            ("${PROJECT}x:$PROJECT", "/px:/p"),
            ("a$PROJECT$PROJECT", "a/p/p"),
            ("$$PROJECT ${PROJECT} $${PROJECT}x", "$PROJECT /p ${PROJECT}x"),
        ] {
            assert_eq!(in_project(written), expected);
            assert!(is_replaced(written), "{written}");
        }
        for unchanged in [
            "",
            "$",
            "$$",
            "$5",
            "^a$",
            "$PROJECTS",
            "$PROJECT_1",
            "${PROJECT",
            "$project",
            "$HOME",
            "ü$ö",
        ] {
            assert_eq!(in_project(unchanged), unchanged);
            assert!(!is_replaced(unchanged), "{unchanged}");
        }
    }

    #[test]
    fn another_variable_in_path_is_an_error() {
        assert_eq!(check_path("$PROJECT/bin:${PROJECT}/sbin:/bin"), Ok(()));
        for (path, name) in [
            ("$HOME/bin:/bin", "`$HOME`"),
            ("$PROJECT/bin:$PATH", "`$PATH`"),
            ("${A}:/b", "`${A}`"),
        ] {
            let error = check_path(path).unwrap_err();
            assert_eq!(error.cause, format!("{name} is not expanded in `PATH`"));
        }
    }

    #[test]
    fn the_programs_of_a_script_are_its_first_words() {
        let script = "set -x\nA=1 python3 a.py | sort > b && ./own; (make all)\n\"$X\" y";
        assert_eq!(programs(script), ["set", "python3", "sort", "make"]);
    }

    #[test]
    fn the_hint_names_a_program_that_only_the_users_path_finds() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path();
        let bin = project.join(".venv/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::os::unix::fs::symlink("/bin/sh", bin.join("sh")).unwrap();
        std::os::unix::fs::symlink("/bin/sh", bin.join("only-here")).unwrap();
        let user_path = format!("{}:/bin:/usr/bin", bin.display());
        let hint = |word: &str| {
            path_hint(&[word], OsStr::new(PATH), OsStr::new(&user_path), Some(project))
        };
        let other = hint("sh").unwrap();
        assert!(
            other.contains("so `sh` is `/") && other.contains("\"$PROJECT/.venv/bin:/usr/local"),
            "{other}"
        );
        assert!(hint("only-here").unwrap().contains("so `only-here` is not found; to use `"));
        assert_eq!(hint("ls"), None);
        assert_eq!(hint("no-such-program"), None);
    }
}
