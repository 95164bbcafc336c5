//! Toy stages, an executor that runs them in this process, and a bench to try pipelines on: the engine is tested without
//! any stage of the study.

use crate::engine::cache::entry::Entry;
use crate::engine::cache::store::Store;
use crate::engine::key::{Artifact, Key, Recipe};
use crate::engine::record::lockfile::Expected;
use crate::engine::run::event::{Event, Observer, Summary};
use crate::engine::run::executor::{Executor, Failure, Job, Outcome};
use crate::engine::run::schedule::{self, Settings};
use crate::engine::run::status::{PlanStatus, StatusChecker};
use crate::engine::run::worker::{AlreadyRunning, ExecOptions};
use crate::engine::spec::pipeline::Pipeline;
use crate::engine::spec::plan::{NodeId, Plan};
use crate::engine::stage::{Arity, Context, Invocation, Kind, KindOf, Slot, Stage, Unavailable};
use crate::fs;
use anyhow::{Result, bail};
use proptest::prelude::*;
use proptest::sample::select;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tempfile::TempDir;

/// All toy kinds.
pub(super) const KINDS: &[&'static dyn Kind] =
    &[&KindOf::<Source>::KIND, &KindOf::<Pair>::KIND, &KindOf::<Gather>::KIND];

const TEXT: &str = "text";

/// Writes its text. On request it fails, or cannot be had.
pub(super) struct Source;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceParams {
    /// `fail` makes it fail.
    text: String,
    #[serde(default = "one")]
    width: u32,
    #[serde(default)]
    end: End,
    #[serde(default)]
    style: Style,
    #[serde(default)]
    ratio: f64,
    /// In the key, but in no output.
    #[serde(default)]
    note: Option<String>,
    /// Asked instead, should this not be to be had.
    #[serde(default)]
    otherwise: Option<String>,
}

fn one() -> u32 {
    1
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum End {
    #[default]
    A,
    B,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Style {
    #[default]
    Plain,
    Framed {
        by: u32,
        #[serde(default)]
        round: bool,
    },
}

impl Stage for Source {
    const NAME: &'static str = "source";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[];
    const OUTPUTS: &'static [&'static str] = &[TEXT];
    type Params = SourceParams;

    fn check(params: &SourceParams) -> Result<(), String> {
        if params.width == 0 { Err("`width` must not be zero".into()) } else { Ok(()) }
    }

    fn label(params: &SourceParams) -> Option<String> {
        (params.text == "drawn").then(|| format!("width={}", params.width))
    }

    fn fallback(params: &SourceParams) -> Option<SourceParams> {
        params.otherwise.clone().map(|text| SourceParams {
            text,
            otherwise: None,
            ..params.clone()
        })
    }

    fn key_params(params: SourceParams, _: &Invocation) -> SourceParams {
        SourceParams { otherwise: None, ..params }
    }

    fn run(params: SourceParams, cx: &Context) -> Result<()> {
        if params.text == "fail" {
            bail!("it was told to fail");
        }
        let SourceParams { text, width, end, style, .. } = params;
        let style = if style == Style::Plain { String::new() } else { format!("{style:?}") };
        let end = if matches!(end, End::B) { "'" } else { "" };
        fs::write(&cx.output(TEXT), format!("{text}{end}{style}").repeat(width as usize))
    }
}

/// Joins two texts; without the second, brackets the first.
pub(super) struct Pair;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    /// In the key, but in no output.
    #[serde(default)]
    note: Option<String>,
    #[serde(default)]
    width: u32,
}

impl Stage for Pair {
    const NAME: &'static str = "pair";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "left", arity: Arity::One, files: &[TEXT] },
        Slot { name: "right", arity: Arity::Optional, files: &[TEXT] },
    ];
    const OUTPUTS: &'static [&'static str] = &[TEXT];
    type Params = Note;

    fn run(_: Note, cx: &Context) -> Result<()> {
        let mut parts = vec![fs::read_text(cx.input("left")?.path(TEXT)?)?];
        for right in cx.inputs("right") {
            parts.push(fs::read_text(right.path(TEXT)?)?);
        }
        fs::write(&cx.output(TEXT), format!("({})", parts.join(" ")))
    }
}

/// Sorts any number of texts into one, and counts them in a file of its own.
pub(super) struct Gather;

impl Stage for Gather {
    const NAME: &'static str = "gather";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[Slot { name: "all", arity: Arity::Many, files: &[TEXT] }];
    const OUTPUTS: &'static [&'static str] = &[TEXT, "count"];
    const EXPORTS: bool = true;
    type Params = Note;

    fn run(_: Note, cx: &Context) -> Result<()> {
        let inputs = cx.inputs("all").iter();
        let mut parts: Vec<String> =
            inputs.map(|input| fs::read_text(input.path(TEXT)?)).collect::<Result<_>>()?;
        parts.sort();
        fs::write(&cx.output("count"), parts.len().to_string())?;
        fs::write(&cx.output(TEXT), format!("[{}]", parts.join(" ")))
    }
}

/// The plan of a pipeline of toy stages, which need not be valid.
pub(super) fn plan(yaml: &str) -> Result<Plan, crate::engine::error::Diagnostic> {
    Plan::new(&Pipeline::parse("test.yaml", yaml)?, KINDS)
}

/// Ids of nodes by name.
pub(super) fn id(plan: &Plan, name: &str) -> NodeId {
    plan.ids()
        .find(|id| plan.node(*id).name == name)
        .unwrap_or_else(|| panic!("there is no node `{name}`"))
}

/// Values as JSON has them: any finite number, any text, and nestings of them.
pub(super) fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        any::<u64>()
            .prop_map(f64::from_bits)
            .prop_filter("finite", |x| x.is_finite())
            .prop_map(Json::from),
        (1u32..1000, 1u32..1000).prop_map(|(a, b)| Json::from(f64::from(a) / f64::from(b))),
        select(&[-0.0, 0.0, 5e-324, f64::MAX, f64::MIN_POSITIVE, 1e16][..]).prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<String>().prop_map(Json::from),
        any::<bool>().prop_map(Json::from),
        Just(Json::Null),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// What becomes of a job.
#[derive(Clone, PartialEq)]
pub(super) enum Script {
    /// It runs.
    Runs,
    /// It ends well without having done anything.
    Pretends,
    /// Its process is lost.
    Lost,
    /// What it wants cannot be had.
    Unavailable,
    /// It never ends.
    Hangs,
}

/// Runs jobs in this process, one at each `wait`.
struct Mock<'a> {
    store: &'a Store,
    slots: usize,
    fate: &'a dyn Fn(&Recipe) -> Script,
    /// Which of so many running jobs ends next.
    pick: &'a mut dyn FnMut(usize) -> usize,
    running: Vec<Job>,
    submitted: Vec<Key>,
    threads: Vec<usize>,
    most_at_once: usize,
    killed: bool,
}

impl Executor for Mock<'_> {
    fn slots(&self) -> usize {
        self.slots
    }

    fn submit(&mut self, job: Job) -> Result<()> {
        self.submitted.push(job.key);
        self.threads.push(job.threads.get());
        self.running.push(job);
        self.most_at_once = self.most_at_once.max(self.running.len());
        Ok(())
    }

    fn wait(&mut self, _: Duration) -> Option<(Key, Outcome)> {
        let fate = |job: &Job| {
            (self.fate)(&self.store.recipe(job.key).unwrap().expect("a job has a recipe"))
        };
        let able: Vec<usize> =
            (0..self.running.len()).filter(|&i| fate(&self.running[i]) != Script::Hangs).collect();
        let &chosen = able.get((self.pick)(able.len()) % able.len().max(1))?;
        let fate = fate(&self.running[chosen]);
        let Job { key, threads, again, .. } = self.running.remove(chosen);
        let failure =
            |cause: &str| Failure { cause: cause.to_owned(), hint: Some("try later".into()) };
        let outcome = match fate {
            Script::Runs => match self.store.workbench().and_then(|mut workbench| {
                let manner = ExecOptions {
                    program: None,
                    threads,
                    again,
                    is_one_of_many: true,
                    project: None,
                };
                crate::engine::run::worker::exec(self.store, KINDS, key, manner, &mut workbench)
            }) {
                Ok(_) => Outcome::Exited,
                Err(error) if error.is::<AlreadyRunning>() => Outcome::AlreadyRunning,
                Err(error) => match error.downcast_ref::<Unavailable>() {
                    Some(unavailable) => Outcome::Unavailable(failure(&unavailable.cause)),
                    None => Outcome::Failed(failure(&format!("{error:#}"))),
                },
            },
            Script::Pretends => Outcome::Exited,
            Script::Lost => Outcome::Failed(failure("the process was lost")),
            Script::Unavailable => Outcome::Unavailable(failure("nobody answered")),
            Script::Hangs => unreachable!("a job that hangs does not end"),
        };
        Some((key, outcome))
    }

    fn kill(&mut self) {
        self.killed = true;
    }
}

/// Writes down what it is told, one line an event.
#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn observe(&mut self, event: &Event) {
        self.0.push(match event {
            Event::Cached { node, .. } => format!("cached {node}"),
            Event::Running { node, reasons, .. } => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                format!("running {node}: {}", reasons.join("; "))
            }
            Event::Elsewhere { node, .. } => format!("elsewhere {node}"),
            Event::Retrying { node, attempt, .. } => format!("retrying {node}: {attempt}"),
            Event::Finished { node, .. } => format!("finished {node}"),
            Event::Failed { node, cause, .. } => format!("failed {node}: {cause}"),
            Event::Skipped { node, because } => format!("skipped {node}: {because}"),
            Event::FellBack { node, instead, cause } => format!("fell back {node}: {instead}, {cause}"),
            Event::Ended(summary) => {
                let Summary { nodes, cached, ran, failed, skipped, .. } = summary;
                format!("ended: {nodes} nodes, {cached} cached, {ran} ran, {failed} failed, {skipped} skipped")
            }
            Event::Started { .. } | Event::AsLocked { .. } | Event::Delivered { .. } => return,
        });
    }
}

/// A cache of one's own to try pipelines on.
pub(super) struct TestSpace {
    dir: TempDir,
    pub(super) store: Store,
}

impl TestSpace {
    /// With an empty cache. In memory where there is such a disk: a sync then costs nothing.
    pub(super) fn new() -> TestSpace {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
            .unwrap();
        let store = Store::at(&dir.path().join("cache"));
        store.prepare().unwrap();
        TestSpace { dir, store }
    }

    /// Where its files lie.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A run of `yaml`, to be varied before it is started.
    pub(super) fn trial<'a>(&'a self, yaml: &str) -> Trial<'a> {
        Trial {
            store: &self.store,
            plan: plan(yaml).unwrap(),
            slots: 2,
            targets: Vec::new(),
            forced: Vec::new(),
            refetch: false,
            keep_going: false,
            retries: 0,
            interrupted: false,
            expected: None,
            fate: Box::new(|_| Script::Runs),
            pick: Box::new(|_| 0),
        }
    }

    /// A plain run of `yaml`.
    pub(super) fn run(&self, yaml: &str) -> Ran {
        self.trial(yaml).run()
    }
}

/// A run to be.
pub(super) struct Trial<'a> {
    pub(super) store: &'a Store,
    pub(super) plan: Plan,
    pub(super) slots: usize,
    pub(super) targets: Vec<&'a str>,
    pub(super) forced: Vec<&'a str>,
    pub(super) refetch: bool,
    pub(super) keep_going: bool,
    pub(super) retries: u32,
    pub(super) interrupted: bool,
    pub(super) expected: Option<Expected<'a>>,
    pub(super) fate: Box<dyn Fn(&Recipe) -> Script + 'a>,
    pub(super) pick: Box<dyn FnMut(usize) -> usize + 'a>,
}

impl Trial<'_> {
    fn checker(&self) -> StatusChecker<'_> {
        let forced = self.forced.iter().map(|name| id(&self.plan, name)).collect();
        StatusChecker::new(&self.plan, self.store, forced, self.refetch)
    }

    fn wanted(&self) -> BTreeSet<NodeId> {
        self.plan.closure(&self.targets.iter().map(|name| id(&self.plan, name)).collect::<Vec<_>>())
    }

    /// Where everything stands.
    pub(super) fn plan_status(&self) -> PlanStatus {
        self.checker().plan_status(&self.wanted()).unwrap()
    }

    /// Runs it.
    pub(super) fn run(mut self) -> Ran {
        let mut pick = std::mem::replace(&mut self.pick, Box::new(|_| 0));
        let checker = self.checker();
        let plan_status = checker.plan_status(&self.wanted()).unwrap();
        let mut notes = Notes::default();
        let mut mock = Mock {
            store: self.store,
            slots: self.slots,
            fate: &*self.fate,
            pick: &mut *pick,
            running: Vec::new(),
            submitted: Vec::new(),
            threads: Vec::new(),
            most_at_once: 0,
            killed: false,
        };
        let interrupted = AtomicBool::new(self.interrupted);
        let expected = self.expected.as_ref();
        let settings = Settings {
            keep_going: self.keep_going,
            retries: self.retries,
            interrupted: &interrupted,
            stream: false,
            expected,
        };
        let (summary, outcome) = schedule::run(
            &self.plan,
            self.store,
            &checker,
            &plan_status,
            &mut mock,
            &settings,
            &mut notes,
        );
        let Mock { submitted, threads, most_at_once, killed, .. } = mock;
        notes.observe(&Event::Ended(summary.clone()));
        let (outcome, artifacts) = match outcome {
            Ok(artifacts) => (Ok(summary), artifacts),
            Err(error) => (Err(error), BTreeMap::new()),
        };
        let named = |(id, artifact): (NodeId, Arc<Artifact>)| {
            (self.plan.node(id).name.clone(), Artifact::clone(&artifact))
        };
        Ran {
            store: self.store.clone(),
            outcome,
            artifacts: artifacts.into_iter().map(named).collect(),
            events: notes.0,
            submitted,
            threads,
            most_at_once,
            killed,
        }
    }
}

/// What a run was.
pub(super) struct Ran {
    store: Store,
    pub(super) outcome: Result<Summary>,
    /// By node; none if the run failed.
    pub(super) artifacts: BTreeMap<String, Artifact>,
    /// One line each.
    pub(super) events: Vec<String>,
    pub(super) submitted: Vec<Key>,
    /// How many threads each of them was given.
    pub(super) threads: Vec<usize>,
    pub(super) most_at_once: usize,
    pub(super) killed: bool,
}

impl Ran {
    /// What the events that begin with `verb` go on with.
    pub(super) fn messages(&self, verb: &str) -> Vec<&str> {
        self.events.iter().filter_map(|line| line.strip_prefix(verb)?.strip_prefix(' ')).collect()
    }

    /// The nodes that ran to their end, in that order.
    pub(super) fn finished(&self) -> Vec<&str> {
        self.messages("finished")
    }

    /// What the node called `name` wrote.
    pub(super) fn text(&self, name: &str) -> String {
        let bytes = self.store.read_object(self.artifacts[name][TEXT].digest().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

/// A question of no consequence.
pub(super) fn recipe(kind: &str) -> Recipe {
    let (params, inputs) = (BTreeMap::new(), BTreeMap::new());
    Recipe { kind: kind.into(), version: 1, params, inputs, seed: None }
}

/// Publishes an answer of one file as a job would.
pub(super) fn publish(store: &Store, kind: &str, bytes: &[u8]) -> (Key, Entry) {
    let key = store.record_recipe(&recipe(kind)).unwrap();
    let workspace = store.workspace().unwrap();
    let path = workspace.path().join("out");
    fs::write(&path, bytes).unwrap();
    let outputs = [("out".to_owned(), store.ingest(&path).unwrap())].into();
    let entry = Entry {
        outputs,
        empty_folders: BTreeSet::new(),
        seconds: 1.5,
        peak_memory: None,
        finished: 7,
        host: "here".into(),
        program: None,
    };
    store.publish(key, &entry).unwrap();
    (key, entry)
}

/// Replaces an object's bytes as an editor would.
pub(super) fn overwrite(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}
