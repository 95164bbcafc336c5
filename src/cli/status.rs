//! `repro status`: lists the jobs of the cache on a cluster.

use super::args::Common;
use crate::engine::run::event::SCHEMA;
use crate::engine::run::executor::slurm::{JobArray, job_arrays};
use anyhow::Result;
use serde_json::json;

pub(super) fn status(common: &Common) -> Result<String> {
    let arrays = job_arrays(&common.store())?;
    if common.json {
        let array = |array: &JobArray| {
            let JobArray { id, kind, running, pending, ended, unknown } = array;
            json!({
                "job": id, "kind": kind, "running": running, "pending": pending, "ended": ended,
                "unknown": unknown,
            })
        };
        let arrays: Vec<_> = arrays.iter().map(array).collect();
        return Ok(format!("{:#}\n", json!({ "schema": SCHEMA, "jobs": arrays })));
    }
    if arrays.is_empty() {
        return Ok("Slurm holds no jobs of this cache\n".into());
    }
    let mut text = String::new();
    for JobArray { id, kind, running, pending, ended, unknown } in arrays {
        let mut parts = vec![format!("{running} running")];
        for (reason, tasks) in pending {
            parts.push(format!("{tasks} pending ({reason})"));
        }
        parts.push(format!("{ended} ended"));
        if unknown > 0 {
            parts.push(format!("{unknown} in a state that this program does not know"));
        }
        text += &format!("{id}  {kind}  {}\n", parts.join(", "));
    }
    Ok(text)
}
