//! `repro run --executor slurm` on a real Slurm of three virtual nodes, all on this host.
//!
//! `tests/cluster/slurm-up.sh` starts it, which needs root and Slurm's packages. Without them the
//! tests do nothing, and say so on standard error; with `REPRO_REQUIRE=slurm`, as in .ci/run, they
//! fail.

use crate::space::{Space, TINY, wait_until};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running Slurm. Only one runs at a time, because a process has one set of ports. Dropping it
/// stops it.
struct Cluster {
    folder: TempDir,
    lines: &'static str,
    _only: MutexGuard<'static, ()>,
}

static ONLY: Mutex<()> = Mutex::new(());

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster").join(name)
}

/// Why Slurm cannot be started here.
fn missing() -> Option<String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&folders).chain(["/usr/sbin".into()]).collect();
    let programs = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel"];
    let is_missing = |name: &&&str| !folders.iter().any(|folder| folder.join(name).is_file());
    let missing = programs.iter().find(is_missing).map(|name| format!("there is no `{name}`"));
    let is_root = rustix::process::geteuid().is_root();
    missing.or_else(|| (!is_root).then(|| "Slurm is started as root".to_owned()))
}

impl Cluster {
    /// Starts Slurm; `None` if the tests are skipped.
    fn start() -> Option<Cluster> {
        Cluster::start_with("")
    }

    /// Starts Slurm with these lines at the end of its configuration.
    fn start_with(lines: &'static str) -> Option<Cluster> {
        if let Some(reason) = missing() {
            let required = std::env::var("REPRO_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|word| word == "slurm"), "{reason}");
            // The macros' output is shown only for failed tests.
            let _ = writeln!(std::io::stderr(), "skipped a test of Slurm: {reason}");
            return None;
        }
        let only = ONLY.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::Builder::new().prefix("repro-slurm-").tempdir().unwrap();
        let cluster = Cluster { folder, lines, _only: only };
        cluster.up();
        Some(cluster)
    }

    /// Starts the daemons that do not run.
    fn up(&self) {
        let output = self.script("slurm-up.sh").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{stderr}", String::from_utf8_lossy(&output.stdout));
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(script(name));
        // Daemons that a killed run of the tests has left behind keep their ports.
        let port = 17_300 + 8 * (std::process::id() % 1_000);
        command.env("SLURM_ONE", self.folder.path()).env("BASE_PORT", port.to_string());
        command.env("EXTRA", self.lines);
        command
    }

    /// The output of one of Slurm's programs.
    fn call(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program)
            .args(arguments)
            .env("SLURM_CONF", self.folder.path().join("slurm.conf"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The ids of the tasks in these states.
    fn tasks(&self, states: &str) -> Vec<String> {
        let text = self.call("squeue", &["-h", "-r", "-t", states, "-o", "%i"]);
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until no job is left.
    fn wait_for_jobs(&self, space: &Space) {
        let began = Instant::now();
        while !self.tasks("running,pending,completing").is_empty() {
            assert!(began.elapsed() < Duration::from_secs(180), "{}", space.ok(&["status"]).stdout);
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Ends a daemon with a signal.
    fn kill(&self, daemon: &str, signal: &str) {
        let id = std::fs::read_to_string(self.folder.path().join("pid").join(daemon)).unwrap();
        assert!(Command::new("kill").args([signal, id.trim()]).status().unwrap().success());
        wait_until("the daemon has ended", || !crate::space::is_alive(id.trim()));
    }

    fn space(&self, pipeline: &str) -> Space {
        let conf = self.folder.path().join("slurm.conf").display().to_string();
        Space::with(pipeline).env("SLURM_CONF", conf)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.script("slurm-down.sh").output();
    }
}

const SLURM: [&str; 3] = ["run", "--executor", "slurm"];

/// A stage whose job waits until the file `go` exists, and one that uses it.
fn waiting(space: &Space) -> String {
    format!(
        "stages:
  wait:
    command:
      run: 'echo $$ > {0}/started; while ! test -e {0}/go; do sleep 0.1; done; echo done > out'
      outputs: [out]
  next:
    command: {{ run: cp inputs/wait/out copy, inputs: {{ wait: wait }}, outputs: [copy] }}
",
        space.path().display()
    )
}

/// A project of [`waiting`].
fn waiting_space(cluster: &Cluster) -> Space {
    let space = cluster.space("");
    space.write("pipeline.yaml", waiting(&space));
    space
}

#[test]
fn a_pipeline_on_slurm_has_the_same_digests_as_a_local_one() {
    let Some(cluster) = Cluster::start() else { return };
    let (local, space) = (Space::with(TINY), cluster.space(TINY));
    local.ok(&["run"]);
    space.ok(&SLURM);
    assert_eq!(space.digests(), local.digests());
    let report = "reports/default/report.md";
    assert_eq!(space.join(report).exists(), local.join(report).exists());
    space.ok(&["run", "--require-cached"]);
    let left = space.files("slurm");
    let names: Vec<_> = left.iter().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(names, ["id", "records"], "the files of successful submissions are removed");
}

#[test]
fn resources_and_options_reach_slurm() {
    let Some(cluster) = Cluster::start() else { return };
    let space = waiting_space(&cluster);
    let options = "executors: { slurm: { resources: { threads: 2, sbatch: [--nice=7] } } }\n";
    space.write("pipeline.yaml", options.to_owned() + &waiting(&space));
    let running = space.spawn(&[&SLURM[..], &["--json", "--sbatch=--exclude=n1"]].concat());
    wait_until("the job runs", || space.join("started").exists());
    let job = cluster.call("scontrol", &["-o", "show", "job"]);
    for part in ["NumCPUs=2", "Nice=7", "ExcNodeList=n1", "Comment=repro command (1 jobs)"] {
        assert!(job.contains(part), "{part}: {job}");
    }
    space.write("go", "");
    drop(running);
}

#[test]
fn a_failed_job_is_reported_with_its_log_and_others_continue() {
    let Some(cluster) = Cluster::start() else { return };
    let space = cluster.space(
        "stages:
  bad: { command: { run: 'echo the reason; exit 3', outputs: [x] } }
  good: { command: { run: echo x > x, outputs: [x] } }
",
    );
    let failed = space.exits(1, &[&SLURM[..], &["--keep-going"]].concat());
    assert!(failed.stderr.contains("the reason"), "{}", failed.stderr);
    assert!(failed.stderr.contains("cache/v2/logs/"), "{}", failed.stderr);
    assert_eq!(space.pending(&[]), crate::space::set(["bad"]));
}

/// The parent of a process.
fn parent(pid: &str) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn a_killed_job_fails_and_names_its_log() {
    let Some(cluster) = Cluster::start() else { return };
    let space = waiting_space(&cluster);
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| space.run(&SLURM));
        wait_until("the job runs", || {
            std::fs::read_to_string(space.join("started")).is_ok_and(|pid| pid.contains('\n'))
        });
        // The shell, the worker that started it, the process of the task.
        let task = parent(&parent(&space.read("started")));
        assert!(Command::new("kill").args(["-KILL", &task]).status().unwrap().success());
        let run = run.join().unwrap();
        // Without cgroups, Slurm does not find the worker.
        space.write("go", "");
        run
    });
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("the Slurm job"), "{}", run.stderr);
    assert!(run.stderr.contains("failed with signal 9 on `n"), "{}", run.stderr);
    assert!(run.stderr.contains("the log of Slurm is `"), "{}", run.stderr);
}

#[test]
fn a_job_of_a_failed_node_runs_again_on_another_node() {
    let Some(cluster) = Cluster::start() else { return };
    let space = waiting_space(&cluster);
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| space.run(&SLURM));
        wait_until("the job runs", || space.join("started").exists());
        let node = cluster.call("squeue", &["-h", "-r", "-o", "%N"]).trim().to_owned();
        let name = format!("NodeName={node}");
        cluster.call("scontrol", &["update", &name, "State=DOWN", "Reason=test"]);
        let excluded = || cluster.call("squeue", &["-h", "-r", "-o", "%x"]).trim() == node;
        wait_until("the job is submitted again, for other nodes", excluded);
        space.write("go", "");
        run.join().unwrap()
    });
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn a_cancelled_job_is_named_as_such_and_not_retried() {
    let Some(cluster) = Cluster::start() else { return };
    let space = waiting_space(&cluster);
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| space.run(&[&SLURM[..], &["--retries", "3"]].concat()));
        wait_until("the job runs", || space.join("started").exists());
        cluster.call("scancel", &[&cluster.tasks("running")[0]]);
        run.join().unwrap()
    });
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("was cancelled on `n"), "{}", run.stderr);
}

#[test]
fn a_run_whose_coordinator_was_killed_is_continued() {
    let Some(cluster) = Cluster::start() else { return };
    let space = waiting_space(&cluster);
    let running = space.spawn(&[&SLURM[..], &["--json"]].concat());
    wait_until("the job runs", || space.join("started").exists());
    // Kills the coordinator. Its job continues.
    drop(running);
    let before = cluster.tasks("running");
    assert_eq!(before.len(), 1);
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| space.run(&[&SLURM[..], &["--json"]].concat()));
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(cluster.tasks("running,pending"), before, "it is not submitted again");
        space.write("go", "");
        run.join().unwrap()
    });
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.nodes_of("already-running").contains("wait"), "its job holds the lease");
    assert!(space.pending(&[]).is_empty());
}

#[test]
fn a_pending_job_of_a_killed_coordinator_is_adopted() {
    let Some(cluster) = Cluster::start() else { return };
    let space = waiting_space(&cluster);
    space.write("go", "");
    let running = space.spawn(&[&SLURM[..], &["--json", "--sbatch=--hold"]].concat());
    wait_until("the job is queued", || cluster.tasks("pending").len() == 1);
    drop(running);
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| space.run(&SLURM));
        std::thread::sleep(Duration::from_secs(3));
        let pending = cluster.tasks("pending");
        assert_eq!((pending.len(), cluster.tasks("all").len()), (1, 1), "it is adopted");
        cluster.call("scontrol", &["release", pending[0].split('_').next().unwrap()]);
        run.join().unwrap()
    });
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn an_interrupted_run_cancels_its_jobs() {
    let Some(cluster) = Cluster::start() else { return };
    let space = waiting_space(&cluster);
    let child = space.command(&SLURM).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until("the job runs", || space.join("started").exists());
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let code = { child }.wait().unwrap().code();
    assert_eq!(code, Some(130));
    wait_until("its jobs have ended", || cluster.tasks("running,pending").is_empty());
}

#[test]
fn a_controller_that_is_killed_and_restarted_does_not_fail_the_run() {
    let Some(cluster) = Cluster::start() else { return };
    let space = waiting_space(&cluster);
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| space.run(&SLURM));
        wait_until("the job runs", || space.join("started").exists());
        cluster.kill("slurmctld", "-KILL");
        std::thread::sleep(Duration::from_secs(2));
        space.write("go", "");
        std::thread::sleep(Duration::from_secs(2));
        cluster.up();
        run.join().unwrap()
    });
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(space.pending(&[]).is_empty());
}

#[test]
fn a_submission_that_slurm_refuses_fails_with_its_message() {
    let Some(cluster) = Cluster::start() else { return };
    let space = waiting_space(&cluster);
    let failed = space.exits(1, &[&SLURM[..], &["--sbatch=--partition=nope"]].concat());
    let cause = "Slurm did not accept the job: Batch job submission failed: Invalid partition";
    assert!(failed.stderr.contains(cause), "{}", failed.stderr);
    let failed = space.exits(2, &[&SLURM[..], &["--sbatch=--array=1"]].concat());
    assert!(failed.stderr.contains("`--array` of `sbatch` is set by `repro`"), "{}", failed.stderr);
}

#[test]
fn a_log_that_cannot_be_written_is_a_launch_failure() {
    let Some(cluster) = Cluster::start() else { return };
    let space = waiting_space(&cluster);
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| space.run(&[&SLURM[..], &["--sbatch=--hold"]].concat()));
        wait_until("the job is queued", || cluster.tasks("pending").len() == 1);
        // The folder of logs is gone when the job starts, on every node that is tried.
        while !run.is_finished() {
            for folder in space.files("slurm") {
                let logs = folder.join("logs");
                if logs.is_dir() {
                    std::fs::remove_dir_all(&logs).unwrap();
                    std::fs::write(&logs, "").unwrap();
                }
            }
            for task in cluster.tasks("pending") {
                cluster.call("scontrol", &["release", task.split('_').next().unwrap()]);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        run.join().unwrap()
    });
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("could not be started on `n"), "{}", run.stderr);
    assert!(run.stderr.contains("check that the node can write"), "{}", run.stderr);
}

/// Writes wrappers of Slurm's programs that log the time of each call. Returns the PATH with them,
/// and the log.
fn count_calls(space: &Space) -> (String, PathBuf) {
    let (folder, log) = (space.join("wrappers"), space.join("calls"));
    for program in ["sbatch", "squeue", "scontrol", "scancel", "sacct"] {
        let path = folder.join(program);
        let real = format!("/usr/bin/{program}");
        let text = format!(
            "#!/bin/sh\necho \"$(date +%s.%N) {program} $*\" >> {}\nexec {real} \"$@\"\n",
            log.display()
        );
        space.write(&path.display().to_string(), text);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    (format!("{}:{path}", folder.display()), log)
}

#[test]
fn two_thousand_trivial_nodes_take_less_than_a_minute_and_a_call_per_second() {
    let Some(cluster) = Cluster::start() else { return };
    let nodes = 2000;
    let numbers: Vec<String> = (0..nodes).map(|number| number.to_string()).collect();
    let pipeline = format!(
        "stages:\n  many:\n    command: {{ run: 'echo $REPRO_PARAM_N > x', outputs: [x], \
         params: {{ n: [{}] }} }}\n",
        numbers.join(", ")
    );
    let space = cluster.space(&pipeline);
    let (path, log) = count_calls(&space);
    let began = Instant::now();
    let output = space.command(&SLURM).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = std::fs::read_to_string(log).unwrap();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}: {calls}", began.elapsed());
    assert_eq!(space.files("entries").len(), nodes);
    let times: Vec<f64> =
        calls.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(calls.contains(" sbatch ") && calls.contains(" squeue "), "{calls}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] > 0.99), "{calls}");
    assert!(cluster.tasks("all").len() <= 100);
}

#[test]
fn status_lists_jobs_with_the_reason_of_slurm_and_cancel_ends_them() {
    let Some(cluster) = Cluster::start() else { return };
    let space = waiting_space(&cluster);
    assert_eq!(space.ok(&["status"]).stdout, "Slurm holds no jobs of this cache\n");
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| space.run(&[&SLURM[..], &["--sbatch=--hold"]].concat()));
        wait_until("the job is queued", || cluster.tasks("pending").len() == 1);
        let status = space.ok(&["status"]).stdout;
        assert!(status.contains("command  0 running, 1 pending (JobHeldUser)"), "{status}");
        assert!(space.ok(&["cancel"]).stdout.starts_with("cancelled "));
        run.join().unwrap()
    });
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("was cancelled"), "{}", run.stderr);
}

#[test]
fn submit_hands_the_pipeline_to_slurm_and_its_digests_are_those_of_a_local_run() {
    let Some(cluster) = Cluster::start() else { return };
    let (local, space) = (Space::with(TINY), cluster.space(TINY));
    local.ok(&["run"]);
    let submitted = space.ok(&["submit"]).stdout;
    assert!(submitted.starts_with("submitted 29 nodes as the jobs "), "{submitted}");
    // The tasks use a copy of the file.
    space.write("pipeline.yaml", TINY.replace("epochs: 2", "epochs: 3"));
    cluster.wait_for_jobs(&space);
    space.write("pipeline.yaml", TINY);
    assert_eq!(space.digests(), local.digests());
    let again = space.ok(&["submit"]).stdout;
    assert!(again.starts_with("everything is up to date"), "{again}");
}

#[test]
fn a_submitted_node_whose_input_has_failed_is_skipped_and_others_run() {
    let Some(cluster) = Cluster::start() else { return };
    let space = cluster.space(
        "stages:
  bad: { command: { run: exit 3, outputs: [x] } }
  below: { command: { run: cp inputs/bad/x x, inputs: { bad: bad }, outputs: [x] } }
  good: { command: { run: echo x > x, outputs: [x] } }
  fine: { command: { run: cp inputs/good/x x, inputs: { good: good }, outputs: [x] } }
",
    );
    space.ok(&["submit"]);
    cluster.wait_for_jobs(&space);
    assert_eq!(space.pending(&[]), crate::space::set(["bad", "below"]));
}

/// Submits with a remote cache, and waits until all jobs have ended.
fn submit_with(cluster: &Cluster, space: &Space, arguments: &[&str]) {
    space.ok(&[&["submit"], arguments].concat());
    let began = Instant::now();
    while !cluster.tasks("running,pending,completing").is_empty() {
        assert!(began.elapsed() < Duration::from_secs(180), "{}", space.ok(&["status"]).stdout);
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn results_computed_on_the_cluster_are_pushed_and_those_of_the_remote_cache_are_not_computed() {
    let Some(cluster) = Cluster::start() else { return };
    let remote = TempDir::new().unwrap();
    let address = format!("file://{}", remote.path().display());
    let first = cluster.space(TINY);
    let slurm = ["--executor", "slurm", "--remote", &address];
    assert_eq!(first.ran(&[&slurm[..], &["--push"]].concat()).len(), 29);
    let second = cluster.space(TINY);
    assert_eq!(second.ran(&slurm), crate::space::nothing());
    assert_eq!(second.digests(), first.digests());
}

#[test]
fn tasks_of_submit_push_what_they_compute_even_if_others_fail_and_use_the_remote_cache() {
    let Some(cluster) = Cluster::start() else { return };
    let remote = TempDir::new().unwrap();
    let address = format!("file://{}", remote.path().display());
    let counted = TempDir::new().unwrap();
    let pipeline = format!(
        "stages:
  bad: {{ command: {{ run: exit 3, outputs: [x] }} }}
  good: {{ command: {{ run: 'echo x > x; mktemp -p {0}', outputs: [x] }} }}
  fine: {{ command: {{ run: 'cp inputs/good/x x; mktemp -p {0}', inputs: {{ good: good }},
                     outputs: [x] }} }}
",
        counted.path().display()
    );
    let runs = || std::fs::read_dir(counted.path()).unwrap().count();
    let first = cluster.space(&pipeline);
    submit_with(&cluster, &first, &["--push", "--remote", &address]);
    assert_eq!(runs(), 2);
    // The last job has failed, because `bad` has; the tasks have pushed.
    let second = cluster.space(&pipeline);
    let remote = ["--remote", &address];
    assert_eq!(second.pending(&remote), crate::space::set(["bad"]));
    submit_with(&cluster, &second, &remote);
    assert_eq!(runs(), 2, "the results of the remote cache are not computed again");
    assert_eq!(second.pending(&["--remote", ""]), crate::space::set(["bad"]));
    // A key that is known only on the cluster, after `new`, is looked up there.
    let with_new = |word: &str| {
        let new = format!(
            "  new:
    command: {{ run: 'echo {word} > /dev/null; echo y > y', outputs: [y] }}
  last:
    command:
      run: 'cp inputs/new/y y; mktemp -p {0}'
      inputs: {{ new: new }}
      outputs: [y]
  fine:",
            counted.path().display()
        );
        pipeline.replace("  fine:", &new)
    };
    second.write("pipeline.yaml", with_new("one"));
    submit_with(&cluster, &second, &["last", "--push", "--remote", &address]);
    assert_eq!(runs(), 3);
    let third = cluster.space(&with_new("two"));
    submit_with(&cluster, &third, &["last", "--remote", &address]);
    assert_eq!(runs(), 3, "`new` was computed to an equal output, and `last` was fetched");
    assert_eq!(third.pending(&["last", "--remote", ""]), crate::space::nothing());
}

#[test]
fn submit_refuses_a_poisoned_result_and_its_task_replaces_it() {
    let Some(cluster) = Cluster::start() else { return };
    let remote = TempDir::new().unwrap();
    let address = format!("file://{}", remote.path().display());
    let pipeline = "stages:\n  a: { command: { run: echo x > x, outputs: [x] } }\n";
    let first = cluster.space(pipeline);
    first.ok(&["run", "--push", "--remote", &address]);
    let digest = first.digests()["a"]["x"].clone();
    let object = remote.path().join("v1/objects").join(&digest[..2]).join(&digest);
    std::fs::write(object, "poison").unwrap();
    let second = cluster.space(pipeline);
    let arguments = ["submit", "--push", "--require-remote", "--remote"];
    let submitted = second.ok(&[&arguments[..], &[&address]].concat());
    assert!(submitted.stderr.contains(&digest), "{}", submitted.stderr);
    assert!(submitted.stdout.starts_with("submitted 1 node as "), "{}", submitted.stdout);
    cluster.wait_for_jobs(&second);
    assert_eq!(second.digests(), first.digests());
    let third = Space::with(pipeline);
    assert_eq!(third.ran(&["--require-remote", "--remote", &address]), crate::space::nothing());
    let missing = "file:///nowhere/at/all";
    let failed = third.exits(7, &["submit", "--require-remote", "--remote", missing]);
    assert!(failed.stderr.contains("the remote cache is required"), "{}", failed.stderr);
}

/// A stage that fails at its first attempt.
fn failing_once(space: &Space) -> String {
    let tried = space.join("tried").display().to_string();
    format!(
        "stages:
  once:
    command:
      run: 'test -e {tried} && echo x > x || {{ touch {tried}; exit 3; }}'
      outputs: [x]
"
    )
}

#[test]
fn a_submitted_node_is_retried_by_its_task() {
    let Some(cluster) = Cluster::start() else { return };
    let space = cluster.space("");
    space.write("pipeline.yaml", failing_once(&space));
    for (retries, pending) in [("0", crate::space::set(["once"])), ("1", crate::space::nothing())] {
        let _ = std::fs::remove_file(space.join("tried"));
        space.ok(&["submit", "--retries", retries]);
        cluster.wait_for_jobs(&space);
        assert_eq!(space.pending(&[]), pending, "{retries} retries");
    }
}

#[test]
fn the_retries_of_the_section_executors_are_those_of_a_run_on_slurm() {
    let Some(cluster) = Cluster::start() else { return };
    let space = cluster.space("");
    let options = "executors: { slurm: { resources: { retries: 1 } } }\n".to_owned();
    space.write("pipeline.yaml", options + &failing_once(&space));
    let run = space.ok(&SLURM);
    assert!(run.stderr.contains("once: failed: "), "{}", run.stderr);
    assert!(run.stderr.contains("retrying, attempt 2 of 2"), "{}", run.stderr);
}

#[test]
fn a_submitted_job_of_a_failed_node_is_started_again_by_slurm() {
    let Some(cluster) = Cluster::start() else { return };
    let space = waiting_space(&cluster);
    space.ok(&["submit"]);
    wait_until("the job runs", || space.join("started").exists());
    let running = cluster.call("squeue", &["-h", "-r", "-t", "running", "-o", "%N"]);
    let name = format!("NodeName={}", running.trim());
    cluster.call("scontrol", &["update", &name, "State=DOWN", "Reason=test"]);
    space.write("go", "");
    cluster.wait_for_jobs(&space);
    assert!(space.pending(&[]).is_empty());
    let restarts = cluster.call("scontrol", &["-o", "show", "job"]);
    assert!(restarts.contains("Restarts=1"), "{restarts}");
}

#[test]
fn gc_keeps_what_waiting_jobs_need() {
    let Some(cluster) = Cluster::start() else { return };
    let space = waiting_space(&cluster);
    space.write("go", "");
    // Without submissions, Slurm is not asked.
    let without_slurm = |arguments: &[&str]| {
        let output = space.command(arguments).env("PATH", "/nowhere").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(without_slurm(&["gc", "--delete"]).0, Some(0));
    space.ok(&["submit", "--sbatch=--hold"]);
    let ids = cluster.tasks("pending");
    assert_eq!(without_slurm(&["gc"]).0, Some(0), "only the removal asks");
    let refused = space.exits(6, &["gc", "--delete"]).stderr;
    assert!(refused.contains("Slurm holds jobs of this cache: "), "{refused}");
    assert!(refused.contains("hint: wait until `repro status` lists no jobs"), "{refused}");
    let (code, unknown) = without_slurm(&["gc", "--delete"]);
    assert_eq!(code, Some(7), "{unknown}");
    let cause = "cannot tell whether jobs of this cache wait in Slurm: there is no `squeue`";
    assert!(unknown.contains(cause), "{unknown}");
    assert!(unknown.contains("hint: run this on a host where Slurm answers"), "{unknown}");
    let jobs: Vec<&str> = ids.iter().map(|id| id.split('_').next().unwrap()).collect();
    cluster.call("scontrol", &["release", &jobs.join(",")]);
    cluster.wait_for_jobs(&space);
    space.ok(&["gc", "--delete"]);
    assert!(space.pending(&[]).is_empty(), "the results are those of the pipeline");
}

#[test]
fn a_node_is_pending_until_its_job_starts() {
    let Some(cluster) = Cluster::start() else { return };
    let space = waiting_space(&cluster);
    space.write("go", "");
    let arguments = [&SLURM[..], &["--json", "--sbatch=--hold"]].concat();
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| space.run(&arguments));
        wait_until("the job is queued", || cluster.tasks("pending").len() == 1);
        let history = space.files("runs").pop_first().unwrap();
        let events = || space.read(&history);
        wait_until("the node is queued", || {
            events().contains(r#"{"event":"queued","node":"wait""#)
        });
        std::thread::sleep(Duration::from_secs(2));
        assert!(!events().contains(r#""event":"running""#), "{}", events());
        while !run.is_finished() {
            for task in cluster.tasks("pending") {
                cluster.call("scontrol", &["release", task.split('_').next().unwrap()]);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        run.join().unwrap()
    });
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let both = crate::space::set(["wait", "next"]);
    assert_eq!((run.nodes_of("queued"), run.nodes_of("running")), (both.clone(), both));
    let local = Space::with(&space.read("pipeline.yaml"));
    assert!(local.ok(&["run", "--json"]).nodes_of("queued").is_empty());
}

#[test]
fn a_preempted_job_is_submitted_again() {
    let Some(cluster) = Cluster::start_with(
        "PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=urgent Nodes=ALL PriorityTier=10 MaxTime=INFINITE State=UP",
    ) else {
        return;
    };
    let space = waiting_space(&cluster);
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| space.run(&SLURM));
        wait_until("the job runs", || space.join("started").exists());
        let first = cluster.tasks("running");
        let urgent = ["--parsable", "--partition=urgent", "--nodes=3", "--exclusive"];
        let urgent = [&urgent[..], &["--output=/dev/null", "--wrap=sleep 600"]].concat();
        let urgent = cluster.call("sbatch", &urgent);
        wait_until("it is preempted", || cluster.tasks("preempted") == first);
        wait_until("it is submitted again", || cluster.tasks("pending").len() == 1);
        cluster.call("scancel", &[urgent.trim()]);
        space.write("go", "");
        run.join().unwrap()
    });
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn a_job_that_needs_too_much_memory_is_named_as_such_and_retried() {
    // Without cgroups, Slurm measures the memory each second.
    let Some(cluster) = Cluster::start_with(
        "JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill",
    ) else {
        return;
    };
    let space = cluster.space(
        "stages:
  large:
    command:
      run: 'exec python3 -c \"import time; x = bytearray(900 << 20); time.sleep(60)\"'
      outputs: [x]
      memory: 400MiB
",
    );
    let failed = space.exits(1, &[&SLURM[..], &["--retries", "1"]].concat()).stderr;
    assert!(failed.contains("ran out of memory on `n"), "{failed}");
    assert!(failed.contains("retrying, attempt 2 of 2"), "{failed}");
    assert!(failed.contains("hint: raise `resources: { memory: ... }` of the stage"), "{failed}");
}
