//! `repro cancel`: cancels the jobs of the cache on a cluster.

use super::args::Common;
use crate::engine::run::event::SCHEMA;
use crate::engine::run::executor::slurm::{cancel as cancel_jobs, job_arrays};
use anyhow::Result;
use serde_json::json;

pub(super) fn cancel(common: &Common) -> Result<String> {
    let ids: Vec<u64> = job_arrays(&common.store())?.iter().map(|array| array.id).collect();
    cancel_jobs(&ids)?;
    if common.json {
        return Ok(format!("{}\n", json!({ "schema": SCHEMA, "cancelled": ids })));
    }
    let list: Vec<String> = ids.iter().map(u64::to_string).collect();
    Ok(match list.is_empty() {
        true => "Slurm holds no jobs of this cache\n".into(),
        false => format!("cancelled {}\n", list.join(", ")),
    })
}
