//! The output of commands: standard output, JSON, and the error at the end.

pub(super) mod changes;

use super::args::Common;
use super::session::Session;
use crate::engine::error::Error;
use crate::engine::run::event::SCHEMA;
use crate::engine::run::executor::log::{ERROR, HINT};
use crate::engine::run::executor::{Failure, Outcome};
use crate::engine::run::reason::Reason;
use crate::engine::run::status::{PlanStatus, Status};
use crate::engine::run::worker::AlreadyRunning;
use crate::engine::spec::plan::NodeId;
use crate::engine::stage::{Hinted, Unavailable};
use crate::engine::text::escape_control;
use crate::{fs, process};
use anyhow::{Context as _, Result};
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::error::Error as StdError;
use std::io::{self, ErrorKind, Write, stdout};
use std::rc::Rc;

/// Standard output. A closed pipe (`| head`) is not an error. After any other error, such as a full
/// disk, the command continues, and [`Output::finish`] returns the first error.
#[derive(Clone, Default)]
pub(super) struct Output {
    json: bool,
    error: Rc<RefCell<Option<io::Error>>>,
}

impl Output {
    pub(super) fn new(common: &Common) -> Output {
        Output { json: common.json, ..Output::default() }
    }

    /// Prints JSON, or text with control characters escaped.
    pub(super) fn print(&self, text: &str) {
        let text = if self.json { text.into() } else { escape_control(text, &['\n', '\t']) };
        self.record(stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush()));
    }

    /// Keeps the error of a write to standard output.
    pub(super) fn record(&self, written: io::Result<()>) {
        if let Err(error) = written
            && error.kind() != ErrorKind::BrokenPipe
        {
            self.error.borrow_mut().get_or_insert(error);
        }
    }

    /// Fails if a write has failed.
    pub(super) fn finish(&self) -> Result<()> {
        self.record(stdout().flush());
        self.error.take().map_or(Ok(()), Err).context("cannot write to standard output")
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.record(stdout().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.record(stdout().flush());
        Ok(())
    }
}

/// A JSON object as text, with the version of the schema.
pub(super) fn json(mut object: Json) -> String {
    object["schema"] = json!(SCHEMA);
    format!("{object:#}\n")
}

/// The name of a status, and its reasons.
pub(super) fn state(status: &Status) -> (&'static str, &[Reason]) {
    match status {
        Status::Cached(_) => ("cached", &[]),
        Status::Stale(reasons) => ("stale", reasons),
        Status::MaybeStale(reasons) => ("maybe-stale", reasons),
    }
}

/// Reasons in one line.
pub(super) fn join(reasons: &[Reason]) -> String {
    reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join("; ")
}

/// The status of nodes as JSON, for `plan` and `why`.
pub(super) fn nodes_json(
    common: &Common,
    session: &Session,
    plan_status: &PlanStatus,
    estimate: Option<Json>,
) -> Json {
    let node = |(id, status): (&NodeId, &Status)| {
        let node = session.plan.node(*id);
        let (state, reasons) = state(status);
        let checked = plan_status.checked.get(id);
        json!({
            "node": node.name, "stage": node.stage, "kind": node.kind.name(),
            "state": state, "reasons": reasons, "key": checked.map(|c| c.key),
            "fallback_cause": checked.and_then(|c| c.fell_back.as_ref()),
        })
    };
    let nodes: Vec<_> = plan_status.status.iter().map(node).collect();
    let mut whole = json!({ "profile": session.profile, "overrides": common.set, "nodes": nodes });
    if let Some(estimate) = estimate {
        whole["estimate"] = estimate;
    }
    whole
}

/// The context of an error that was reported to the executor, which prints it.
#[derive(Debug, thiserror::Error)]
#[error("a job failed")]
pub(super) struct AlreadyReported;

/// Prints an error with its causes and its hint. Returns the exit code.
pub(super) fn print_error(error: &anyhow::Error) -> u8 {
    if !error.is::<AlreadyReported>() {
        let mut stderr = io::stderr().lock();
        let text = format!("{error:#}");
        let _ = writeln!(stderr, "{ERROR}{}", escape_control(&text, &['\n', '\t']));
        if let Some(hint) = hint(error) {
            let _ = writeln!(stderr, "{HINT}{}", escape_control(hint, &['\n', '\t']));
        }
    }
    known(error).map_or_else(|| exit_code(error), Error::exit_code)
}

/// The outcome of a job that failed with this error.
pub(super) fn outcome(error: &anyhow::Error) -> Outcome {
    if has_cause(error, |cause| cause.is::<AlreadyRunning>()) {
        return Outcome::AlreadyRunning;
    }
    let cause = escape_control(&format!("{error:#}"), &['\t']).into_owned();
    let hint = hint(error).map(|hint| escape_control(hint, &['\t']).into_owned());
    let failure = Failure { cause, hint };
    if has_cause(error, |cause| cause.is::<Unavailable>()) {
        Outcome::Unavailable(failure)
    } else if has_cause(error, |cause| cause.is::<process::Terminated>()) {
        Outcome::Interrupted(failure)
    } else {
        Outcome::Failed(failure)
    }
}

fn known(error: &anyhow::Error) -> Option<&Error> {
    error.chain().find_map(|cause| cause.downcast_ref::<Error>())
}

fn has_cause(error: &anyhow::Error, test: fn(&(dyn StdError + 'static)) -> bool) -> bool {
    error.chain().any(test)
}

const NO_LOCK: &str =
    "pass `--no-lock`, and run `gc` and `verify` only while no other process uses the cache";

fn hint(error: &anyhow::Error) -> Option<&str> {
    let known = known(error).and_then(Error::hint);
    let hint = error.chain().find_map(|cause| {
        let unavailable = cause.downcast_ref::<Unavailable>().map(|error| error.hint.as_str());
        unavailable.or_else(|| cause.downcast_ref::<Hinted>().map(|error| error.hint.as_str()))
    });
    let has_no_locks = has_cause(error, |cause| cause.is::<fs::NoLocks>());
    known.or(hint).or_else(|| process::limit_hint(error)).or(has_no_locks.then_some(NO_LOCK))
}

/// The exit code of an error that is not an [`Error`].
fn exit_code(error: &anyhow::Error) -> u8 {
    let is_infrastructure = |cause: &(dyn StdError + 'static)| {
        cause.is::<Unavailable>() || cause.is::<io::Error>() || cause.is::<fs::NoLocks>()
    };
    if has_cause(error, |cause| cause.is::<AlreadyRunning>()) {
        6
    } else if has_cause(error, |cause| cause.is::<process::Terminated>()) {
        130
    } else if has_cause(error, is_infrastructure) {
        7
    } else {
        1
    }
}
