//! `repro verify`: checks the cache and the lock file.

mod recompute;

use super::args::{Common, VerifyArgs};
use super::output::{Output, json};
use super::session::{Session, lockfile};
use crate::engine::cache::verify::{Problem, VerifyReport, quarantine, verify as verify_cache};
use crate::engine::error::Error;
use crate::engine::text::count;
use anyhow::Result;
use serde_json::json;

pub(super) fn verify(common: &Common, output: &Output, args: &VerifyArgs) -> Result<String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let store = common.store();
    let verified = verify_cache(&store, threads)?;
    if verified.problems.is_empty() {
        if args.locked {
            return compare_with_lock(common, output, &verified);
        }
        if args.recompute {
            return recompute::recompute(common, output, args, &verified);
        }
        check_lock(common)?;
        return Ok(match common.json {
            true => json(json!(verified)),
            false => summary(&verified),
        });
    }
    if common.json {
        output.print(&json(json!(verified)));
    }
    let lines: String = verified.problems.iter().map(|bad| format!("\n  {bad}")).collect();
    let (note, hint) = match quarantine(&store, &verified.problems) {
        Ok(true) => (String::new(), hint(&verified.problems)),
        Ok(false) => (
            "\nno file was moved to quarantine: another process is using the cache".to_owned(),
            "run `repro verify` again when no other process is using the cache",
        ),
        Err(error) => (
            format!("\nnot all files were moved to quarantine: {error:#}"),
            "fix this error, then run `repro verify` again",
        ),
    };
    let message = format!("the cache is corrupt:{lines}{note}");
    Err(Error::Corrupt { message, hint: hint.into() }.into())
}

fn summary(verified: &VerifyReport) -> String {
    format!("{verified}: no damage found\n")
}

/// The hint for `bad`. Files that `repro` wrote are in quarantine.
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
        "damaged files were moved to quarantine; run `repro run` to recompute the results"
    } else if any(|bad| matches!(bad, Problem::Recipe(..))) {
        "damaged files were moved to quarantine; run `repro verify --recompute` to restore recipes"
    } else if any(|bad| matches!(bad, Problem::Root(_))) {
        "remove the file, then pin the nodes again or run each pipeline that uses this cache"
    } else {
        "`repro` does not remove files that it did not write"
    }
}

/// Rejects a lock file that was edited by hand. A missing lock file is not an error.
fn check_lock(common: &Common) -> Result<()> {
    let Some(lock) = lockfile::read(common)? else { return Ok(()) };
    lock.check_roots().map_err(Error::from)?;
    // A root does not depend on the order of lines, so only a comparison with the cache detects two
    // swapped lines. It requires a valid pipeline.
    let Ok(session) = Session::open(common) else { return Ok(()) };
    let Ok(expected) = lockfile::expected(&lock, &session) else { return Ok(()) };
    let (found, _) = lockfile::cached(&session.plan_status(&[])?);
    let differences = lockfile::differences(&session, &expected, &found);
    Ok(expected.refuse_swapped(&differences).map_err(Error::from)?)
}

fn compare_with_lock(common: &Common, output: &Output, verified: &VerifyReport) -> Result<String> {
    let mut session = Session::open(common)?;
    let lock = lockfile::open(common, &mut session)?;
    let expected = lockfile::expected(&lock, &session)?;
    let (found, others) = lockfile::cached(&session.plan_status(&[])?);
    let differences = lockfile::differences(&session, &expected, &found);
    let (source, root) = (expected.source(), expected.root());
    let text = if common.json {
        let mut whole = json!(verified);
        whole["locked"] = json!({
            "lock": source, "root": root, "compared": found.len(), "not_cached": others,
            "differences": differences,
        });
        json(whole)
    } else {
        let verb = if differences.is_empty() { "match" } else { "compared" };
        let compared = format!("{source}: {} {verb}", count(found.len()));
        format!("{}{compared}, {others} not up to date; root {root}\n", summary(verified))
    };
    if differences.is_empty() && others == 0 {
        return Ok(text);
    }
    output.print(&text);
    expected.refuse(&differences)?;
    Err(session.not_up_to_date(others).into())
}
