//! `file`: brings files or folders of the project in, by content.
//!
//! Names, bytes and which files are executable are the question; where they lie is not. The engine finds, hashes and stores them: this kind only puts
//! them out. It knows nothing of what is in them.

use super::texts::Texts;
use crate::engine::key::Content;
use crate::engine::stage::{Context, Declared, FILES, Invocation, Slot, Stage};
use crate::fs;
use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) struct File;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// From the project's folder, or absolute. Always given, and in no key.
    #[serde(default)]
    path: Option<Texts>,
    /// Patterns of what is left out of folders; in no key. By default what editors, systems and version control leave there.
    #[serde(default)]
    ignore: Option<Vec<String>>,
}

impl Stage for File {
    const NAME: &'static str = "file";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[];
    const OUTPUTS: &'static [&'static str] = &[];
    const LISTS: &'static [&'static str] = &["path", "ignore"];
    type Params = Params;

    fn check(params: &Params) -> Result<(), String> {
        match params.path.as_ref().map(Texts::all) {
            None | Some([]) => {
                Err("the field `path` is missing; write `path: FILE`, a folder, or a list of them"
                    .into())
            }
            Some(paths) if paths.iter().any(|path| path.0.is_empty()) => {
                Err("`path` is empty; write `path: FILE`, a folder, or a list of them".into())
            }
            Some(_) => check_ignore(params.ignore.as_deref()),
        }
    }

    fn outputs(_: &Params) -> Option<Vec<String>> {
        None
    }

    fn files(params: &Params) -> Vec<Declared> {
        let paths = params.path.iter().flat_map(Texts::all);
        paths
            .map(|path| Declared {
                path: path.0.clone(),
                by_path: false,
                ignore: params.ignore.clone(),
            })
            .collect()
    }

    fn key_params(_: Params, _: &Invocation) -> Params {
        Params { path: None, ignore: None }
    }

    fn run(_: Params, cx: &Context) -> Result<()> {
        let files = cx.input(FILES)?;
        for (name, content) in &files.artifact {
            let to = cx.output(name);
            let Content::File { executable, .. } = *content else {
                fs::create_dir_all(&to)?;
                continue;
            };
            let from = files.path(name)?;
            fs::create_dir_all(to.parent().unwrap_or(&to))?;
            // The same bytes under a second name cost nothing, where the disk has that. An object is not executable.
            if executable || std::fs::hard_link(from, &to).is_err() {
                fs::copy_new(from, &to, if executable { 0o755 } else { 0o644 })?;
            }
        }
        Ok(())
    }
}

/// Refuses what is no pattern of names.
pub(super) fn check_ignore(patterns: Option<&[String]>) -> Result<(), String> {
    patterns.unwrap_or_default().iter().try_for_each(|pattern| {
        let refuse = |why: &str| {
            Err(format!("`{pattern}` in `ignore` is no pattern: {why}; write one as `*.bak`"))
        };
        match glob::Pattern::new(pattern) {
            Err(e) => refuse(e.msg),
            Ok(_) if pattern.is_empty() => refuse("it is empty"),
            Ok(_) if pattern.ends_with('/') => {
                refuse("a folder is named without a slash at its end")
            }
            Ok(_) => Ok(()),
        }
    })
}
