//! What a command line names that lies in the project and was not declared.

use std::path::{Component, Path};

/// What would help a command that has failed: to declare the first file of the project that its
/// `lines` name and that is not in `work`, the folder that it ran in.
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
        "`{word}` is in the project but not in `files`, and the command runs where only those are; add `files: [{word}]`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_of_the_project_that_is_not_declared_is_named() {
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
            assert!(
                hint.starts_with(&format!("`{file}` is in the project but not in `files`")),
                "{hint}"
            );
        }
        for line in ["python3 given.py", "python3 nowhere.py", "echo lib", "cat ../train.py"] {
            assert_eq!(named(line), None, "{line}");
        }
        assert_eq!(hint(["python3 train.py"].into_iter(), work.path(), None), None);
    }
}
