//! Shell completion of commands, options, targets and profiles.
//!
//! At each Tab, the shell runs this program with [`VARIABLE`] set. The program reads the pipeline
//! file, takes no lock and writes nothing. If the pipeline file is invalid, it completes no names.

use super::Cli;
use crate::engine::spec::pipeline::Pipeline;
use crate::engine::spec::plan::Plan;
use crate::{fs, stage};
use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::CompleteEnv;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;

/// The shell sets this variable to its name when it requests completions.
pub(in crate::cli) const VARIABLE: &str = "REPRO_COMPLETE";

/// The maximum number of names for one completion.
const MOST: usize = 1000;

/// Prints completions if a shell requests them. Returns whether one does.
pub(in crate::cli) fn complete() -> Result<bool> {
    let shell =
        CompleteEnv::with_factory(Cli::command).var(VARIABLE).bin("repro").completer("repro");
    let folder = std::env::current_dir().ok();
    shell.try_complete(std::env::args_os(), folder.as_deref()).context("cannot print completions")
}

/// Completes a target.
pub(super) fn targets() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        candidates(current, |given| given.names(&current.to_string_lossy()))
    })
}

/// Completes the name of a profile.
pub(super) fn profiles() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        candidates(current, |given| {
            let profiles = given.pipeline()?.profiles;
            Some(profiles.into_iter().map(|profile| profile.name).collect())
        })
    })
}

fn candidates(
    current: &OsStr,
    names: impl Fn(&Given) -> Option<Vec<String>>,
) -> Vec<CompletionCandidate> {
    let (current, all) = (current.to_string_lossy(), names(&Given::read()).unwrap_or_default());
    all.into_iter()
        .filter(|name| name.starts_with(&*current))
        .take(MOST)
        .map(CompletionCandidate::new)
        .collect()
}

/// The options on the line so far that select the pipeline.
#[derive(Default)]
struct Given {
    directory: PathBuf,
    pipeline: Option<PathBuf>,
    profile: Option<String>,
}

impl Given {
    fn read() -> Given {
        let mut given = Given::default();
        let mut words = std::env::args_os().skip_while(|word| word != "--");
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("-C" | "--directory") => {
                    given.directory = words.next().map(PathBuf::from).unwrap_or_default()
                }
                Some("--pipeline") => given.pipeline = words.next().map(PathBuf::from),
                Some("--profile") => {
                    given.profile = words.next().and_then(|name| name.into_string().ok())
                }
                _ => {}
            }
        }
        given
    }

    fn pipeline(&self) -> Option<Pipeline> {
        let path =
            self.directory.join(self.pipeline.as_deref().unwrap_or("pipeline.yaml".as_ref()));
        Pipeline::parse("pipeline.yaml", &fs::read_text(&path).ok()?).ok()
    }

    /// The stages; after an `@`, the nodes.
    fn names(&self, current: &str) -> Option<Vec<String>> {
        let mut pipeline = self.pipeline()?;
        pipeline.apply_profile(self.profile.as_deref()).ok()?;
        let plan = Plan::new(&pipeline, stage::KINDS).ok()?;
        let nodes = plan.ids().map(|id| plan.node(id));
        if current.contains('@') {
            return Some(nodes.map(|node| node.name.clone()).collect());
        }
        let stages: BTreeSet<String> = nodes
            .flat_map(|node| {
                let instances = (node.name != node.stage).then(|| format!("{}@", node.stage));
                instances.into_iter().chain([node.stage.clone()])
            })
            .collect();
        Some(stages.into_iter().collect())
    }
}
