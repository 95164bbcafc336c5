//! `repro push`, `repro pull`, and `repro remote`: a remote cache.

use super::args::{Common, RemoteCommand};
use super::output::{Output, json};
use super::session::Session;
use super::session::remote::{Bar, Use, fatal, print_notices};
use crate::engine::cache::remote::Stale;
use crate::engine::cache::transfer::{Progress, Transferred};
use crate::engine::error::{Diagnostic, Error};
use crate::engine::key::Key;
use crate::engine::run::status::{PlanStatus, Status};
use crate::engine::text::{bytes, count};
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

pub(super) fn push(common: &Common, targets: &[String]) -> Result<String> {
    let mut session = Session::open(common)?;
    let targets = session.select(targets)?;
    let plan_status = session.plan_status(&targets)?;
    session.attach(common, Use { required: true, writes: true })?;
    session.store.prepare()?;
    let _lock = session.store.lock_shared(true)?;
    let keys: BTreeSet<Key> = cached_keys(&plan_status).collect();
    let keys: Vec<Key> = keys.into_iter().collect();
    let mut bar = Bar::new(common, "sending");
    let pushed = session.store.push(&keys, &mut |progress| bar.show(progress));
    bar.clear();
    print_notices(session.store.notices());
    let pushed = pushed?;
    if let Some(key) = pushed.refused.first() {
        return Err(Error::Differs(Diagnostic {
            source: "remote cache".to_owned(),
            location: None,
            message: format!(
                "{} other results under the same keys, such as `{key}`",
                pushed.refused.len()
            ),
            hint: Some(
                "run `repro verify --recompute` where each was computed to see which is not \
                 deterministic"
                    .to_owned(),
            ),
        })
        .into());
    }
    let Transferred { results, bytes: size, unchanged, .. } = pushed;
    let stale = pending(&plan_status);
    if common.json {
        return Ok(json(json!({
            "results": results, "bytes": size, "unchanged": unchanged, "not_cached": stale,
        })));
    }
    let mut text = format!("{results} results pushed ({}), {unchanged} unchanged\n", bytes(size));
    if stale > 0 {
        let _ = writeln!(text, "{} not cached here, so not pushed", count(stale));
    }
    Ok(text)
}

pub(super) fn pull(common: &Common, targets: &[String]) -> Result<String> {
    let mut session = Session::open(common)?;
    session.attach(common, Use { required: true, writes: false })?;
    session.store.prepare()?;
    let _lock = session.store.lock_shared(true)?;
    session.store.record_pipeline(&common.directory, &common.pipeline_path()?)?;
    let requested = session.plan.closure(&session.select(targets)?);
    let checker = session.checker(BTreeSet::new());
    let pulled = session.pull(common, &checker, &requested, &|_| Ok(()));
    print_notices(session.store.notices());
    let (plan_status, pulled) = pulled?;
    let Transferred { results, objects, bytes: size, refused, .. } = pulled;
    let stale = pending(&plan_status);
    let cached = cached_keys(&plan_status).count().saturating_sub(results);
    if common.json {
        return Ok(json(json!({
            "results": results, "objects": objects, "bytes": size,
            "refused": refused, "not_cached": stale,
        })));
    }
    let mut text = format!("{results} results pulled ({}), {cached} cached already\n", bytes(size));
    if stale > 0 {
        let _ = writeln!(text, "{} neither here nor in the remote cache", count(stale));
    }
    Ok(text)
}

pub(super) fn remote(common: &Common, output: &Output, command: RemoteCommand) -> Result<String> {
    match command {
        RemoteCommand::Verify { delete } => verify(common, output, delete),
        RemoteCommand::Gc { targets, delete, older_than } => {
            gc(common, &targets, delete, older_than)
        }
    }
}

fn verify(common: &Common, output: &Output, delete: bool) -> Result<String> {
    let remote = Session::open(common)?.remote(common, delete)?;
    let mut bar = Bar::new(common, "checking");
    let verified = remote.verify(&mut |done, all| bar.show(Progress { done, all, bytes: 0 }));
    bar.clear();
    let verified = verified.map_err(fatal)?;
    if delete {
        remote.remove_damaged(&verified).map_err(fatal)?;
    }
    let mut text = String::new();
    if common.json {
        text = json(json!({ "deleted": delete, "remote": &verified }));
    } else {
        for problem in &verified.problems {
            let _ = writeln!(text, "{problem}");
        }
        let (objects, entries) = (verified.objects, verified.entries);
        let _ = writeln!(text, "{objects} objects ({}), {entries} entries", bytes(verified.bytes));
    }
    let problems = verified.problems.len();
    if problems == 0 {
        return Ok(text);
    }
    output.print(&text);
    let hint = match delete {
        true => "the damaged files were removed; run `repro push` where the results are cached",
        false => {
            "run `repro remote verify --delete`, then `repro push` where the results are \
                  cached"
        }
    };
    let message = format!("the remote cache has {problems} problems");
    Err(Error::Corrupt { message, hint: hint.into() }.into())
}

fn gc(common: &Common, targets: &[String], delete: bool, age: Duration) -> Result<String> {
    let session = Session::open(common)?;
    let remote = session.remote(common, delete)?;
    let mut profiles = vec![common.profile.clone()];
    if common.profile.is_none() {
        let declared = session.pipeline.profiles.iter();
        profiles.extend(declared.map(|profile| Some(profile.name.clone())));
    }
    let mut keys: BTreeSet<Key> = BTreeSet::new();
    for profile in profiles {
        let common = &Common { profile, ..common.clone() };
        let mut session = Session::open(common)?;
        session.attach(common, Use { required: true, writes: false })?;
        let plan_status = session.plan_status(&session.select(targets)?)?;
        let stale = pending(&plan_status);
        if stale > 0 {
            // The keys of nodes downstream of them are unknown.
            return Err(session.not_up_to_date(stale).into());
        }
        keys.extend(cached_keys(&plan_status));
    }
    let stale = remote.stale(&keys, age).map_err(fatal)?;
    if delete {
        remote.remove_stale(&stale).map_err(fatal)?;
    }
    if common.json {
        return Ok(json(json!({ "deleted": delete, "remote": &stale })));
    }
    let Stale { kept, entries, objects, bytes: size, .. } = stale;
    let size = bytes(size);
    Ok(match delete {
        true => format!("{kept} results kept, {entries} removed ({objects} objects, {size})\n"),
        false => format!(
            "{kept} results kept, {entries} can be removed ({objects} objects, {size}); run \
             `repro remote gc --delete` to remove them\n"
        ),
    })
}

/// The keys of the nodes that are cached.
fn cached_keys(plan_status: &PlanStatus) -> impl Iterator<Item = Key> {
    let is_cached = |status: &Status| matches!(status, Status::Cached(_));
    plan_status.checked.values().filter(move |checked| is_cached(&checked.status)).map(|c| c.key)
}

fn pending(plan_status: &PlanStatus) -> usize {
    plan_status.status.values().filter(|status| !matches!(status, Status::Cached(_))).count()
}
