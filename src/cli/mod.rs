//! The command line: parses the arguments, runs the command, prints the error.
//!
//! Each command has a file, and no command imports another. Shared code is in `session` (pipeline,
//! plan, cache, lock file, jobs) and `output`.

mod args;
mod cancel;
mod completions;
mod diff;
mod exec;
mod export;
mod gc;
mod graph;
mod init;
mod lock;
mod log;
mod logs;
mod man;
mod output;
mod pin;
mod plan;
mod remote;
mod run;
mod session;
mod show;
mod status;
mod submit;
mod verify;
mod why;

use crate::engine::error::Error;
use crate::engine::spec::schema::schema;
use crate::{kernel, stage};
use anyhow::Result;
use args::{Cli, Command, RunArgs};
use clap::Parser as _;
use clap::error::ErrorKind;
use output::{Output, print_error};
use session::usage_error;

/// Runs the program with the arguments of the process. Returns the exit code.
pub fn main() -> u8 {
    match args::complete::complete() {
        Ok(false) => {}
        Ok(true) => return 0,
        Err(error) => return print_error(&error),
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::MissingSubcommand => {
            // The message of clap would list all commands, including the hidden one.
            let hint = "run `repro help` for a list of commands";
            return print_error(&usage_error("repro", "no command given", hint).into());
        }
        Err(error) => return print_clap(&error),
    };
    let output = Output::new(&cli.common);
    let code = match dispatch(cli, &output) {
        Ok(text) => {
            output.print(&text);
            0
        }
        Err(error) => print_error(&error),
    };
    finish(&output, code)
}

/// Prints help, the version, or a usage error.
fn print_clap(error: &clap::Error) -> u8 {
    let (output, printed) = (Output::default(), error.print());
    let code = u8::try_from(error.exit_code()).unwrap_or(2);
    if code == 0 {
        output.record(printed);
    }
    finish(&output, code)
}

/// Returns the exit code of a command that ended with `code`; the code of an error if its output
/// was not written.
fn finish(output: &Output, code: u8) -> u8 {
    match output.finish() {
        Err(error) if code == 0 => print_error(&error),
        _ => code,
    }
}

fn dispatch(cli: Cli, output: &Output) -> Result<String> {
    kernel::check_forced_isa().map_err(Error::Infrastructure)?;
    #[cfg(feature = "fault-injection")]
    {
        let is_job = matches!(cli.command, Command::Exec(_));
        let variable = if is_job { "REPRO_FAULT_JOB" } else { "REPRO_FAULT" };
        std::env::var(variable).iter().for_each(|fault| crate::fs::fault::arm(fault));
    }
    refuse_unused_options(&cli)?;
    let common = &cli.common;
    match cli.command {
        Command::Init { template } => init::init(common, template),
        Command::Run(RunArgs { dry_run: true, targets, force, .. }) => {
            plan::plan(common, output, &targets, false, force)
        }
        Command::Run(args) => run::run(common, output, &args),
        Command::Plan { targets, check, force } => {
            plan::plan(common, output, &targets, check, force)
        }
        Command::Why { target } => why::why(common, &target),
        Command::Show { target } => show::show(common, &target),
        Command::Export(args) => export::export(common, &args),
        Command::Verify(args) => verify::verify(common, output, &args),
        Command::Lock => lock::lock(common),
        Command::Gc { delete, keep_runs, wait_for_lock } => {
            gc::gc(common, delete, keep_runs, wait_for_lock)
        }
        Command::Push { targets } => remote::push(common, &targets),
        Command::Pull { targets } => remote::pull(common, &targets),
        Command::Remote(command) => remote::remote(common, output, command),
        Command::Pin { targets } if targets.is_empty() => pin::list(common),
        Command::Pin { targets } => pin::pin(common, &targets),
        Command::Unpin { targets } => pin::unpin(common, &targets),
        Command::Log { run: Some(run), .. } => log::run(common, &run),
        Command::Log { run: None, limit } => log::runs(common, limit),
        Command::Logs { target, follow } => logs::logs(common, output, &target, follow),
        Command::Diff { before, after, profiles, limit, html } => {
            let form = diff::Form { limit, html: html.as_deref() };
            let compare = if profiles { diff::profiles } else { diff::runs };
            compare(common, before, after, &form)
        }
        Command::Graph { format, full } => graph::graph(common, format, full),
        Command::Schema => Ok(format!("{:#}\n", schema(stage::KINDS))),
        Command::Submit(args) => submit::submit(common, &args),
        Command::Status => status::status(common),
        Command::Cancel => cancel::cancel(common),
        Command::Completions { shell } => completions::script(shell),
        Command::Man { destination } => man::man(destination.as_deref()),
        Command::Exec(args) => exec::exec(common, &args),
    }
}

/// Rejects options that select or change nodes, for commands that use no node.
fn refuse_unused_options(cli: &Cli) -> Result<()> {
    let command = match cli.command {
        Command::Init { .. } => "init",
        Command::Gc { .. } => "gc",
        Command::Log { .. } => "log",
        Command::Diff { profiles: false, .. } => "diff",
        Command::Schema => "schema",
        Command::Status => "status",
        Command::Cancel => "cancel",
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
        Some((option, _)) => {
            let message = format!("`{command}` does not use this option");
            Err(usage_error(*option, message, "remove the option").into())
        }
        None => Ok(()),
    }
}
