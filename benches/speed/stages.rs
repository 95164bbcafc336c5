//! Stages as `repro run` runs them, each in its own process: their time, their peak memory, and the
//! time until a process has loaded its data.

use super::data::Data;
use super::{Benchmark, Cost, Group, Timing};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::rc::Rc;
use std::time::Instant;
use tempfile::TempDir;

pub(crate) fn groups() -> Vec<Group> {
    let names = |benchmarks: &[&str]| {
        benchmarks.iter().map(|benchmark| format!("stage/{benchmark}")).collect()
    };
    vec![
        Group { benchmarks: names(&["data-ready"]), make: |data, _| Ok(vec![ready(data)?]) },
        Group { benchmarks: names(&["train", "align", "curve", "wa"]), make: stages },
    ]
}

/// `ready` trains a net that diverges in its second step: its process starts, loads its data and
/// stops.
const PIPELINE: &str = "\
seed: 0
stages:
  data: { fetch: { dataset: DATASET } }
  ready: { train: { data: data, hidden: 64, epochs: 1, optimizer: { sgd: { rate: 1.0e+30 } } } }
  train: { train: { data: data, hidden: 2000, epochs: 1, end: [a, b] } }
  align: { align: { a: train@end=a, b: train@end=b } }
  curve: { evaluate: { a: train@end=a, b: align, data: data, curve: linear } }
  wa:
    evaluate:
      { a: train@end=a, b: train@end=b, data: data, curve: linear+wa, wa_points: 11, wa_refine: 0 }
";

fn space(data: &Data) -> Result<TempDir> {
    let space = TempDir::new()?;
    let dataset = if data.is_mnist() { "mnist" } else { "digits" };
    std::fs::write(space.path().join("pipeline.yaml"), PIPELINE.replace("DATASET", dataset))?;
    Ok(space)
}

fn repro(space: &Path, arguments: &[&str]) -> Result<Output> {
    let program = env!("CARGO_BIN_EXE_repro");
    Command::new(program)
        .arg("-C")
        .arg(space)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}"))
}

/// The output of `repro show --json` for a node.
fn show(space: &Path, target: &str) -> Result<Value> {
    let mut shown: Value =
        serde_json::from_slice(&repro(space, &["show", "--json", target])?.stdout)?;
    Ok(shown["nodes"][0].take())
}

fn ready(data: &Data) -> Result<Benchmark> {
    let space = space(data)?;
    // Records the recipe; the node itself fails.
    repro(space.path(), &["-q", "run", "ready"])?;
    let key = show(space.path(), "ready")?["key"].as_str().context("`ready` has a key")?.to_owned();
    let run = move || {
        let start = Instant::now();
        let output = repro(space.path(), &["exec", &key])?;
        let seconds = start.elapsed().as_secs_f64();
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(
            message.contains("training diverged in epoch 1"),
            "`ready` did not diverge: {message}"
        );
        Ok(seconds.into())
    };
    Ok(Benchmark { name: "stage/data-ready".to_owned(), cost: Cost::default(), run: Box::new(run) })
}

fn stages(data: &Rc<Data>, names: &[String]) -> Result<Vec<Benchmark>> {
    let space = Rc::new(space(data)?);
    let benchmark = |name: &String| {
        let (name, space) = (name.clone(), Rc::clone(&space));
        let stage = name.trim_start_matches("stage/");
        let target = if stage == "train" { "train@end=a" } else { stage }.to_owned();
        Benchmark {
            name,
            cost: Cost::default(),
            run: Box::new(move || stage_run(space.path(), &target)),
        }
    };
    Ok(names.iter().map(benchmark).collect())
}

/// Runs one stage again, after its inputs if they are not cached. Time and memory are those that it
/// records.
fn stage_run(space: &Path, target: &str) -> Result<Timing> {
    let output = repro(space, &["-q", "run", "--force", target])?;
    ensure!(output.status.success(), "{target}: {}", String::from_utf8_lossy(&output.stderr));
    let shown = show(space, target)?;
    let number = |field: &str| {
        shown["entry"][field]
            .as_f64()
            .with_context(|| format!("`{target}` has no `{field}`: {shown}"))
    };
    let peak = number("peak_memory")? / f64::from(1 << 20);
    Ok(Timing { seconds: number("seconds")?, other: Some(("peak MiB", peak)) })
}
