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
const GITIGNORE: &str = ".gitignore";

impl Template {
    /// The files of a project, the pipeline last: a process that is killed leaves no pipeline.
    fn files(self) -> &'static [File] {
        match self {
            Template::Study => &[
                (GITIGNORE, include_str!("init/gitignore")),
                (PIPELINE, include_str!("init/study.yaml")),
            ],
            Template::Command => &[
                (GITIGNORE, include_str!("init/gitignore")),
                ("simulate.sh", include_str!("init/simulate.sh")),
                (PIPELINE, include_str!("init/command.yaml")),
            ],
            Template::OwnNets => &[
                (GITIGNORE, include_str!("init/own-nets.gitignore")),
                ("train.py", include_str!("../../examples/own-nets/train.py")),
                (PIPELINE, include_str!("../../examples/own-nets/pipeline.yaml")),
            ],
        }
    }

    /// The commands that run the project in its folder.
    fn next(self) -> &'static [&'static str] {
        match self {
            Template::Study => &["repro run"],
            Template::Command => &["repro run", "repro export table results"],
            Template::OwnNets => &[
                "repro run data",
                "repro export data images",
                "python3 train.py images",
                "repro run",
            ],
        }
    }

    /// A remark on these commands.
    fn note(self) -> Option<&'static str> {
        match self {
            Template::Study | Template::Command => None,
            Template::OwnNets => Some(
                "train.py needs PyTorch, NumPy and safetensors. In its place, put your own nets \
                 in nets/ and list them in pipeline.yaml.",
            ),
        }
    }

    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Writes the files of `template` to the project folder. Overwrites nothing: if a file exists,
/// fails before anything is written.
/// An existing `.gitignore` is kept, since a repository often has one.
pub(super) fn init(common: &Common, template: Template) -> Result<String> {
    if common.pipeline != Path::new(PIPELINE) {
        let hint = format!("remove the option: the file is always `{PIPELINE}`");
        return Err(usage_error("--pipeline", "`init` does not use this option", hint).into());
    }
    let (mut new, mut kept) = (Vec::new(), None);
    let mut existing = None;
    for &(name, text) in template.files() {
        let path = common.directory.join(name);
        match fs::metadata_if_exists(&path)? {
            None => new.push((path, text)),
            Some(_) if name == GITIGNORE => kept = Some((path, text)),
            Some(_) => _ = existing.get_or_insert(path),
        }
    }
    if let Some(path) = existing {
        return Err(exists(&path));
    }
    fs::create_dir_all(&common.directory)?;
    write_all(&new, &common.directory)?;

    let folder = (common.directory != Path::new(".")).then(|| quoted(&common.directory));
    let next = folder.map(|folder| format!("cd {folder}")).into_iter();
    let next: Vec<String> =
        next.chain(template.next().iter().map(|command| (*command).to_owned())).collect();
    let shown = |path: &Path| path.strip_prefix(".").unwrap_or(path).display().to_string();
    if common.json {
        let files: Vec<String> = new.iter().map(|(path, _)| shown(path)).collect();
        let kept: Vec<String> = kept.iter().map(|(path, _)| shown(path)).collect();
        let template = template.name();
        return Ok(json(
            json!({ "template": template, "files": files, "kept": kept, "next": next }),
        ));
    }
    let mut text: String = new.iter().map(|(path, _)| format!("wrote {}\n", shown(path))).collect();
    if let Some((path, ignored)) = &kept {
        let ignored: Vec<String> = ignored.lines().map(|line| format!("`{line}`")).collect();
        text += &format!("kept {}: check that it has {}\n", shown(path), ignored.join(" and "));
    }
    text += "next:\n";
    text.extend(next.iter().map(|command| format!("  {command}\n")));
    text.extend(template.note().map(|note| format!("{note}\n")));
    Ok(text)
}

/// Writes these files to `folder`. If one cannot be written, removes the others.
fn write_all(files: &[(PathBuf, &str)], folder: &Path) -> Result<()> {
    for (at, (path, text)) in files.iter().enumerate() {
        // A file may have been created since it was looked for.
        let written = fs::write_new(path, folder, text.as_bytes())
            .and_then(|is_new| if is_new { Ok(()) } else { Err(exists(path)) });
        if let Err(error) = written {
            files[..at].iter().try_for_each(|(path, _)| fs::remove_if_exists(path))?;
            return Err(error);
        }
    }
    Ok(())
}

fn exists(path: &Path) -> anyhow::Error {
    let hint = "`init` overwrites nothing: move the file, or pass another folder with `-C DIR`";
    usage_error(path.display().to_string(), "the file exists", hint).into()
}

/// A path as a word of a shell.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    if path.chars().all(is_plain) { path } else { format!("'{}'", path.replace('\'', "'\\''")) }
}
