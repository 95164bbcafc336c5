//! The contract between the engine and its stage kinds.
//!
//! A kind implements [`Stage`] with a typed parameter struct; the engine uses it as a [`Kind`]. The
//! engine knows no kind by name: the caller passes a list of kinds. A stage reads its inputs and
//! parameters and writes its declared outputs to its workspace. The outputs must not depend on
//! anything else, such as the clock, the host, the environment or the order of inputs.

pub mod pairing;
mod upstream;

use crate::engine::key::{Artifact, Params, Recipe, Seed};
use crate::engine::located::{ValueError, YamlNode, read};
pub use crate::engine::located::{Verbatim, suggest};
pub use crate::engine::provenance::{Commit, Environment, NodeProvenance, Provenance, Record};
pub use crate::engine::resources::{Memory, Resources, TimeLimit};
use anyhow::{Result, anyhow};
use pairing::Moves;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::num::NonZero;
use std::path::{Path, PathBuf};
pub use upstream::{NamedInput, RenamedInput, StageOutline, Upstream};

/// A named input of a stage kind.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The field's name in pipeline.yaml.
    pub name: &'static str,
    /// The number of nodes that may fill it.
    pub arity: Arity,
    /// The outputs that the stage uses of each node in the slot, as declared by the kind of that
    /// node. A node whose kind lacks one of them cannot fill the slot. [`ALL`] stands for all
    /// outputs.
    pub files: &'static [&'static str],
}

/// Every file of an artifact.
pub const ALL: &[&str] = &["*"];

/// The slot of the project's files that a stage declares.
pub const FILES: &str = "files";

/// The parameter for the root of a node's upstream, for kinds with [`Stage::EMBEDS_ROOT`].
pub const ROOT: &str = "root";

/// The parameter for the [`Upstream`] of a node, for kinds with [`Stage::EMBEDS_ROOT`].
pub const UPSTREAM: &str = "upstream";

/// The parameters that the engine passes to kinds with [`Stage::EMBEDS_ROOT`]. They depend on the
/// inputs.
pub const EMBEDDED: [&str; 2] = [ROOT, UPSTREAM];

/// Fields that are never part of a recipe, even if they differ from their default.
pub const IN_NO_KEY: [&str; 6] = ["files", "ignore", "memory", "retries", "threads", "time-limit"];

/// The suffix, in a recipe, of the name of an open slot that gathers many nodes. It distinguishes a
/// list of one artifact from a single artifact.
pub const GATHERED: &str = "[]";

/// The number of nodes that may fill a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Exactly one.
    One,
    /// One or none.
    Optional,
    /// A set of one or more nodes, without an order.
    Many,
    /// A set of nodes, without an order, which may be empty.
    Any,
}

impl Arity {
    /// Whether several nodes may fill the slot. Their axes are not inherited.
    pub fn gathers(self) -> bool {
        matches!(self, Arity::Many | Arity::Any)
    }

    /// Whether the slot may be empty.
    pub fn may_be_empty(self) -> bool {
        matches!(self, Arity::Optional | Arity::Any)
    }
}

/// Whether `file` is the declared output, or a file in the declared folder.
pub fn belongs(file: &str, declared: &str) -> bool {
    match declared {
        "*" => true,
        folder if folder.ends_with('/') => file.starts_with(folder),
        declared => file == declared,
    }
}

/// A file or folder of the project that a stage reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Declared {
    /// Path, relative to the project's folder or absolute.
    pub path: String,
    /// Whether the names in the artifact contain this path. Otherwise, a file has its last
    /// component as its name, and a file in a folder its path below the folder, so that the key
    /// does not depend on the path.
    pub by_path: bool,
    /// Patterns of files to ignore in a folder; `None` for the default patterns.
    pub ignore: Option<Vec<String>>,
}

/// Describes the first byte in which two versions of a file of any format differ.
pub fn first_byte(cached: &[u8], recomputed: &[u8]) -> String {
    let at = cached.iter().zip(recomputed).take_while(|(a, b)| a == b).count();
    let byte =
        |bytes: &[u8]| bytes.get(at).map_or("none".to_owned(), |byte| format!("0x{byte:02x}"));
    format!("byte {at}: cached {}, recomputed {}", byte(cached), byte(recomputed))
}

/// The changes between two versions of a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Changes {
    /// Changed cells of rows that are paired, in the order of the second version.
    pub cells: Vec<CellChange>,
    /// Number of rows that are only in the second.
    pub added: usize,
    /// Number of rows that are only in the first.
    pub removed: usize,
    /// Columns that are only in one of them.
    pub columns: Vec<String>,
    /// The key values that replaced others, across which rows are paired.
    pub moves: Moves,
    /// Whether the table has a column with intervals of another.
    pub has_intervals: bool,
}

/// A changed cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellChange {
    /// The key of the row, such as `hidden=50, prior=none`.
    pub row: String,
    /// The column.
    pub column: String,
    /// The old value.
    pub before: String,
    /// The new value.
    pub after: String,
    /// What the column contains.
    pub role: Role,
    /// The intervals of the old and of the new value: low and high.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intervals: Option<[[f64; 2]; 2]>,
}

/// What a column contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A result.
    #[default]
    Value,
    /// A bound of a value in the same row that has changed too, such as an end of its interval.
    Bound,
    /// A description of the row that is no result, such as the number of epochs.
    Attribute,
}

/// A stage kind, as its author implements it.
pub trait Stage: 'static {
    /// The name of the kind in pipeline.yaml.
    const NAME: &'static str;
    /// Part of the key. Must be raised when the same recipe produces different bytes.
    const VERSION: u32;
    /// The inputs.
    const SLOTS: &'static [Slot];
    /// The files that every run writes. A name that ends in a slash is a folder, which may be
    /// empty.
    const OUTPUTS: &'static [&'static str];
    /// Whether the outputs are also exported to `reports/`.
    const EXPORTS: bool = false;
    /// Whether the threads of a job synchronise often, so that more threads than cores slow it
    /// down.
    const SYNCHRONOUS_THREADS: bool = false;
    /// Whether child processes do the work. The worker process keeps no state of such a job and can
    /// run the next one.
    const SPAWNS: bool = false;
    /// Whether the outputs contain the root of everything upstream. The engine passes the root to
    /// such a kind as the parameter [`ROOT`], and a description of the stages as the parameter
    /// [`UPSTREAM`]. Its own outputs are not part of any root.
    const EMBEDS_ROOT: bool = false;
    /// The outputs that are exported with their provenance ([`Stage::annotate`]).
    const ANNOTATED: &'static [&'static str] = &[];
    /// Whether a stage can declare slots under `inputs` and parameters under `params`.
    const OPEN: bool = false;
    /// Fields in which a list is one value, not a grid axis.
    const LISTS: &'static [&'static str] = &[];
    /// Two slots whose nodes the stage joins. Two nodes of one stage must be different, and agree
    /// in all axes but one.
    const ENDS: Option<[&'static str; 2]> = None;
    /// Whether the kind is useful in any pipeline, not only in the study of this program.
    const GENERAL_PURPOSE: bool = false;

    /// The parameters. A field at its default is not part of the key.
    type Params: Serialize + DeserializeOwned + JsonSchema;

    /// Checks combinations of parameters. The type of each field has already checked its value.
    fn check(_params: &Self::Params) -> Result<(), Hinted> {
        Ok(())
    }

    /// Checks the parameters together with the names of the `filled` slots, which are those of the
    /// kind itself.
    fn check_slots(_params: &Self::Params, _filled: &[&str]) -> Result<(), Hinted> {
        Ok(())
    }

    /// The label of the random streams, if the stage draws random numbers. Two nodes of one kind
    /// draw the same numbers if and only if their labels are equal, which allows paired
    /// comparisons.
    fn label(_params: &Self::Params) -> Option<String> {
        None
    }

    /// The outputs for these parameters, in the form of [`Stage::OUTPUTS`]; `None` if they depend
    /// on the files that the stage reads.
    fn outputs(_params: &Self::Params) -> Option<Vec<String>> {
        Some(Self::OUTPUTS.iter().map(|output| (*output).to_owned()).collect())
    }

    /// The version for these parameters in a key: [`Stage::VERSION`], or an earlier version if
    /// later ones changed only the bytes of other parameters.
    fn version(_params: &Self::Params) -> u32 {
        Self::VERSION
    }

    /// The files of the project that the stage reads.
    fn files(_params: &Self::Params) -> Vec<Declared> {
        Vec::new()
    }

    /// The resources of a job.
    fn resources(_params: &Self::Params) -> Resources {
        Resources::default()
    }

    /// The parameters to use instead if a run fails with [`Unavailable`].
    fn fallback(_params: &Self::Params) -> Option<Self::Params> {
        None
    }

    /// The parameters in the key. They differ from `params` where a field cannot change the
    /// outputs, or where the outputs state how the run was invoked.
    fn key_params(params: Self::Params, _invocation: &Invocation) -> Self::Params {
        params
    }

    /// What the stage computes with these parameters, such as the formula of a method: whole
    /// sentences, for people.
    fn explain(_params: &Self::Params) -> Vec<String> {
        Vec::new()
    }

    /// Describes the first difference between two versions of the output `file`.
    fn difference(_file: &str, cached: &[u8], recomputed: &[u8]) -> String {
        first_byte(cached, recomputed)
    }

    /// The changes between two versions of the output `file`, if it is a table. `known` are the
    /// values that replaced others according to the parameters of the two runs.
    fn changes(_file: &str, _before: &[u8], _after: &[u8], _known: &Moves) -> Option<Changes> {
        None
    }

    /// The output `file`, one of [`Stage::ANNOTATED`], with provenance in it; `None` if it has no
    /// place for provenance.
    fn annotate(_file: &str, _bytes: &[u8], _provenance: &Provenance) -> Option<Vec<u8>> {
        None
    }

    /// The inverse of [`Stage::annotate`]; `None` if the file has no place for provenance.
    fn plain(_file: &str, _bytes: &[u8]) -> Option<Vec<u8>> {
        None
    }

    /// Runs the stage.
    fn run(params: Self::Params, cx: &Context) -> Result<()>;
}

/// The profile and overrides of a command, for stages whose outputs state them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invocation {
    /// The name of the profile.
    pub profile: Option<String>,
    /// The arguments of `-S`.
    pub overrides: Vec<String>,
}

/// The result cannot be computed now (no folder, no mirror); the recipe is valid.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Unavailable {
    /// One sentence.
    pub cause: String,
    /// The hint.
    pub hint: String,
}

/// An error with a hint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Hinted {
    /// One sentence.
    pub cause: String,
    /// The hint.
    pub hint: String,
}

impl Hinted {
    /// An error with this cause and hint.
    pub fn new(cause: impl Into<String>, hint: impl Into<String>) -> Hinted {
        Hinted { cause: cause.into(), hint: hint.into() }
    }
}

/// The inputs, outputs and settings of a running stage.
pub struct Context {
    recipe: Recipe,
    inputs: BTreeMap<String, Vec<Input>>,
    outputs: PathBuf,
    scratch: PathBuf,
    threads: NonZero<usize>,
    project: Option<PathBuf>,
}

/// One artifact that fills a slot.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its files and empty folders.
    pub artifact: Artifact,
    paths: BTreeMap<String, PathBuf>,
}

impl Input {
    /// An artifact whose files are at `paths`.
    pub fn new(artifact: Artifact, paths: BTreeMap<String, PathBuf>) -> Input {
        Input { artifact, paths }
    }

    /// The path of `file`, which must only be read.
    pub fn path(&self, file: &str) -> Result<&Path> {
        self.paths
            .get(file)
            .map(PathBuf::as_path)
            .ok_or_else(|| anyhow!("BUG: the input has no file `{file}`"))
    }
}

impl Context {
    /// The context of `recipe`. `outputs` and `scratch` are empty folders on one disk.
    pub fn new(
        recipe: Recipe,
        inputs: BTreeMap<String, Vec<Input>>,
        [outputs, scratch]: [PathBuf; 2],
        threads: NonZero<usize>,
    ) -> Context {
        Context { recipe, inputs, outputs, scratch, threads, project: None }
    }

    /// Sets the project's folder.
    #[must_use]
    pub fn of_project(self, folder: Option<&Path>) -> Context {
        Context { project: folder.map(Path::to_owned), ..self }
    }

    /// The absolute path of the project's folder, if known. Outputs must not depend on it.
    pub fn project(&self) -> Option<&Path> {
        self.project.as_deref()
    }

    /// The recipe of the job.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The artifact in a slot for one node.
    pub fn input(&self, slot: &str) -> Result<&Input> {
        self.inputs(slot).first().ok_or_else(|| anyhow!("BUG: nothing fills the slot `{slot}`"))
    }

    /// All artifacts in a slot. Their order has no meaning.
    pub fn inputs(&self, slot: &str) -> &[Input] {
        self.inputs.get(slot).map_or(&[], Vec::as_slice)
    }

    /// The path at which to write the output `file`.
    pub fn output(&self, file: &str) -> PathBuf {
        self.outputs.join(file)
    }

    /// The absolute path of a folder for temporary files, which is removed after the job.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// The number of threads to use. Outputs must not depend on it.
    pub fn threads(&self) -> NonZero<usize> {
        self.threads
    }

    /// The seed and label of the random streams.
    pub fn seed(&self) -> Result<&Seed> {
        self.recipe.seed.as_ref().ok_or_else(|| anyhow!("BUG: the stage draws but has no label"))
    }
}

/// A stage kind, as the engine sees it.
pub trait Kind: Sync {
    /// See [`Stage::NAME`].
    fn name(&self) -> &'static str;
    /// See [`Stage::VERSION`].
    fn version(&self) -> u32;
    /// See [`Stage::version`]; an error if the parameters are not of this kind.
    fn version_of(&self, params: &Params) -> Result<u32>;
    /// See [`Stage::SLOTS`].
    fn slots(&self) -> &'static [Slot];
    /// See [`Stage::OUTPUTS`].
    fn outputs(&self) -> &'static [&'static str];
    /// See [`Stage::EXPORTS`].
    fn exports(&self) -> bool;
    /// See [`Stage::SYNCHRONOUS_THREADS`].
    fn synchronous_threads(&self) -> bool;
    /// See [`Stage::SPAWNS`].
    fn spawns(&self) -> bool;
    /// See [`Stage::EMBEDS_ROOT`].
    fn embeds_root(&self) -> bool;
    /// See [`Stage::OPEN`].
    fn is_open(&self) -> bool;
    /// See [`Stage::LISTS`].
    fn lists(&self) -> &'static [&'static str];
    /// See [`Stage::ENDS`].
    fn ends(&self) -> Option<[&'static str; 2]>;
    /// See [`Stage::GENERAL_PURPOSE`].
    fn is_general_purpose(&self) -> bool;
    /// See [`Stage::outputs`].
    fn outputs_for(&self, params: &Params) -> Result<Option<Vec<String>>>;
    /// See [`Stage::check_slots`]; `fields` are those of a stage other than its slots.
    fn check_slots(&self, fields: &YamlNode, filled: &[&str]) -> Result<(), ValueError>;
    /// Reads, checks and canonicalises the fields of a stage other than its slots.
    fn resolve(
        &self,
        fields: &YamlNode,
        invocation: &Invocation,
    ) -> Result<ResolvedStage, ValueError>;
    /// The JSON Schema of the parameters: single values, without grids.
    fn schema(&self) -> Json;
    /// See [`Stage::explain`]; an error if the parameters are not of this kind.
    fn explain(&self, params: &Params) -> Result<Vec<String>>;
    /// See [`Stage::difference`].
    fn difference(&self, file: &str, cached: &[u8], recomputed: &[u8]) -> String;
    /// See [`Stage::changes`].
    fn changes(&self, file: &str, before: &[u8], after: &[u8], known: &Moves) -> Option<Changes>;
    /// See [`Stage::ANNOTATED`].
    fn annotated(&self) -> &'static [&'static str];
    /// See [`Stage::annotate`].
    fn annotate(&self, file: &str, bytes: &[u8], provenance: &Provenance) -> Option<Vec<u8>>;
    /// See [`Stage::plain`].
    fn plain(&self, file: &str, bytes: &[u8]) -> Option<Vec<u8>>;
    /// Runs the stage.
    fn run(&self, cx: &Context) -> Result<()>;
}

/// The parameters of one node, and everything that follows from them.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedStage {
    /// See [`Stage::version`].
    pub version: u32,
    /// Canonical parameters, without those at their default.
    pub params: Params,
    /// All parameters, for selecting nodes by value.
    pub full: Params,
    /// See [`Stage::label`].
    pub label: Option<String>,
    /// See [`Stage::fallback`].
    pub fallback: Option<Params>,
    /// [`Stage::label`] of the fallback, which can differ from that of the recipe.
    pub fallback_label: Option<String>,
    /// See [`Stage::files`].
    pub files: Vec<Declared>,
    /// See [`Stage::resources`].
    pub resources: Resources,
}

/// Implements [`Kind`] for a [`Stage`].
pub struct KindOf<S>(PhantomData<fn() -> S>);

impl<S: Stage> KindOf<S> {
    /// The kind.
    pub const KIND: KindOf<S> = KindOf(PhantomData);

    fn params(params: &Params) -> Result<S::Params> {
        let json = Json::Object(params.clone().into_iter().collect());
        serde_json::from_value(json)
            .map_err(|e| anyhow!("the recipe's parameters do not fit `{}`: {e}", S::NAME))
    }
}

/// The error of a check that concerns several fields.
fn at_stage(Hinted { cause, hint }: Hinted) -> ValueError {
    ValueError::at(None, cause, Some(hint))
}

impl<S: Stage> Kind for KindOf<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn version(&self) -> u32 {
        S::VERSION
    }

    fn version_of(&self, params: &Params) -> Result<u32> {
        Ok(S::version(&Self::params(params)?))
    }

    fn slots(&self) -> &'static [Slot] {
        S::SLOTS
    }

    fn outputs(&self) -> &'static [&'static str] {
        S::OUTPUTS
    }

    fn exports(&self) -> bool {
        S::EXPORTS
    }

    fn synchronous_threads(&self) -> bool {
        S::SYNCHRONOUS_THREADS
    }

    fn spawns(&self) -> bool {
        S::SPAWNS
    }

    fn embeds_root(&self) -> bool {
        S::EMBEDS_ROOT
    }

    fn is_open(&self) -> bool {
        S::OPEN
    }

    fn lists(&self) -> &'static [&'static str] {
        S::LISTS
    }

    fn ends(&self) -> Option<[&'static str; 2]> {
        S::ENDS
    }

    fn is_general_purpose(&self) -> bool {
        S::GENERAL_PURPOSE
    }

    fn outputs_for(&self, params: &Params) -> Result<Option<Vec<String>>> {
        Ok(S::outputs(&Self::params(params)?))
    }

    fn check_slots(&self, fields: &YamlNode, filled: &[&str]) -> Result<(), ValueError> {
        S::check_slots(&read(fields)?, filled).map_err(at_stage)
    }

    fn resolve(
        &self,
        fields: &YamlNode,
        invocation: &Invocation,
    ) -> Result<ResolvedStage, ValueError> {
        let params: S::Params = read(fields)?;
        S::check(&params).map_err(at_stage)?;
        let version = S::version(&params);
        let (label, fallback) = (S::label(&params), S::fallback(&params));
        let fallback_label = fallback.as_ref().and_then(S::label);
        let (files, resources) = (S::files(&params), S::resources(&params));
        let full = to_map(&S::key_params(params, invocation))?;
        let fallback = fallback
            .map(|f| {
                to_map(&S::key_params(f, invocation)).map(|f| without_defaults::<S>(&f, fields))
            })
            .transpose()?;
        Ok(ResolvedStage {
            version,
            params: without_defaults::<S>(&full, fields),
            full,
            label,
            fallback,
            fallback_label,
            files,
            resources,
        })
    }

    fn schema(&self) -> Json {
        // Removes formats such as `uint32`, which validators may not know.
        let plain = RecursiveTransform(|schema: &mut Schema| _ = schema.remove("format"));
        let settings =
            SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let settings = settings.with_transform(plain);
        settings.into_generator().into_root_schema_for::<S::Params>().to_value()
    }

    fn explain(&self, params: &Params) -> Result<Vec<String>> {
        Ok(S::explain(&Self::params(params)?))
    }

    fn difference(&self, file: &str, cached: &[u8], recomputed: &[u8]) -> String {
        S::difference(file, cached, recomputed)
    }

    fn changes(&self, file: &str, before: &[u8], after: &[u8], known: &Moves) -> Option<Changes> {
        S::changes(file, before, after, known)
    }

    fn annotated(&self) -> &'static [&'static str] {
        S::ANNOTATED
    }

    fn annotate(&self, file: &str, bytes: &[u8], provenance: &Provenance) -> Option<Vec<u8>> {
        S::annotate(file, bytes, provenance)
    }

    fn plain(&self, file: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        S::plain(file, bytes)
    }

    fn run(&self, cx: &Context) -> Result<()> {
        S::run(Self::params(&cx.recipe().params)?, cx)
    }
}

fn to_map(params: &impl Serialize) -> Result<Params, ValueError> {
    match serde_json::to_value(params) {
        Ok(Json::Object(map)) => Ok(map.into_iter().collect()),
        Ok(other) => Err(ValueError::new(format!("BUG: parameters are `{other}`, not a mapping"))),
        Err(error) => Err(ValueError::new(error.to_string())),
    }
}

/// Removes the fields that are at their default: without them, the parameters are the same.
fn without_defaults<S: Stage>(full: &Params, fields: &YamlNode) -> Params {
    // Called several times for each node, so it avoids clones.
    let means_the_same = |kept: &[&str]| {
        let params = kept.iter().map(|name| (*name, &full[*name]));
        let reread = S::Params::deserialize(MapDeserializer::<_, serde_json::Error>::new(params));
        let Ok(Json::Object(reread)) = reread.and_then(serde_json::to_value) else { return false };
        reread.len() == full.len()
            && reread.iter().all(|(name, value)| full.get(name).is_some_and(|x| same(x, value)))
    };
    let is_written = |name: &str| {
        fields.as_map().is_some_and(|fields| fields.iter().any(|field| field.key == name))
    };
    let all: Vec<&str> = full.keys().map(String::as_str).collect();
    // A field that is not in the file is at its default unless the stage has changed it. One
    // comparison detects this for all such fields.
    let written: Vec<&str> = all.iter().copied().filter(|name| is_written(name)).collect();
    let mut kept = if means_the_same(&written) { written } else { all };
    for name in kept.clone() {
        let shorter: Vec<&str> = kept.iter().copied().filter(|other| *other != name).collect();
        if means_the_same(&shorter) {
            kept = shorter;
        }
    }
    kept.into_iter().map(|name| (name.to_owned(), full[name].clone())).collect()
}

/// Whether two values have the same JSON text: -0.0 is not 0.0.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(x), Json::Number(y)) => {
            x == y && (x.as_f64() != Some(0.0) || x.to_string() == y.to_string())
        }
        (Json::Array(x), Json::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        (Json::Object(x), Json::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(name, x)| y.get(name).is_some_and(|y| same(x, y)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{Source, SourceParams};
    use proptest::prelude::*;
    use serde_json::json;

    const SOURCE: KindOf<Source> = KindOf::KIND;

    fn resolve(fields: &Json) -> Result<ResolvedStage, ValueError> {
        // JSON is YAML.
        SOURCE.resolve(&YamlNode::parse(&fields.to_string()).unwrap(), &Invocation::default())
    }

    fn reread(params: &Params) -> Option<Params> {
        KindOf::<Source>::params(params).ok().and_then(|p: SourceParams| to_map(&p).ok())
    }

    #[test]
    fn parameters_at_their_default_are_not_in_the_key_and_all_are_selectable() {
        let resolved =
            resolve(&json!({"text": "x", "width": 1, "end": "b", "style": {"framed": {"by": 2}}}))
                .unwrap();
        let key = json!({"text": "x", "end": "b", "style": {"framed": {"by": 2, "round": false}}});
        assert_eq!(json!(resolved.params), key);
        assert_eq!(resolved.full["width"], json!(1));
        assert_eq!(resolved.full["ratio"], json!(0.0));
    }

    #[test]
    fn a_zero_keeps_its_sign() {
        assert_eq!(
            json!(resolve(&json!({"text": "x", "ratio": -0.0})).unwrap().params).to_string(),
            r#"{"ratio":-0.0,"text":"x"}"#
        );
        assert_eq!(
            json!(resolve(&json!({"text": "x", "ratio": 0})).unwrap().params),
            json!({"text": "x"})
        );
    }

    #[test]
    fn a_parameter_without_a_default_is_always_in_the_key() {
        assert_eq!(json!(resolve(&json!({"text": ""})).unwrap().params), json!({"text": ""}));
    }

    #[test]
    fn parameters_that_do_not_change_the_output_are_not_in_the_key() {
        let resolved = resolve(&json!({"text": "x", "width": 3, "otherwise": "v"})).unwrap();
        assert_eq!(json!(resolved.params), json!({"text": "x", "width": 3}));
        assert_eq!(json!(resolved.fallback), json!({"text": "v", "width": 3}));
        assert_eq!(resolve(&json!({"text": "x"})).unwrap().fallback, None);
    }

    #[test]
    fn only_kinds_that_draw_random_numbers_have_a_label() {
        assert_eq!(
            resolve(&json!({"text": "drawn", "width": 2})).unwrap().label.as_deref(),
            Some("width=2")
        );
        assert_eq!(resolve(&json!({"text": "x"})).unwrap().label, None);
    }

    #[test]
    fn a_recipe_with_unknown_parameters_fails_when_run() {
        let inputs = BTreeMap::new();
        let params = [("txet".to_owned(), json!("x"))].into();
        let recipe = Recipe {
            kind: "source".into(),
            version: 1,
            params,
            inputs: BTreeMap::new(),
            seed: None,
        };
        let error = SOURCE
            .run(&Context::new(
                recipe,
                inputs,
                ["/nowhere", "/nowhere/else"].map(PathBuf::from),
                NonZero::<usize>::MIN,
            ))
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the recipe's parameters do not fit `source`: unknown field `txet`")
        );
    }

    #[test]
    fn a_declared_folder_contains_the_files_below_it_and_a_file_only_itself() {
        assert!(belongs("figures/", "figures/") && !belongs("figures/", "figures"));
        assert!(belongs("figures/a.svg", "figures/") && belongs("a.csv", "a.csv"));
        assert!(
            !belongs("figures", "figures/")
                && !belongs("a.csv.bak", "a.csv")
                && !belongs("a.csv/b", "a.csv")
        );
    }

    /// Optional fields; one value of each is its default.
    fn fields() -> impl Strategy<Value = BTreeMap<&'static str, Json>> {
        let framed = |round: Json| json!({"framed": {"by": 2, "round": round}});
        let choices = [
            ("width", vec![json!(1), json!(2)]),
            ("end", vec![json!("a"), json!("b")]),
            (
                "style",
                vec![
                    json!("plain"),
                    framed(json!(false)),
                    framed(json!(true)),
                    json!({"framed": {"by": 2}}),
                ],
            ),
            ("ratio", vec![json!(0.0), json!(0), json!(0.5), json!(1e-9)]),
            ("note", vec![json!(null), json!(""), json!("n")]),
        ];
        let field = |(name, values): (&'static str, Vec<Json>)| {
            prop::option::of(prop::sample::select(values))
                .prop_map(move |value| value.map(|value| (name, value)))
        };
        let given: Vec<_> = choices.into_iter().map(field).collect();
        (given, "[a-z]{0,3}").prop_map(|(given, text)| {
            given.into_iter().flatten().chain([("text", json!(text))]).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn a_field_is_left_out_if_and_only_if_the_meaning_stays(fields in fields()) {
            let resolved = resolve(&json!(fields)).unwrap();
            let full = Some(resolved.full);
            prop_assert_eq!(&reread(&resolved.params), &full, "the meaning stays");
            for name in resolved.params.keys() {
                let mut shorter = resolved.params.clone();
                shorter.remove(name);
                prop_assert_ne!(&reread(&shorter), &full, "`{}` could be left out", name);
            }
        }

        #[test]
        fn the_key_depends_on_the_meaning_and_not_on_the_spelling(
            one in fields(), other in fields(),
        ) {
            let (one, other) = (resolve(&json!(one)).unwrap(), resolve(&json!(other)).unwrap());
            prop_assert_eq!(one.params == other.params, one.full == other.full);
            let full = resolve(&json!(one.full)).unwrap();
            prop_assert_eq!(full.params, one.params, "written out in full");
        }
    }
}
