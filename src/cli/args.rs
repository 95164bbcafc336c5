//! The command line as types: commands, options and their help.

pub(super) mod complete;

use crate::engine::key::{Digest, Key};
use crate::engine::provenance::Commit;
use crate::engine::resources::SbatchOption;
use crate::stage::DATA_VARIABLE;
use clap::builder::{BoolishValueParser, OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Parser)]
#[command(
    name = "repro",
    version,
    about = "Run a research pipeline that is declared in a YAML file",
    max_term_width = 100,
    after_help = EXIT_CODES,
    arg_required_else_help = true
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    success
  1    a stage failed
  2    wrong usage, or an invalid pipeline file or lock file
  3    some nodes are not up to date
  4    an output differs from the lock file, or from the output of a second run
  5    the cache is corrupt
  6    another process has locked the cache, or jobs on a cluster need it
  7    disk or network failure, or data that is unavailable
  130  interrupted

`repro help COMMAND` prints the help of a command.";

const TARGETS: &str = "\
Targets:
  nets                   the nodes of a stage
  train                  the nodes of a stage kind
  nets@hidden=50,net=1   a node, by its full name
  nets@prior=none        the nodes of a stage or stage kind with these values
  *curves                a pattern: `*` matches any text, `?` one character, `[ab]` a or b
  nets@prior=dropout*    a pattern for a value
  nets@*prior=none*      a pattern for a full name

Quote a value that contains a comma: s@text=\"a,b\"";

/// The environment variable of `--cache`.
pub(super) const CACHE_VARIABLE: &str = "REPRO_CACHE";

/// The environment variable of `--remote`.
pub(super) const REMOTE_VARIABLE: &str = "REPRO_REMOTE";

/// The environment variable of `--no-lock`.
pub(super) const NO_LOCK_VARIABLE: &str = "REPRO_NO_LOCK";

/// The options of every command.
#[derive(Args, Clone)]
#[command(next_help_heading = "Global options")]
pub(super) struct Common {
    /// The project folder
    #[arg(short = 'C', long, global = true, value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// The pipeline file, relative to the project folder
    #[arg(long, global = true, value_name = "FILE", default_value = "pipeline.yaml")]
    pub pipeline: PathBuf,
    /// Use this profile instead of the default
    #[arg(long, global = true, value_name = "NAME", add = complete::profiles())]
    pub profile: Option<String>,
    /// Override a field, such as `-S nets.epochs=10`; `null` removes the field; repeatable
    #[arg(short = 'S', long = "set", global = true, value_name = "STAGE.FIELD=VALUE")]
    pub set: Vec<String>,
    /// Read datasets from this folder instead of downloading them
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = DATA_VARIABLE,
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    pub data: Option<PathBuf>,
    /// The cache folder, relative to the project folder [default: cache]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = CACHE_VARIABLE,
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    pub cache: Option<PathBuf>,
    /// The remote cache, such as `s3://BUCKET/PREFIX` or `file:///FOLDER`; empty for none
    ///
    /// Commands that use it: run, submit, plan, push, pull, remote. Replaces `remote` of the
    /// pipeline file. Credentials are read from the environment.
    #[arg(long, global = true, value_name = "URL", env = REMOTE_VARIABLE, hide_env_values = true)]
    pub remote: Option<String>,
    /// Do not use file locks; then run `gc` and `verify` only while no other process uses the cache
    #[arg(long, global = true, env = NO_LOCK_VARIABLE, value_parser = BoolishValueParser::new())]
    pub no_lock: bool,
    /// Retry downloads that failed before, instead of using their fallbacks
    #[arg(long, global = true)]
    pub refetch: bool,
    /// Print JSON to standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only failures and warnings
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more: cached nodes, keys, reasons, and the output of running jobs
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Write the files of a new project to the project folder
    ///
    /// Writes pipeline.yaml, the files that it needs, and .gitignore, and prints the next command.
    /// Overwrites nothing: if a file exists, nothing is written. An existing .gitignore is kept.
    Init {
        /// What the project starts with
        #[arg(long, value_enum, default_value_t = Template::Study)]
        template: Template,
    },
    /// Bring the targets up to date
    ///
    /// Copies reports to `reports/PROFILE/`. If anything differs from the last run whose report was
    /// there, writes what changed to `changes.md` and `changes.html` beside the report.
    #[command(after_help = TARGETS)]
    Run(RunArgs),
    /// Show what `run` would do, and why
    #[command(after_help = TARGETS)]
    Plan {
        /// Stages, stage kinds or nodes [default: the whole pipeline]
        #[arg(value_name = "TARGET", add = complete::targets())]
        targets: Vec<String>,
        /// Exit with code 3 if a node is not up to date
        #[arg(long)]
        check: bool,
        /// Treat the targets as stale
        #[arg(short, long)]
        force: bool,
    },
    /// Explain why a node is stale, or which run computed it
    #[command(after_help = TARGETS)]
    Why {
        /// A stage, stage kind or node
        #[arg(add = complete::targets())]
        target: String,
    },
    /// Show the recipe, key, outputs and provenance of a node
    #[command(after_help = TARGETS)]
    Show {
        /// A stage, stage kind or node
        #[arg(add = complete::targets())]
        target: String,
    },
    /// Copy outputs out of the cache
    #[command(after_help = TARGETS)]
    Export(ExportArgs),
    /// Check the cache and the lock file for damage
    ///
    /// Hashes every object, checks that every entry has its outputs, and checks that the lock file
    /// was not edited by hand. Moves damaged files to quarantine.
    #[command(after_help = TARGETS)]
    Verify(VerifyArgs),
    /// Write the digests of all outputs to the lock file
    ///
    /// All nodes must be up to date. Only the section of the selected profile changes.
    /// `run --locked` and `verify --locked` check outputs against the lock file.
    Lock,
    /// Show which results can be removed from the cache, or remove them
    ///
    /// Keeps results that a profile of the pipeline uses, that recent runs used, that are pinned,
    /// or that the lock file lists. The same applies to every other pipeline that uses the cache.
    Gc {
        /// Remove the results
        #[arg(long)]
        delete: bool,
        /// The number of recent runs whose outputs are kept
        #[arg(long, value_name = "N", default_value = "10")]
        keep_runs: usize,
        /// Wait until no other process uses the cache
        #[arg(long)]
        wait_for_lock: bool,
    },
    /// Copy results to the remote cache
    ///
    /// Copies the cached results of the targets and of everything upstream, unless the remote cache
    /// has them. Exits with code 4 if it has another result under the same key, which it keeps.
    #[command(after_help = TARGETS)]
    Push {
        /// Stages, stage kinds or nodes [default: the whole pipeline]
        #[arg(value_name = "TARGET", add = complete::targets())]
        targets: Vec<String>,
    },
    /// Copy results from the remote cache
    ///
    /// Copies the results of the targets and of everything upstream that are not cached here.
    #[command(after_help = TARGETS)]
    Pull {
        /// Stages, stage kinds or nodes [default: the whole pipeline]
        #[arg(value_name = "TARGET", add = complete::targets())]
        targets: Vec<String>,
    },
    /// Check the remote cache, or remove results from it
    #[command(subcommand)]
    Remote(RemoteCommand),
    /// Protect the outputs of nodes from `gc`, or list the pinned nodes
    #[command(after_help = TARGETS)]
    Pin {
        /// Stages, stage kinds or nodes; none lists the pinned nodes
        #[arg(value_name = "TARGET", add = complete::targets())]
        targets: Vec<String>,
    },
    /// Unpin nodes
    #[command(after_help = TARGETS)]
    Unpin {
        /// Stages, stage kinds, nodes, or names that `repro pin` lists
        #[arg(value_name = "TARGET", required = true, add = complete::targets())]
        targets: Vec<String>,
    },
    /// List past runs, or show the nodes of one run
    Log {
        /// A run id, a unique prefix or suffix of one, `last`, or `last~N` for the Nth run before
        /// it
        run: Option<String>,
        /// List at most N runs
        #[arg(long, value_name = "N", default_value = "20", conflicts_with = "run")]
        limit: usize,
    },
    /// Print the standard output and standard error of a node's job
    ///
    /// Prints the log of the running job, or else of the last one. The log of a successful job is
    /// truncated to its last MiB. `gc` removes the log together with the outputs.
    #[command(after_help = TARGETS)]
    Logs {
        /// A stage, stage kind or node
        #[arg(add = complete::targets())]
        target: String,
        /// Print new lines until the job ends
        #[arg(short, long)]
        follow: bool,
    },
    /// Compare two runs, or two profiles
    ///
    /// Compares parameters, numbers in tables and JSON, and files. Nodes are matched by name, and
    /// the rows of a table by their leading columns. If a value of a parameter was replaced by
    /// another, such as a variance, the nodes and rows of the old value are compared with those of
    /// the new one, and the output says so. The largest change of each table is first: relative to
    /// its intervals or, without intervals, relative to the value.
    Diff {
        /// A run, as for `repro log`, or a profile [default: last~1]
        before: Option<String>,
        /// The run or profile to compare it with [default: last]
        after: Option<String>,
        /// Compare the cached outputs of two profiles
        #[arg(long, requires = "before", requires = "after")]
        profiles: bool,
        /// Print at most N rows of each table
        #[arg(long, value_name = "N", default_value = "20")]
        limit: usize,
        /// Also write a page that shows changed figures before and after, side by side
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Print the pipeline as a graph, with the status of each stage
    Graph {
        /// The output format
        #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
        format: GraphFormat,
        /// Show every node instead of every stage
        #[arg(long)]
        full: bool,
    },
    /// Hand the targets to Slurm and return
    ///
    /// Submits job arrays that follow one another, and a last job that copies the reports. A task
    /// computes the keys of its nodes where it runs; a node that is cached by then ends at once.
    /// A node whose input has failed is skipped. `repro status` lists the jobs.
    #[command(after_help = TARGETS)]
    Submit(SubmitArgs),
    /// List the jobs of this cache that Slurm holds
    ///
    /// For each job array: how many of its tasks run, wait, with Slurm's reason, and have ended.
    Status,
    /// Cancel the jobs of this cache that Slurm holds
    ///
    /// Finished results are kept.
    Cancel,
    /// Print the JSON Schema of the pipeline file
    Schema,
    /// Print a script that sets up shell completion
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write the pages of all commands to a folder
    Man {
        /// The destination folder; created if missing
        #[arg(value_name = "DIR")]
        destination: Option<PathBuf>,
    },
    /// Run one job, or the jobs ordered on standard input; used by `run`
    #[command(hide = true)]
    Exec(ExecArgs),
}

#[derive(Args)]
pub(super) struct RunArgs {
    /// Stages, stage kinds or nodes [default: the whole pipeline]
    #[arg(value_name = "TARGET", add = complete::targets())]
    pub targets: Vec<String>,
    /// Show what would be done, as `repro plan` does
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Run at most N jobs at once [default: number of CPUs]; with 1, print their output
    #[arg(short, long, value_name = "N", value_parser = value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Run the targets even if they are up to date
    #[arg(short, long)]
    pub force: bool,
    /// Continue with nodes that do not depend on a failed one
    #[arg(short, long)]
    pub keep_going: bool,
    /// Run nothing; exit with code 3 if a node is not up to date
    #[arg(long, conflicts_with_all = ["force", "dry_run"])]
    pub require_cached: bool,
    /// Retry a failed job up to N times
    #[arg(long, value_name = "N", default_value = "0")]
    pub retries: u32,
    /// Check outputs against the lock file; exit with code 4 at the first difference
    #[arg(long, conflicts_with = "dry_run")]
    pub locked: bool,
    /// Wait if another process, such as `gc`, has locked the cache
    #[arg(long)]
    pub wait_for_lock: bool,
    /// Also copy the results of the targets to the remote cache, as they finish
    #[arg(long, conflicts_with = "dry_run")]
    pub push: bool,
    /// Fail if the remote cache cannot be used, instead of continuing without it
    #[arg(long, conflicts_with = "dry_run")]
    pub require_remote: bool,
    /// Where jobs run
    #[arg(long, value_enum, default_value_t = ExecutorName::Local)]
    pub executor: ExecutorName,
    /// Pass an option to `sbatch`, such as `--sbatch --partition=long`; repeatable
    #[arg(
        long,
        value_name = "OPTION",
        allow_hyphen_values = true,
        value_parser = SbatchOption::parse
    )]
    pub sbatch: Vec<SbatchOption>,
}

#[derive(Subcommand)]
pub(super) enum RemoteCommand {
    /// Check the remote cache for damage
    ///
    /// Reads every entry, and fetches and hashes every object. Exits with code 5 if a file is
    /// damaged.
    Verify {
        /// Remove damaged objects and the entries that need them, so that they can be pushed again
        #[arg(long)]
        delete: bool,
    },
    /// Show which results can be removed from the remote cache, or remove them
    ///
    /// Keeps what the targets and everything upstream need, in all profiles, or in that of
    /// `--profile`. All of these must be cached here or in the remote cache. Results of other
    /// pipelines in the same remote cache are removed: use a prefix for each.
    #[command(after_help = TARGETS)]
    Gc {
        /// Stages, stage kinds or nodes [default: the whole pipeline]
        #[arg(value_name = "TARGET", add = complete::targets())]
        targets: Vec<String>,
        /// Remove the results
        #[arg(long)]
        delete: bool,
        /// Remove no result that is younger, such as `30d` or `12h`
        #[arg(long, value_name = "AGE", default_value = "1d", value_parser = age)]
        older_than: Duration,
    },
}

#[derive(Args)]
pub(super) struct SubmitArgs {
    /// Stages, stage kinds or nodes [default: the whole pipeline]
    #[arg(value_name = "TARGET", add = complete::targets())]
    pub targets: Vec<String>,
    /// Retry a failed job up to N times
    #[arg(long, value_name = "N", default_value = "0")]
    pub retries: u32,
    /// Pass an option to `sbatch`, such as `--sbatch --partition=long`; repeatable
    #[arg(
        long,
        value_name = "OPTION",
        allow_hyphen_values = true,
        value_parser = SbatchOption::parse
    )]
    pub sbatch: Vec<SbatchOption>,
    /// Also copy results to the remote cache, from the nodes of the cluster, as they finish
    #[arg(long)]
    pub push: bool,
    /// Fail if the remote cache cannot be used, instead of continuing without it
    #[arg(long)]
    pub require_remote: bool,
}

/// The name of an executor.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum ExecutorName {
    /// On this machine
    Local,
    /// On the nodes of a cluster, through Slurm
    Slurm,
}

#[derive(Args)]
pub(super) struct ExportArgs {
    /// A stage, stage kind or node [default with `--ro-crate`: all reports]
    #[arg(required_unless_present = "ro_crate", add = complete::targets())]
    pub target: Option<String>,
    /// The destination folder; created if missing
    #[arg(value_name = "DIR", required_unless_present = "ro_crate", conflicts_with = "ro_crate")]
    pub destination: Option<PathBuf>,
    /// Write an RO-Crate: the outputs, and a description of everything that they depend on
    ///
    /// The folder must be empty or missing. The metadata follow the profile Process Run Crate 0.5.
    /// The crate also contains the pipeline file, the lock file, and the files that stages declare.
    #[arg(long, value_name = "DIR")]
    pub ro_crate: Option<PathBuf>,
    /// Also copy the outputs of all upstream nodes to the RO-Crate
    #[arg(long, requires = "ro_crate")]
    pub all: bool,
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// Compare cached outputs with the lock file
    ///
    /// Exits with code 4 if an output differs, and with code 3 if a node is not up to date.
    #[arg(long)]
    pub locked: bool,
    /// Run cached nodes again, and compare the outputs bit by bit
    ///
    /// Exits with code 4 if an output differs, and keeps both versions. The cached outputs do not
    /// change.
    #[arg(long, conflicts_with = "locked")]
    pub recompute: bool,
    /// The stages, stage kinds or nodes to recompute [default: the whole pipeline]
    #[arg(value_name = "TARGET", requires = "recompute", add = complete::targets())]
    pub targets: Vec<String>,
    /// Recompute a random sample of N nodes
    #[arg(long, value_name = "N", requires = "recompute")]
    pub sample: Option<usize>,
    /// The seed of the random sample
    #[arg(long, value_name = "SEED", default_value = "0", requires = "sample")]
    pub seed: u64,
    /// Run at most N jobs at once [default: number of CPUs]
    #[arg(
        short,
        long,
        value_name = "N",
        requires = "recompute",
        value_parser = value_parser!(u16).range(1..)
    )]
    pub jobs: Option<u16>,
}

#[derive(Args)]
pub(super) struct ExecArgs {
    /// The key of the recipe
    pub key: Option<Key>,
    /// The digest of this program, for provenance
    #[arg(long)]
    pub program: Option<Digest>,
    /// The project's commit, with `-dirty` if files differ, for provenance
    #[arg(long)]
    pub commit: Option<Commit>,
    /// The number of threads
    #[arg(long, default_value = "1")]
    pub threads: NonZero<usize>,
    /// Run even if the result is cached
    #[arg(long)]
    pub force: bool,
    /// Write the outputs to a folder below this one, and publish nothing
    #[arg(long, value_name = "DIR")]
    pub recompute: Option<PathBuf>,
    /// End the job, with all its processes, some seconds after this time
    #[arg(long, value_name = "SECONDS", value_parser = time_limit)]
    pub time_limit: Option<Duration>,
    /// Run a task of the submission to Slurm in this folder
    #[arg(long, value_name = "DIR", requires = "task")]
    pub submission: Option<PathBuf>,
    /// The number of the task
    #[arg(long, value_name = "N", requires = "submission")]
    pub task: Option<usize>,
    /// Copy the results of the task to the remote cache
    #[arg(long, requires = "submission")]
    pub push: bool,
    /// Fail if the remote cache cannot be used
    #[arg(long)]
    pub require_remote: bool,
}

/// The project that `init` writes.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Template {
    /// Trains nets on generated digits, and joins them by curves
    Study,
    /// Runs programs: a script, and a table of its results
    Command,
    /// Joins nets that another program has trained, such as PyTorch
    OwnNets,
}

/// The output format of `graph`.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum GraphFormat {
    /// Mermaid, for Markdown pages
    Mermaid,
    /// DOT, for Graphviz
    Dot,
    /// An SVG image
    Svg,
}

fn age(age: &str) -> Result<Duration, String> {
    humantime::parse_duration(age).map_err(|error| error.to_string())
}

fn time_limit(seconds: &str) -> Result<Duration, String> {
    let limit = seconds.parse().map(Duration::try_from_secs_f64);
    limit.ok().and_then(Result::ok).ok_or_else(|| format!("`{seconds}` is not a number of seconds"))
}
