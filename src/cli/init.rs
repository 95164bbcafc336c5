//! `repro init`: writes the files of a new project.

use super::args::{Common, Template};
use super::output::json;
use super::session::usage_error;
use crate::fs;
use anyhow::Result;
use clap::ValueEnum as _;
use serde_json::json;
use std::path::{Path, PathBuf};

/// A file of a template: its path in the project, and its text.
type File = (&'static str, &'static str);

const PIPELINE: &str = "pipeline.yaml";
const GITIGNORE: File = (".gitignore", include_str!("init/gitignore"));

impl Template {
    /// The files of a project, the pipeline last: a process that is killed leaves no pipeline.
    fn files(self) -> &'static [File] {
        match self {
            Template::Study => &[GITIGNORE, (PIPELINE, include_str!("init/study.yaml"))],
            Template::Command => &[
                GITIGNORE,
                ("simulate.sh", include_str!("init/simulate.sh")),
                (PIPELINE, include_str!("init/command.yaml")),
            ],
        }
    }

    /// The commands that run the project, one a line, with `repro` as the name of the program.
    fn next(self) -> &'static [&'static str] {
        match self {
            Template::Study => &["repro run"],
            Template::Command => &["repro run", "repro export table results"],
        }
    }

    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Writes the files of `template` to the project folder. Overwrites nothing: if a file exists, fails
/// before anything is written. An existing `.gitignore` is kept, since a repository often has one.
pub(super) fn init(common: &Common, template: Template) -> Result<String> {
    let path = |name: &str| match name {
        PIPELINE => common.directory.join(&common.pipeline),
        name => common.directory.join(name),
    };
    let (mut new, mut kept) = (Vec::new(), Vec::new());
    let mut existing = Vec::new();
    for &(name, text) in template.files() {
        let path = path(name);
        match fs::metadata_if_exists(&path)? {
            None => new.push((path, text)),
            Some(_) if name == GITIGNORE.0 => kept.push(path),
            Some(_) => existing.push(path),
        }
    }
    if let Some(first) = existing.first() {
        return Err(exists(first));
    }
    write_all(&new)?;

    let program = program(common);
    let next: Vec<String> =
        template.next().iter().map(|command| command.replacen("repro", &program, 1)).collect();
    let shown = |path: &Path| path.strip_prefix(".").unwrap_or(path).display().to_string();
    if common.json {
        let written: Vec<String> = new.iter().map(|(path, _)| shown(path)).collect();
        let kept: Vec<String> = kept.iter().map(|path| shown(path)).collect();
        let template = template.name();
        return Ok(json(
            json!({ "template": template, "files": written, "kept": kept, "next": next }),
        ));
    }
    let written: String = new.iter().map(|(path, _)| format!("wrote {}\n", shown(path))).collect();
    let kept = kept.iter().map(|path| {
        let ignored = GITIGNORE.1.trim_end();
        format!("kept {}; check that it contains `{ignored}`\n", shown(path))
    });
    let next = next.iter().map(|command| format!("  {command}\n"));
    Ok(written + &kept.collect::<String>() + "next:\n" + &next.collect::<String>())
}

/// Writes these files. If one cannot be written, removes the others.
fn write_all(files: &[(PathBuf, &str)]) -> Result<()> {
    for (at, (path, text)) in files.iter().enumerate() {
        if let Err(error) = write_new(path, text) {
            files[..at].iter().try_for_each(|(path, _)| fs::remove_if_exists(path))?;
            return Err(error);
        }
    }
    Ok(())
}

fn write_new(path: &Path, text: &str) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    // The file may have been created since it was looked for.
    if fs::write_new(path, folder, text.as_bytes())? { Ok(()) } else { Err(exists(path)) }
}

fn exists(path: &Path) -> anyhow::Error {
    let hint = "`init` overwrites nothing: move the file, or pass another folder with `-C DIR`";
    usage_error(path.display().to_string(), "the file exists", hint).into()
}

/// `repro` with the options that select this project.
fn program(common: &Common) -> String {
    let options = [
        ("-C", &common.directory, Path::new(".")),
        ("--pipeline", &common.pipeline, Path::new(PIPELINE)),
    ];
    let given = options.iter().filter(|(_, value, default)| value != default);
    let given = given.map(|(option, value, _)| format!(" {option} {}", quoted(value)));
    format!("repro{}", given.collect::<String>())
}

/// A path as a word of a shell.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    if path.chars().all(is_plain) { path } else { format!("'{}'", path.replace('\'', "'\\''")) }
}
