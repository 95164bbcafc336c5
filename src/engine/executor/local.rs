//! Jobs as child processes of this program, on this machine.
//!
//! A thread per child waits for it and reports over a channel: simpler than polling, and with as many children as cores
//! the threads cost nothing. Knows no plan, no store and no stage: a child is told a key and the cache folder.

use super::{Executor, Job, Outcome, Told};
use crate::engine::key::Key;
use crate::fs;
use anyhow::{Context as _, Result};
use shared_child::SharedChild;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// The exit code by which `repro exec` says that the answer cannot be had now (sysexits' `EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;

/// What the lines begin with by which `repro` says why it failed, and what would help.
pub const ERROR: &str = "error: ";
/// See [`ERROR`].
pub const HINT: &str = "hint: ";

/// The name of the log that a job writes its standard error to.
pub const STDERR: &str = "stderr";

/// Starts `program exec KEY` for each job.
pub struct Local {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, PathBuf)>,
    slots: usize,
    running: BTreeMap<Key, Arc<SharedChild>>,
    done: (Sender<(Key, Outcome)>, Receiver<(Key, Outcome)>),
}

impl Local {
    /// With `slots` children at once; each is given `arguments` and then its key, and `environment` besides ours.
    pub fn new(program: PathBuf, arguments: Vec<String>, environment: Vec<(String, PathBuf)>, slots: usize) -> Local {
        Local { program, arguments, environment, slots, running: BTreeMap::new(), done: channel() }
    }

    fn spawn(&self, job: &Job) -> Result<SharedChild> {
        fs::create_dir_all(&job.logs)?;
        let (stdout, stderr) = (fs::create(&job.logs.join("stdout"))?, fs::create(&job.logs.join(STDERR))?);
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(job.key.to_string()).envs(self.environment.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        SharedChild::spawn(&mut command).with_context(|| format!("cannot start `{}`", self.program.display()))
    }
}

impl Executor for Local {
    fn slots(&self) -> usize {
        self.slots
    }

    fn submit(&mut self, job: Job) {
        let report = self.done.0.clone();
        match self.spawn(&job) {
            Ok(child) => {
                let child = Arc::new(child);
                self.running.insert(job.key, Arc::clone(&child));
                std::thread::spawn(move || {
                    let outcome = outcome(&child.wait(), &job.logs);
                    // Nobody listens any more once the run has been given up.
                    let _ = report.send((job.key, outcome));
                });
            }
            Err(error) => {
                let told = Told { cause: format!("{error:#}"), hint: None };
                let _ = report.send((job.key, Outcome::Failed(told)));
            }
        }
    }

    fn wait(&mut self, patience: Duration) -> Option<(Key, Outcome)> {
        let (key, outcome) = self.done.1.recv_timeout(patience).ok()?;
        self.running.remove(&key);
        Some((key, outcome))
    }

    fn kill(&mut self) {
        for child in self.running.values() {
            // One that has just ended by itself cannot be killed, and need not be.
            let _ = child.kill();
        }
    }
}

fn outcome(status: &std::io::Result<ExitStatus>, logs: &Path) -> Outcome {
    match status {
        Ok(status) if status.success() => Outcome::Exited,
        Ok(status) if status.code() == Some(i32::from(UNAVAILABLE)) => Outcome::Unavailable(told(logs, *status)),
        Ok(status) => Outcome::Failed(told(logs, *status)),
        Err(error) => Outcome::Failed(Told { cause: format!("cannot wait for the process: {error}"), hint: None }),
    }
}

/// What the job itself said last; how it ended, if it said nothing.
fn told(logs: &Path, status: ExitStatus) -> Told {
    let lines = tail(logs, 2);
    let said = |lead: &str| lines.iter().find_map(|line| line.strip_prefix(lead)).map(str::to_owned);
    Told { cause: said(ERROR).unwrap_or_else(|| describe(status)), hint: said(HINT) }
}

fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let guess = if signal == 9 { " (killed; out of memory?)" } else { "" };
        return format!("the process died of signal {signal}{guess}");
    }
    status.code().map_or_else(|| "the process ended without an exit code".into(), |code| format!("exit code {code}"))
}

/// The last lines of a job's standard error.
pub fn tail(logs: &Path, lines: usize) -> Vec<String> {
    let text = std::fs::read(logs.join(STDERR)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}
