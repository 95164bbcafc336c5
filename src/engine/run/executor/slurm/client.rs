//! Calls of Slurm's programs, each with a time limit: while the controller is down, they block.

use super::state::{Detail, Row, SACCT_FORMAT, SQUEUE_FORMAT};
use super::state::{is_temporary, parse_max_array, parse_sacct, parse_sbatch, parse_scontrol};
use super::state::{parse_squeue, script_error};
use crate::engine::error::Error;
use anyhow::{Context as _, Result};
use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The time after which a call is given up.
const LIMIT: Duration = Duration::from_secs(40);

/// The least time between two calls.
const SPACING: Duration = Duration::from_secs(1);

/// The outcome of a call that did not succeed.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The controller did not answer, or accepts no more jobs now.
    ForNow(String),
    /// The request is wrong.
    ForEver(String),
}

/// Slurm's programs.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// The end of the last call.
    last: Option<Instant>,
    /// The largest number of tasks of an array, once it is known.
    max_array: Option<usize>,
    /// Whether `sacct` has failed.
    no_accounting: bool,
}

impl Client {
    /// Whether a call is allowed now.
    pub(crate) fn is_rested(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= SPACING)
    }

    /// Waits until a call is allowed.
    pub(crate) fn rest(&self) {
        if let Some(last) = self.last {
            std::thread::sleep(SPACING.saturating_sub(last.elapsed()));
        }
    }

    fn call(
        &mut self,
        program: &str,
        arguments: &[String],
        input: Option<&str>,
    ) -> Result<std::result::Result<String, Refused>> {
        let called = call(program, arguments, input, LIMIT);
        self.last = Some(Instant::now());
        called
    }

    /// Submits a job array. Returns its id.
    pub(crate) fn sbatch(
        &mut self,
        arguments: &[String],
        script: &str,
    ) -> Result<std::result::Result<u64, Refused>> {
        Ok(self.call("sbatch", arguments, Some(script))?.and_then(|text| {
            // The job may have been accepted.
            parse_sbatch(&text).ok_or_else(|| Refused::ForNow(format!("sbatch printed `{text}`")))
        }))
    }

    /// The tasks of the jobs with these names.
    pub(crate) fn squeue(
        &mut self,
        names: &[String],
    ) -> Result<std::result::Result<Vec<Row>, Refused>> {
        let list = format!("--name={}", names.join(","));
        let arguments = ["-h", "-t", "all", "-r", "-o", SQUEUE_FORMAT, &list].map(str::to_owned);
        Ok(self.call("squeue", &arguments, None)?.map(|text| parse_squeue(&text)))
    }

    /// The details of the tasks of a job, from `scontrol` or else from `sacct`. Empty if Slurm no
    /// longer knows the job.
    pub(crate) fn details(&mut self, job: u64) -> Result<Vec<Detail>> {
        let arguments = ["-o", "show", "job", &job.to_string()].map(str::to_owned);
        if let Ok(text) = self.call("scontrol", &arguments, None)? {
            return Ok(parse_scontrol(&text));
        }
        if self.no_accounting {
            return Ok(Vec::new());
        }
        let (job, format) = (format!("--jobs={job}"), format!("--format={SACCT_FORMAT}"));
        // By default, `sacct` lists the jobs since midnight only.
        let since = "--starttime=now-30days";
        let arguments =
            ["--noheader", "--parsable2", "--allocations", since, &job, &format].map(str::to_owned);
        match self.call("sacct", &arguments, None) {
            Ok(Ok(text)) => Ok(parse_sacct(&text)),
            _ => {
                self.no_accounting = true;
                Ok(Vec::new())
            }
        }
    }

    /// Whether [`Client::max_array`] needs no call.
    pub(crate) fn knows_limits(&self) -> bool {
        self.max_array.is_some()
    }

    /// The largest number of tasks of an array.
    pub(crate) fn max_array(&mut self) -> Result<usize> {
        if let Some(max) = self.max_array {
            return Ok(max);
        }
        let arguments = ["show", "config"].map(str::to_owned);
        // 1001 is Slurm's default.
        let read = |text: String| parse_max_array(&text).unwrap_or(1001);
        let max = match self.call("scontrol", &arguments, None)?.map(read) {
            Ok(0) => {
                let message = "this cluster has no job arrays (its `MaxArraySize` is 0)";
                return Err(Error::Infrastructure(message.into()).into());
            }
            Ok(max) => max,
            Err(_) => 1001,
        };
        self.max_array = Some(max);
        Ok(max)
    }

    /// Cancels jobs or tasks. Those that have ended are ignored.
    pub(crate) fn scancel(&mut self, ids: &[String]) -> Result<()> {
        for (chunk, ids) in ids.chunks(500).enumerate() {
            if chunk > 0 {
                self.rest();
            }
            let quiet = ["--quiet".to_owned()];
            let arguments: Vec<String> = quiet.into_iter().chain(ids.iter().cloned()).collect();
            let cause = match self.call("scancel", &arguments, None)? {
                Ok(_) => continue,
                Err(Refused::ForEver(cause)) if has_ended(&cause) => continue,
                Err(Refused::ForEver(cause) | Refused::ForNow(cause)) => cause,
            };
            return Err(Error::Infrastructure(format!("cannot cancel jobs: {cause}")).into());
        }
        Ok(())
    }
}

/// Whether `scancel` failed only because the jobs have ended.
fn has_ended(cause: &str) -> bool {
    cause.contains("Invalid job id") || cause.contains("already completing or completed")
}

/// Runs a program. Kills it after `limit`.
fn call(
    program: &str,
    arguments: &[String],
    input: Option<&str>,
    limit: Duration,
) -> Result<std::result::Result<String, Refused>> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A Ctrl-C in the terminal must not end a submission halfway.
    command.process_group(0);
    // Within a job, its variables would be defaults of the new one; others change what is printed.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_setting =
            text == "SLURM_CONF" || text == "SLURM_CONF_SERVER" || text == "SLURM_TIME_FORMAT";
        let is_job = text.starts_with("SLURM_") && !is_setting;
        if is_job || ["SQUEUE_", "SACCT_", "SCANCEL_"].iter().any(|lead| text.starts_with(lead)) {
            command.env_remove(&name);
        }
    }
    command.env_remove("SBATCH_ARRAY_INX").env_remove("SBATCH_WAIT").env_remove("SBATCH_JOB_NAME");
    let mut child = command.spawn().map_err(|error| {
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => {
                format!("there is no `{program}` on the PATH; is Slurm installed on this host?")
            }
            _ => format!("cannot start `{program}`: {error}"),
        };
        Error::Infrastructure(message)
    })?;
    let stdin = child.stdin.take();
    let text = input.map(str::to_owned);
    // Dropping the pipe ends the input. An error shows in the exit status.
    let writer = std::thread::Builder::new().spawn(move || {
        if let (Some(mut pipe), Some(text)) = (stdin, text) {
            let _ = pipe.write_all(text.as_bytes());
        }
    });
    drop(writer.context("cannot start a thread")?);
    let stdout = reader(child.stdout.take())?;
    let stderr = reader(child.stderr.take())?;
    let until = Instant::now() + limit;
    let status = loop {
        match child.try_wait().with_context(|| format!("cannot wait for `{program}`"))? {
            Some(status) => break Some(status),
            None if Instant::now() >= until => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let Some(status) = status else {
        let cause = format!("`{program}` did not answer within {} s", limit.as_secs());
        return Ok(Err(Refused::ForNow(cause)));
    };
    let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
    Ok(match status.success() {
        true => Ok(stdout),
        false if is_temporary(&stderr) => Err(Refused::ForNow(script_error(program, &stderr))),
        false => Err(Refused::ForEver(script_error(program, &stderr))),
    })
}

/// A thread that reads a pipe to its end.
fn reader(pipe: Option<impl Read + Send + 'static>) -> Result<JoinHandle<String>> {
    let read = move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    std::thread::Builder::new().spawn(read).context("cannot start a thread")
}

/// Starts `scancel` and does not wait for it.
pub(crate) fn scancel_at_once(ids: &[u64]) {
    if !ids.is_empty() {
        let ids = ids.iter().map(u64::to_string);
        let _ = Command::new(OsStr::new("scancel"))
            .arg("--quiet")
            .args(ids)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: Option<&str>) -> std::result::Result<String, Refused> {
        call("sh", &["-c".into(), script.into()], input, Duration::from_millis(800)).unwrap()
    }

    #[test]
    fn a_call_has_an_input_an_output_and_a_time_limit() {
        assert_eq!(shell("cat", Some("text")).unwrap(), "text");
        let Err(Refused::ForNow(cause)) = shell("sleep 60", None) else { panic!("it waited") };
        assert_eq!(cause, "`sh` did not answer within 0 s");
    }

    #[test]
    fn the_error_of_a_call_is_the_last_line_that_it_prints() {
        let script = "echo 'sh: error: one' >&2; echo 'sh: error: no such partition' >&2; exit 1";
        let Err(Refused::ForEver(cause)) = shell(script, None) else { panic!("it succeeded") };
        assert_eq!(cause, "no such partition");
        let script = "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1";
        assert!(matches!(shell(script, None), Err(Refused::ForNow(_))));
    }

    #[test]
    fn a_program_that_is_missing_is_an_error() {
        let error = call("no-such-sbatch", &[], None, LIMIT).unwrap_err().to_string();
        assert!(error.starts_with("there is no `no-such-sbatch` on the PATH"), "{error}");
    }
}
