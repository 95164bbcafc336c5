//! `command`: any program, given its inputs as files and asked for files.
//!
//! It runs in a fresh folder that holds its own declared `files` under their paths in the project
//! and its inputs, copied and read-only, as `inputs/NAME/FILE`; an input that gathers many as
//! `inputs/NAME/K/FILE`, with K counted from 0 in an order that means nothing. Executable files stay
//! so (for everyone, by the permissions of the owner), and empty folders are there; all other
//! permissions are the same for every file, and times are those of the copy. Its environment is
//! `PATH`, `HOME`, `TMPDIR`, `env`, which may set those otherwise, and, for each of its `params`,
//! `REPRO_PARAM_NAME`: nothing of the caller's. `HOME` and `TMPDIR` are one empty folder with a
//! short path ([`Scratch`]). In `run`, `env` and `params` a scalar is the text that is written:
//! `001` and `3.10` reach the program as such; only `$PROJECT` in `env` stands for something else
//! ([`environment`]). What it declares as `outputs` is collected, executable or not, with the empty folders; the rest is named in its log. A link among
//! the outputs is refused. No declared path may be, or lie in, another one: a file that a program is
//! given cannot also be its output.
//!
//! A text in `run` is for the shell, which stops at the first line that fails: `sh -e`, or with `shell: bash`
//! `bash -euo pipefail`. What either still takes for success is told at [`Shell`].
//!
//! A stage of this kind promises what no test here can hold it to: the same files and parameters give the same bytes. Not
//! knowing what the program is, this file neither pins its version nor keeps it from reading the disk by absolute paths.

use super::environment::{self, PATH};
use super::file::check_ignore;
use super::format;
use super::scratch::Scratch;
use super::texts::{Text, Texts, written};
use super::undeclared;
use crate::engine::key::Content;
use crate::engine::stage::{
    Changes, Context, Declared, FILES, GATHERED, Hinted, Invocation, Resources, Slot, Stage,
    Verbatim, belongs,
};
use crate::{fs, process};
use anyhow::{Result, anyhow, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Write as _;
use std::num::NonZero;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command as Program, ExitStatus, Stdio};
use std::time::Duration;

pub(super) struct Command;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Params {
    /// Lines for the shell, or a program and its arguments.
    run: Texts,
    /// What runs the lines, up to the first that fails.
    #[serde(default)]
    shell: Shell,
    /// What of the project it consists of: files and folders.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "Texts")]
    files: Vec<ProjectPath>,
    /// Patterns of what is left out of folders in `files`; in no key. By default what editors, systems and version control
    /// leave there.
    #[serde(default)]
    ignore: Option<Vec<String>>,
    /// What it writes: files, and folders with a slash at their end.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "Texts")]
    outputs: Vec<ProjectPath>,
    /// Variables of its environment; `$PROJECT` in a value stands for the project's folder.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Text>")]
    env: BTreeMap<Variable, Text>,
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Json>")]
    params: BTreeMap<String, Verbatim>,
    /// In seconds, or with units: `90s`, `10m`, `1h30m`.
    #[serde(default)]
    time_limit: Option<Text>,
    #[serde(default)]
    retries: u32,
    #[serde(default)]
    threads: Option<NonZero<usize>>,
    /// As `512MiB`: what is kept free for it while it runs. It is no limit.
    #[serde(default)]
    memory: Option<Text>,
}

/// One path in place of a list of one.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ProjectPath>, D::Error> {
    let texts = Texts::deserialize(deserializer)?;
    Ok(texts.all().iter().map(|text| text.0.clone().into()).collect())
}

/// A path as it is written plainly: `./x`, `a//b` and `a/./b` are `x`, `a/b` and `a/b`. A slash at its end stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
struct ProjectPath(String);

impl From<String> for ProjectPath {
    fn from(path: String) -> ProjectPath {
        let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        // Refused later, as it is written.
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

/// The name of a variable in `env`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Variable(String);

impl TryFrom<String> for Variable {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        let shown: String = name.chars().take(40).flat_map(char::escape_default).collect();
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("`{shown}` cannot be a variable; write `NAME: value`"));
        }
        match name.strip_prefix(PARAM) {
            Some(param) => {
                let param = param
                    .chars()
                    .take(40)
                    .flat_map(char::escape_default)
                    .collect::<String>()
                    .to_lowercase();
                Err(format!(
                    "`{shown}` is the variable of a parameter; write `params: {{ {param}: ... }}`"
                ))
            }
            None => Ok(Variable(name)),
        }
    }
}

impl From<Variable> for String {
    fn from(variable: Variable) -> String {
        variable.0
    }
}

/// What the variables of parameters begin with; no other variable does.
const PARAM: &str = "REPRO_PARAM_";

/// The shell for a text in `run`.
///
/// Neither shell stops where a failure has a say in what comes next (`if`, `while`, `&&`, `||`, `!`),
/// in a command substitution that is an argument (`echo $(false)`), or in the background (`false &`
/// and a plain `wait`). What `sh` does not see and `bash` does is a command in a pipeline, other than
/// the last, that fails, and a variable that is not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Shell {
    /// `/bin/sh -e`: stops at the first command that fails. In a pipeline, only the last one counts.
    #[default]
    Sh,
    /// `bash -euo pipefail`: every command of a pipeline counts, and a variable that is not set is an
    /// error.
    Bash,
}

impl Shell {
    /// This shell, about to run `text`.
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

/// How many files a message names.
const NAMED: usize = 8;

/// The folder of what it is given.
const INPUTS: &str = "inputs";

impl Stage for Command {
    const NAME: &'static str = "command";
    const VERSION: u32 = 3;
    const SLOTS: &'static [Slot] = &[];
    const OUTPUTS: &'static [&'static str] = &[];
    const OPEN: bool = true;
    const SPAWNS: bool = true;
    const LISTS: &'static [&'static str] = &["run", "files", "ignore", "outputs"];
    type Params = Params;

    fn check(params: &Params) -> Result<(), String> {
        if params.run.all().first().is_none_or(|first| first.0.trim().is_empty()) {
            return Err(
                "`run` is empty; write a line for the shell, or `[program, argument, ...]`".into(),
            );
        }
        if matches!(params.run, Texts::Many(_)) && params.shell != Shell::Sh {
            return Err("`shell` is for a text, and `run` is a list; write `run: |` and lines, or leave it out".into());
        }
        let texts = params.run.all().iter().chain(params.env.values()).map(|text| text.0.clone());
        if texts
            .chain(params.params.values().filter_map(|value| written(&value.0)))
            .any(|text| text.contains('\0'))
        {
            return Err(
                "there is a NUL in `run`, `env` or `params`; no program can be given one".into()
            );
        }
        if params.outputs.is_empty() {
            return Err("`outputs` is empty; name the files that the command writes".into());
        }
        check_paths(&params.files, &params.outputs)?;
        let path = params.env.iter().find(|(name, _)| name.0 == "PATH");
        path.map_or(Ok(()), |(_, path)| environment::check_path(&path.0))?;
        check_ignore(params.ignore.as_deref())?;
        let mut variables = BTreeMap::new();
        for (name, value) in &params.params {
            if !is_name(name) {
                return Err(format!(
                    "`{name}` cannot be a parameter; a name is made of letters, digits, `-` and `_`"
                ));
            }
            if written(&value.0).is_none() {
                return Err(format!(
                    "the parameter `{name}` is neither text nor number; write one, or a list of them"
                ));
            }
            if let Some(other) = variables.insert(variable(name), name) {
                return Err(format!(
                    "`{other}` and `{name}` are both `{}`; rename one",
                    variable(name)
                ));
            }
        }
        if let Some(limit) =
            params.time_limit.as_ref().filter(|limit| time_limit(&limit.0).is_none())
        {
            return Err(format!(
                "`time-limit: {}` is no time; write seconds above 0, or `90s`, `10m`, `2h`, `1h30m`",
                limit.0
            ));
        }
        match &params.memory {
            Some(memory) if bytes(&memory.0).is_none() => {
                Err(format!("`{}` is no size of memory; write one as `512MiB` or `2GiB`", memory.0))
            }
            _ => Ok(()),
        }
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
            time_limit: params.time_limit.as_ref().and_then(|limit| time_limit(&limit.0)),
            retries: params.retries,
            threads: params.threads,
            memory: params.memory.as_ref().and_then(|memory| bytes(&memory.0)).unwrap_or_default(),
        }
    }

    /// What it may take of time and machine changes no answer; its files are asked for by name and digest.
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

    fn difference(file: &str, cached: &[u8], again: &[u8]) -> String {
        format::difference(file, cached, again)
    }

    fn changes(file: &str, before: &[u8], after: &[u8]) -> Option<Changes> {
        format::changes(file, before, after)
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let work = cx.scratch();
        let scratch = Scratch::take(work.parent().unwrap_or(work))?;
        scratch.share()?;
        let own = place(cx, work)?;
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
            // Whoever sets a PATH knows that it is another one.
            let is_set = params.env.keys().any(|name| name.0 == "PATH");
            let elsewhere =
                || if is_set { None } else { environment::elsewhere(&words, &path, cx.project()) };
            let lines = params.run.all().iter().map(|text| text.0.as_str());
            let undeclared = || undeclared::hint(lines, work, cx.project());
            // First what is the likelier cause.
            let hint = if is_not_found {
                elsewhere().or_else(undeclared)
            } else {
                undeclared().or_else(elsewhere)
            };
            match hint {
                Some(hint) => Hinted { cause, hint }.into(),
                None => anyhow!(cause),
            }
        };
        let status = match process::run(&mut program, name) {
            Err(error) if is_not_found(&error) => return Err(hinted(format!("{error:#}"), true)),
            status => status?,
        };
        if let Some(failure) = failure(status) {
            // On a full disk there was no room for what the program had to say of it.
            let full = [work, scratch.path()].into_iter().find(|folder| fs::is_full(folder));
            let full = full.map_or_else(String::new, |full| {
                format!("; the disk of `{}` is full", full.display())
            });
            return Err(hinted(format!("{failure}{full}"), status.code() == Some(127)));
        }
        collect(&params.outputs, &own, work, cx)
    }
}

/// Gives the program its environment; gives its `PATH`.
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
            .map(|(name, value)| (variable(name), written(&value.0).unwrap_or_default())),
    );
    for (name, written) in &params.env {
        let value = environment::value(&written.0, cx.project())?;
        if name.0 == "PATH" {
            environment::check_project(&written.0, cx.project())?;
            path.clone_from(&value);
        }
        program.env(&name.0, value);
    }
    Ok(path)
}

/// Lays out what the program is given; gives the names of its own files.
fn place(cx: &Context, work: &Path) -> Result<BTreeSet<String>> {
    let mut own = BTreeSet::new();
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
                    own.insert(file.clone());
                }
            }
        }
    }
    Ok(own)
}

/// Copies a file to where none is, with these permissions.
fn copy(from: &Path, to: &Path, mode: u32, executable: bool) -> Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy_new(from, to, mode | if executable { 0o111 } else { 0 })
}

/// Moves the outputs out of `work`; copies those that somebody else may write to.
fn collect(
    declared: &[ProjectPath],
    own: &BTreeSet<String>,
    work: &Path,
    cx: &Context,
) -> Result<()> {
    let fs::Tree { mut files, empty_folders, others } = fs::tree(work, &[INPUTS])?;
    files.extend(empty_folders);
    files.retain(|file| !own.contains(file));
    let is_output = |file: &String| declared.iter().any(|output| belongs(file, &output.0));
    if let Some((special, why)) = others.iter().find(|(file, _)| is_output(file)) {
        bail!("the output `{special}` {why}");
    }
    let others = others.iter().map(|(file, _)| file).filter(|file| !own.contains(*file));
    let stray = files.iter().filter(|file| !is_output(file)).chain(others);
    let stray: Vec<String> = stray.map(|file| format!("`{file}`")).collect();
    if let Some(ProjectPath(missing)) =
        declared.iter().find(|output| !files.iter().any(|file| belongs(file, &output.0)))
    {
        let more = if stray.len() > NAMED {
            format!(" and {} more", stray.len() - NAMED)
        } else {
            String::new()
        };
        let named = stray[..stray.len().min(NAMED)].join(", ");
        let but = if stray.is_empty() { String::new() } else { format!(", but {named}{more}") };
        bail!("the command did not write its output `{missing}`{but}");
    }
    if !stray.is_empty() {
        // A log that cannot be written to must not fail what went well.
        let _ = writeln!(std::io::stderr(), "not declared, and left out: {}", stray.join(", "));
    }
    for file in files.iter().filter(|file| is_output(file)) {
        let (from, to) = (work.join(file), cx.output(file));
        if file.ends_with('/') {
            fs::create_dir_all(&to)?;
        } else {
            let meta = fs::metadata_if_exists(&from)?;
            take(&from, &to, meta.is_some_and(|meta| fs::is_executable(&meta)))?;
        }
    }
    Ok(())
}

/// Moves a file to where none is, if all that the program has started has ended and nobody else knows the file.
fn take(from: &Path, to: &Path, executable: bool) -> Result<()> {
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
        (Some(127), _) => Some(
            "the command ended with exit code 127, a shell's word for a program not found".into(),
        ),
        (Some(code), _) => Some(format!("the command ended with exit code {code}")),
        (_, Some(9)) => Some("the command died of signal 9 (killed; out of memory?)".into()),
        (_, Some(signal)) => Some(format!("the command died of signal {signal}")),
        _ => Some("the command ended without an exit code".into()),
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// The environment variable that carries a parameter.
fn variable(param: &str) -> String {
    format!("{PARAM}{}", param.to_ascii_uppercase().replace('-', "_"))
}

/// Refuses paths of which one is the other or lies in it: of what is there then, nobody knows whether it was given or made.
fn check_paths(files: &[ProjectPath], outputs: &[ProjectPath]) -> Result<(), String> {
    let files = files.iter().map(|path| ("files", &path.0));
    let paths: Vec<(&str, &String)> =
        files.chain(outputs.iter().map(|path| ("outputs", &path.0))).collect();
    paths.iter().try_for_each(|(field, path)| check_path(field, path))?;
    let plain = |path: &str| format!("{}/", path.trim_end_matches('/'));
    // Sorted so, a folder is right before what lies in it.
    let mut sorted: Vec<(String, &str, &String)> =
        paths.into_iter().map(|(field, path)| (plain(path).to_lowercase(), field, path)).collect();
    sorted.sort();
    let overlap = sorted.windows(2).find(|pair| pair[1].0.starts_with(&pair[0].0));
    let Some([(_, outer_field, outer), (_, inner_field, inner)]) = overlap else { return Ok(()) };
    Err(match (plain(outer), plain(inner)) {
        (a, b) if a == b && outer_field == inner_field => {
            format!("`{outer_field}` has `{inner}` twice; remove one")
        }
        (a, b) if a == b => {
            format!("`{inner}` is one of its `files` and of its `outputs`; write to another file")
        }
        (a, b) if !b.starts_with(&a) => {
            format!(
                "`{outer}` and `{inner}` differ in case alone, which some disks ignore; rename one"
            )
        }
        _ if outer_field == inner_field => {
            format!("`{inner}` in `{inner_field}` is also in `{outer}`; remove one")
        }
        _ => format!(
            "`{inner}` in `{inner_field}` is also in `{outer}` in `{outer_field}`; read from one folder and write to \
             another"
        ),
    })
}

/// Names in the folder that the program runs in: below it, written plainly, and not among the inputs.
fn check_path(field: &str, path: &str) -> Result<(), String> {
    let parts = || path.strip_suffix('/').unwrap_or(path).split('/');
    let shown: String = path.chars().take(40).flat_map(char::escape_default).collect();
    if path.contains('\0') || parts().any(|part| matches!(part, "" | "." | "..")) {
        let hint = match field {
            _ if matches!(path, "." | "./") => "name the files and folders in it, one by one",
            "files" => "a file from elsewhere comes in by a stage of kind `file`",
            _ => "name a file below the folder that the command runs in",
        };
        return Err(format!("`{shown}` in `{field}` is no path below the project; {hint}"));
    }
    if parts().next() == Some("~") {
        return Err(format!(
            "`{shown}` in `{field}` begins with `~`, which no shell expands here; write the path out"
        ));
    }
    if parts().next() == Some(INPUTS) {
        return Err(format!(
            "`{shown}` in `{field}` is where inputs are laid; give it another folder"
        ));
    }
    Ok(())
}

/// Reads `600`, `0.5`, `10m` and `1h30m`.
fn time_limit(text: &str) -> Option<Duration> {
    let limit = match text.parse() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    limit.filter(|limit| !limit.is_zero())
}

/// Reads `512MiB`.
fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 10] = [
        ("", 1),
        ("B", 1),
        ("kB", 1000),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(fields: &str) -> String {
        let params: Params = serde_json::from_str(&format!("{{{fields}}}")).unwrap();
        Command::check(&params).unwrap_err()
    }

    #[test]
    fn time_limits_are_read_with_their_units() {
        let seconds = |text| time_limit(text).map(|limit| limit.as_secs_f64());
        let read = ["600", "0.5", "90s", "10m", "2h", "1h30m", "1h 30m"].map(seconds);
        assert_eq!(read, [600.0, 0.5, 90.0, 600.0, 7200.0, 5400.0, 5400.0].map(Some));
        for wrong in ["", "0", "-1", "0s", "10 parsecs", "m", "1e300", "NaN", "inf"] {
            assert_eq!(time_limit(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn one_output_needs_no_list_and_is_the_same_question() {
        let read = |outputs: &str| -> Params {
            let text = format!(r#"{{"run":"true","files":"a.py","outputs":{outputs}}}"#);
            serde_json::from_str(&text).unwrap()
        };
        assert_eq!(read(r#""fig.svg""#), read(r#"["fig.svg"]"#));
        assert_eq!(read(r#""fig.svg""#).files, ["a.py".to_owned().into()]);
    }

    #[test]
    fn sizes_of_memory_are_read_with_their_units() {
        assert_eq!(
            ["1", "3 kB", "2KiB", "512 MB"].map(bytes),
            [Some(1), Some(3000), Some(2048), Some(512_000_000)]
        );
        for wrong in ["", "MiB", "0", "1.5GiB", "-1", "1XB", "99999999999999TiB"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_leads_out_of_the_folder_or_into_the_inputs_is_no_output_and_no_file() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "./../x", ".", "./", "a\\u0000b"] {
            for field in ["files", "outputs"] {
                let other = if field == "outputs" { "" } else { r#","outputs":["x"]"# };
                let said = refusal(&format!(r#""run":"true","{field}":["{path}"]{other}"#));
                assert!(said.contains("is no path below the project"), "{path}: {said}");
            }
        }
        let said = refusal(r#""run":"true","outputs":["inputs/x"]"#);
        assert_eq!(
            said,
            "`inputs/x` in `outputs` is where inputs are laid; give it another folder"
        );
    }

    #[test]
    fn a_path_that_is_not_written_plainly_means_the_plain_one_and_has_its_key() {
        let params = |path: &str| {
            let json = serde_json::json!({ "run": "true", "files": [path], "outputs": [format!("o/{path}")] });
            serde_json::from_value::<Params>(json).unwrap()
        };
        for path in ["./a/b", "a//b", "a/./b", ".//a/.//b", "././a/b"] {
            assert_eq!(params(path), params("a/b"), "{path}");
            assert_eq!(Command::check(&params(path)), Ok(()));
        }
        for folder in ["./a/b/", "a/b//", "a/b/.", "a/b/./"] {
            assert_eq!(params(folder), params("a/b/"), "{folder}");
        }
        let twice = refusal(r#""run":"true","files":["a","./a"],"outputs":["x"]"#);
        assert_eq!(twice, "`files` has `a` twice; remove one");
    }

    #[test]
    fn a_tilde_is_explained_and_a_pattern_that_is_none_is_refused() {
        let said = refusal(r#""run":"true","files":["~/x"],"outputs":["x"]"#);
        assert_eq!(
            said,
            "`~/x` in `files` begins with `~`, which no shell expands here; write the path out"
        );
        for wrong in ["[", "", "a/", "***"] {
            let said = refusal(&format!(r#""run":"true","ignore":["{wrong}"],"outputs":["x"]"#));
            assert!(said.starts_with(&format!("`{wrong}` in `ignore` is no pattern: ")), "{said}");
        }
    }

    #[test]
    fn how_two_declared_paths_overlap_is_said() {
        let said = |files: &str, outputs: &str| {
            refusal(&format!(r#""run":"true","files":[{files}],"outputs":[{outputs}]"#))
        };
        let both = "`data/` is one of its `files` and of its `outputs`; write to another file";
        assert_eq!(said(r#""data""#, r#""data/""#), both);
        let within = "`data/a` in `outputs` is also in `data` in `files`; read from one folder and write to another";
        assert_eq!(said(r#""data""#, r#""data/a""#), within);
        let around = "`out/seed` in `files` is also in `out/` in `outputs`; read from one folder and write to another";
        assert_eq!(said(r#""out/seed""#, r#""out/""#), around);
        assert_eq!(said("", r#""a","b/","b""#), "`outputs` has `b/` twice; remove one");
        assert_eq!(said("", r#""a/b","a/""#), "`a/b` in `outputs` is also in `a/`; remove one");
        assert_eq!(
            said(r#""src","src/a.c""#, r#""x""#),
            "`src/a.c` in `files` is also in `src`; remove one"
        );
        let case = "`A` and `a/` differ in case alone, which some disks ignore; rename one";
        assert_eq!(said("", r#""A","a/""#), case);
    }

    fn path() -> impl Strategy<Value = String> {
        ("(a|b|a-|B|ä)(/(a|b|a-)){0,2}", any::<bool>())
            .prop_map(|(path, slash)| path + if slash { "/" } else { "" })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn declared_paths_are_refused_if_and_only_if_two_of_them_overlap(
            files in prop::collection::vec(path(), 0..4),
            outputs in prop::collection::vec(path(), 1..4),
        ) {
            let parts = |path: &String| -> Vec<String> {
                path.split('/').filter(|part| !part.is_empty()).map(str::to_lowercase).collect()
            };
            let all: Vec<Vec<String>> = files.iter().chain(&outputs).map(parts).collect();
            let overlap = (0..all.len()).any(|i| (0..all.len()).any(|j| i != j && all[i].starts_with(&all[j])));
            let [files, outputs] =
                [files, outputs].map(|paths| paths.into_iter().map(ProjectPath::from).collect::<Vec<_>>());
            prop_assert_eq!(check_paths(&files, &outputs).is_err(), overlap);
        }
    }

    #[test]
    fn two_parameters_that_would_be_one_variable_are_refused() {
        let said = refusal(r#""run":"true","outputs":["x"],"params":{"a-b":1,"a_b":2}"#);
        assert_eq!(said, "`a-b` and `a_b` are both `REPRO_PARAM_A_B`; rename one");
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        assert!(refusal(r#""run":[],"outputs":["x"]"#).starts_with("`run` is empty"));
        assert!(refusal(r#""run":" ","outputs":["x"]"#).starts_with("`run` is empty"));
        assert!(refusal(r#""run":"true","outputs":[]"#).starts_with("`outputs` is empty"));
        assert!(refusal(r#""run":"true","outputs":["x","x/"]"#).contains("twice"));
        assert!(
            refusal(r#""run":"true","outputs":["x"],"files":["x"]"#).contains("one of its `files`")
        );
        assert!(refusal(r#""run":"true","outputs":["x"],"time-limit":0"#).contains("is no time"));
        assert!(
            refusal(r#""run":"true","outputs":["x"],"time-limit":1e300"#).contains("is no time")
        );
        assert!(
            refusal(r#""run":"true","outputs":["x"],"memory":"much""#)
                .contains("no size of memory")
        );
        assert!(
            refusal(r#""run":"true","outputs":["x"],"params":{"a":{}}"#)
                .contains("neither text nor number")
        );
    }

    #[test]
    fn a_variable_of_env_is_none_that_a_parameter_has() {
        let case = |name: &str, said: &str| {
            assert_eq!(Variable::try_from(name.to_owned()).unwrap_err(), said, "{name}")
        };
        case("A=B", "`A=B` cannot be a variable; write `NAME: value`");
        case("", "`` cannot be a variable; write `NAME: value`");
        let said = "`REPRO_PARAM_X_Y` is the variable of a parameter; write `params: { x_y: ... }`";
        case("REPRO_PARAM_X_Y", said);
        for taken in ["PATH", "HOME", "TMPDIR", "REPRO_DATA", "REPRO_PARAM", "repro_param_x", "X"] {
            assert!(Variable::try_from(taken.to_owned()).is_ok(), "{taken}");
        }
    }
}
