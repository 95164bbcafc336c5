//! [`Space`]: a temporary project in which a test runs `repro`, edits files and runs it again.

use repro::engine::key::Key;
use repro::process::{TERMINATION_SIGNALS, not_ignored};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// The stages of the default study on small nets: 29 nodes, run in a fraction of a second.
pub(crate) const TINY: &str = "\
seed: 0
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: [3, 4], prior: [none, { normal: { variance: 0.01 } }], \
     end: [a, b], epochs: 2 }
  matched:
    align: { a: nets@end=a, b: nets@end=b }
  curves:
    evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: [linear, arc+wa], points: 5, \
     wa_points: 3 }
  matched-curves:
    evaluate: { a: nets@end=a, b: matched, data: data, curve: arc, points: 5 }
  tables:
    aggregate: { curves: [curves, matched-curves], nets: nets }
  figures:
    plot: { data: data, tables: tables, figure: [error-by-method, error-by-width] }
  report:
    report: { data: data, tables: tables, figures: figures }
";

/// A pipeline of few nodes, for snapshots of whole outputs.
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

/// A `file` stage, a script that counts its lines, and a copy of the result.
pub(crate) const COUNTING: &str = "\
stages:
  raw:
    file: { path: data/raw }
  count:
    command:
      run: sh count.sh
      files: [count.sh]
      inputs: { rows: raw }
      outputs: [count.txt]
      env: { LABEL: rows }
      params: { factor: 2 }
      time-limit: 60
      retries: 0
      threads: 1
      memory: 1MiB
  copy:
    command:
      { run: 'cp inputs/count/count.txt copy.txt', inputs: { count: count }, outputs: [copy.txt] }
";

/// The script of [`COUNTING`].
pub(crate) const COUNT: &str =
    "cat inputs/rows/*.csv | wc -l > count.txt\necho \"$LABEL $REPRO_PARAM_FACTOR\" >> count.txt\n";

/// Variables of the caller that would change what `repro` does or prints.
const REMOVED_VARIABLES: [&str; 9] = [
    "REPRO_DATA",
    "REPRO_REMOTE",
    "REPRO_SIMD",
    "NO_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "NO_PROXY",
    "no_proxy",
    "RUST_BACKTRACE",
];
/// Set to [`CLOSED_PORT`], so that no test reaches the network by mistake.
const PROXY_VARIABLES: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
const CLOSED_PORT: &str = "http://127.0.0.1:9";

/// A temporary folder with a pipeline.yaml, removed when dropped.
pub(crate) struct Space {
    folder: TempDir,
    variables: Vec<(String, String)>,
    wrapper: Vec<&'static str>,
}

/// Runs a program without root's capability to ignore file permissions.
const UNPRIVILEGED: &[&str] = &[
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
    "--",
];

impl Space {
    /// A project with this pipeline.yaml.
    pub(crate) fn with(pipeline: &str) -> Space {
        Space::within(&std::env::temp_dir(), pipeline)
    }

    fn within(parent: &Path, pipeline: &str) -> Space {
        let folder = tempfile::Builder::new().prefix("repro-test-").tempdir_in(parent).unwrap();
        let space = Space { folder, variables: Vec::new(), wrapper: Vec::new() };
        space.write("pipeline.yaml", pipeline);
        space
    }

    /// A project of [`TINY`] that has not run.
    pub(crate) fn tiny() -> Space {
        Space::with(TINY)
    }

    /// A project of [`TINY`] that has run: a copy, with file times, of one folder for all tests.
    pub(crate) fn run_tiny() -> Space {
        // A static is never dropped, so this folder (1 MB) remains in cargo's folder for tests.
        static SHARED: LazyLock<Space> = LazyLock::new(|| {
            let space = Space::within(Path::new(env!("CARGO_TARGET_TMPDIR")), TINY);
            space.ok(&["run"]);
            space
        });
        let space = Space::tiny();
        copy(SHARED.path(), space.path(), true);
        space
    }

    /// A project of [`COUNTING`] with its files, that has not run.
    pub(crate) fn counting() -> Space {
        let space = Space::with(COUNTING);
        space.write("count.sh", COUNT);
        space.write("data/raw/a.csv", "1\n2\n").write("data/raw/b.csv", "3\n");
        space
    }

    /// Sets an environment variable for later runs of `repro`.
    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Space {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Runs `repro` with file permissions enforced, even if the user is root.
    pub(crate) fn unprivileged(self) -> Space {
        if rustix::process::geteuid().is_root() { self.wrapped_in(UNPRIVILEGED) } else { self }
    }

    /// Runs `repro` as the last arguments of this command.
    pub(crate) fn wrapped_in(self, words: &[&'static str]) -> Space {
        Space { wrapper: words.to_vec(), ..self }
    }

    /// Keeps the folder after the test, to inspect it.
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

    /// Replaces `from`, which must occur once, in pipeline.yaml.
    #[track_caller]
    pub(crate) fn edit(&self, from: &str, to: &str) -> &Space {
        let text = self.read("pipeline.yaml");
        assert_eq!(text.matches(from).count(), 1, "`{from}` in:\n{text}");
        self.write("pipeline.yaml", text.replace(from, to))
    }

    /// A `repro` command in this folder, isolated from the caller's environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_for(env!("CARGO_BIN_EXE_repro"), arguments)
    }

    /// The same for another program.
    pub(crate) fn command_for(&self, program: &str, arguments: &[&str]) -> Command {
        LazyLock::force(&DEFAULT_SIGNALS);
        let words = [&self.wrapper[..], &[program]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        REMOVED_VARIABLES.iter().for_each(|name| _ = command.env_remove(name));
        PROXY_VARIABLES.iter().for_each(|name| _ = command.env(name, CLOSED_PORT));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Output {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Runs `repro`, which must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> Output {
        self.exits(0, arguments)
    }

    /// Runs `repro`, which must exit with `code`.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32, arguments: &[&str]) -> Output {
        let output = self.run(arguments);
        assert_eq!(output.code, Some(code), "{arguments:?}\n{}\n{}", output.stdout, output.stderr);
        output
    }

    /// Runs `repro run`, which must succeed; returns the nodes that it ran.
    #[track_caller]
    pub(crate) fn ran(&self, arguments: &[&str]) -> BTreeSet<String> {
        self.ok(&[&["run", "--json"], arguments].concat()).ran()
    }

    /// The nodes of `repro plan --json`.
    #[track_caller]
    pub(crate) fn plan(&self, arguments: &[&str]) -> Vec<Json> {
        let plan: Json =
            serde_json::from_str(&self.ok(&[&["plan", "--json"], arguments].concat()).stdout)
                .unwrap();
        plan["nodes"].as_array().unwrap().clone()
    }

    /// The nodes that `repro plan` does not list as cached.
    #[track_caller]
    pub(crate) fn pending(&self, arguments: &[&str]) -> BTreeSet<String> {
        self.plan(arguments).iter().filter(|n| n["state"] != "cached").map(name).collect()
    }

    /// The names of all nodes.
    pub(crate) fn nodes(&self) -> BTreeSet<String> {
        self.plan(&[]).iter().map(name).collect()
    }

    /// The digest of each output of each node; every node must be cached.
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

    /// The text of an output of a node, which must be cached.
    #[track_caller]
    pub(crate) fn output(&self, node: &str, file: &str) -> String {
        self.read(self.object(&self.digests()[node][file]))
    }

    /// The path of an object in the cache.
    pub(crate) fn object(&self, digest: &str) -> PathBuf {
        self.join("cache/v2/objects").join(digest)
    }

    /// All files in a folder of the cache.
    pub(crate) fn files(&self, folder: &str) -> BTreeSet<PathBuf> {
        fs::read_dir(self.join("cache/v2").join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    /// The leases: the files that have the name of a key.
    pub(crate) fn leases(&self) -> BTreeSet<PathBuf> {
        let is_key = |name: &OsStr| name.to_str().is_some_and(|name| name.parse::<Key>().is_ok());
        let files = self.files("leases").into_iter();
        files.filter(|file| file.file_name().is_some_and(is_key)).collect()
    }

    /// All paths in the project, folders before their contents.
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

    /// Sets the permissions of all paths in the project; dropping the guard restores them.
    pub(crate) fn chmod_all(&self, mode: impl Fn(&Path) -> u32) -> RestoreModes {
        let mode_of = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let guard =
            RestoreModes(self.all_paths().into_iter().map(|path| (mode_of(&path), path)).collect());
        guard.0.iter().rev().for_each(|(_, path)| chmod(path, mode(path)));
        guard
    }

    /// Starts `repro` as the leader of a new process group.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let mut child =
            command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdout, events: Vec::new() }
    }
}

/// A script that runs the tests in the background ignores Ctrl-C, and a child process inherits
/// ignored signals, but not handled ones: with handlers here, `repro` starts with the defaults.
static DEFAULT_SIGNALS: LazyLock<()> = LazyLock::new(|| {
    let kept = not_ignored(&TERMINATION_SIGNALS);
    for signal in TERMINATION_SIGNALS.into_iter().filter(|signal| !kept.contains(signal)) {
        signal_hook::flag::register(signal, Arc::default()).unwrap();
    }
});

/// The permissions that [`Space::chmod_all`] found.
pub(crate) struct RestoreModes(Vec<(u32, PathBuf)>);

impl Drop for RestoreModes {
    fn drop(&mut self) {
        // Top down: the contents of a folder without permissions cannot be reached.
        self.0.iter().filter(|(_, path)| path.exists()).for_each(|(mode, path)| chmod(path, *mode));
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Copies a folder with the permissions of its files and, if `times`, their modification times.
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

/// Overwrites a read-only file.
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

/// The nodes whose names contain one of `parts`.
pub(crate) fn containing(nodes: &BTreeSet<String>, parts: &[&str]) -> BTreeSet<String> {
    nodes.iter().filter(|node| parts.iter().any(|part| node.contains(part))).cloned().collect()
}

/// Whether a process exists and is not a zombie.
pub(crate) fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits up to 30 seconds for a condition.
#[track_caller]
pub(crate) fn wait_until(condition: &str, test: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !test() {
        assert!(Instant::now() < deadline, "timed out: {condition}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

pub(crate) fn nothing() -> BTreeSet<String> {
    BTreeSet::new()
}

/// The output of a finished `repro`.
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// The events of `run --json`, one per line.
    pub(crate) fn events(&self) -> Vec<Json> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}"))
        };
        self.stdout.lines().map(parse).collect()
    }

    /// The nodes with an event of this name.
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

/// A running `repro run --json`. Dropping it kills its process group.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    events: Vec<Json>,
}

impl Running {
    /// Reads events until one satisfies `test`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, test: impl Fn(&Json) -> bool) {
        loop {
            let mut line = String::new();
            assert!(
                self.stdout.read_line(&mut line).unwrap() > 0,
                "`repro` ended before the event: {:?}",
                self.events
            );
            let event: Json = serde_json::from_str(&line).unwrap();
            let found = test(&event);
            self.events.push(event);
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
        nodes_of(&self.events, "finished")
    }

    /// Sends a signal to the process group, as a terminal does. `KILL` is also sent to the jobs,
    /// each of which leads its own group.
    pub(crate) fn signal(&self, signal: &str) {
        let run = format!("-{}", self.child.id());
        // `repro` is stopped first, so that it starts no further job while its jobs are listed.
        let jobs = if signal == "KILL" && send("STOP", &run) {
            children(self.child.id())
        } else {
            Vec::new()
        };
        assert!(send(signal, &run), "the process group exists until it is waited for");
        jobs.into_iter().for_each(kill_job);
    }

    /// Kills the jobs, but no process that a job has started.
    pub(crate) fn kill_jobs(&self) {
        children(self.child.id()).into_iter().for_each(|job| _ = send("KILL", &job.to_string()));
    }

    /// Kills `repro` but not its jobs, as the kernel may when memory is short.
    pub(crate) fn orphan_jobs(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for `repro` to exit; returns its exit code, `None` after a signal, and stderr.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut stderr).unwrap();
        (self.child.wait().unwrap().code(), stderr)
    }
}

/// Sends a signal to a process, or to a group if `to` begins with `-`; returns whether it exists.
fn send(signal: &str, to: &str) -> bool {
    Command::new("kill")
        .args(["-s", signal, "--", to])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// Kills a job and its process group, if they exist.
fn kill_job(job: u32) {
    send("KILL", &format!("-{job}"));
    send("KILL", &job.to_string());
}

/// The child processes of `parent`.
fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        rest.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    let names = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).filter(is_child).collect()
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal("KILL");
            let _ = self.child.wait();
        }
    }
}
