//! The executor of a command that runs jobs, and the signals that interrupt it.

use crate::cli::args::{CACHE_VARIABLE, Common, NO_LOCK_VARIABLE, REMOTE_VARIABLE};
use crate::cli::session::{absolute, usage_error};
use crate::engine::key::Digest;
use crate::engine::provenance::Commit;
use crate::engine::run::executor::{self, Choice, Executor, GRACE, KillHandle, Options};
use crate::process::{TERMINATION_SIGNALS, become_subreaper, not_ignored, start_thread};
use crate::stage::DATA_VARIABLE;
use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGINT, SIGQUIT};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The longest time between a signal and the end of a command. The command first ends its jobs,
/// which may take [`GRACE`].
const PATIENCE: Duration = GRACE.saturating_mul(2);

/// The jobs of a command.
pub(in crate::cli) struct Jobs {
    pub executor: Box<dyn Executor>,
    /// Set by a signal.
    pub interrupted: Arc<AtomicBool>,
    /// Locked by the thread that ends this process because of a signal.
    ending: Arc<Mutex<()>>,
}

impl Jobs {
    /// An executor that, on this machine, runs at most `jobs` concurrent jobs, by default one for
    /// each CPU. Its workers run this program with the command `exec` and `arguments`, and write
    /// their logs to `scratch`.
    ///
    /// From now on a signal interrupts the command, see [`listen`].
    pub(in crate::cli) fn new(
        common: &Common,
        arguments: Vec<OsString>,
        jobs: Option<u16>,
        scratch: PathBuf,
        choice: Choice,
    ) -> Result<Jobs> {
        is_unicode(common)?;
        // A task of a cluster starts in another folder.
        let directory = match choice {
            Choice::Local => common.directory.clone(),
            Choice::Slurm(..) => common.project()?,
        };
        let command: [OsString; 3] = ["-C".into(), directory.into(), "exec".into()];
        let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
        let slots = jobs.map_or_else(cpus, usize::from);
        let options = Options {
            program: program()?,
            name: program_path()?,
            arguments: command.into_iter().chain(arguments).collect(),
            environment: environment(common)?,
            slots,
            scratch,
        };
        let executor = executor::open(options, choice)?;
        let (interrupted, ending) = <(Arc<AtomicBool>, Arc<Mutex<()>>)>::default();
        listen(executor.kill_handle(), &interrupted, &ending)?;
        Ok(Jobs { executor, interrupted, ending })
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        // Killed jobs end the command, whose exit status must be that of the signal.
        drop(self.ending.lock());
    }
}

/// The environment variables of workers, in addition to those of this process.
fn environment(common: &Common) -> Result<Vec<(String, PathBuf)>> {
    let variable = |name: &str, value: PathBuf| (name.to_owned(), value);
    let data = common.data_folder()?.map(|folder| variable(DATA_VARIABLE, folder));
    let cache = common.cache.clone().map(|folder| variable(CACHE_VARIABLE, folder));
    let no_lock = common.no_lock.then(|| variable(NO_LOCK_VARIABLE, "true".into()));
    Ok([data, cache, no_lock].into_iter().flatten().collect())
}

/// Fails if a folder's path is not UTF-8: requests to workers and scripts for Slurm are text.
fn is_unicode(common: &Common) -> Result<()> {
    let folders = [common.project()?, absolute(&common.cache_folder())?];
    for folder in folders.into_iter().chain(common.data_folder()?) {
        if folder.to_str().is_none() {
            let hint = "rename the folder, or move the project, the cache or the data";
            let source = folder.display().to_string();
            return Err(usage_error(source, "the path is not valid UTF-8", hint).into());
        }
    }
    Ok(())
}

/// The options of tasks on a cluster, whose program gets `arguments` after the project's folder.
pub(in crate::cli) fn cluster_options(
    common: &Common,
    arguments: Vec<OsString>,
    scratch: PathBuf,
) -> Result<Options> {
    is_unicode(common)?;
    let command: [OsString; 2] = ["-C".into(), common.project()?.into()];
    let mut environment = environment(common)?;
    // The address contains no credentials; Slurm passes those of the environment on.
    environment.extend(common.remote.iter().map(|url| (REMOTE_VARIABLE.to_owned(), url.into())));
    Ok(Options {
        program: program()?,
        name: program_path()?,
        arguments: command.into_iter().chain(arguments).collect(),
        environment,
        slots: 1,
        scratch,
    })
}

/// The arguments of workers for the entries of their jobs: the digest of this program, and the
/// project's commit.
pub(in crate::cli) fn provenance_arguments(commit: Option<&Commit>) -> Result<Vec<OsString>> {
    let program = Digest::of_file(&program()?)?;
    let commit = commit.map(|commit| ["--commit".into(), commit.to_string().into()]);
    let program: [OsString; 2] = ["--program".into(), program.to_string().into()];
    Ok(program.into_iter().chain(commit.into_iter().flatten()).collect())
}

/// The file of the running program. On Linux, this is the file that was started, even if it was
/// replaced since: a rebuild during a run must not mix the results of two programs.
pub(in crate::cli) fn program() -> Result<PathBuf> {
    let file = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && file.exists() { Ok(file.to_owned()) } else { program_path() }
}

fn program_path() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find the path of this program")
}

/// Handles signals. The first SIGINT, SIGTERM or SIGHUP sets `interrupted`, and the command ends
/// its jobs and itself. A second signal, SIGQUIT, or a command that has not ended after
/// [`PATIENCE`] makes this process lock `ending`, kill the jobs and exit at once, which leaves the
/// cache consistent. Signals that were ignored when the command was started stay ignored.
fn listen(
    kill_jobs: KillHandle,
    interrupted: &Arc<AtomicBool>,
    ending: &Arc<Mutex<()>>,
) -> Result<()> {
    become_subreaper();
    let mut signals =
        Signals::new(not_ignored(&TERMINATION_SIGNALS)).context("cannot listen for signals")?;
    let interrupted = Arc::clone(interrupted);
    let ending = Arc::clone(ending);
    let end = Arc::new(move |signal| exit(&ending, &kill_jobs, signal));
    start_thread(move || {
        for signal in signals.forever() {
            // SIGQUIT sets no flag: the command could end before this thread ends the process.
            if signal == SIGQUIT || interrupted.swap(true, Ordering::Relaxed) {
                end(signal);
            }
            let late = Arc::clone(&end);
            let started = start_thread(move || {
                std::thread::sleep(PATIENCE);
                late(signal)
            });
            if started.is_err() {
                // Without this thread, a command could take longer than that to end.
                end(signal);
            }
        }
    })?;
    Ok(())
}

/// Kills the jobs and ends this process, and lets no other thread end it.
#[expect(clippy::exit, reason = "the main thread did not end in time")]
fn exit(ending: &Mutex<()>, kill_jobs: &KillHandle, signal: i32) -> ! {
    let _ending = ending.lock();
    kill_jobs();
    if signal == SIGQUIT {
        // Dumps core, where core dumps are enabled.
        let _ = emulate_default_handler(signal);
    }
    std::process::exit(128 + SIGINT);
}
