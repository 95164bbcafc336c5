//! The command line: one short function per command. The only room that knows all others, and the only one that talks.

mod complete;
mod diff;
mod exec;
mod gc;
mod graph;
mod inspect;
mod interrupt;
mod lock;
mod log;
mod logs;
mod manual;
mod output;
mod plan;
mod recompute;
mod run;
mod unchanged;
mod verify;

use crate::engine::cache::store::Store;
use crate::engine::error::{Diagnostic, Error};
use crate::engine::key::{Digest, Key};
use crate::engine::run::executor::log::{ERROR, HINT};
use crate::engine::run::progress::Verbosity;
use crate::engine::run::status::{PlanStatus, StatusChecker};
use crate::engine::run::worker::ExecOptions;
use crate::engine::spec::pipeline::Pipeline;
use crate::engine::spec::plan::{NodeId, Plan};
use crate::engine::spec::schema::schema;
use crate::engine::text::escape_control;
use crate::stage::DATA_VARIABLE;
use crate::{fs, kernel, stage};
use anyhow::{Context as _, Result};
use clap::builder::{BoolishValueParser, OsStringValueParser, TypedValueParser as _};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use output::print;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Parser)]
#[command(name = "repro", version, about, max_term_width = 100, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done or up to date, 1 a stage failed, 2 usage or bad pipeline.yaml, 3 work pending where none may be, \
4 an output differs from the lock or from what it is when run again, 5 cache corruption, 6 the cache is in use, 7 disk or network, 130 interrupted.";

const TARGETS: &str = "\
Targets: a stage (`nets`), a kind (`train`), an instance by its name, a stage or kind with some values (`nets@prior=none`), \
or a pattern for stages, values or whole names (`*curves`, `nets@prior=dropout*`, `nets@*prior=none*`), where `*` is any \
text, `?` any character and `[ab]` one of those. A value with a comma in it stands in quotes: `s@text=\"a,b\"`.";

/// The environment variable for `--cache`.
const CACHE_VARIABLE: &str = "REPRO_CACHE";

/// The environment variable for `--no-lock`.
const NO_LOCK_VARIABLE: &str = "REPRO_NO_LOCK";

/// What every command understands.
#[derive(Args, Clone)]
struct Common {
    /// Work in this folder
    #[arg(short = 'C', long, global = true, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// The pipeline file, relative to that folder
    #[arg(long, global = true, value_name = "FILE", default_value = "pipeline.yaml")]
    pipeline: PathBuf,
    /// Use this profile of the pipeline instead of its default one
    #[arg(long, global = true, value_name = "NAME", add = complete::profiles())]
    profile: Option<String>,
    /// Set a field for this once, as in `-S nets.epochs=10`; `null` removes it; may be repeated
    #[arg(short = 'S', long = "set", global = true, value_name = "STAGE.FIELD=VALUE")]
    set: Vec<String>,
    /// A folder that holds the MNIST files; it is looked at before any mirror
    #[arg(long, global = true, value_name = "DIR", env = DATA_VARIABLE, value_parser = OsStringValueParser::new().map(PathBuf::from))]
    data: Option<PathBuf>,
    /// The folder of the cache, relative to that of `-C` [default: cache]
    #[arg(long, global = true, value_name = "DIR", env = CACHE_VARIABLE, value_parser = OsStringValueParser::new().map(PathBuf::from))]
    cache: Option<PathBuf>,
    /// Use no file locks, on a disk that has none: then let `gc` and `verify` run only while nothing else does
    #[arg(long, global = true, env = NO_LOCK_VARIABLE, value_parser = BoolishValueParser::new())]
    no_lock: bool,
    /// Ask again for data that could not be had before
    #[arg(long, global = true)]
    refetch: bool,
    /// Answer in JSON, on standard output
    #[arg(long, global = true)]
    json: bool,
    /// Tell failures only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Tell more: keys, reasons, what is cached, and what the nodes' programs write as they write it
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the targets, or everything, up to date
    #[command(after_help = TARGETS)]
    Run(RunArgs),
    /// Say what `run` would do, and why
    #[command(after_help = TARGETS)]
    Plan {
        /// Stages, instances (`nets@hidden=50,pair=1`) or kinds
        #[arg(add = complete::targets())]
        targets: Vec<String>,
        /// Exit with 3 if anything is not up to date
        #[arg(long)]
        check: bool,
        /// Take these targets as not up to date
        #[arg(short, long)]
        force: bool,
    },
    /// Tell why a node would run, or since when it is up to date
    #[command(after_help = TARGETS)]
    Why {
        /// Stage, instance or kind
        #[arg(add = complete::targets())]
        target: String,
    },
    /// Show a node's recipe, key, outputs and provenance
    #[command(after_help = TARGETS)]
    Show {
        /// Stage, instance or kind
        #[arg(add = complete::targets())]
        target: String,
    },
    /// Copy the outputs of nodes out of the cache
    #[command(after_help = TARGETS)]
    Export {
        /// Stage, instance or kind
        #[arg(add = complete::targets())]
        target: String,
        /// The folder to copy them to; made if it is not there
        #[arg(value_name = "DIR")]
        destination: PathBuf,
    },
    /// Hash everything in the cache again, check entries against objects, and the lock's roots against its lines
    #[command(after_help = TARGETS)]
    Verify(VerifyArgs),
    /// Write the digests of this profile's outputs into the lock beside the pipeline file
    ///
    /// Everything must be up to date. The parts of other profiles stay as they are. `run --locked` and `verify --locked`
    /// hold the outputs to it.
    Lockfile,
    /// Say what of the cache nobody needs any more, or remove it
    ///
    /// What any profile asks for now, what the last runs used, what is pinned and what the lock expects stays. So does
    /// what the other pipelines of this folder that have run here ask for, and what their locks expect.
    Gc {
        /// Remove it
        #[arg(long)]
        delete: bool,
        /// Keep what so many last runs used
        #[arg(long, value_name = "N", default_value = "10")]
        keep_runs: usize,
        /// If anybody is at work in the cache, wait
        #[arg(long)]
        wait_for_lock: bool,
    },
    /// Keep the outputs of nodes from removal by `gc`, or list what is kept
    #[command(after_help = TARGETS)]
    Pin {
        /// Stages, instances or kinds; if there is none, what is pinned is listed
        #[arg(add = complete::targets())]
        targets: Vec<String>,
    },
    /// Let pinned outputs go
    #[command(after_help = TARGETS)]
    Unpin {
        /// Stages, instances or kinds, or what else `pin` lists
        #[arg(required = true, add = complete::targets())]
        targets: Vec<String>,
    },
    /// List the runs there were, newest first, or tell one of them node by node
    Log {
        /// A run's id, the beginning or end of one, `last`, or `last~1` for the one before it
        run: Option<String>,
        /// List so many runs
        #[arg(long, value_name = "N", default_value = "20", conflicts_with = "run")]
        limit: usize,
    },
    /// Print what a node's program wrote when it last ran, or writes now: standard output and standard error
    ///
    /// The log of a run that went well is kept up to its last MiB; `gc` removes it with the node.
    #[command(after_help = TARGETS)]
    Logs {
        /// Stage, instance or kind
        #[arg(add = complete::targets())]
        target: String,
        /// Go on until the node's job ends
        #[arg(short, long)]
        follow: bool,
    },
    /// Compare two runs, or two profiles: parameters, metrics, files
    ///
    /// Nodes are compared by name. In tables, numbers are told with their change; rows are told apart by the leading
    /// columns.
    Diff {
        /// A run as in `log` [default: the last but one]; with `--profiles`, a profile
        before: Option<String>,
        /// Another [default: the last run]
        after: Option<String>,
        /// Compare what two profiles have in the cache
        #[arg(long, requires = "before", requires = "after")]
        profiles: bool,
        /// Tell at most so many lines in a table
        #[arg(long, value_name = "N", default_value = "20")]
        limit: usize,
    },
    /// Draw the pipeline, coloured by what is cached and what would run
    Graph {
        /// The language to draw in
        #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
        format: GraphFormat,
        /// A box for each node instead of each stage
        #[arg(long)]
        full: bool,
    },
    /// Print the JSON Schema of the pipeline file, for editors and checkers
    Schema,
    /// Print what completes commands and options on Tab
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write it and one for each command to a folder
    Man {
        /// The folder; made if it is not there
        #[arg(value_name = "DIR")]
        destination: Option<PathBuf>,
    },
    /// Answer a recorded question, or those that are ordered on standard input (used by `run`)
    #[command(hide = true)]
    Exec {
        /// The question's key
        key: Option<Key>,
        /// This program's digest, for the record
        #[arg(long)]
        program: Option<Digest>,
        /// How many threads it may use
        #[arg(long, default_value = "1")]
        threads: NonZero<usize>,
        /// Answer it even if it has an answer
        #[arg(long)]
        again: bool,
        /// Leave its outputs in this folder, under its key, and publish nothing
        #[arg(long, value_name = "DIR")]
        aside: Option<PathBuf>,
        /// End it, with all it has started, some seconds after this time if nobody else has
        #[arg(long, value_name = "SECONDS", value_parser = exec::time_limit)]
        time_limit: Option<Duration>,
    },
}

#[derive(Args)]
struct VerifyArgs {
    /// Also compare what is cached with the lock: exit with 4 on a difference, with 3 if anything is not cached
    #[arg(long)]
    locked: bool,
    /// Also run what is cached again, aside, and compare bit by bit: exit with 4 on a difference, which is kept
    #[arg(long, conflicts_with = "locked")]
    recompute: bool,
    /// What to run again: stages, instances or kinds; everything if there is none
    #[arg(requires = "recompute", add = complete::targets())]
    targets: Vec<String>,
    /// Run so many nodes again, drawn from the targets
    #[arg(long, value_name = "N", requires = "recompute")]
    sample: Option<usize>,
    /// Draw other nodes: the same seed draws the same ones
    #[arg(long, value_name = "S", default_value = "0", requires = "sample")]
    seed: u64,
    /// How many nodes to run at once [default: the number of cores]
    #[arg(short, long, value_name = "N", requires = "recompute", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
}

#[derive(Args)]
struct RunArgs {
    /// Stages, instances (`nets@hidden=50,pair=1`) or kinds; everything if there is none
    #[arg(add = complete::targets())]
    targets: Vec<String>,
    /// Only say what would be done, as `plan` does
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// How many nodes to run at once [default: the number of cores]; with 1, what they write is shown as they write it
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Run the targets even if they are up to date
    #[arg(short, long)]
    force: bool,
    /// Go on with what does not depend on a failure
    #[arg(short, long)]
    keep_going: bool,
    /// Run nothing: exit with 3 at the first node that is not up to date
    #[arg(long, conflicts_with_all = ["force", "dry_run"])]
    require_cached: bool,
    /// Try a failed node again, up to so many times
    #[arg(long, value_name = "N", default_value = "0")]
    retries: u32,
    /// CacheLock every output to the lock: exit with 4 at the first that differs
    #[arg(long, conflicts_with = "dry_run")]
    locked: bool,
    /// If another command holds the cache for itself (`gc`), wait for it
    #[arg(long)]
    wait_for_lock: bool,
}

/// How `graph` draws.
#[derive(Clone, Copy, ValueEnum)]
enum GraphFormat {
    /// For Markdown pages.
    Mermaid,
    /// For Graphviz.
    Dot,
    /// A picture.
    Svg,
}

/// Runs the program on the process's arguments; gives the exit code.
pub fn main() -> u8 {
    match complete::answer() {
        Ok(false) => {}
        Ok(true) => return 0,
        Err(error) => return complain(&error),
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) if refusal.kind() == ErrorKind::MissingSubcommand => {
            // clap would list the commands, with that of the program's own use.
            let diagnostic = Diagnostic {
                source: "repro".into(),
                location: None,
                message: "a command is missing".into(),
                hint: Some("`repro help` lists them".into()),
            };
            return finish(complain(&Error::Usage(diagnostic).into()));
        }
        Err(refusal) => {
            // Help and version come this way too.
            let written = refusal.print();
            let code = u8::try_from(refusal.exit_code()).unwrap_or(2);
            if code == 0 {
                output::remember(written);
            }
            return finish(code);
        }
    };
    let json = cli.common.json;
    let code = match dispatch(cli) {
        Ok(text) => {
            print(&text, json);
            0
        }
        Err(error) => complain(&error),
    };
    finish(code)
}

/// The exit code of a command that has come to `code`: it has failed if its output could not be written.
fn finish(code: u8) -> u8 {
    match output::finish() {
        Err(error) if code == 0 => complain(&error),
        _ => code,
    }
}

fn dispatch(cli: Cli) -> Result<String> {
    kernel::check_forced_isa().map_err(Error::Infrastructure)?;
    let common = &cli.common;
    #[cfg(feature = "fault-injection")]
    {
        let is_job = matches!(cli.command, Command::Exec { .. });
        let variable = if is_job { "REPRO_FAULT_JOB" } else { "REPRO_FAULT" };
        std::env::var(variable).iter().for_each(|fault| fs::fault::arm(fault));
    }
    refuse_what_is_not_used(&cli)?;
    match cli.command {
        Command::Run(args) => run::run(common, &args),
        Command::Plan { targets, check, force } => plan::plan(common, &targets, check, force),
        Command::Why { target } => plan::why(common, &target),
        Command::Show { target } => inspect::show(common, &target),
        Command::Export { target, destination } => inspect::export(common, &target, &destination),
        Command::Verify(args) => verify::verify(common, &args),
        Command::Lockfile => lock::lock(common),
        Command::Gc { delete, keep_runs, wait_for_lock } => {
            gc::gc(common, delete, keep_runs, wait_for_lock)
        }
        Command::Pin { targets } => gc::pin(common, &targets),
        Command::Unpin { targets } => gc::unpin(common, &targets),
        Command::Log { run: Some(run), .. } => log::run(common, &run),
        Command::Log { run: None, limit } => log::runs(common, limit),
        Command::Logs { target, follow } => logs::logs(common, &target, follow),
        Command::Diff { before, after, profiles: false, limit } => {
            diff::runs(common, before, after, limit)
        }
        Command::Diff { before, after, profiles: true, limit } => {
            diff::profiles(common, before, after, limit)
        }
        Command::Schema => Ok(format!("{:#}\n", schema(stage::KINDS))),
        Command::Completions { shell } => complete::script(shell),
        Command::Man { destination } => manual::man(destination.as_deref()),
        Command::Graph { format, full } => graph::graph(common, format, full),
        Command::Exec { key, program, threads, again, aside, time_limit } => {
            exec::begin_session();
            exec::take_name();
            let _ending = time_limit.map(exec::end_after).transpose()?;
            match key {
                Some(key) => {
                    let manner = ExecOptions {
                        program,
                        threads,
                        again,
                        is_one_of_many: false,
                        project: None,
                    };
                    exec::exec(common, key, manner, aside.as_deref())
                }
                None => exec::serve(common, program, aside.as_deref()),
            }
        }
    }
}

/// Refuses options that change which nodes a pipeline has, where a command looks at none.
fn refuse_what_is_not_used(cli: &Cli) -> Result<()> {
    let command = match cli.command {
        Command::Gc { .. } => "gc",
        Command::Log { .. } => "log",
        Command::Diff { profiles: false, .. } => "diff",
        Command::Schema => "schema",
        Command::Completions { .. } => "completions",
        Command::Man { .. } => "man",
        _ => return Ok(()),
    };
    let common = &cli.common;
    let given = [
        ("-S", !common.set.is_empty()),
        ("--profile", common.profile.is_some()),
        ("--refetch", common.refetch),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(Error::Usage(Diagnostic {
            source: (*option).to_owned(),
            location: None,
            message: format!("`{command}` looks at no node of the pipeline, and does not use it"),
            hint: Some("leave it out".into()),
        })
        .into()),
        None => Ok(()),
    }
}

/// Prints the error chain once, with its hint; gives the exit code.
fn complain(error: &anyhow::Error) -> u8 {
    let known = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{ERROR}{}", escape_control(&format!("{error:#}"), &['\n', '\t']));
    if let Some(hint) = known.and_then(Error::hint).or_else(|| exec::hint(error)) {
        let _ = writeln!(stderr, "{HINT}{}", escape_control(hint, &['\n', '\t']));
    }
    known.map_or_else(|| exec::exit_code(error), Error::exit_code)
}

impl Common {
    fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }

    /// The data folder, absolute; an empty name is none.
    fn data_folder(&self) -> Result<Option<PathBuf>> {
        let Some(folder) = self.data.as_deref().filter(|folder| !folder.as_os_str().is_empty())
        else {
            return Ok(None);
        };
        if !folder.is_dir() {
            let diagnostic = Diagnostic {
                source: format!("--data {}", folder.display()),
                location: None,
                message: "there is no such folder".into(),
                hint: Some(format!(
                    "`--data`, or `{DATA_VARIABLE}`, names a folder with the four MNIST files"
                )),
            };
            return Err(Error::Usage(diagnostic).into());
        }
        let absolute = std::path::absolute(folder);
        absolute
            .map(Some)
            .with_context(|| format!("`{}` cannot be a data folder", folder.display()))
    }

    /// The pipeline file from the project's folder, in one way however it was written; absolute, if it lies elsewhere.
    fn pipeline_path(&self) -> Result<PathBuf> {
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .with_context(|| format!("`{}` cannot be a pipeline file", path.display()))
        };
        let (file, folder) =
            (absolute(&self.directory.join(&self.pipeline))?, absolute(&self.directory)?);
        Ok(file.strip_prefix(folder).map(Path::to_owned).unwrap_or(file))
    }

    fn store(&self) -> Store {
        let given = self.cache.as_deref().filter(|folder| !folder.as_os_str().is_empty());
        let store = Store::at(&self.directory.join(given.unwrap_or(Path::new("cache"))));
        if self.no_lock { store.without_locks() } else { store }
    }
}

/// A pipeline, resolved, and its cache.
struct Session {
    pipeline: Pipeline,
    profile: Option<String>,
    plan: Plan,
    store: Store,
    /// Remembered fallbacks do not count: the user has brought data, or asks again.
    refetch: bool,
}

impl Session {
    fn open(common: &Common) -> Result<Session> {
        let path = common.directory.join(&common.pipeline);
        let text = match fs::read_if_exists(&path)? {
            Some(bytes) => {
                String::from_utf8(bytes).map_err(|_| no_pipeline(&path, "it is not UTF-8"))?
            }
            None => return Err(no_pipeline(&path, "there is no such file").into()),
        };
        let source = common.pipeline.display().to_string();
        let mut pipeline = Pipeline::parse(&source, &text).map_err(Error::from)?;
        let profile = pipeline.apply_profile(common.profile.as_deref()).map_err(Error::from)?;
        for assignment in &common.set {
            pipeline.apply_override(assignment).map_err(Error::from)?;
        }
        common.store().recover()?;
        let mut plan = Plan::new(&pipeline, stage::KINDS)
            .map_err(|diagnostic| Error::from(during(diagnostic, &common.set)))?;
        let (store, refetch) =
            (common.store().with_index(), common.refetch || common.data_folder()?.is_some());
        plan.files = unchanged::files(common, &store);
        Ok(Session { pipeline, profile, plan, store, refetch })
    }

    /// Where `targets`, and what they hang on, stand; everything if there are no targets.
    fn plan_status(&self, targets: &[NodeId]) -> Result<PlanStatus> {
        let checker = StatusChecker::new(&self.plan, &self.store, BTreeSet::new(), self.refetch);
        checker.plan_status(&self.plan.closure(targets))
    }

    fn select(&self, targets: &[String]) -> Result<Vec<NodeId>> {
        let mut found = BTreeSet::new();
        for target in targets {
            found.extend(self.plan.select(target).map_err(Error::from)?);
        }
        Ok(found.into_iter().collect())
    }
}

/// What is made of a pipeline file goes by its path without `.yaml`; with any other ending by the
/// whole path, so that `small.yaml` and `small.yml` share nothing.
fn without_yaml(pipeline: &Path) -> PathBuf {
    let is_yaml = pipeline.extension().is_some_and(|extension| extension == "yaml");
    if is_yaml { pipeline.with_extension("") } else { pipeline.to_owned() }
}

/// What was set for this once may be to blame: the file alone would mislead.
fn during(diagnostic: Diagnostic, set: &[String]) -> Diagnostic {
    if set.is_empty() {
        return diagnostic;
    }
    let set: Vec<String> = set.iter().map(|assignment| format!("`-S {assignment}`")).collect();
    Diagnostic {
        message: format!("{} (with {})", diagnostic.message, set.join(", ")),
        ..diagnostic
    }
}

fn no_pipeline(path: &Path, why: &str) -> Error {
    let other = path.with_extension(if path.extension().is_some_and(|yml| yml == "yml") {
        "yaml"
    } else {
        "yml"
    });
    let hint = match other.file_name().filter(|_| !path.exists() && other.is_file()) {
        Some(name) => format!("there is `{0}`: `--pipeline {0}` names it", name.display()),
        None => "name the folder with `-C DIR`, or the file with `--pipeline FILE`".into(),
    };
    Error::Usage(Diagnostic {
        source: path.display().to_string(),
        location: None,
        message: why.to_owned(),
        hint: Some(hint),
    })
}
