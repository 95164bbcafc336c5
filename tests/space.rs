//! `Space`: a project folder that a test writes, runs, changes and runs again.

use repro::process::{REQUESTS, heeded};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// Every stage kind, 29 nodes, a fraction of a second.
pub(crate) const TINY: &str = "\
seed: 0
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: [3, 4], prior: [none, { normal: { variance: 0.01 } }], end: [a, b], epochs: 2 }
  matched:
    align: { a: nets@end=a, b: nets@end=b }
  curves:
    evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: [linear, arc+wa], points: 5, wa_points: 3 }
  matched-curves:
    evaluate: { a: nets@end=a, b: matched, data: data, curve: arc, points: 5 }
  tables:
    aggregate: { curves: [curves, matched-curves], nets: nets }
  figures:
    plot: { data: data, tables: tables, figure: [error-by-method, error-by-width] }
  report:
    report: { data: data, tables: tables, figures: figures }
";

/// Few nodes, for texts that are read whole.
pub(crate) const SMALL: &str = "\
profile: once
stages:
  data:
    fetch: { dataset: digits, train: 100, test: 20 }
  nets:
    train: { data: data, hidden: 3, prior: [none, { dropout: 0.5 }], end: [a, b], epochs: 1 }
  curves:
    evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: linear, points: 3 }
  tables:
    aggregate: { curves: curves, nets: nets }
profiles:
  once: {}
  twice: { nets: { epochs: 2 } }
";

/// What is left of the world outside: no data folder, no forced instruction set, and a proxy that nobody listens at, so
/// that no test can reach the network by mistake.
const FORGOTTEN: [&str; 8] = [
    "REPRO_DATA",
    "REPRO_SIMD",
    "NO_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "NO_PROXY",
    "no_proxy",
    "RUST_BACKTRACE",
];
const PROXIES: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
const NOBODY: &str = "http://127.0.0.1:9";

/// A folder with a pipeline.yaml, removed at the end of the test.
pub(crate) struct Space {
    folder: TempDir,
    environment: Vec<(String, String)>,
    starter: Vec<&'static str>,
}

/// What starts a program of root's that permissions bind, as they bind everybody else's.
const BOUND: &[&str] = &[
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
    "--",
];

impl Space {
    /// With `pipeline` in pipeline.yaml.
    pub(crate) fn with(pipeline: &str) -> Space {
        Space::within(&std::env::temp_dir(), pipeline)
    }

    fn within(parent: &Path, pipeline: &str) -> Space {
        let folder = tempfile::Builder::new().prefix("repro-test-").tempdir_in(parent).unwrap();
        let space = Space { folder, environment: Vec::new(), starter: Vec::new() };
        space.write("pipeline.yaml", pipeline);
        space
    }

    /// With [`TINY`], never run.
    pub(crate) fn tiny() -> Space {
        Space::with(TINY)
    }

    /// With [`TINY`], run to its end: a copy of one such folder, times of files included.
    pub(crate) fn run_tiny() -> Space {
        // A static is never dropped: this one folder, of a megabyte, stays behind where cargo keeps such things.
        static ONCE: LazyLock<Space> = LazyLock::new(|| {
            let space = Space::within(Path::new(env!("CARGO_TARGET_TMPDIR")), TINY);
            space.ok(&["run"]);
            space
        });
        let space = Space::tiny();
        copy(ONCE.path(), space.path(), true);
        space
    }

    /// From now on the program sees this variable.
    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Space {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// From now on permissions bind the program, even where it is root's.
    pub(crate) fn unprivileged(self) -> Space {
        if rustix::process::geteuid().is_root() { self.wrapped_in(BOUND) } else { self }
    }

    /// From now on these words stand before the program and its arguments.
    pub(crate) fn wrapped_in(self, words: &[&'static str]) -> Space {
        Space { starter: words.to_vec(), ..self }
    }

    /// Keeps the folder after the test, for looking at.
    #[expect(dead_code, reason = "put into a test while working on it")]
    pub(crate) fn eject(self) -> PathBuf {
        self.folder.keep()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> &Space {
        let path = self.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    pub(crate) fn read(&self, path: impl AsRef<Path>) -> String {
        let path = self.join(path);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
    }

    /// Replaces `from`, which must be there once, in pipeline.yaml.
    #[track_caller]
    pub(crate) fn edit(&self, from: &str, to: &str) -> &Space {
        let text = self.read("pipeline.yaml");
        assert_eq!(text.matches(from).count(), 1, "`{from}` in:\n{text}");
        self.write("pipeline.yaml", text.replace(from, to))
    }

    /// `repro` in this folder, in a world of its own.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_for(env!("CARGO_BIN_EXE_repro"), arguments)
    }

    /// The same with a `program` that lies elsewhere.
    pub(crate) fn command_for(&self, program: &str, arguments: &[&str]) -> Command {
        LazyLock::force(&DEFAULT_SIGNALS);
        let words = [&self.starter[..], &[program]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        FORGOTTEN.iter().for_each(|name| _ = command.env_remove(name));
        PROXIES.iter().for_each(|name| _ = command.env(name, NOBODY));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        let text =
            |bytes: Vec<u8>| String::from_utf8(bytes).expect("what the program says is UTF-8");
        Output {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Runs what must end well.
    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> Output {
        self.exits(0, arguments)
    }

    /// Runs what must end with `code`.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32, arguments: &[&str]) -> Output {
        let output = self.run(arguments);
        assert_eq!(output.code, Some(code), "{arguments:?}\n{}\n{}", output.stdout, output.stderr);
        output
    }

    /// The nodes that `run` with these arguments runs; it must end well.
    #[track_caller]
    pub(crate) fn ran(&self, arguments: &[&str]) -> BTreeSet<String> {
        self.ok(&[&["run", "--json"], arguments].concat()).ran()
    }

    /// What `plan --json` says.
    #[track_caller]
    pub(crate) fn plan(&self, arguments: &[&str]) -> Vec<Json> {
        let plan: Json =
            serde_json::from_str(&self.ok(&[&["plan", "--json"], arguments].concat()).stdout)
                .unwrap();
        plan["nodes"].as_array().unwrap().clone()
    }

    /// The names of all nodes that the plan has in a state other than `cached`.
    #[track_caller]
    pub(crate) fn pending(&self, arguments: &[&str]) -> BTreeSet<String> {
        self.plan(arguments).iter().filter(|n| n["state"] != "cached").map(name).collect()
    }

    /// Every node's name.
    pub(crate) fn nodes(&self) -> BTreeSet<String> {
        self.plan(&[]).iter().map(name).collect()
    }

    /// The digests of every output of every node; all must be up to date.
    #[track_caller]
    pub(crate) fn digests(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let digests = |node: &Json| {
            assert_eq!(node["state"], "cached", "{node}");
            let key = node["key"].as_str().unwrap();
            let entry: Json =
                serde_json::from_str(&self.read(format!("cache/v2/entries/{key}.json"))).unwrap();
            let outputs = entry["outputs"].as_object().unwrap();
            let digest = |stored: &Json| stored["digest"].as_str().unwrap().to_owned();
            (
                name(node),
                outputs.iter().map(|(file, stored)| (file.clone(), digest(stored))).collect(),
            )
        };
        self.plan(&[]).iter().map(digests).collect()
    }

    /// Where an object lies.
    pub(crate) fn object(&self, digest: &str) -> PathBuf {
        self.join("cache/v2/objects").join(digest)
    }

    /// All files of a folder of the cache.
    pub(crate) fn files(&self, folder: &str) -> BTreeSet<PathBuf> {
        fs::read_dir(self.join("cache/v2").join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    /// The leases there are, without the file that processes lock to take turns at them.
    pub(crate) fn leases(&self) -> BTreeSet<PathBuf> {
        self.files("leases").into_iter().filter(|lease| !lease.ends_with("burial")).collect()
    }

    /// Everything in the project, folders before what they hold.
    pub(crate) fn all_paths(&self) -> Vec<PathBuf> {
        let mut found = vec![self.path().to_owned()];
        let mut next = 0;
        while let Some(path) = found.get(next).cloned() {
            if path.is_dir() {
                found.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            }
            next += 1;
        }
        found
    }

    /// Gives everything in the project its permissions, until what this gives is dropped.
    pub(crate) fn chmod_all(&self, mode: impl Fn(&Path) -> u32) -> RestoreModes {
        let mode_of = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let shut =
            RestoreModes(self.all_paths().into_iter().map(|path| (mode_of(&path), path)).collect());
        shut.0.iter().rev().for_each(|(_, path)| permit(path, mode(path)));
        shut
    }

    /// Starts `repro`, the first of a process group of its own.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let mut child =
            command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let events = BufReader::new(child.stdout.take().unwrap());
        Running { child, events, seen: Vec::new() }
    }
}

/// A script that runs the tests in the background has Ctrl-C ignored, and a program inherits what is
/// ignored. What is handled it does not inherit: each test's program begins with the default.
static DEFAULT_SIGNALS: LazyLock<()> = LazyLock::new(|| {
    let heeded = heeded(&REQUESTS);
    for signal in REQUESTS.into_iter().filter(|signal| !heeded.contains(signal)) {
        signal_hook::flag::register(signal, Arc::default()).unwrap();
    }
});

/// See [`Space::chmod_all`].
pub(crate) struct RestoreModes(Vec<(u32, PathBuf)>);

impl Drop for RestoreModes {
    fn drop(&mut self) {
        // From the top, for what is in a shut folder cannot be seen.
        self.0
            .iter()
            .filter(|(_, path)| path.exists())
            .for_each(|(mode, path)| permit(path, *mode));
    }
}

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Copies a folder, the permissions of its files and, if asked, their times.
pub(crate) fn copy(from: &Path, to: &Path, times: bool) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&source, &target, times);
        } else {
            fs::copy(&source, &target).unwrap();
            let modified = entry.metadata().unwrap().modified().unwrap();
            let modified = if times { modified } else { SystemTime::now() };
            File::open(&target).unwrap().set_modified(modified).unwrap();
        }
    }
}

/// Writes over a sealed file.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Changes one byte in the middle of a file.
pub(crate) fn flip_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    overwrite(path, &bytes);
}

pub(crate) fn name(node: &Json) -> String {
    node["node"].as_str().unwrap().to_owned()
}

/// Those of `nodes` whose names have one of `parts` in them.
pub(crate) fn containing(nodes: &BTreeSet<String>, parts: &[&str]) -> BTreeSet<String> {
    nodes.iter().filter(|node| parts.iter().any(|part| node.contains(part))).cloned().collect()
}

/// Whether a process is there, and not merely unburied.
pub(crate) fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits for what takes a moment.
#[track_caller]
pub(crate) fn wait_until(what: &str, test: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !test() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A set of names.
pub(crate) fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

pub(crate) fn nothing() -> BTreeSet<String> {
    BTreeSet::new()
}

/// What a finished `repro` said.
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// The lines of `run --json`.
    pub(crate) fn events(&self) -> Vec<Json> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}"))
        };
        self.stdout.lines().map(parse).collect()
    }

    /// The nodes of all events of one sort.
    pub(crate) fn nodes_of(&self, event: &str) -> BTreeSet<String> {
        nodes_of(&self.events(), event)
    }

    pub(crate) fn ran(&self) -> BTreeSet<String> {
        self.nodes_of("finished")
    }

    pub(crate) fn cached(&self) -> BTreeSet<String> {
        self.nodes_of("cached")
    }
}

fn nodes_of(events: &[Json], event: &str) -> BTreeSet<String> {
    events.iter().filter(|e| e["event"] == event).map(name).collect()
}

/// A `repro run --json` that is still going on. Ended with its whole group when dropped.
pub(crate) struct Running {
    child: Child,
    events: BufReader<std::process::ChildStdout>,
    seen: Vec<Json>,
}

impl Running {
    /// Waits until `test` holds of an event.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, test: impl Fn(&Json) -> bool) {
        loop {
            let mut line = String::new();
            assert!(
                self.events.read_line(&mut line).unwrap() > 0,
                "it ended before that: {:?}",
                self.seen
            );
            let event: Json = serde_json::from_str(&line).unwrap();
            let found = test(&event);
            self.seen.push(event);
            if found {
                return;
            }
        }
    }

    /// Waits until `count` nodes have finished.
    #[track_caller]
    pub(crate) fn wait_for_finished(&mut self, count: usize) {
        while self.finished().len() < count {
            self.wait_for(|event| event["event"] == "finished");
        }
    }

    /// The nodes that have finished so far.
    pub(crate) fn finished(&self) -> BTreeSet<String> {
        nodes_of(&self.seen, "finished")
    }

    /// Sends a signal to the process group, as a terminal does; `KILL` goes to its jobs too, each with a group of its own.
    pub(crate) fn signal(&self, signal: &str) {
        let run = format!("-{}", self.child.id());
        // Stopped first, so that it starts no job that is not among those found: one may run for ever.
        let jobs = if signal == "KILL" && send("STOP", &run) {
            children(self.child.id())
        } else {
            Vec::new()
        };
        assert!(send(signal, &run), "the process group is there until it is waited for");
        jobs.into_iter().for_each(kill_job);
    }

    /// Kills its jobs, and nothing that these have started.
    pub(crate) fn kill_jobs(&self) {
        children(self.child.id()).into_iter().for_each(|job| _ = send("KILL", &job.to_string()));
    }

    /// Kills the run itself and none of its jobs, as a machine short of memory might.
    pub(crate) fn orphan_jobs(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end; gives the exit code, none if a signal killed it, and standard error.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut stderr).unwrap();
        (self.child.wait().unwrap().code(), stderr)
    }
}

/// Sends a signal to a process, or to a group after a `-`; whether there was any.
fn send(signal: &str, to: &str) -> bool {
    Command::new("kill")
        .args(["-s", signal, "--", to])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// Kills a job with its process group, if it is there still, and if it has got so far as to have one.
fn kill_job(job: u32) {
    send("KILL", &format!("-{job}"));
    send("KILL", &job.to_string());
}

/// The processes that process `parent` has started.
fn children(parent: u32) -> Vec<u32> {
    let started = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        rest.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    let names = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).filter(started).collect()
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal("KILL");
            let _ = self.child.wait();
        }
    }
}
