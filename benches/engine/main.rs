//! The time that the engine itself takes: unchanged runs of pipelines of many trivial nodes.
//!
//! ```sh
//! cargo bench --bench engine                # 100 to 100,000 nodes
//! cargo bench --bench engine -- 1000 10000  # these sizes
//! TMPDIR=/dev/shm cargo bench --bench engine  # with the cache in memory
//! ```
//!
//! The pipeline has ten layers, in which each node depends on one node of the layer before, and a
//! node that gathers the last layer. The cache is filled as jobs would fill it. Then everything
//! that `repro run` does in its own process is done and timed, several times, with the files in the
//! page cache: with a new plan, and by the snapshot of a previous run that replaces the plan. The
//! start of the process is not included.

#![allow(missing_docs, clippy::print_stdout, reason = "a program that prints a table")]

use anyhow::{Context as _, Result};
use repro::engine::cache::entry::Entry;
use repro::engine::cache::store::Store;
use repro::engine::key::{Artifact, Key};
use repro::engine::record::history;
use repro::engine::run::event::{Event, Observer};
use repro::engine::run::executor::{Capacity, Executor, Job, KillHandle, Outcome};
use repro::engine::run::schedule::{self, Settings};
use repro::engine::run::snapshot::{Origin, Snapshot};
use repro::engine::run::status::StatusChecker;
use repro::engine::spec::pipeline::Pipeline;
use repro::engine::spec::plan::{NodeId, Plan};
use repro::engine::spec::sources::Sources;
use repro::engine::stage::{Arity, Context, Kind, KindOf, Slot, Stage};
use repro::fs;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

const LAYERS: usize = 10;
const KINDS: &[&'static dyn Kind] = &[&KindOf::<Trivial>::KIND, &KindOf::<Gather>::KIND];
const OUT: &str = "out";

/// Does nothing; depends on at most one node.
struct Trivial;

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Numbers {
    layer: usize,
    #[serde(default)]
    n: usize,
}

impl Stage for Trivial {
    const NAME: &'static str = "trivial";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[Slot { name: "after", arity: Arity::Optional, files: &[OUT] }];
    const OUTPUTS: &'static [&'static str] = &[OUT];
    type Params = Numbers;

    fn run(_: Numbers, _: &Context) -> Result<()> {
        Ok(())
    }
}

/// Does nothing; depends on many nodes.
struct Gather;

impl Stage for Gather {
    const NAME: &'static str = "gather";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[Slot { name: "all", arity: Arity::Many, files: &[OUT] }];
    const OUTPUTS: &'static [&'static str] = &[OUT];
    type Params = Numbers;

    fn run(_: Numbers, _: &Context) -> Result<()> {
        Ok(())
    }
}

fn pipeline(nodes: usize) -> String {
    let wide: Vec<String> = (0..nodes / LAYERS).map(|n| n.to_string()).collect();
    let mut yaml =
        format!("stages:\n  layer-0: {{ trivial: {{ layer: 0, n: [{}] }} }}\n", wide.join(", "));
    for layer in 1..LAYERS {
        let before = layer - 1;
        let _ = writeln!(
            yaml,
            "  layer-{layer}: {{ trivial: {{ layer: {layer}, after: layer-{before} }} }}"
        );
    }
    let _ =
        writeln!(yaml, "  last: {{ gather: {{ layer: {LAYERS}, all: layer-{} }} }}", LAYERS - 1);
    yaml
}

/// Publishes a result of a few bytes for every node of `plan`.
fn fill(store: &Store, plan: &Plan) -> Result<()> {
    store.prepare()?;
    let mut artifacts: BTreeMap<NodeId, Artifact> = BTreeMap::new();
    let workspace = store.workspace()?;
    for id in plan.ids() {
        let key = store.record_recipe(&plan.recipe(id, |_| false, |up| &artifacts[&up])?)?;
        let path = workspace.path().join(OUT);
        fs::write(&path, key.to_string())?;
        let outputs = [(OUT.to_owned(), store.ingest(&path)?)].into();
        let entry = Entry {
            outputs,
            empty_folders: BTreeSet::new(),
            seconds: 0.001,
            peak_memory: Some(1 << 20),
            finished: 1_700_000_000,
            host: "bench".into(),
            program: None,
            environment: None,
        };
        store.publish(key, &entry)?;
        artifacts.insert(id, entry.artifact());
    }
    Ok(())
}

/// Runs no job.
struct Idle;

impl Executor for Idle {
    fn capacity(&self) -> Capacity {
        Capacity { slots: 2, memory: u64::MAX }
    }
    fn adopt(&mut self, _: &Job) -> Result<bool> {
        Ok(false)
    }
    fn submit(&mut self, jobs: Vec<Job>) -> Result<()> {
        panic!("{} is not in the cache", jobs[0].key);
    }
    fn poll(&mut self, _: Duration) -> Result<Vec<(Key, Outcome)>> {
        Ok(Vec::new())
    }
    fn cancel(&mut self, _: &[Key]) {}
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
    fn kill_handle(&self) -> KillHandle {
        Box::new(|| ())
    }
}

struct Silent;

impl Observer for Silent {
    fn observe(&mut self, _: &Event) {}
}

/// One unchanged run: seconds to read and plan, and to check and complete the nodes.
fn unchanged(folder: &Path) -> Result<[f64; 2]> {
    let began = Instant::now();
    let text = fs::read_text(&folder.join("pipeline.yaml"))?;
    let plan = Plan::new(
        &Pipeline::parse("pipeline.yaml", &text).map_err(|f| anyhow::anyhow!("{f}"))?,
        KINDS,
    )
    .map_err(|f| anyhow::anyhow!("{f}"))?;
    let planned = began.elapsed().as_secs_f64();
    let store = Store::at(&folder.join("cache")).with_index();
    store.prepare()?;
    let _hold = store.lock_shared(false)?;
    let checker = StatusChecker::new(&plan, &store, BTreeSet::new(), false, history::names);
    let plan_status = checker.plan_status(&plan.closure(&[]))?;
    let settings = Settings {
        keep_going: false,
        retries: 0,
        interrupted: &AtomicBool::new(false),
        expected: None,
        stream: false,
    };
    let artifacts =
        schedule::run(&plan, &store, &checker, &plan_status, &mut Idle, &settings, &mut Silent).1?;
    store.write_index()?;
    let seconds = [planned, began.elapsed().as_secs_f64() - planned];
    let origin = origin(folder, &text);
    Snapshot::of(&origin, &plan, None, &store, &artifacts)?
        .context("a node is not cached")?
        .write(&origin, &store)?;
    Ok(seconds)
}

fn origin<'a>(folder: &'a Path, text: &'a str) -> Origin<'a> {
    Origin {
        project: folder,
        pipeline: Path::new("pipeline.yaml"),
        text: text.as_bytes(),
        profile: None,
    }
}

/// One unchanged run by the snapshot of the previous one: seconds to check it.
fn by_snapshot(folder: &Path) -> Result<f64> {
    let began = Instant::now();
    let text = fs::read_text(&folder.join("pipeline.yaml"))?;
    let store = Store::at(&folder.join("cache"));
    let origin = origin(folder, &text);
    let mut snapshot = Snapshot::read(&origin, &store)?.context("there is no snapshot")?;
    let known = snapshot.known();
    anyhow::ensure!(
        snapshot.holds(&store, &Sources::of(folder, &store.source_index())),
        "the snapshot does not match"
    );
    if snapshot.known() > known {
        snapshot.write(&origin, &store)?;
    }
    Ok(began.elapsed().as_secs_f64())
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn main() -> Result<()> {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|size| size.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![100, 1_000, 10_000, 100_000] } else { sizes };
    println!("| nodes | plan | check and complete | total | peak memory | by snapshot |");
    println!("|---|---|---|---|---|---|");
    for nodes in sizes {
        let dir = tempfile::tempdir()?;
        fs::write(&dir.path().join("pipeline.yaml"), pipeline(nodes))?;
        let plan = Plan::new(
            &Pipeline::parse("pipeline.yaml", &pipeline(nodes))
                .map_err(|f| anyhow::anyhow!("{f}"))?,
            KINDS,
        );
        fill(&Store::at(&dir.path().join("cache")), &plan.map_err(|f| anyhow::anyhow!("{f}"))?)?;
        // New files are not indexed until their times are old enough; the peak memory is reset.
        std::thread::sleep(fs::Witness::at(dir.path()).settling().unwrap_or_default());
        fs::write(Path::new("/proc/self/clear_refs"), "5")?;
        let runs: Vec<[f64; 2]> = (0..5).map(|_| unchanged(dir.path())).collect::<Result<_>>()?;
        let [plan, rest] =
            [0, 1].map(|part| 1e3 * median(runs.iter().map(|run| run[part]).collect()));
        let both = 1e3 * median(runs.iter().map(|run| run[0] + run[1]).collect());
        let status = fs::read_text(Path::new("/proc/self/status")).unwrap_or_default();
        let peak = status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap_or("unknown")
            .trim_start_matches("VmHWM:");
        let quick: Vec<f64> = (0..5).map(|_| by_snapshot(dir.path())).collect::<Result<_>>()?;
        let quick = 1e3 * median(quick);
        println!(
            "| {nodes} | {plan:.1} ms | {rest:.1} ms | {both:.1} ms | {} | {quick:.1} ms |",
            peak.trim()
        );
    }
    Ok(())
}
