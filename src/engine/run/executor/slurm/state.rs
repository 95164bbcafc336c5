//! The states of jobs, as Slurm's programs print them.
//!
//! A state is a hint. It never proves that a job succeeded: only its entry in the cache does. A
//! state that this module does not know is [`State::Unknown`], which is neither success nor an end.

use std::fmt;

/// The format of `squeue` for [`parse_squeue`].
pub(crate) const SQUEUE_FORMAT: &str = "%i|%T|%r|%j";

/// The fields of `sacct` for [`parse_sacct`].
pub(crate) const SACCT_FORMAT: &str = "JobID,State,ExitCode,NodeList,JobName";

/// A task of a job array.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId {
    /// The id of the job array.
    pub job: u64,
    /// The number of the task in the array; 0 for a job that is no array.
    pub task: usize,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}_{}", self.job, self.task)
    }
}

/// The state of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// In the queue, with Slurm's reason.
    Pending(String),
    /// On a node, or about to start or to end there.
    Running,
    /// Slurm tried to start it, failed, and holds it until an administrator releases it.
    Held(String),
    /// It has ended.
    Ended(End),
    /// A state that this program does not know.
    Unknown(String),
}

/// How a task ended, according to Slurm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its exit code was zero.
    Completed,
    /// Its exit code was not zero, or a signal ended it.
    Failed,
    /// It exceeded its time limit, or the deadline of its job.
    TimedOut,
    /// It exceeded its memory.
    OutOfMemory,
    /// A job with a higher priority took its place.
    Preempted,
    /// Its node failed.
    NodeFailure,
    /// Its script could not be started.
    LaunchFailure,
    /// A person or a dependency cancelled it.
    Cancelled,
}

impl End {
    /// What happened, as the end of a sentence about the job.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            End::Completed => "ended",
            End::Failed => "failed",
            End::TimedOut => "timed out",
            End::OutOfMemory => "ran out of memory",
            End::Preempted => "was preempted",
            End::NodeFailure => "was lost because its node failed",
            End::LaunchFailure => "could not be started",
            End::Cancelled => "was cancelled",
        }
    }

    /// Whether the job is not the cause, so that another attempt is free.
    pub(crate) fn is_free(self) -> bool {
        matches!(self, End::Preempted | End::NodeFailure)
    }
}

/// Reads a state and its reason. A state may have a suffix, as in `CANCELLED by 0` or `CANCELLED+`.
pub(crate) fn parse_state(state: &str, reason: &str) -> State {
    let word = state.split([' ', '+']).next().unwrap_or_default();
    // Some versions write a reason with spaces, and others with underscores or in one word.
    let plain: String = reason.chars().filter(char::is_ascii_alphabetic).collect();
    let plain = plain.to_ascii_lowercase();
    match word {
        "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" | "REQUEUE_FED"
            if plain.contains("requeuedheld")
                || word == "REQUEUE_HOLD"
                || word == "SPECIAL_EXIT" =>
        {
            State::Held(reason.to_owned())
        }
        // Slurm itself cancels a job whose dependency cannot be satisfied: `--kill-on-invalid-dep`.
        "PENDING" | "REQUEUED" | "REQUEUE_FED" | "CONFIGURING" | "POWER_UP_NODE" => {
            State::Pending(reason.to_owned())
        }
        "RUNNING" | "COMPLETING" | "RESIZING" | "SIGNALING" | "STAGE_OUT" | "STOPPED"
        | "SUSPENDED" | "UPDATE_DB" => State::Running,
        "COMPLETED" => State::Ended(End::Completed),
        "FAILED" => State::Ended(End::Failed),
        "TIMEOUT" | "DEADLINE" => State::Ended(End::TimedOut),
        "OUT_OF_MEMORY" => State::Ended(End::OutOfMemory),
        "PREEMPTED" => State::Ended(End::Preempted),
        "NODE_FAIL" | "BOOT_FAIL" => State::Ended(End::NodeFailure),
        "LAUNCH_FAILED" | "RECONFIG_FAIL" => State::Ended(End::LaunchFailure),
        "CANCELLED" | "REVOKED" => State::Ended(End::Cancelled),
        _ => State::Unknown(state.to_owned()),
    }
}

/// Reads an id: `17` or `17_3`. Ids of ranges (`17_[0-3]`) and of heterogeneous jobs (`17+1`) are
/// not those of tasks.
pub(crate) fn parse_id(id: &str) -> Option<TaskId> {
    let (job, task) = id.split_once('_').unwrap_or((id, "0"));
    Some(TaskId { job: job.parse().ok()?, task: task.parse().ok()? })
}

/// A line of `squeue` or `sacct`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The task.
    pub id: TaskId,
    /// The name of the job.
    pub name: String,
    /// Its state.
    pub state: State,
}

/// Reads the output of `squeue -h -t all -r -o '%i|%T|%r|%j'`. Ignores lines of another form.
pub(crate) fn parse_squeue(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let mut fields = line.splitn(3, '|');
        let (id, state) = (fields.next()?, fields.next()?);
        // A reason may contain any character, a name of ours has no `|`.
        let (reason, name) = fields.next()?.rsplit_once('|')?;
        let state = parse_state(state.trim(), reason.trim());
        Some(Row { id: parse_id(id.trim())?, name: name.trim().to_owned(), state })
    };
    text.lines().filter_map(row).collect()
}

/// The end of a task, with details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Detail {
    /// The task.
    pub id: TaskId,
    /// Its state.
    pub state: State,
    /// Its exit code and the signal that ended it.
    pub exit: (u32, u32),
    /// The name of its node; empty if it had none.
    pub node: String,
}

/// Slurm's signal number for a script that could not be started, such as one whose log cannot be
/// opened.
const LAUNCH_SIGNAL: u32 = 53;

impl Detail {
    fn new(id: TaskId, state: State, exit: (u32, u32), node: &str) -> Detail {
        let state = match state {
            State::Ended(End::Failed) if exit == (0, LAUNCH_SIGNAL) => {
                State::Ended(End::LaunchFailure)
            }
            state => state,
        };
        let is_none = ["(null)", "None assigned", "None"].contains(&node);
        Detail { id, state, exit, node: if is_none { String::new() } else { node.to_owned() } }
    }
}

/// Reads the output of `scontrol -o show job`: a line of `Name=value` for each task. A value may
/// contain spaces. Ignores lines of another form.
pub(crate) fn parse_scontrol(text: &str) -> Vec<Detail> {
    let detail = |line: &str| {
        let value = |name: &str| {
            let lead = format!("{name}=");
            let at = match line.strip_prefix(&lead) {
                Some(_) => 0,
                None => line.find(&format!(" {lead}"))? + 1,
            };
            line[at + lead.len()..].split(' ').next()
        };
        let id = match (value("ArrayJobId"), value("ArrayTaskId")) {
            (Some(job), Some(task)) => TaskId { job: job.parse().ok()?, task: task.parse().ok()? },
            _ => parse_id(value("JobId")?)?,
        };
        let state = parse_state(value("JobState")?, value("Reason").unwrap_or_default());
        let exit = value("ExitCode").and_then(exit_code).unwrap_or_default();
        Some(Detail::new(id, state, exit, value("NodeList").unwrap_or_default()))
    };
    text.lines().filter_map(detail).collect()
}

/// Reads the output of `sacct --noheader --parsable2 --allocations` with [`SACCT_FORMAT`]. Ignores
/// lines of another form.
pub(crate) fn parse_sacct(text: &str) -> Vec<Detail> {
    let detail = |line: &str| {
        let mut fields = line.splitn(5, '|');
        let (id, state) = (parse_id(fields.next()?)?, parse_state(fields.next()?, ""));
        let exit = exit_code(fields.next()?).unwrap_or_default();
        Some(Detail::new(id, state, exit, fields.next()?))
    };
    text.lines().filter_map(detail).collect()
}

/// `7:0`: the exit code and the signal.
fn exit_code(text: &str) -> Option<(u32, u32)> {
    let (code, signal) = text.split_once(':')?;
    Some((code.parse().ok()?, signal.parse().ok()?))
}

/// Reads the id that `sbatch --parsable` prints: `17`, or `17;cluster`. Sites may print other lines
/// before it.
pub(crate) fn parse_sbatch(text: &str) -> Option<u64> {
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    last.split(';').next()?.parse().ok()
}

/// The largest number of tasks of an array, from `scontrol show config`.
pub(crate) fn parse_max_array(config: &str) -> Option<usize> {
    let line = config.lines().find(|line| line.trim_start().starts_with("MaxArraySize"))?;
    line.split_once('=')?.1.trim().parse().ok()
}

/// Whether an error of a client may be temporary: the controller did not answer, or a limit on
/// submissions is reached.
pub(crate) fn is_temporary(stderr: &str) -> bool {
    const TEMPORARY: [&str; 12] = [
        "Socket timed out",
        "Unable to contact slurm controller",
        "Connection refused",
        "Connection reset",
        "Zero Bytes were transmitted or received",
        "temporarily unable to accept job",
        "Resource temporarily unavailable",
        "submit limit",
        "SubmitLimit",
        "Submission rate too high",
        "Slurm backup controller in standby mode",
        "MaxSubmitJob",
    ];
    TEMPORARY.iter().any(|text| stderr.contains(text))
}

/// Whether Slurm's messages in the log of a task say that it exceeded its memory. Without cgroups,
/// Slurm kills such a task and reports a failure with signal 9.
pub(crate) fn exceeded_memory(log: &[String]) -> bool {
    const MESSAGES: [&str; 4] =
        ["exceeded memory limit", "Exceeded job memory limit", "oom-kill event", "oom_kill event"];
    log.iter()
        .filter(|line| line.starts_with("slurmstepd"))
        .any(|line| MESSAGES.iter().any(|message| line.contains(message)))
}

/// The last line of the standard error of a program, without the program's name.
pub(crate) fn script_error(program: &str, stderr: &str) -> String {
    let lead = format!("{program}: error: ");
    let line = stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
    let line = line.map(|line| line.strip_prefix(&lead).unwrap_or(line));
    line.map_or_else(|| format!("`{program}` failed"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `squeue -h -t all -r -o '%i|%T|%r|%j'` of Slurm 22.05.8: exit codes 0 and 7, `kill -9`, an
    /// unwritable log, a running and a held task.
    const SQUEUE_22: &str = "\
1_0|COMPLETED|None|repro-x-1
1_1|FAILED|NonZeroExitCode|repro-x-1
1_3|FAILED|JobLaunchFailure|repro-x-1
2_0|FAILED|JobLaunchFailure|repro-x-2
1_2|RUNNING|None|repro-x-1
3|PENDING|JobHeldUser|repro-x-3
4_[0-200]|PENDING|JobHeldUser|repro-x-3
";

    /// Parts of `scontrol -o show job` of Slurm 22.05.8: `kill -9`, and an unwritable log.
    const SCONTROL_22: &str = "\
JobId=1 ArrayJobId=1 ArrayTaskId=3 JobName=repro-x-1 UserId=root(0) GroupId=root(0) MCS_label=N/A \
Priority=4294901759 Nice=0 Account=(null) QOS=(null) JobState=FAILED Reason=JobLaunchFailure \
Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:9 RunTime=00:00:00 \
ReqNodeList=(null) ExcNodeList=(null) NodeList=n2 BatchHost=n2 NumNodes=1 Comment=c d  \
StdOut=/tmp/cap/1_3.log Power= \n\
JobId=11 ArrayJobId=2 ArrayTaskId=0 JobName=repro-x-2 UserId=root(0) GroupId=root(0) \
JobState=FAILED Reason=JobLaunchFailure Dependency=(null) Requeue=0 ExitCode=0:53 \
ReqNodeList=(null) ExcNodeList=(null) NodeList=n3 BatchHost=n3 NumNodes=1\n";

    /// The form of Slurm 23.11 and later: other fields in between, no node yet.
    const SCONTROL_23: &str = "\
JobId=97 JobName=repro-x-9 UserId=ann(1001) GroupId=ann(1001) MCS_label=N/A Priority=1 Nice=0 \
Account=lab QOS=normal WCKey=* JobState=PENDING Reason=Resources Dependency=(null) Requeue=0 \
Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0 SubmitTime=2024-05-02T10:00:00 Partition=main \
AllocNode:Sid=login:77 ReqNodeList=(null) ExcNodeList=n7 NodeList= StartTime=Unknown \
ReqTRES=cpu=1,mem=64M,node=1,billing=1 AllocTRES=(null) Features=(null) DelayBoot=00:00:00\n";

    fn states(text: &str) -> Vec<(String, State)> {
        parse_squeue(text).into_iter().map(|row| (row.id.to_string(), row.state)).collect()
    }

    #[test]
    fn squeue_lists_the_state_of_each_task() {
        let expected = [
            ("1_0", State::Ended(End::Completed)),
            ("1_1", State::Ended(End::Failed)),
            ("1_3", State::Ended(End::Failed)),
            ("2_0", State::Ended(End::Failed)),
            ("1_2", State::Running),
            ("3_0", State::Pending("JobHeldUser".into())),
        ];
        assert_eq!(states(SQUEUE_22), expected.map(|(id, state)| (id.to_owned(), state)));
        assert_eq!(parse_squeue(SQUEUE_22)[0].name, "repro-x-1");
    }

    #[test]
    fn a_reason_may_contain_separators_and_lines_of_another_form_are_ignored() {
        let text = "slurm_load_jobs error: x\n\n5_1|PENDING|(a | b)|repro-y\n6|PENDING\n\
                    7+1|RUNNING|None|h\n";
        let expected = [("5_1".to_owned(), State::Pending("(a | b)".into()))];
        assert_eq!(states(text), expected);
    }

    #[test]
    fn a_state_that_is_not_known_is_neither_an_end_nor_success() {
        for state in ["", "EXPEDITING", "completed", "COMPLETED?"] {
            assert_eq!(parse_state(state, ""), State::Unknown(state.to_owned()));
        }
    }

    #[test]
    fn every_documented_state_is_known() {
        let all = "BOOT_FAIL CANCELLED COMPLETED CONFIGURING COMPLETING DEADLINE FAILED NODE_FAIL \
                   OUT_OF_MEMORY PENDING PREEMPTED RUNNING REQUEUED REQUEUE_HOLD SPECIAL_EXIT \
                   REVOKED RESIZING SIGNALING STAGE_OUT STOPPED SUSPENDED TIMEOUT";
        for state in all.split_whitespace() {
            assert!(!matches!(parse_state(state, ""), State::Unknown(_)), "{state}");
        }
        let ends = ["CANCELLED by 0", "CANCELLED+", "TIMEOUT", "DEADLINE", "PREEMPTED"];
        let of = |state| parse_state(state, "");
        let expected =
            [End::Cancelled, End::Cancelled, End::TimedOut, End::TimedOut, End::Preempted];
        assert_eq!(ends.map(of), expected.map(State::Ended));
    }

    #[test]
    fn a_job_that_slurm_holds_after_a_failed_start_is_held() {
        for reason in ["launch failed requeued held", "launch_failed_requeued_held"] {
            assert_eq!(parse_state("PENDING", reason), State::Held(reason.into()));
        }
        assert_eq!(parse_state("PENDING", "JobHeldUser"), State::Pending("JobHeldUser".into()));
    }

    #[test]
    fn scontrol_tells_a_launch_failure_from_a_killed_job() {
        let details = parse_scontrol(SCONTROL_22);
        let expected = [
            Detail {
                id: TaskId { job: 1, task: 3 },
                state: State::Ended(End::Failed),
                exit: (0, 9),
                node: "n2".into(),
            },
            Detail {
                id: TaskId { job: 2, task: 0 },
                state: State::Ended(End::LaunchFailure),
                exit: (0, 53),
                node: "n3".into(),
            },
        ];
        assert_eq!(details, expected);
    }

    #[test]
    fn scontrol_of_a_newer_version_and_of_a_single_job_is_read() {
        let details = parse_scontrol(SCONTROL_23);
        assert_eq!(details[0].id, TaskId { job: 97, task: 0 });
        assert_eq!(details[0].state, State::Pending("Resources".into()));
        assert_eq!(details[0].node, "");
    }

    #[test]
    fn sacct_lists_the_ends_of_tasks() {
        let text = "17_0|CANCELLED by 0|0:15|n1|repro-x\n17_1|COMPLETED|0:0|n2|repro-x\n\
                    17_2|FAILED|0:53|n2|repro-x\n17_3|NODE_FAIL|1:0|n3|repro-x\n\
                    17_[4-5]|PENDING|0:0|None assigned|repro-x\n18|OUT_OF_MEMORY|0:125|n1|a|b\n";
        let states: Vec<State> = parse_sacct(text).into_iter().map(|detail| detail.state).collect();
        let expected = [
            End::Cancelled,
            End::Completed,
            End::LaunchFailure,
            End::NodeFailure,
            End::OutOfMemory,
        ];
        assert_eq!(states, expected.map(State::Ended));
    }

    #[test]
    fn only_messages_of_slurm_tell_that_a_task_exceeded_its_memory() {
        // Slurm 22.05 without cgroups; 19.05 and 23.11 with cgroups.
        let messages = [
            "slurmstepd-n1: error: StepId=1.batch exceeded memory limit (224993280 > 33554432), \
             being killed",
            "slurmstepd: error: Exceeded job memory limit",
            "slurmstepd: error: Detected 1 oom-kill event(s) in step 17.batch cgroup. Some of your \
             processes may have been killed by the cgroup out-of-memory handler.",
            "slurmstepd: error: Detected 1 oom_kill event in StepId=17.batch. Some of the step \
             tasks have been OOM Killed.",
        ];
        let case = |line: &str| exceeded_memory(&["epoch 1".to_owned(), line.to_owned()]);
        assert_eq!(messages.map(case), [true; 4]);
        let others =
            ["my model exceeded memory limits", "slurmstepd: error: *** JOB 1 CANCELLED ***", ""];
        assert_eq!(others.map(case), [false; 3]);
    }

    #[test]
    fn the_id_of_a_submission_is_the_last_line() {
        let read = ["17\n", "17;one\n", "Welcome to the cluster!\n\n17\n", "", "error"];
        assert_eq!(read.map(parse_sbatch), [Some(17), Some(17), Some(17), None, None]);
    }

    #[test]
    fn the_largest_array_is_read_from_the_configuration() {
        let config =
            "Configuration data as of 2026\nMaxArraySize            = 1001\nMaxJobCount = 1\n";
        assert_eq!(parse_max_array(config), Some(1001));
        assert_eq!(parse_max_array(""), None);
    }

    #[test]
    fn only_errors_that_may_pass_are_temporary() {
        let timeout = "sbatch: error: Batch job submission failed: Socket timed out on send/recv";
        assert!(is_temporary(timeout));
        let limit = "sbatch: error: Batch job submission failed: Job violates accounting/QOS \
                     policy (job submit limit, user's size and/or time limits)";
        assert!(is_temporary(limit));
        assert!(!is_temporary("sbatch: error: invalid partition specified: nope"));
    }
}
