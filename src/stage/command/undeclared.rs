//! Finds a file of the project that a command uses but does not declare.

use std::path::{Component, Path};

/// A hint for a failed command: declare the first file of the project that its `lines` name and
/// that is missing from `work`, its working folder.
pub(super) fn hint<'a>(
    lines: impl Iterator<Item = &'a str>,
    work: &Path,
    project: Option<&Path>,
) -> Option<String> {
    let project = project?;
    let is_end = |c: char| c.is_whitespace() || ";&|()<>\"'`=".contains(c);
    let words = lines.flat_map(|line| line.split(is_end)).filter(|word| !word.is_empty());
    let is_plain = |word: &&str| {
        let mut parts = Path::new(word).components();
        parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    };
    let is_missing = |word: &&str| !work.join(word).exists() && project.join(word).is_file();
    let word = words.filter(is_plain).find(is_missing)?;
    let word = word.trim_start_matches("./");
    Some(format!(
        "the command sees only its declared `files`, and `{word}` is not among them; add \
         `files: [{word}]`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_an_undeclared_script_of_the_project() {
        let [project, work] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        for file in ["train.py", "lib/plot.py", "given.py"] {
            std::fs::create_dir_all(project.path().join(file).parent().unwrap()).unwrap();
            std::fs::write(project.path().join(file), "").unwrap();
        }
        std::fs::write(work.path().join("given.py"), "").unwrap();
        let named = |line: &str| hint([line].into_iter(), work.path(), Some(project.path()));
        for (line, file) in [
            ("python3 train.py --epochs 3", "train.py"),
            ("x=1; python3 ./train.py>out", "train.py"),
            ("python3 given.py && python3 \"lib/plot.py\"", "lib/plot.py"),
        ] {
            let hint = named(line).unwrap();
            assert!(hint.contains(&format!("`{file}` is not among them")), "{hint}");
        }
        for line in ["python3 given.py", "python3 nowhere.py", "echo lib", "cat ../train.py"] {
            assert_eq!(named(line), None, "{line}");
        }
        assert_eq!(hint(["python3 train.py"].into_iter(), work.path(), None), None);
    }
}
