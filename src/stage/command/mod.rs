//! `command`: runs any program that reads its inputs from files and writes its outputs to files.
//!
//! The program runs in a new folder. This folder contains the declared `files`, under their paths
//! in the project, and read-only copies of the inputs: `inputs/NAME/FILE`, or `inputs/NAME/K/FILE`
//! for an input that gathers many, with K counting from 0 in an unspecified order. Executable files
//! stay executable and empty folders are kept; other permissions and times are not preserved.
//!
//! The environment is not inherited. It consists of `PATH`, `HOME`, `TMPDIR`, one
//! `REPRO_PARAM_NAME` for each of the `params`, and the variables in `env`, which may override the
//! first three. `HOME` and `TMPDIR` are an empty folder with a short path ([`Scratch`]). Scalars in
//! `run`, `env` and `params` reach the program as they are written: `001` stays `001`. Only
//! `$PROJECT` in `env` is replaced ([`environment`]).
//!
//! When the program has ended, its declared `outputs` are collected; other new files are listed in
//! the log. A symbolic link among the outputs is an error. Declared paths must not overlap, so that
//! a file is either an input or an output.
//!
//! A text in `run` is executed by `sh -e`, or by `bash -euo pipefail` with `shell: bash`. Failures
//! that neither shell detects are listed at [`Shell`].
//!
//! The program must be deterministic: the same files and parameters must give the same bytes. This
//! kind cannot enforce that. It does not pin the program's version, nor prevent it from reading
//! other files by absolute paths.

mod environment;
mod paths;
mod scratch;
mod undeclared;

use self::environment::PATH;
use self::paths::{INPUTS, ProjectPath};
use self::scratch::Scratch;
use super::compare;
use super::file::check_ignore;
use super::texts::{Text, Texts, scalar_text};
use crate::engine::key::Content;
use crate::engine::stage::pairing::Moves;
use crate::engine::stage::{
    Changes, Context, Declared, FILES, GATHERED, Hinted, Invocation, Memory, Resources, Slot,
    Stage, TimeLimit, Verbatim, belongs,
};
use crate::{fs, process};
use anyhow::{Result, anyhow, bail};
use schemars::JsonSchema;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Write as _;
use std::num::NonZero;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command as Program, ExitStatus, Stdio};

pub(super) struct CommandStage;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Params {
    /// A shell script, or a list of a program and its arguments.
    run: Texts,
    /// The shell that executes the script.
    #[serde(default)]
    shell: Shell,
    /// The files and folders of the project that the program reads, scripts included.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "Texts")]
    files: Vec<ProjectPath>,
    /// Patterns of names to skip in the folders of `files`; by default, files of editors, operating
    /// systems and version control. Not part of the key.
    #[serde(default)]
    ignore: Option<Vec<String>>,
    /// The files that the program writes, and folders, with a slash at the end.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "Texts")]
    outputs: Vec<ProjectPath>,
    /// Environment variables; `$PROJECT` in a value is replaced by the project's folder.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Text>")]
    env: BTreeMap<Variable, Text>,
    /// Parameters, passed as `REPRO_PARAM_NAME`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Json>")]
    params: BTreeMap<String, Verbatim>,
    /// The time after which the program is killed: seconds, or a duration such as `10m`.
    #[serde(default)]
    time_limit: Option<TimeLimit>,
    /// How often a failed program is started again.
    #[serde(default)]
    retries: u32,
    /// The number of threads to reserve.
    #[serde(default)]
    threads: Option<NonZero<usize>>,
    /// The memory to reserve, such as `512MiB`. It is not enforced as a limit.
    #[serde(default)]
    memory: Option<Memory>,
}

/// Accepts a single path instead of a list of one.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ProjectPath>, D::Error> {
    let texts = Texts::deserialize(deserializer)?;
    Ok(texts.all().iter().map(|text| text.0.clone().into()).collect())
}

/// The name of a variable in `env`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
struct Variable(String);

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Variable, D::Error> {
        let name = String::deserialize(deserializer)?;
        let shown: String = name.chars().take(40).flat_map(char::escape_default).collect();
        let refuse =
            |expected: &str| Err(D::Error::invalid_value(Unexpected::Str(&shown), &expected));
        if name.is_empty() || name.contains(['=', '\0']) {
            return refuse("a name without `=`, as in `NAME: value`");
        }
        if name.starts_with(PARAM_PREFIX) {
            let parameter = shown[PARAM_PREFIX.len()..].to_lowercase();
            return refuse(&format!("`{parameter}` in `params`, not its variable"));
        }
        Ok(Variable(name))
    }
}

impl From<Variable> for String {
    fn from(variable: Variable) -> String {
        variable.0
    }
}

/// The reserved prefix of parameters' variables.
const PARAM_PREFIX: &str = "REPRO_PARAM_";

/// The shell that executes a text in `run`.
///
/// Neither shell stops at a command that fails in a condition (`if`, `while`, `&&`, `||`, `!`), in
/// a command substitution used as an argument (`echo $(false)`), or in the background (`false &`
/// and a plain `wait`). Only `bash` stops at an unset variable and at a failure in a pipeline
/// before its last command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Shell {
    /// `/bin/sh -e`: stops at the first command that fails. A pipeline fails if its last command
    /// fails.
    #[default]
    Sh,
    /// `bash -euo pipefail`: a pipeline fails if any of its commands fails, and an unset variable
    /// is an error.
    Bash,
}

impl Shell {
    /// The command that executes the script `text`.
    fn command(self, text: &str) -> Program {
        let options: &[&str] = match self {
            Shell::Sh => &["-e"],
            Shell::Bash => &["-euo", "pipefail"],
        };
        let mut shell = Program::new(self.name());
        shell.args(options).args(["-c", text]);
        shell
    }

    fn name(self) -> &'static str {
        match self {
            Shell::Sh => "/bin/sh",
            Shell::Bash => "bash",
        }
    }
}

/// The maximum number of files that a message lists.
const MAX_LISTED: usize = 8;

impl Stage for CommandStage {
    const NAME: &'static str = "command";
    const VERSION: u32 = 3;
    const SLOTS: &'static [Slot] = &[];
    const OUTPUTS: &'static [&'static str] = &[];
    const OPEN: bool = true;
    const SPAWNS: bool = true;
    const LISTS: &'static [&'static str] = &["run", "files", "ignore", "outputs"];
    const GENERAL_PURPOSE: bool = true;
    type Params = Params;

    fn check(params: &Params) -> Result<(), Hinted> {
        let refuse = |cause: &str, hint: &str| Err(Hinted::new(cause, hint));
        if params.run.all().first().is_none_or(|first| first.0.trim().is_empty()) {
            return refuse(
                "`run` is empty",
                "write a shell command, or `[program, argument, ...]`",
            );
        }
        if matches!(params.run, Texts::Many(_)) && params.shell != Shell::Sh {
            return refuse(
                "`shell` has no effect on a `run` that is a list",
                "write `run` as a text, or remove `shell`",
            );
        }
        let texts = params.run.all().iter().chain(params.env.values()).map(|text| text.0.clone());
        if texts
            .chain(params.params.values().filter_map(|value| scalar_text(&value.0)))
            .any(|text| text.contains('\0'))
        {
            return refuse("`run`, `env` or `params` contains a NUL character", "remove it");
        }
        if params.outputs.is_empty() {
            return refuse("`outputs` is empty", "list the files that the command writes");
        }
        paths::check(&params.files, &params.outputs)?;
        let path = params.env.iter().find(|(name, _)| name.0 == "PATH");
        path.map_or(Ok(()), |(_, path)| environment::check_path(&path.0))?;
        check_ignore(params.ignore.as_deref())?;
        let mut variables = BTreeMap::new();
        for (name, value) in &params.params {
            if !is_name(name) {
                return Err(Hinted::new(
                    format!("`{name}` is not a name of a parameter"),
                    "use letters, digits, `-` and `_`",
                ));
            }
            if scalar_text(&value.0).is_none() {
                return Err(Hinted::new(
                    format!("the parameter `{name}` is not a scalar"),
                    "write a text or a number, or a list of them for a grid",
                ));
            }
            if let Some(other) = variables.insert(variable(name), name) {
                let cause = format!("`{other}` and `{name}` are both `{}`", variable(name));
                return Err(Hinted::new(cause, "rename one"));
            }
        }
        Ok(())
    }

    /// Version 3 replaces `$PROJECT` in `env`.
    fn version(params: &Params) -> u32 {
        if params.env.values().any(|value| environment::is_replaced(&value.0)) { 3 } else { 2 }
    }

    fn outputs(params: &Params) -> Option<Vec<String>> {
        Some(params.outputs.iter().map(|path| path.0.clone()).collect())
    }

    fn files(params: &Params) -> Vec<Declared> {
        let declared = |path: &ProjectPath| Declared {
            path: path.0.clone(),
            by_path: true,
            ignore: params.ignore.clone(),
        };
        params.files.iter().map(declared).collect()
    }

    fn resources(params: &Params) -> Resources {
        Resources {
            time_limit: params.time_limit.map(|limit| limit.0),
            retries: params.retries,
            threads: params.threads,
            memory: params.memory.map_or(0, |memory| memory.0),
            ..Resources::default()
        }
    }

    /// Resources do not change the result, and the key already holds the names and digests of the
    /// files.
    fn key_params(params: Params, _: &Invocation) -> Params {
        Params {
            files: Vec::new(),
            ignore: None,
            time_limit: None,
            retries: 0,
            threads: None,
            memory: None,
            ..params
        }
    }

    fn difference(file: &str, cached: &[u8], recomputed: &[u8]) -> String {
        compare::difference(file, cached, recomputed)
    }

    fn changes(file: &str, before: &[u8], after: &[u8], known: &Moves) -> Option<Changes> {
        compare::changes(file, before, after, known)
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let work = cx.scratch();
        let scratch = Scratch::lock_exclusive(work.parent().unwrap_or(work))?;
        scratch.inherit_lock()?;
        let copied = copy_inputs(cx, work)?;
        let mut program = match &params.run {
            Texts::One(text) => params.shell.command(&text.0),
            Texts::Many(words) => {
                let mut program = Program::new(&words[0].0);
                program.args(words[1..].iter().map(|word| &word.0));
                program
            }
        };
        program.current_dir(work).stdin(Stdio::null());
        let path = set_environment(&mut program, &params, &scratch, cx)?;
        let (name, words) = match &params.run {
            Texts::One(text) => (params.shell.name(), environment::programs(&text.0)),
            Texts::Many(words) => (words[0].0.as_str(), vec![words[0].0.as_str()]),
        };
        let hinted = |cause: String, is_not_found: bool| {
            // Users who set `PATH` know that it differs from theirs.
            let is_set = params.env.keys().any(|name| name.0 == "PATH");
            let wrong_path =
                || if is_set { None } else { environment::hint(&words, &path, cx.project()) };
            let lines = params.run.all().iter().map(|text| text.0.as_str());
            let undeclared = || undeclared::hint(lines, work, cx.project());
            // The more likely cause first.
            let hint = if is_not_found {
                wrong_path().or_else(undeclared)
            } else {
                undeclared().or_else(wrong_path)
            };
            match hint {
                Some(hint) => Hinted::new(cause, hint).into(),
                None => anyhow!(cause),
            }
        };
        let status = match process::run(&mut program, name) {
            Err(error) if is_not_found(&error) => return Err(hinted(format!("{error:#}"), true)),
            status => status?,
        };
        if let Some(failure) = failure(status) {
            // On a full disk, the program could not write its own error message to the log.
            let full = [work, scratch.path()].into_iter().find(|folder| fs::is_full(folder));
            let full = full.map_or_else(String::new, |full| {
                format!("; the disk of `{}` is full", full.display())
            });
            return Err(hinted(format!("{failure}{full}"), status.code() == Some(127)));
        }
        collect_outputs(&params.outputs, &copied, work, cx)
    }
}

/// Sets the program's environment and returns its `PATH`.
fn set_environment(
    program: &mut Program,
    params: &Params,
    scratch: &Scratch,
    cx: &Context,
) -> Result<OsString> {
    let mut path = OsString::from(PATH);
    program
        .env_clear()
        .env("PATH", &path)
        .env("HOME", scratch.path())
        .env("TMPDIR", scratch.path());
    program.envs(
        params
            .params
            .iter()
            .map(|(name, value)| (variable(name), scalar_text(&value.0).unwrap_or_default())),
    );
    for (name, written) in &params.env {
        let value = environment::value(&written.0, cx.project())?;
        if name.0 == "PATH" {
            environment::check_project_in_path(&written.0, cx.project())?;
            path.clone_from(&value);
        }
        program.env(&name.0, value);
    }
    Ok(path)
}

/// Copies inputs and declared files to `work`; returns the names of the declared files.
fn copy_inputs(cx: &Context, work: &Path) -> Result<BTreeSet<String>> {
    let mut declared = BTreeSet::new();
    for (slot, artifacts) in &cx.recipe().inputs {
        for (k, input) in cx.inputs(slot).iter().enumerate() {
            let folder = match slot.strip_suffix(GATHERED) {
                Some(name) => work.join(INPUTS).join(name).join(k.to_string()),
                None => work.join(INPUTS).join(slot),
            };
            for (file, content) in &artifacts[k] {
                let (to, mode) = if slot == FILES {
                    (work.join(file), 0o644)
                } else {
                    (folder.join(file), 0o444)
                };
                match *content {
                    Content::File { executable, .. } => {
                        copy(input.path(file)?, &to, mode, executable)?
                    }
                    Content::EmptyFolder => fs::create_dir_all(&to)?,
                }
                if slot == FILES {
                    declared.insert(file.clone());
                }
            }
        }
    }
    Ok(declared)
}

/// Copies to a new file with the permissions `mode`.
fn copy(from: &Path, to: &Path, mode: u32, executable: bool) -> Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy_new(from, to, mode | if executable { 0o111 } else { 0 })
}

/// Moves the outputs out of `work`; the declared files in `copied` are not outputs.
fn collect_outputs(
    declared: &[ProjectPath],
    copied: &BTreeSet<String>,
    work: &Path,
    cx: &Context,
) -> Result<()> {
    let fs::Tree { mut files, empty_folders, others } = fs::tree(work, &[INPUTS])?;
    files.extend(empty_folders);
    files.retain(|file| !copied.contains(file));
    let is_output = |file: &String| declared.iter().any(|output| belongs(file, &output.0));
    if let Some((special, why)) = others.iter().find(|(file, _)| is_output(file)) {
        bail!("the output `{special}` {why}");
    }
    let others = others.iter().map(|(file, _)| file).filter(|file| !copied.contains(*file));
    let undeclared = files.iter().filter(|file| !is_output(file)).chain(others);
    let undeclared: Vec<String> = undeclared.map(|file| format!("`{file}`")).collect();
    if let Some(ProjectPath(missing)) =
        declared.iter().find(|output| !files.iter().any(|file| belongs(file, &output.0)))
    {
        let more = match undeclared.len() {
            n if n > MAX_LISTED => format!(" and {} more", n - MAX_LISTED),
            _ => String::new(),
        };
        let listed = undeclared[..undeclared.len().min(MAX_LISTED)].join(", ");
        let but = match undeclared.is_empty() {
            true => String::new(),
            false => format!(", but wrote {listed}{more}"),
        };
        bail!("the command did not write its output `{missing}`{but}");
    }
    if !undeclared.is_empty() {
        // A successful command must not fail because the log cannot be written.
        let _ = writeln!(std::io::stderr(), "undeclared outputs: {}", undeclared.join(", "));
    }
    for file in files.iter().filter(|file| is_output(file)) {
        let (from, to) = (work.join(file), cx.output(file));
        if file.ends_with('/') {
            fs::create_dir_all(&to)?;
        } else {
            let meta = fs::metadata_if_exists(&from)?;
            move_or_copy(&from, &to, meta.is_some_and(|meta| fs::is_executable(&meta)))?;
        }
    }
    Ok(())
}

/// Moves a file, or copies it where another process may still write to it: where processes that the
/// program has started may be alive, or where the file has another hard link.
fn move_or_copy(from: &Path, to: &Path, executable: bool) -> Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    let mode = 0o644 | if executable { 0o111 } else { 0 };
    if process::is_subreaper() && fs::move_owned(from, to, mode)? {
        Ok(())
    } else {
        fs::copy_new(from, to, mode)
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::NotFound)
}

fn failure(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(127), _) => Some("the command exited with code 127: program not found".into()),
        (Some(code), _) => Some(format!("the command exited with code {code}")),
        (_, Some(9)) => Some("the command was killed by signal 9 (out of memory?)".into()),
        (_, Some(signal)) => Some(format!("the command was killed by signal {signal}")),
        _ => Some("the command ended without an exit code".into()),
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// The environment variable that carries a parameter.
fn variable(param: &str) -> String {
    format!("{PARAM_PREFIX}{}", param.to_ascii_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(fields: &str) -> String {
        let params: Params = serde_json::from_str(&format!("{{{fields}}}")).unwrap();
        CommandStage::check(&params).unwrap_err().cause
    }

    #[test]
    fn a_single_output_needs_no_list() {
        let read = |outputs: &str| -> Params {
            let text = format!(r#"{{"run":"true","files":"a.py","outputs":{outputs}}}"#);
            serde_json::from_str(&text).unwrap()
        };
        assert_eq!(read(r#""fig.svg""#), read(r#"["fig.svg"]"#));
        assert_eq!(read(r#""fig.svg""#).files, ["a.py".to_owned().into()]);
    }

    #[test]
    fn an_invalid_pattern_is_an_error() {
        for wrong in ["[", "", "a/", "***"] {
            let error = cause(&format!(r#""run":"true","ignore":["{wrong}"],"outputs":["x"]"#));
            assert!(error.starts_with(&format!("invalid pattern `{wrong}` in `ignore`: ")));
        }
    }

    #[test]
    fn two_parameters_with_the_same_variable_are_an_error() {
        let error = cause(r#""run":"true","outputs":["x"],"params":{"a-b":1,"a_b":2}"#);
        assert_eq!(error, "`a-b` and `a_b` are both `REPRO_PARAM_A_B`");
    }

    #[test]
    fn invalid_parameters_are_errors() {
        let case = |fields: &str, error: &str| assert_eq!(cause(fields), error);
        case(r#""run":[],"outputs":["x"]"#, "`run` is empty");
        case(r#""run":" ","outputs":["x"]"#, "`run` is empty");
        case(r#""run":"true","outputs":[]"#, "`outputs` is empty");
        case(r#""run":"true","outputs":["x","x/"]"#, "`outputs` lists `x/` twice");
        case(
            r#""run":"true","outputs":["x"],"files":["x"]"#,
            "`x` is in both `files` and `outputs`",
        );
        case(
            r#""run":"true","outputs":["x"],"params":{"a":{}}"#,
            "the parameter `a` is not a scalar",
        );
    }

    #[test]
    fn variables_of_env_must_not_be_those_of_parameters() {
        let read = |name: &str| serde_json::from_value::<Variable>(name.into());
        for invalid in ["A=B", ""] {
            let error = read(invalid).unwrap_err().to_string();
            assert!(error.contains("expected a name without `=`"), "{error}");
        }
        let error = read("REPRO_PARAM_X_Y").unwrap_err().to_string();
        assert!(error.contains("expected `x_y` in `params`, not its variable"), "{error}");
        for valid in ["PATH", "HOME", "TMPDIR", "REPRO_DATA", "REPRO_PARAM", "repro_param_x", "X"] {
            assert!(read(valid).is_ok(), "{valid}");
        }
    }
}
