//! `file`: imports files and folders of the project by content.
//!
//! The key holds their names, their bytes and which of them are executable, but not their location.
//! The engine finds, hashes and stores them; this kind only copies them to its outputs.

use super::texts::Texts;
use crate::engine::key::Content;
use crate::engine::stage::{Context, Declared, FILES, Hinted, Invocation, Slot, Stage};
use crate::fs;
use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) struct FileStage;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// Relative to the project's folder, or absolute; required, and not part of the key.
    #[serde(default)]
    path: Option<Texts>,
    /// Patterns of names to skip in folders; by default, files of editors, operating systems and
    /// version control. Not part of the key.
    #[serde(default)]
    ignore: Option<Vec<String>>,
}

impl Stage for FileStage {
    const NAME: &'static str = "file";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[];
    const OUTPUTS: &'static [&'static str] = &[];
    const LISTS: &'static [&'static str] = &["path", "ignore"];
    const GENERAL_PURPOSE: bool = true;
    type Params = Params;

    fn check(params: &Params) -> Result<(), Hinted> {
        let hint = "write `path: FILE`, a folder, or a list of them";
        match params.path.as_ref().map(Texts::all) {
            None | Some([]) => Err(Hinted::new("the field `path` is missing", hint)),
            Some(paths) if paths.iter().any(|path| path.0.is_empty()) => {
                Err(Hinted::new("`path` is empty", hint))
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
            // A hard link costs no disk space, but an object of the cache is never executable.
            if executable || std::fs::hard_link(from, &to).is_err() {
                fs::copy_new(from, &to, if executable { 0o755 } else { 0o644 })?;
            }
        }
        Ok(())
    }
}

/// Rejects invalid patterns of names.
pub(super) fn check_ignore(patterns: Option<&[String]>) -> Result<(), Hinted> {
    patterns.unwrap_or_default().iter().try_for_each(|pattern| {
        let invalid = |why: &str| {
            let cause = format!("invalid pattern `{pattern}` in `ignore`: {why}");
            Err(Hinted::new(cause, "write a pattern such as `*.bak`"))
        };
        match glob::Pattern::new(pattern) {
            Err(e) => invalid(e.msg),
            Ok(_) if pattern.is_empty() => invalid("it is empty"),
            Ok(_) if pattern.ends_with('/') => invalid("it ends with a slash"),
            Ok(_) => Ok(()),
        }
    })
}
