//! The remote cache of a command: its address, its progress, and pushing during a run.

use super::{Session, usage_error};
use crate::cli::args::{Common, REMOTE_VARIABLE};
use crate::engine::cache::remote::{Address, Failure, Remote};
use crate::engine::cache::store::Store;
use crate::engine::cache::transfer::{Notice, Progress, Transferred, required};
use crate::engine::error::Error;
use crate::engine::key::Key;
use crate::engine::run::event::{Event, Observer};
use crate::engine::run::progress::Verbosity;
use crate::engine::run::status::{PlanStatus, StatusChecker};
use crate::engine::spec::plan::NodeId;
use crate::engine::text::bytes;
use crate::process::start_thread;
use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The environment variable for the longest time without data from a remote cache, in seconds.
const TIMEOUT_VARIABLE: &str = "REPRO_REMOTE_TIMEOUT";

/// The default of [`TIMEOUT_VARIABLE`].
const TIMEOUT: Duration = Duration::from_secs(30);

/// The most results that a run pushes at once.
const BATCH: usize = 256;

/// How a command uses the remote cache.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Use {
    /// Whether to fail without it.
    pub required: bool,
    /// Whether results are copied to it.
    pub writes: bool,
}

impl Session {
    /// The address of the remote cache, if there is one.
    fn address(&self, common: &Common) -> Result<Option<Address>> {
        if let Some(url) = &common.remote {
            let parse = |url: &str| {
                url.parse::<Address>().map_err(|error| {
                    let source = format!("--remote (or {REMOTE_VARIABLE})");
                    usage_error(source, error.cause, error.hint)
                })
            };
            return Ok(if url.is_empty() { None } else { Some(parse(url)?) });
        }
        let Some((url, location)) = &self.pipeline.remote else { return Ok(None) };
        let address = url.parse::<Address>().map_err(|error| {
            let message = format!("`remote`: {}", error.cause);
            Error::from(self.pipeline.diagnostic(*location, message, Some(error.hint)))
        })?;
        Ok(Some(address))
    }

    /// The remote cache of a command that cannot work without it.
    pub(in crate::cli) fn remote(&self, common: &Common, writes: bool) -> Result<Remote> {
        let Some(address) = self.address(common)? else { return Err(no_remote()) };
        if writes {
            refuse_read_only(&address)?;
        }
        Remote::open(&address, time_limit()?, false).map_err(fatal)
    }

    /// Adds the remote cache to the store, if there is one. Returns a problem that does not end the
    /// command.
    pub(in crate::cli) fn attach(&mut self, common: &Common, how: Use) -> Result<Option<Notice>> {
        let Some(address) = self.address(common)? else {
            return if how.writes || how.required { Err(no_remote()) } else { Ok(None) };
        };
        if how.writes {
            refuse_read_only(&address)?;
        }
        match Remote::open(&address, time_limit()?, how.writes) {
            Ok(remote) => {
                self.store = self.store.clone().with_remote(Arc::new(remote), how.required);
                Ok(None)
            }
            Err(error) => match error.downcast_ref::<Failure>() {
                Some(Failure { message, hint }) if !how.required => {
                    let message = format!("{message}; continuing without it");
                    Ok(Some(Notice { message, hint: Some(hint.clone()) }))
                }
                _ => Err(fatal(error)),
            },
        }
    }

    /// The status of `requested`, after the results of the remote cache were copied here. Without a
    /// result that the remote cache cannot provide, the nodes are not cached. `check` is called
    /// before a result is copied, and again if one was refused.
    pub(in crate::cli) fn pull(
        &self,
        common: &Common,
        checker: &StatusChecker,
        requested: &BTreeSet<NodeId>,
        check: &dyn Fn(&PlanStatus) -> Result<()>,
    ) -> Result<(PlanStatus, Transferred)> {
        let mut total = Transferred::default();
        loop {
            let plan_status = checker.plan_status(requested)?;
            check(&plan_status)?;
            if plan_status.remote.is_empty() {
                return Ok((plan_status, total));
            }
            let results: Vec<_> =
                plan_status.remote.iter().map(|(key, entry)| (*key, Arc::clone(entry))).collect();
            let mut bar = Bar::new(common, "fetching");
            let pulled = self.store.pull(&results, &mut |progress| bar.show(progress));
            bar.clear();
            let pulled = pulled?;
            total.results += pulled.results;
            total.objects += pulled.objects;
            total.bytes += pulled.bytes;
            total.refused.extend(&pulled.refused);
            if pulled.refused.is_empty() {
                return Ok((plan_status, total));
            }
        }
    }
}

/// The error of a command that needs a remote cache, if there is none.
fn no_remote() -> anyhow::Error {
    let hint = format!(
        "pass `--remote URL`, set `{REMOTE_VARIABLE}`, or write `remote: URL` in the pipeline file"
    );
    usage_error("--remote", "there is no remote cache", hint).into()
}

fn refuse_read_only(address: &Address) -> Result<()> {
    match address.is_read_only() {
        true => {
            let hint = "use the address of the bucket or the folder behind the web server";
            let message = "results cannot be copied to a web server";
            Err(usage_error(address.to_string(), message, hint).into())
        }
        false => Ok(()),
    }
}

/// The error of a command that needs the remote cache.
pub(in crate::cli) fn fatal(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Failure>() {
        Some(failure) => required(failure),
        None => error,
    }
}

fn time_limit() -> Result<Duration> {
    let Some(value) = std::env::var_os(TIMEOUT_VARIABLE) else { return Ok(TIMEOUT) };
    let seconds = value.to_str().and_then(|value| value.parse::<f64>().ok());
    let limit = seconds.filter(|seconds| *seconds > 0.0).map(Duration::try_from_secs_f64);
    limit.and_then(Result::ok).ok_or_else(|| {
        let hint = "write a number of seconds, such as `30`";
        usage_error(TIMEOUT_VARIABLE, "not a number of seconds", hint).into()
    })
}

/// Prints the problems with the remote cache to standard error.
pub(in crate::cli) fn print_notices(notices: impl IntoIterator<Item = Notice>) {
    for Notice { message, hint } in notices {
        let _ = writeln!(stderr(), "warning: {message}");
        if let Some(hint) = hint {
            let _ = writeln!(stderr(), "    hint: {hint}");
        }
    }
}

/// A progress bar, if standard error is a terminal.
pub(in crate::cli) struct Bar(Option<ProgressBar>);

impl Bar {
    pub(in crate::cli) fn new(common: &Common, verb: &'static str) -> Bar {
        let is_shown =
            stderr().is_terminal() && !common.json && common.verbosity() != Verbosity::Quiet;
        let bar = is_shown.then(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:28} {pos}/{len}  {wide_msg}");
            let bar = ProgressBar::new(0).with_prefix(verb);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Bar(bar)
    }

    pub(in crate::cli) fn show(&mut self, progress: Progress) {
        if let Some(bar) = &self.0 {
            bar.set_length(progress.all as u64);
            bar.set_position(progress.done as u64);
            bar.set_message(bytes(progress.bytes));
        }
    }

    pub(in crate::cli) fn clear(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// Copies results to the remote cache while a run continues.
pub(in crate::cli) struct Pusher {
    keys: Arc<Mutex<Option<Sender<Key>>>>,
    progress: Arc<Mutex<Progress>>,
    done: Receiver<Result<Transferred>>,
}

impl Pusher {
    /// Starts a thread, which copies the results of the events that the returned observer receives.
    pub(in crate::cli) fn start(store: &Store) -> Result<(Pusher, Box<dyn Observer>)> {
        let (sender, keys) = channel();
        let (result, done) = channel();
        let store = store.clone();
        let progress: Arc<Mutex<Progress>> = Arc::default();
        let shared = Arc::clone(&progress);
        start_thread(move || _ = result.send(push_all(&store, &keys, &shared)))?;
        let keys = Arc::new(Mutex::new(Some(sender)));
        let observer = Finished {
            keys: Arc::clone(&keys),
            progress: Arc::clone(&progress),
            seen: BTreeSet::new(),
        };
        Ok((Pusher { keys, progress, done }, Box::new(observer)))
    }

    /// Waits until all results are copied.
    pub(in crate::cli) fn finish(self, common: &Common) -> Result<Transferred> {
        lock(&self.keys).take();
        let mut bar = Bar::new(common, "sending");
        loop {
            match self.done.recv_timeout(Duration::from_millis(100)) {
                Err(RecvTimeoutError::Timeout) => bar.show(*lock(&self.progress)),
                ended => {
                    bar.clear();
                    return ended.context("BUG: the thread that copies results has ended")?;
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn push_all(
    store: &Store,
    keys: &Receiver<Key>,
    progress: &Mutex<Progress>,
) -> Result<Transferred> {
    let mut total = Transferred::default();
    while let Ok(first) = keys.recv() {
        let batch: Vec<Key> = std::iter::once(first).chain(keys.try_iter()).take(BATCH).collect();
        let before = *lock(progress);
        let pushed = store.push(&batch, &mut |now| {
            let mut progress = lock(progress);
            progress.done = before.done + now.done;
            progress.bytes = before.bytes + now.bytes;
        })?;
        total.results += pushed.results;
        total.bytes += pushed.bytes;
        total.unchanged += pushed.unchanged;
        total.refused.extend(pushed.refused);
    }
    Ok(total)
}

/// Passes on the keys of the nodes that are up to date.
struct Finished {
    keys: Arc<Mutex<Option<Sender<Key>>>>,
    progress: Arc<Mutex<Progress>>,
    seen: BTreeSet<Key>,
}

impl Observer for Finished {
    fn observe(&mut self, event: &Event) {
        let (Event::Cached { key, .. } | Event::Finished { key, .. }) = event else { return };
        let Ok(key) = key.parse::<Key>() else { return };
        if self.seen.insert(key)
            && let Some(keys) = &*lock(&self.keys)
        {
            lock(&self.progress).all += 1;
            // The thread ends early only if the remote cache has failed.
            let _ = keys.send(key);
        }
    }
}
