//! Helpers for the engine's tests: small stage kinds, a fake executor that runs them in this
//! process, and a cache for each test.

use crate::engine::cache::entry::Entry;
use crate::engine::cache::store::Store;
use crate::engine::key::{Artifact, Key, Recipe};
use crate::engine::record::history;
use crate::engine::run::event::{Event, Observer, Summary};
use crate::engine::run::executor::{Capacity, Executor, Failure, Job, KillHandle, Outcome, Phase};
use crate::engine::run::expected::ExpectedResults;
use crate::engine::run::schedule::{self, Settings};
use crate::engine::run::status::{PlanStatus, StatusChecker};
use crate::engine::run::worker::{AlreadyRunning, ExecOptions};
use crate::engine::spec::pipeline::Pipeline;
use crate::engine::spec::plan::{NodeId, Plan};
use crate::engine::stage::{
    Arity, Context, Hinted, Invocation, Kind, KindOf, Resources, Slot, Stage, Unavailable,
};
use crate::fs;
use anyhow::{Result, bail};
use proptest::prelude::*;
use proptest::sample::select;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tempfile::TempDir;

/// All kinds for tests.
pub(super) const KINDS: &[&'static dyn Kind] =
    &[&KindOf::<Source>::KIND, &KindOf::<Pair>::KIND, &KindOf::<Gather>::KIND];

const TEXT: &str = "text";

/// Writes its text, or fails if the text is `fail`.
pub(super) struct Source;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceParams {
    /// The text to write.
    text: String,
    #[serde(default = "one")]
    width: u32,
    #[serde(default)]
    end: End,
    #[serde(default)]
    style: Style,
    #[serde(default)]
    ratio: f64,
    /// Part of the key, but not of the output.
    #[serde(default)]
    note: Option<String>,
    /// The text of the fallback, which is used if this text is unavailable.
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

    fn check(params: &SourceParams) -> Result<(), Hinted> {
        let zero = || Hinted::new("`width` must not be zero", "write a number above zero");
        if params.width == 0 { Err(zero()) } else { Ok(()) }
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
            bail!("the text is `fail`");
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
    /// Part of the key, but not of the output.
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

/// Sorts and joins any number of texts, and writes their number to a second file.
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

/// Two stages: `s` with two axes, and `p`, which joins the two ends of each width.
pub(super) const ENDS: &str = "
stages:
  s: { source: { text: x, width: [1, 2], end: [a, b] } }
  p: { pair: { left: s@end=a, right: s@end=b } }
";

/// The plan of a pipeline of these kinds.
pub(super) fn plan(yaml: &str) -> Result<Plan, crate::engine::error::Diagnostic> {
    Plan::new(&Pipeline::parse("test.yaml", yaml)?, KINDS)
}

/// The id of the node called `name`.
pub(super) fn id(plan: &Plan, name: &str) -> NodeId {
    plan.ids()
        .find(|id| plan.node(*id).name == name)
        .unwrap_or_else(|| panic!("there is no node `{name}`"))
}

/// The names of the nodes of a pipeline.
pub(super) fn names(yaml: &str) -> Vec<String> {
    plan(yaml).unwrap().nodes.into_iter().map(|node| node.name).collect()
}

/// The message and the hint for an invalid pipeline.
#[track_caller]
pub(super) fn refusal(yaml: &str) -> (String, Option<String>) {
    let diagnostic = plan(yaml).err().unwrap_or_else(|| panic!("accepted: {yaml}"));
    (diagnostic.to_string(), diagnostic.hint)
}

/// By slot, the names of the nodes in it.
pub(super) fn inputs<'a>(plan: &'a Plan, name: &str) -> Vec<(&'a str, Vec<&'a str>)> {
    let slots = plan.node(id(plan, name)).inputs.iter();
    let names = |ids: &[NodeId]| ids.iter().map(|id| plan.node(*id).name.as_str()).collect();
    slots.map(|(slot, ids)| (&**slot, names(ids))).collect()
}

/// Arbitrary JSON values, with finite numbers.
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

/// The end of a fake job.
#[derive(Clone, PartialEq)]
pub(super) enum Script {
    /// The job runs its stage.
    Runs,
    /// The job reports success without a result.
    NoResult,
    /// The process of the job is lost.
    Lost,
    /// The data that the job needs is unavailable.
    Unavailable,
    /// The job never ends.
    Hangs,
}

/// The outcome of a job; `None` while the job runs.
type EndJob<'a> = Box<dyn FnMut(&Job) -> Option<Outcome> + 'a>;

/// An executor without processes: at each poll, one of the running jobs may end.
pub(super) struct FakeExecutor<'a> {
    capacity: Capacity,
    end: EndJob<'a>,
    /// The index of the next job to end, given the number of running jobs.
    pub(super) pick: Box<dyn FnMut(usize) -> usize + 'a>,
    /// The keys of the jobs of a dead coordinator, which can be adopted.
    pub(super) left: Vec<Key>,
    /// Whether jobs are queued until a poll looks at them.
    pub(super) has_queue: bool,
    phases: Vec<(Key, Phase)>,
    /// The error of each submission.
    pub(super) error: Option<String>,
    running: Vec<Job>,
    /// The keys of each batch.
    pub(super) batches: Vec<Vec<Key>>,
    /// The number of threads of each job.
    pub(super) threads: Vec<usize>,
    pub(super) most_at_once: usize,
    pub(super) cancelled: Vec<Key>,
}

impl<'a> FakeExecutor<'a> {
    /// An executor whose jobs end with the outcomes that `end` returns, in the order of submission.
    pub(super) fn new(
        capacity: Capacity,
        end: impl FnMut(&Job) -> Option<Outcome> + 'a,
    ) -> FakeExecutor<'a> {
        FakeExecutor {
            capacity,
            end: Box::new(end),
            pick: Box::new(|_| 0),
            left: Vec::new(),
            has_queue: false,
            phases: Vec::new(),
            error: None,
            running: Vec::new(),
            batches: Vec::new(),
            threads: Vec::new(),
            most_at_once: 0,
            cancelled: Vec::new(),
        }
    }
}

impl Executor for FakeExecutor<'_> {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn adopt(&mut self, job: &Job) -> Result<bool> {
        let left = self.left.iter().position(|key| *key == job.key);
        if let Some(left) = left {
            self.left.remove(left);
            self.running.push(job.clone());
        }
        Ok(left.is_some())
    }

    fn submit(&mut self, jobs: Vec<Job>) -> Result<()> {
        if let Some(error) = self.error.take() {
            bail!(error);
        }
        self.batches.push(jobs.iter().map(|job| job.key).collect());
        self.threads.extend(jobs.iter().map(|job| job.threads.get()));
        self.running.extend(jobs);
        self.most_at_once = self.most_at_once.max(self.running.len());
        Ok(())
    }

    fn poll(&mut self, _: Duration) -> Result<Vec<(Key, Outcome)>> {
        let count = self.running.len();
        let picked = (self.pick)(count) % count.max(1);
        let started = self.running.get(picked).filter(|_| self.has_queue);
        self.phases.extend(started.map(|job| (job.key, Phase::Running)));
        let Some(outcome) = self.running.get(picked).and_then(|job| (self.end)(job)) else {
            return Ok(Vec::new());
        };
        Ok(vec![(self.running.remove(picked).key, outcome)])
    }

    fn has_queue(&self) -> bool {
        self.has_queue
    }

    fn phases(&mut self) -> Vec<(Key, Phase)> {
        std::mem::take(&mut self.phases)
    }

    fn cancel(&mut self, keys: &[Key]) {
        self.running.retain(|job| !keys.contains(&job.key));
        self.cancelled.extend(keys);
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }

    fn kill_handle(&self) -> KillHandle {
        Box::new(|| ())
    }
}

/// A job for a recipe of this kind, with one thread.
pub(super) fn job(kind: &str) -> Job {
    Job {
        key: recipe(kind).key(),
        kind: "",
        expected: None,
        log: PathBuf::new(),
        resources: Resources::default(),
        threads: NonZero::<usize>::MIN,
        force: false,
        shares_process: false,
    }
}

/// Runs a job in this process, as a worker does.
fn execute(store: &Store, job: &Job) -> Outcome {
    let failure = |cause: String| Failure { cause, hint: Some("try later".into()) };
    let options = ExecOptions {
        program: None,
        commit: None,
        threads: job.threads,
        force: job.force,
        sync_later: true,
        project: None,
    };
    let entry = store.workbench().and_then(|mut workbench| {
        crate::engine::run::worker::exec(store, KINDS, job.key, options, &mut workbench)
    });
    match entry {
        Ok(_) => Outcome::Exited,
        Err(error) if error.is::<AlreadyRunning>() => Outcome::AlreadyRunning,
        Err(error) => match error.downcast_ref::<Unavailable>() {
            Some(unavailable) => Outcome::Unavailable(failure(unavailable.cause.clone())),
            None => Outcome::Failed(failure(format!("{error:#}"))),
        },
    }
}

/// The outcome of a job with this script.
fn play(script: Script, store: &Store, job: &Job) -> Option<Outcome> {
    let failure = |cause: &str| Failure { cause: cause.into(), hint: Some("try later".into()) };
    Some(match script {
        Script::Runs => execute(store, job),
        Script::NoResult => Outcome::Exited,
        Script::Lost => Outcome::Failed(failure("the process was lost")),
        Script::Unavailable => Outcome::Unavailable(failure("no mirror responds")),
        Script::Hangs => return None,
    })
}

/// Records each event as a line.
#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn observe(&mut self, event: &Event) {
        self.0.push(match event {
            Event::Cached { node, .. } => format!("cached {node}"),
            Event::Queued { node, .. } => format!("queued {node}"),
            Event::Running { node, reasons, .. } => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                format!("running {node}: {}", reasons.join("; "))
            }
            Event::AlreadyRunning { node, .. } => format!("already running {node}"),
            Event::Retrying { node, attempt, .. } => format!("retrying {node}: {attempt}"),
            Event::Finished { node, .. } => format!("finished {node}"),
            Event::Failed { node, cause, .. } => format!("failed {node}: {cause}"),
            Event::Skipped { node, because } => format!("skipped {node}: {because}"),
            Event::FallbackUsed { node, fallback, cause } => {
                format!("fallback {node}: {fallback}, {cause}")
            }
            Event::RemoteNotice { message, .. } => format!("remote: {message}"),
            Event::Ended(summary) => {
                let Summary { nodes, cached, ran, failed, skipped, .. } = summary;
                format!(
                    "ended: {nodes} nodes, {cached} cached, {ran} ran, {failed} failed, \
                     {skipped} skipped"
                )
            }
            Event::Started { .. }
            | Event::Commit(_)
            | Event::LockMatched { .. }
            | Event::Exported { .. }
            | Event::Pulled { .. }
            | Event::Pushed { .. }
            | Event::Changed { .. } => return,
        });
    }
}

/// A folder with a cache, removed at the end of the test.
pub(super) struct TestSpace {
    dir: TempDir,
    pub(super) store: Store,
}

impl TestSpace {
    /// A space with an empty cache, on a disk in memory if there is one, where a sync is fast.
    pub(super) fn new() -> TestSpace {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
            .unwrap();
        let store = Store::at(&dir.path().join("cache"));
        store.prepare().unwrap();
        TestSpace { dir, store }
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A run of `yaml`, whose settings can be changed before it starts.
    pub(super) fn test_run<'a>(&'a self, yaml: &str) -> TestRun<'a> {
        TestRun {
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
            has_queue: false,
            left: Vec::new(),
            script: Box::new(|_| Script::Runs),
            pick: Box::new(|_| 0),
        }
    }

    /// Runs `yaml` with the default settings.
    pub(super) fn run(&self, yaml: &str) -> Ran {
        self.test_run(yaml).run()
    }
}

/// A run that has not started.
pub(super) struct TestRun<'a> {
    pub(super) store: &'a Store,
    pub(super) plan: Plan,
    pub(super) slots: usize,
    pub(super) targets: Vec<&'a str>,
    pub(super) forced: Vec<&'a str>,
    pub(super) refetch: bool,
    pub(super) keep_going: bool,
    pub(super) retries: u32,
    pub(super) interrupted: bool,
    pub(super) expected: Option<&'a dyn ExpectedResults>,
    /// See [`FakeExecutor::has_queue`].
    pub(super) has_queue: bool,
    /// See [`FakeExecutor::left`].
    pub(super) left: Vec<Key>,
    pub(super) script: Box<dyn Fn(&Recipe) -> Script + 'a>,
    /// See [`FakeExecutor::pick`].
    pub(super) pick: Box<dyn FnMut(usize) -> usize + 'a>,
}

impl TestRun<'_> {
    fn checker(&self) -> StatusChecker<'_> {
        let forced = self.forced.iter().map(|name| id(&self.plan, name)).collect();
        let past_keys = history::names;
        StatusChecker::new(&self.plan, self.store, forced, self.refetch, past_keys)
    }

    fn requested(&self) -> BTreeSet<NodeId> {
        self.plan.closure(&self.targets.iter().map(|name| id(&self.plan, name)).collect::<Vec<_>>())
    }

    /// The status of the requested nodes.
    pub(super) fn plan_status(&self) -> PlanStatus {
        self.checker().plan_status(&self.requested()).unwrap()
    }

    /// Starts the run and waits for its end.
    pub(super) fn run(mut self) -> Ran {
        let pick = std::mem::replace(&mut self.pick, Box::new(|_| 0));
        let left = std::mem::take(&mut self.left);
        let checker = self.checker();
        let plan_status = checker.plan_status(&self.requested()).unwrap();
        let mut notes = Notes::default();
        let capacity = Capacity { slots: self.slots, memory: u64::MAX };
        let end = |job: &Job| {
            let recipe = self.store.recipe(job.key).unwrap().expect("a job has a recipe");
            play((self.script)(&recipe), self.store, job)
        };
        let has_queue = self.has_queue;
        let mut executor =
            FakeExecutor { pick, left, has_queue, ..FakeExecutor::new(capacity, end) };
        let interrupted = AtomicBool::new(self.interrupted);
        let settings = Settings {
            keep_going: self.keep_going,
            retries: self.retries,
            interrupted: &interrupted,
            stream: false,
            expected: self.expected,
        };
        let (summary, outcome) = schedule::run(
            &self.plan,
            self.store,
            &checker,
            &plan_status,
            &mut executor,
            &settings,
            &mut notes,
        );
        let FakeExecutor { batches, threads, most_at_once, cancelled, .. } = executor;
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
            submitted: batches.concat(),
            threads,
            most_at_once,
            cancelled,
        }
    }
}

/// A run that has ended.
pub(super) struct Ran {
    store: Store,
    pub(super) outcome: Result<Summary>,
    /// The artifacts by node; empty if the run failed.
    pub(super) artifacts: BTreeMap<String, Artifact>,
    /// The events, one line each.
    pub(super) events: Vec<String>,
    pub(super) submitted: Vec<Key>,
    /// The number of threads of each submitted job.
    pub(super) threads: Vec<usize>,
    pub(super) most_at_once: usize,
    pub(super) cancelled: Vec<Key>,
}

impl Ran {
    /// The events that begin with `verb`, without the verb.
    pub(super) fn messages(&self, verb: &str) -> Vec<&str> {
        self.events.iter().filter_map(|line| line.strip_prefix(verb)?.strip_prefix(' ')).collect()
    }

    /// The nodes that finished, in order.
    pub(super) fn finished(&self) -> Vec<&str> {
        self.messages("finished")
    }

    /// The text that the node called `name` wrote.
    pub(super) fn text(&self, name: &str) -> String {
        let bytes = self.store.read_object(self.artifacts[name][TEXT].digest().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

/// A recipe without parameters and inputs.
pub(super) fn recipe(kind: &str) -> Recipe {
    let (params, inputs) = (BTreeMap::new(), BTreeMap::new());
    Recipe { kind: kind.into(), version: 1, params, inputs, seed: None }
}

/// Publishes a result with one file, as a job does.
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
        environment: None,
    };
    store.publish(key, &entry).unwrap();
    (key, entry)
}

/// Replaces an object's bytes, as an editor does.
pub(super) fn overwrite(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}
