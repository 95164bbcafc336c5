//! The arguments and the script of `sbatch`, as text.

use crate::engine::stage::Resources;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The patterns of the names of Slurm's log files, in the folder of logs: job id and task.
const LOG: &str = "%A_%a.log";

/// A job array.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    /// The name of the job, unique among all jobs of the user.
    pub name: String,
    /// A description for people.
    pub comment: String,
    /// The number of tasks.
    pub tasks: usize,
    /// The resources of each task.
    pub resources: Resources,
    /// The time limit of each task; `None` for the partition's.
    pub time: Option<Duration>,
    /// The existing folder for Slurm's logs.
    pub logs: PathBuf,
    /// Nodes that must not be used.
    pub exclude: Vec<String>,
    /// The jobs that must have ended, with or without success, before a task starts.
    pub after: Vec<String>,
    /// Whether Slurm itself starts a task again after a node has failed or the task was preempted.
    pub requeue: bool,
}

impl Array {
    /// The arguments of `sbatch`. The script is its standard input.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let Resources { threads, memory, gpus, sbatch, .. } = &self.resources;
        let logs = escape_pattern(&self.logs);
        let mut all = vec![
            "--parsable".to_owned(),
            format!("--job-name={}", self.name),
            format!("--comment={}", self.comment),
            format!("--array=0-{}", self.tasks.saturating_sub(1)),
            format!("--output={logs}/{LOG}"),
            "--open-mode=append".to_owned(),
            // Not the folder of the caller, which may not exist on other hosts.
            format!("--chdir={}", self.logs.display()),
            "--kill-on-invalid-dep=yes".to_owned(),
            if self.requeue { "--requeue" } else { "--no-requeue" }.to_owned(),
            "--ntasks=1".to_owned(),
            format!("--cpus-per-task={}", threads.map_or(1, NonZero::get)),
        ];
        if *memory > 0 {
            all.push(format!("--mem={}M", memory.div_ceil(1 << 20)));
        }
        if *gpus > 0 {
            all.push(format!("--gres=gpu:{gpus}"));
        }
        all.extend(self.time.map(|time| format!("--time={}", duration(time))));
        if !self.after.is_empty() {
            all.push(format!("--dependency=afterany:{}", self.after.join(":")));
        }
        let (theirs, sbatch): (Vec<&String>, Vec<&String>) =
            sbatch.iter().partition(|option| excluded(option).is_some());
        // The last of two equal options counts.
        let theirs = theirs.last().and_then(|option| excluded(option)).map(str::to_owned);
        let exclude: Vec<String> = self.exclude.iter().cloned().chain(theirs).collect();
        if !exclude.is_empty() {
            all.push(format!("--exclude={}", exclude.join(",")));
        }
        for option in sbatch {
            match option.split_once(' ').filter(|_| !option.starts_with("--")) {
                Some((name, value)) => all.extend([name.to_owned(), value.trim().to_owned()]),
                None => all.push(option.clone()),
            }
        }
        all
    }
}

/// The nodes that an option excludes. A name with a slash is a file with a list, which cannot be
/// joined to another list.
fn excluded(option: &str) -> Option<&str> {
    let nodes = option.strip_prefix("--exclude=").or_else(|| option.strip_prefix("-x"))?;
    Some(nodes.trim()).filter(|nodes| !nodes.contains('/'))
}

/// A time in Slurm's form `hours:minutes:seconds`, at least one minute, Slurm's unit.
fn duration(time: Duration) -> String {
    let seconds = (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(60);
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A path in a pattern of a file name, where `%` starts a replacement.
fn escape_pattern(path: &Path) -> String {
    path.display().to_string().replace('%', "%%")
}

/// The script of each task: it sets `environment` and becomes the program. `with_task` appends the
/// number of the task to `arguments`.
pub(crate) fn script(
    environment: &[(String, PathBuf)],
    threads: usize,
    program: &Path,
    arguments: &[String],
    with_task: bool,
) -> String {
    let mut text = "#!/bin/bash\n".to_owned();
    for (name, value) in environment {
        text += &format!("export {name}={}\n", quote(&value.to_string_lossy()));
    }
    // Without cgroups, a program would find all CPUs of the node.
    text += &format!("export RAYON_NUM_THREADS={threads} POLARS_MAX_THREADS={threads}\n");
    text += &format!("exec {}", quote(&program.to_string_lossy()));
    arguments.iter().for_each(|argument| text += &format!(" {}", quote(argument)));
    text + if with_task { " \"$SLURM_ARRAY_TASK_ID\"\n" } else { "\n" }
}

/// The text as one word of a shell.
pub(crate) fn quote(text: &str) -> String {
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '=' | ':' | ',');
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array() -> Array {
        Array {
            name: "repro-1".into(),
            comment: "train".into(),
            tasks: 3,
            resources: Resources::default(),
            time: None,
            logs: "/c/100%/logs".into(),
            exclude: Vec::new(),
            after: Vec::new(),
            requeue: false,
        }
    }

    #[test]
    fn an_array_has_a_log_in_an_existing_folder_and_a_name() {
        let expected = "--parsable --job-name=repro-1 --comment=train --array=0-2 \
                        --output=/c/100%%/logs/%A_%a.log --open-mode=append --chdir=/c/100%/logs \
                        --kill-on-invalid-dep=yes --no-requeue --ntasks=1 --cpus-per-task=1";
        assert_eq!(array().arguments().join(" "), expected);
    }

    #[test]
    fn resources_are_options_and_those_of_the_user_are_last() {
        let resources = Resources {
            threads: NonZero::new(4),
            memory: (1 << 30) + 1,
            gpus: 2,
            sbatch: ["--partition=a b", "-x n0", "-p long", "--exclude=n8,n9"]
                .map(str::to_owned)
                .into(),
            ..Resources::default()
        };
        let array = Array {
            resources,
            time: Some(Duration::from_millis(3_725_500)),
            exclude: vec!["n1".into(), "n2".into()],
            after: vec!["7".into(), "8".into()],
            requeue: true,
            ..array()
        };
        let arguments = array.arguments();
        let own = arguments.iter().position(|argument| argument == "--requeue").unwrap();
        let expected = [
            "--requeue",
            "--ntasks=1",
            "--cpus-per-task=4",
            "--mem=1025M",
            "--gres=gpu:2",
            "--time=1:02:06",
            "--dependency=afterany:7:8",
            "--exclude=n1,n2,n8,n9",
            "--partition=a b",
            "-p",
            "long",
        ];
        assert_eq!(arguments[own..], expected);
        assert_eq!(duration(Duration::from_secs(1)), "0:01:00");
        assert_eq!(duration(Duration::from_secs(100 * 3600)), "100:00:00");
    }

    #[test]
    fn the_script_quotes_what_a_shell_would_change() {
        let environment = [("REPRO_CACHE".to_owned(), PathBuf::from("it's $HOME"))];
        let text =
            script(&environment, 2, Path::new("/opt/repro"), &["-C".into(), "/a b".into()], true);
        let expected = "#!/bin/bash
export REPRO_CACHE='it'\\''s $HOME'
export RAYON_NUM_THREADS=2 POLARS_MAX_THREADS=2
exec /opt/repro -C '/a b' \"$SLURM_ARRAY_TASK_ID\"
";
        assert_eq!(text, expected);
    }
}
