//! What a command that starts jobs does when it is asked to end.

use crate::engine::run::executor::local::{GRACE, Local, Processes};
use crate::process::{REQUESTS, adopt, heeded, start_thread};
use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGINT, SIGQUIT};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Set when the command is to end.
pub(super) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The jobs, which a signal to this process does not reach.
static JOBS: OnceLock<Processes> = OnceLock::new();

/// How long the command may take to end by itself. It ends its jobs first, which may take [`GRACE`].
const PATIENCE: Duration = GRACE.saturating_mul(2);

/// From now on, a request to end (Ctrl-C, SIGTERM, SIGHUP) ends the jobs of `executor`, then the command. It ends at once
/// on a second one, on Ctrl-\, or if it is busy with something else for too long; the cache is whole at any moment. Until
/// now, no job is there to be left behind, and a signal does what it does to any program. Signals that were ignored
/// when the command was started are not heeded.
pub(super) fn end_jobs_on_request(executor: &Local) -> Result<()> {
    adopt();
    let _ = JOBS.set(executor.processes());
    let mut signals = Signals::new(heeded(&REQUESTS)).context("cannot listen for signals")?;
    start_thread(move || {
        for signal in signals.forever() {
            if INTERRUPTED.swap(true, Ordering::Relaxed) || signal == SIGQUIT {
                end(signal);
            }
            let started = start_thread(move || {
                std::thread::sleep(PATIENCE);
                end(signal);
            });
            if started.is_err() {
                // Without this thread, nothing ends a command that takes too long.
                end(signal);
            }
        }
    })
}

/// Ends the jobs and this process.
#[expect(clippy::exit, reason = "asked for twice, or not possible in any other way")]
fn end(signal: i32) {
    JOBS.get().inspect(|jobs| jobs.kill());
    if signal == SIGQUIT {
        // With a core dump, where those are wanted: that is what sets it apart.
        let _ = emulate_default_handler(signal);
    }
    std::process::exit(128 + SIGINT);
}
