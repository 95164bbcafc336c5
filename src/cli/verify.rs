//! `repro verify`: whether what is in the cache, and the lock, is as it was written.

use super::{Common, VerifyArgs, lock, print, recompute};
use crate::engine::error::Error;
use crate::engine::verify::{quarantine, verify as look};
use anyhow::Result;
use serde_json::json;

pub(super) fn verify(common: &Common, args: &VerifyArgs) -> Result<String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let store = common.store();
    let verified = look(&store, threads)?;
    if verified.bad.is_empty() {
        if args.locked {
            return lock::verify(common, &verified);
        }
        if args.recompute {
            return recompute::recompute(common, args, &verified);
        }
        lock::check_roots(common)?;
        return Ok(if common.json { format!("{:#}\n", json!(verified)) } else { format!("{verified}: all sound\n") });
    }
    if common.json {
        print(&format!("{:#}\n", json!(verified)), true);
    }
    let sentences: String = verified.bad.iter().map(|bad| format!("\n  {bad}")).collect();
    let left = match quarantine(&store, &verified.bad) {
        Ok(true) => String::new(),
        Ok(false) => "\nnothing was moved out of the way: somebody is at work in the cache".to_owned(),
        Err(error) => format!("\nnot everything was moved out of the way: {error:#}"),
    };
    Err(Error::Corrupt(format!("the cache is damaged:{sentences}{left}")).into())
}
