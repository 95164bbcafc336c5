//! Answers one recorded question, in this process: what `repro exec KEY` does, locally and on a cluster.
//!
//! Knows the store and the contract of stages; neither the plan nor who asked.

use super::error::Error;
use super::key::{Digest, Key, Recipe};
use super::stage::{Context, Input, Kind, belongs};
use super::store::{Entry, Store, Stored, host};
use crate::fs;
use anyhow::{Context as _, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Instant, SystemTime};

/// Runs the stage that `key` names and publishes its answer; `program` is this program's digest, if whoever asks knows it.
pub fn exec(store: &Store, kinds: &[&'static dyn Kind], key: Key, program: Option<Digest>) -> Result<Entry> {
    let recipe = store.recipe(key)?.ok_or_else(|| anyhow!("no recipe is recorded under `{key}`"))?;
    let kind = kinds
        .iter()
        .find(|kind| kind.name() == recipe.kind && kind.version() == recipe.version)
        .ok_or_else(|| anyhow!("this program has no stage `{}` of version {}", recipe.kind, recipe.version))?;
    let inputs = place_inputs(store, &recipe)?;
    let workspace = store.workspace()?;
    let began = Instant::now();
    kind.run(&Context::new(recipe, inputs, workspace.path().to_owned()))?;
    let seconds = began.elapsed().as_secs_f64();
    let outputs = collect(store, *kind, workspace.path())?;
    let entry = Entry {
        outputs,
        seconds,
        peak_memory: peak_memory(),
        finished: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        host: host(),
        program,
    };
    store.publish(key, &entry)?;
    Ok(entry)
}

fn place_inputs(store: &Store, recipe: &Recipe) -> Result<BTreeMap<String, Vec<Input>>> {
    let mut inputs = BTreeMap::new();
    for (slot, artifacts) in &recipe.inputs {
        let mut placed = Vec::new();
        for artifact in artifacts {
            let mut paths = BTreeMap::new();
            for (file, digest) in artifact {
                let path = store.object(*digest);
                if !path.is_file() {
                    return Err(Error::Corrupt(format!("the input `{slot}/{file}` ({digest}) is not there")).into());
                }
                paths.insert(file.clone(), path);
            }
            placed.push(Input::new(artifact.clone(), paths));
        }
        inputs.insert(slot.clone(), placed);
    }
    Ok(inputs)
}

/// Takes the declared outputs into the store. A missing one, or one that was not declared, is an error of the stage.
fn collect(store: &Store, kind: &dyn Kind, workspace: &Path) -> Result<BTreeMap<String, Stored>> {
    let mut found = Vec::new();
    walk(workspace, "", &mut found)?;
    for declared in kind.outputs() {
        if !found.iter().any(|name| belongs(name, declared)) {
            bail!("the stage `{}` did not write its output `{declared}`", kind.name());
        }
    }
    let mut outputs = BTreeMap::new();
    for name in found {
        if !kind.outputs().iter().any(|declared| belongs(&name, declared)) {
            bail!("the stage `{}` wrote `{name}`, which it does not declare", kind.name());
        }
        outputs.insert(name.clone(), store.ingest(&workspace.join(&name))?);
    }
    Ok(outputs)
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) -> Result<()> {
    for name in fs::list(folder)? {
        let path = folder.join(&name);
        let relative = format!("{prefix}{name}");
        let meta = std::fs::symlink_metadata(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        match meta {
            meta if meta.is_dir() => walk(&path, &format!("{relative}/"), found)?,
            meta if meta.is_file() => found.push(relative),
            _ => bail!("the output `{relative}` is neither a file nor a folder"),
        }
    }
    Ok(())
}

/// Peak resident memory of this process in bytes, where the system tells (Linux: `VmHWM`).
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
