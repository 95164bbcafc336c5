//! `repro verify`: whether what is in the cache, and the lock, is as it was written.

use super::{Common, VerifyArgs, lock, print, recompute};
use crate::engine::cache::verify::{Problem, VerifyReport, quarantine, verify as look};
use crate::engine::error::Error;
use crate::engine::run::event::SCHEMA;
use anyhow::Result;
use serde_json::{Value as Json, json};

pub(super) fn verify(common: &Common, args: &VerifyArgs) -> Result<String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let store = common.store();
    let verified = look(&store, threads)?;
    if verified.problems.is_empty() {
        if args.locked {
            return lock::verify(common, &verified);
        }
        if args.recompute {
            return recompute::recompute(common, args, &verified);
        }
        lock::check_lines(common)?;
        return Ok(if common.json {
            format!("{:#}\n", told(&verified))
        } else {
            format!("{verified}: all sound\n")
        });
    }
    if common.json {
        print(&format!("{:#}\n", told(&verified)), true);
    }
    let sentences: String = verified.problems.iter().map(|bad| format!("\n  {bad}")).collect();
    let (left, hint) = match quarantine(&store, &verified.problems) {
        Ok(true) => (String::new(), hint(&verified.problems)),
        Ok(false) => (
            "\nnothing was moved out of the way: somebody is at work in the cache".to_owned(),
            "wait until nobody else is at work there, then `repro verify` again",
        ),
        Err(error) => (
            format!("\nnot everything was moved out of the way: {error:#}"),
            "mend that, then `repro verify` again",
        ),
    };
    Err(Error::Corrupt {
        message: format!("the cache is damaged:{sentences}{left}"),
        hint: hint.into(),
    }
    .into())
}

/// What was seen, as the answer in JSON begins.
pub(super) fn told(verified: &VerifyReport) -> Json {
    let mut whole = json!(verified);
    whole["schema"] = json!(SCHEMA);
    whole
}

/// What mends `bad`, once it is out of the way.
fn hint(bad: &[Problem]) -> &'static str {
    let any = |is: fn(&Problem) -> bool| bad.iter().any(is);
    if any(|bad| {
        matches!(
            bad,
            Problem::Object(_)
                | Problem::Entry(_)
                | Problem::MissingOutput(..)
                | Problem::SmallFile(_)
        )
    }) {
        "what was bad is out of the way; `repro run` makes anew what the pipeline asks for"
    } else if any(|bad| matches!(bad, Problem::Recipe(..))) {
        "what was bad is out of the way; its answer stays, and `repro verify --recompute` writes it anew"
    } else if any(|bad| matches!(bad, Problem::Root(_))) {
        "remove it, then pin the nodes anew, or run each pipeline that uses this cache"
    } else {
        "remove it; `repro` does not touch what is not its own"
    }
}
