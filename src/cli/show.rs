//! `repro show`: the recipe, key, outputs and provenance of nodes.

use super::args::Common;
use super::output::json;
use super::session::Session;
use crate::engine::cache::entry::Entry;
use crate::engine::key::{Key, Recipe};
use crate::engine::provenance::{Commit, Environment};
use crate::engine::run::status::Status;
use crate::engine::spec::plan::{NodeId, Plan};
use crate::engine::stage::{IN_NO_KEY, ResolvedStage, UPSTREAM, Upstream};
use crate::engine::text::{count, seconds, utc};
use anyhow::Result;
use serde::Deserialize as _;
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

pub(super) fn show(common: &Common, target: &str) -> Result<String> {
    let session = Session::open(common)?;
    let targets = session.select(&[target.to_owned()])?;
    let plan_status = session.plan_status(&targets)?;
    let mut text = String::new();
    let mut all = Vec::new();
    for id in &targets {
        let name = &session.plan.node(*id).name;
        let Some(checked) = plan_status.checked.get(id) else {
            all.push(json!({ "node": name, "state": "maybe-stale" }));
            let note = "no key yet: its inputs are not up to date";
            writeln!(text, "{name}\n  {note} (`repro why {name}`)\n")?;
            continue;
        };
        let key = checked.key;
        let entry = match &checked.status {
            Status::Cached(entry) => Some(Arc::clone(entry)),
            _ => session.store.entry(key)?,
        };
        let log = session.store.log(key);
        let recipe = match &checked.recipe {
            Some(recipe) => Some(recipe.clone()),
            None => session.store.recipe(key)?,
        };
        let entry = entry.as_deref();
        all.push(json!({ "node": name, "key": key, "recipe": recipe, "entry": entry, "log": log }));
        describe(&mut text, (&session.plan, *id), key, recipe.as_ref(), entry, &log)?;
    }
    Ok(match common.json {
        true => json(json!({ "nodes": all })),
        false => text.trim_end().to_owned() + "\n",
    })
}

/// The maximum number of nodes that are listed for an input.
const NAMES: usize = 3;

fn describe(
    text: &mut String,
    (plan, id): (&Plan, NodeId),
    key: Key,
    recipe: Option<&Recipe>,
    entry: Option<&Entry>,
    log: &Path,
) -> Result<()> {
    let node = plan.node(id);
    writeln!(text, "{}\n  key      {key}", node.name)?;
    for (slot, nodes) in &node.inputs {
        let names: Vec<&str> =
            nodes.iter().take(NAMES).map(|id| plan.node(*id).name.as_str()).collect();
        let more = nodes.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        writeln!(text, "  from     {slot}: {}{more}", names.join(", "))?;
    }
    match recipe {
        Some(recipe) => describe_recipe(text, recipe, &node.resolved)?,
        None => writeln!(text, "  the recipe is no longer in the cache")?,
    }
    for sentence in node.kind.explain(&node.resolved.params)? {
        writeln!(text, "  method   {sentence}")?;
    }
    match entry {
        Some(entry) => {
            for (file, stored) in &entry.outputs {
                let executable = if stored.executable { ", executable" } else { "" };
                writeln!(
                    text,
                    "  output   {file} {} ({} bytes{executable})",
                    stored.digest, stored.bytes
                )?;
            }
            for folder in &entry.empty_folders {
                writeln!(text, "  output   {folder} (empty folder)")?;
            }
            let memory = entry
                .peak_memory
                .map_or("unknown".into(), |bytes| format!("{} MiB (largest process)", bytes >> 20));
            let (time, finished) = (seconds(entry.seconds), utc(entry.finished));
            writeln!(text, "  time     {time} on {}, until {finished}", entry.host)?;
            writeln!(text, "  memory   {memory}")?;
            let program = entry.program.map_or("unknown".into(), |digest| digest.to_string());
            writeln!(text, "  program  {program}")?;
            if let Some(environment) = &entry.environment {
                describe_environment(text, environment)?;
            }
        }
        None => writeln!(text, "  not computed yet")?,
    }
    if log.exists() {
        writeln!(text, "  log      {}", log.display())?;
    }
    writeln!(text)?;
    Ok(())
}

fn describe_environment(text: &mut String, environment: &Environment) -> Result<()> {
    let Environment { threads, cores, system, processor, commit } = environment;
    let processor = processor.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
    writeln!(text, "  system   {system}{processor}, {threads} of {cores} cores")?;
    if let Some(Commit { id, clean }) = commit {
        let changes = if *clean { "" } else { ", with changes" };
        writeln!(text, "  commit   {id}{changes}")?;
    }
    Ok(())
}

fn describe_recipe(text: &mut String, recipe: &Recipe, resolved: &ResolvedStage) -> Result<()> {
    writeln!(text, "  kind     {} version {}", recipe.kind, recipe.version)?;
    for (name, value) in &recipe.params {
        match Upstream::deserialize(value) {
            Ok(Upstream { stages, .. }) if name == UPSTREAM => {
                let stages: Vec<String> = stages
                    .iter()
                    .map(|stage| format!("{} ({})", stage.name, count(stage.nodes)))
                    .collect();
                writeln!(text, "  {name} {}", stages.join(", "))?;
            }
            _ => writeln!(text, "  param    {name} = {value}")?,
        }
    }
    let own = recipe.params.get("params");
    let is_default = |name: &str| {
        let is_own = own.is_some_and(|own| own.get(name).is_some());
        !is_own && !recipe.params.contains_key(name) && !IN_NO_KEY.contains(&name)
    };
    for (name, value) in resolved.full.iter().filter(|(name, _)| is_default(name)) {
        writeln!(text, "  param    {name} = {value} (default)")?;
    }
    if let Some(seed) = &recipe.seed {
        writeln!(text, "  seed     {} with label {}", seed.run, seed.label)?;
    }
    for (slot, artifacts) in &recipe.inputs {
        for (file, content) in artifacts.iter().flatten() {
            writeln!(text, "  input    {slot}/{file} {content}")?;
        }
    }
    Ok(())
}
