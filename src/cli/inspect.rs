//! `repro show` and `export`: looking at what there is.

use super::{Common, Session};
use crate::engine::cache::entry::Entry;
use crate::engine::error::Error;
use crate::engine::key::{Key, Recipe};
use crate::engine::record::export::folder_name;
use crate::engine::run::event::SCHEMA;
use crate::engine::run::status::Status;
use crate::engine::spec::plan::{NodeId, Plan};
use crate::engine::stage::ResolvedStage;
use crate::engine::text::{count, seconds};
use crate::fs;
use anyhow::Result;
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
            all.push(json!({ "node": name, "state": "depends" }));
            writeln!(
                text,
                "{name}\n  its inputs are not up to date, so it has no key yet (`repro why {name}`)\n"
            )?;
            continue;
        };
        let entry = match &checked.status {
            Status::Cached(entry) => Some(Arc::clone(entry)),
            _ => session.store.entry(checked.key)?,
        };
        let log = session.store.log(checked.key);
        let recipe = match &checked.recipe {
            Some(recipe) => Some(recipe.clone()),
            None => session.store.recipe(checked.key)?,
        };
        let (key, answer) = (checked.key, entry.as_deref());
        all.push(
            json!({ "node": name, "key": key, "recipe": recipe, "entry": answer, "logs": log }),
        );
        describe(&mut text, (&session.plan, *id), key, recipe.as_ref(), answer, &log)?;
    }
    Ok(if common.json {
        format!("{:#}\n", json!({ "schema": SCHEMA, "nodes": all }))
    } else {
        text.trim_end().to_owned() + "\n"
    })
}

/// How many of the nodes in a slot are named.
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
        None => writeln!(text, "  its recipe is no longer in the cache")?,
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
                writeln!(text, "  output   {folder} (an empty folder)")?;
            }
            let memory = entry.peak_memory.map_or("unknown".into(), |bytes| {
                format!("{} MiB (its largest process)", bytes >> 20)
            });
            writeln!(
                text,
                "  took     {}, peak memory {memory}, on {}",
                seconds(entry.seconds),
                entry.host
            )?;
            let program = entry.program.map_or("unknown".into(), |digest| digest.to_string());
            writeln!(text, "  program  {program}")?;
        }
        None => writeln!(text, "  no answer in the cache yet")?,
    }
    if log.exists() {
        writeln!(text, "  log      {}", log.display())?;
    }
    writeln!(text)?;
    Ok(())
}

/// Fields of stages that are in no recipe: that one is not there does not say that it is at its default.
const IN_NO_KEY: [&str; 6] = ["files", "ignore", "memory", "retries", "threads", "time-limit"];

fn describe_recipe(text: &mut String, recipe: &Recipe, resolved: &ResolvedStage) -> Result<()> {
    writeln!(text, "  kind     {} version {}", recipe.kind, recipe.version)?;
    for (name, value) in &recipe.params {
        writeln!(text, "  param    {name} = {value}")?;
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

pub(super) fn export(common: &Common, target: &str, destination: &Path) -> Result<String> {
    let session = Session::open(common)?;
    let targets = session.select(&[target.to_owned()])?;
    let plan_status = session.plan_status(&targets)?;
    let stale: Vec<&str> = targets
        .iter()
        .filter(|id| !matches!(plan_status.status[id], Status::Cached(_)))
        .map(|id| session.plan.node(*id).name.as_str())
        .collect();
    if let Some(first) = stale.first() {
        let diagnostic = crate::engine::error::Diagnostic {
            source: "export".into(),
            location: None,
            message: format!("`{first}` is not up to date ({} in all)", count(stale.len())),
            hint: Some(format!("`repro run {target}` makes it")),
        };
        return Err(Error::Usage(diagnostic).into());
    }
    let mut written = Vec::new();
    for id in &targets {
        let Status::Cached(entry) = &plan_status.status[id] else { continue };
        let name = &session.plan.node(*id).name;
        let folder = if targets.len() == 1 {
            destination.to_owned()
        } else {
            destination.join(folder_name(name))
        };
        for (file, stored) in &entry.outputs {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            // It replaces a link. To write through the link would change another file.
            fs::write_beside(&path, &session.store.read_object(stored.digest)?)?;
            fs::set_executable(&path, stored.executable)?;
            written.push(path.display().to_string());
        }
        for name in &entry.empty_folders {
            let path = folder.join(name);
            fs::create_dir_all(&path)?;
            written.push(path.display().to_string());
        }
    }
    Ok(match common.json {
        true => format!("{:#}\n", json!({ "schema": SCHEMA, "files": written })),
        false => written.join("\n") + "\n",
    })
}
