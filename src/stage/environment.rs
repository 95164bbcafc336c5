//! The environment of a `command`: what the values of `env` stand for, and where programs are found.
//!
//! In the values of `env`, `$PROJECT` and `${PROJECT}` stand for the folder of the project. They are
//! replaced when the program starts: the key holds the text, so the result does not depend on where
//! the project is, as long as the program does not write the path into it. `$$PROJECT` is the text
//! `$PROJECT`. Every other `$` is itself: no shell reads these values. In `PATH`, where a name that is
//! not replaced would only hide the folder it was meant for, it is refused.
//!
//! There is no variable `PROJECT` in the environment of the program: with one, a program would soon
//! read files of the project that it does not declare, and its result would not follow their edits.

use anyhow::{Context as _, Result, bail};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Where programs are looked for, unless `env` says otherwise.
pub(super) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What stands for the project's folder.
const PROJECT: &str = "PROJECT";

/// What comes after the name of the project's folder, if the text, behind a `$`, begins with that.
fn after(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('{') {
        return rest.strip_prefix(PROJECT)?.strip_prefix('}');
    }
    text.strip_prefix(PROJECT)
        .filter(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
}

/// Whether the value is not the text that is written.
pub(super) fn is_replaced(written: &str) -> bool {
    replace(written, OsStr::new("")) != written
}

/// The value of a variable, in the project in this folder.
pub(super) fn value(written: &str, project: Option<&Path>) -> Result<OsString> {
    if !is_replaced(written) {
        return Ok(written.into());
    }
    let folder = project.context("nobody has said where `$PROJECT` is")?;
    Ok(replace(written, folder.as_os_str()))
}

fn replace(written: &str, project: &OsStr) -> OsString {
    let (mut value, mut rest) = (Vec::new(), written);
    while let Some((before, behind)) = rest.split_once('$') {
        value.extend(before.as_bytes());
        if let Some(next) = after(behind) {
            value.extend(project.as_bytes());
            rest = next;
            continue;
        }
        value.push(b'$');
        rest = behind;
        // Of `$$PROJECT`, all but the first `$` is left.
        if let Some(name) = behind.strip_prefix('$')
            && let Some(next) = after(name)
        {
            value.extend(&name.as_bytes()[..name.len() - next.len()]);
            rest = next;
        }
    }
    value.extend(rest.as_bytes());
    OsString::from_vec(value)
}

/// Refuses a `PATH` with a name in it that is not replaced.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    let mut names = path.match_indices('$').map(|(at, _)| &path[at..]);
    let Some(name) = names.find(|text| after(&text[1..]).is_none()) else { return Ok(()) };
    let name = &name[..name.find([':', '/']).unwrap_or(name.len())];
    Err(format!(
        "`{name}` in `PATH` is not replaced, for no shell reads `env`; write the folder, or `$PROJECT` for the project's"
    ))
}

/// The file that `word` names as a program, looked for on `path`.
pub(super) fn find(word: &str, path: &OsStr) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| {
        std::fs::metadata(file)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path).map(|folder| folder.join(word)).find(is_program)
}

/// The first words of commands in lines for a shell, as far as they are plain names.
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

/// Says which of these programs the caller of `repro` would have found elsewhere, and how to get it.
pub(super) fn elsewhere(words: &[&str], here: &OsStr, project: Option<&Path>) -> Option<String> {
    let yours = std::env::var_os("PATH")?;
    differing(words, here, &yours, project)
}

fn differing(
    words: &[&str],
    here: &OsStr,
    yours: &OsStr,
    project: Option<&Path>,
) -> Option<String> {
    words.iter().find_map(|word| {
        let theirs = find(word, yours)?;
        let own = find(word, here);
        // `/bin` and `/usr/bin` may be one folder.
        let folder = |file: &Path| file.parent().and_then(|folder| folder.canonicalize().ok());
        if own.as_deref().and_then(folder) == folder(&theirs) {
            return None;
        }
        let yours = theirs.display();
        let is = match own {
            Some(own) => format!("is {}, not {yours}", own.display()),
            None => format!("is not found; yours is {yours}"),
        };
        let bin = theirs.parent()?;
        let bin = match project.and_then(|project| bin.strip_prefix(project).ok()) {
            Some(below) => format!("$PROJECT/{}", below.display()),
            None => bin.display().to_string(),
        };
        Some(format!("`{word}` {is}: `repro` does not pass on your PATH; `env: {{ PATH: \"{bin}:{PATH}\" }}` does"))
    })
}

/// Refuses a folder that cannot be an entry of `PATH`.
pub(super) fn check_project(path: &str, project: Option<&Path>) -> Result<()> {
    if is_replaced(path)
        && project.is_some_and(|project| project.as_os_str().as_bytes().contains(&b':'))
    {
        bail!("`$PROJECT` has a `:` in it, which no entry of `PATH` may have");
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
    fn only_the_name_of_the_projects_folder_is_replaced() {
        for (written, meant) in [
            ("$PROJECT/.venv/bin:/bin", "/p/.venv/bin:/bin"),
            ("${PROJECT}x:$PROJECT", "/px:/p"),
            ("a$PROJECT$PROJECT", "a/p/p"),
            ("$$PROJECT ${PROJECT} $${PROJECT}x", "$PROJECT /p ${PROJECT}x"),
        ] {
            assert_eq!(in_project(written), meant);
            assert!(is_replaced(written), "{written}");
        }
        for itself in [
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
            assert_eq!(in_project(itself), itself);
            assert!(!is_replaced(itself), "{itself}");
        }
    }

    #[test]
    fn a_name_in_path_that_is_not_replaced_is_refused() {
        assert_eq!(check_path("$PROJECT/bin:${PROJECT}/sbin:/bin"), Ok(()));
        for (path, name) in [
            ("$HOME/bin:/bin", "`$HOME`"),
            ("$PROJECT/bin:$PATH", "`$PATH`"),
            ("${A}:/b", "`${A}`"),
        ] {
            let said = check_path(path).unwrap_err();
            assert!(said.starts_with(name), "{said}");
        }
    }

    #[test]
    fn the_programs_of_a_script_are_its_first_words() {
        let script = "set -x\nA=1 python3 a.py | sort > b && ./own; (make all)\n\"$X\" y";
        assert_eq!(programs(script), ["set", "python3", "sort", "make"]);
    }

    #[test]
    fn a_program_that_the_caller_has_elsewhere_is_named_with_what_to_type() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path();
        let bin = project.join(".venv/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::os::unix::fs::symlink("/bin/sh", bin.join("sh")).unwrap();
        std::os::unix::fs::symlink("/bin/sh", bin.join("only-here")).unwrap();
        let yours = format!("{}:/bin:/usr/bin", bin.display());
        let said =
            |word: &str| differing(&[word], OsStr::new(PATH), OsStr::new(&yours), Some(project));
        let hint = said("sh").unwrap();
        assert!(
            hint.contains("bin/sh, not ") && hint.contains("PATH: \"$PROJECT/.venv/bin:/usr/local"),
            "{hint}"
        );
        assert!(said("only-here").unwrap().starts_with("`only-here` is not found; yours is "));
        assert_eq!(said("ls"), None);
        assert_eq!(said("no-such-program"), None);
    }
}
