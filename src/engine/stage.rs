//! The contract between the engine and its stage kinds.
//!
//! A kind is written against [`Stage`], with a typed parameter struct; the engine sees it as a [`Kind`]. The engine knows
//! no kind by name: the caller hands it a list. A stage reads its inputs and parameters, writes its declared outputs into
//! its workspace, and must depend on nothing else: not the clock, the host, the environment or the order of inputs.

use super::key::{Artifact, Params, Recipe, Seed};
use super::value::{Misfit, Node, read};
use anyhow::{Result, anyhow};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// A place for inputs.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The field's name in pipeline.yaml.
    pub name: &'static str,
    /// How many nodes may fill it.
    pub arity: Arity,
    /// The outputs it takes from each, as declared there; a kind that lacks one of them cannot fill it.
    pub files: &'static [&'static str],
}

/// How many nodes a slot takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Exactly one.
    One,
    /// One or none.
    Optional,
    /// A set of one or more; their order means nothing.
    Many,
}

/// Whether `file` is the output called `declared`, or in it.
pub fn belongs(file: &str, declared: &str) -> bool {
    if declared.ends_with('/') { file.starts_with(declared) } else { file == declared }
}

/// A stage kind, as its author writes it.
pub trait Stage: 'static {
    /// Its name in pipeline.yaml.
    const NAME: &'static str;
    /// Raised whenever the same recipe would give other bytes.
    const VERSION: u32;
    /// Its inputs.
    const SLOTS: &'static [Slot];
    /// The files it writes, all of them, always; with a slash at its end, a folder with one file or more.
    const OUTPUTS: &'static [&'static str];
    /// Whether its outputs are also laid out for people, under `reports/<profile>/`.
    const DELIVERS: bool = false;

    /// Its parameters. Fields that have a default are left out of the key while they are at it.
    type Params: Serialize + DeserializeOwned;

    /// Refuses parameters that do not go together; each field by itself has been checked by its type.
    fn check(_params: &Self::Params) -> Result<(), String> {
        Ok(())
    }

    /// The label of its random streams, if it draws any. Two nodes of one kind that must differ in everything random must
    /// differ here; two that should share their draws, for a paired comparison, must not.
    fn label(_params: &Self::Params) -> Option<String> {
        None
    }

    /// What to ask instead if the answer turns out [`Unavailable`].
    fn fallback(_params: &Self::Params) -> Option<Self::Params> {
        None
    }

    /// What goes into the key; differs from `params` where a field does not change the answer.
    fn question(params: Self::Params) -> Self::Params {
        params
    }

    /// Does the work.
    fn run(params: Self::Params, cx: &Context) -> Result<()>;
}

/// The answer cannot be had now (no folder, no mirror); nothing is wrong with the question.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Unavailable {
    /// One sentence.
    pub cause: String,
    /// What would help.
    pub hint: String,
}

/// What a running stage sees.
pub struct Context {
    recipe: Recipe,
    inputs: BTreeMap<String, Vec<Input>>,
    workspace: PathBuf,
}

/// One artifact that fills a slot.
#[derive(Clone, Debug)]
pub struct Input {
    /// Digests of its files.
    pub artifact: Artifact,
    paths: BTreeMap<String, PathBuf>,
}

impl Input {
    /// An artifact whose files lie at `paths`.
    pub fn new(artifact: Artifact, paths: BTreeMap<String, PathBuf>) -> Input {
        Input { artifact, paths }
    }

    /// Where its `file` lies, to be read only.
    pub fn path(&self, file: &str) -> Result<&Path> {
        self.paths.get(file).map(PathBuf::as_path).ok_or_else(|| anyhow!("BUG: the input has no file `{file}`"))
    }
}

impl Context {
    /// For `recipe`, with its inputs' files in place and `workspace` an empty folder.
    pub fn new(recipe: Recipe, inputs: BTreeMap<String, Vec<Input>>, workspace: PathBuf) -> Context {
        Context { recipe, inputs, workspace }
    }

    /// The recipe that is being answered.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The artifact in a slot that takes one.
    pub fn input(&self, slot: &str) -> Result<&Input> {
        self.inputs(slot).first().ok_or_else(|| anyhow!("BUG: nothing fills the slot `{slot}`"))
    }

    /// All artifacts in a slot, in no meaningful order.
    pub fn inputs(&self, slot: &str) -> &[Input] {
        self.inputs.get(slot).map_or(&[], Vec::as_slice)
    }

    /// Where to write the output `file`.
    pub fn output(&self, file: &str) -> PathBuf {
        self.workspace.join(file)
    }

    /// Seed and label of this node's random streams.
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
    /// See [`Stage::SLOTS`].
    fn slots(&self) -> &'static [Slot];
    /// See [`Stage::OUTPUTS`].
    fn outputs(&self) -> &'static [&'static str];
    /// See [`Stage::DELIVERS`].
    fn delivers(&self) -> bool;
    /// Reads, checks and canonicalises the fields of a stage that are not slots.
    fn resolve(&self, fields: &Node) -> Result<Question, Misfit>;
    /// Does the work.
    fn run(&self, cx: &Context) -> Result<()>;
}

/// A kind's parameters for one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Canonical: those at their default are left out.
    pub params: Params,
    /// All of them, for selecting nodes by value.
    pub full: Params,
    /// See [`Stage::label`].
    pub label: Option<String>,
    /// See [`Stage::fallback`].
    pub fallback: Option<Params>,
}

/// Makes a [`Kind`] of a [`Stage`].
pub struct KindOf<S>(PhantomData<fn() -> S>);

impl<S: Stage> KindOf<S> {
    /// The kind.
    pub const KIND: KindOf<S> = KindOf(PhantomData);

    fn params(params: &Params) -> Result<S::Params> {
        let json = Json::Object(params.clone().into_iter().collect());
        serde_json::from_value(json).map_err(|e| anyhow!("the recipe's parameters do not fit `{}`: {e}", S::NAME))
    }
}

impl<S: Stage> Kind for KindOf<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn version(&self) -> u32 {
        S::VERSION
    }

    fn slots(&self) -> &'static [Slot] {
        S::SLOTS
    }

    fn outputs(&self) -> &'static [&'static str] {
        S::OUTPUTS
    }

    fn delivers(&self) -> bool {
        S::DELIVERS
    }

    fn resolve(&self, fields: &Node) -> Result<Question, Misfit> {
        let params: S::Params = read(fields)?;
        S::check(&params).map_err(Misfit::new)?;
        let (label, fallback) = (S::label(&params), S::fallback(&params));
        let full = to_map(&S::question(params))?;
        let fallback = fallback.map(|f| to_map(&S::question(f)).map(|f| without_defaults::<S>(&f))).transpose()?;
        Ok(Question { params: without_defaults::<S>(&full), full, label, fallback })
    }

    fn run(&self, cx: &Context) -> Result<()> {
        S::run(Self::params(&cx.recipe().params)?, cx)
    }
}

fn to_map(params: &impl Serialize) -> Result<Params, Misfit> {
    match serde_json::to_value(params) {
        Ok(Json::Object(map)) => Ok(map.into_iter().collect()),
        Ok(other) => Err(Misfit::new(format!("BUG: parameters are `{other}`, not a mapping"))),
        Err(error) => Err(Misfit::new(error.to_string())),
    }
}

/// Leaves out each field whose absence means the same: that is the definition of being at its default.
fn without_defaults<S: Stage>(full: &Params) -> Params {
    let mut kept = full.clone();
    for name in full.keys() {
        let mut shorter = kept.clone();
        shorter.remove(name);
        let reread = KindOf::<S>::params(&shorter).ok().and_then(|p| to_map(&p).ok());
        if reread.as_ref() == Some(full) {
            kept = shorter;
        }
    }
    kept
}
