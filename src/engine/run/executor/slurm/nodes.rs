//! Submits job arrays whose tasks compute the keys of their nodes themselves.

use super::super::Options;
use super::client::{Client, Refused};
use super::group;
use super::script::{Array, script};
use super::submission::{Folder, Submission};
use crate::engine::cache::process::ProcessId;
use crate::engine::cache::store::Store;
use crate::engine::error::Error;
use crate::engine::resources::SlurmSettings;
use crate::engine::stage::Resources;
use anyhow::Result;
use std::num::NonZero;
use std::time::{Duration, Instant};

/// The pause before a refused submission is tried again.
const PAUSE: Duration = Duration::from_secs(5);
/// The time for which Slurm may refuse a submission.
const REFUSAL: Duration = Duration::from_secs(300);

/// Submits job arrays, one call after the other.
pub struct Submitter {
    options: Options,
    settings: SlurmSettings,
    store: Store,
    client: Client,
    /// The jobs that were submitted.
    submitted: Vec<u64>,
}

/// What a job array runs.
pub enum Work<'a> {
    /// These nodes, given by their names.
    Nodes(&'a [String]),
    /// The program with these arguments, as a single task.
    Command(&'a [String]),
}

/// A job array to submit.
pub struct NodeJobs<'a> {
    /// The stage kind, or the command.
    pub kind: &'a str,
    /// The resources of each node.
    pub resources: &'a Resources,
    /// The number of retries of a failed node, unless its resources have more.
    pub retries: u32,
    /// The duration of a node, if it is known.
    pub expected: Option<Duration>,
    /// The jobs that must have ended before.
    pub after: Vec<u64>,
    /// What it runs.
    pub work: Work<'a>,
}

impl Submitter {
    /// Submits jobs with results in `store`. The arguments of `options` make a task of nodes.
    pub fn new(options: Options, settings: SlurmSettings, store: Store) -> Submitter {
        let (client, submitted) = (Client::default(), Vec::new());
        Submitter { options, settings, store, client, submitted }
    }

    /// Submits jobs as one array, or as several if there are too many tasks. Returns the ids.
    pub fn submit(&mut self, jobs: &NodeJobs) -> Result<Vec<u64>> {
        let most = self.client.max_array()?;
        let tasks: Vec<Vec<String>> = match jobs.work {
            Work::Nodes(nodes) => {
                let batch_time = self.settings.batch_time;
                // A task does not release the nodes that it has no time for.
                let is_long = jobs.expected.is_none()
                    && time_limit(&self.resources(jobs)).is_some_and(|limit| limit > batch_time);
                let size =
                    if is_long { 1 } else { group::size(nodes.len(), jobs.expected, batch_time) };
                nodes.chunks(size).map(<[String]>::to_vec).collect()
            }
            Work::Command(_) => vec![Vec::new()],
        };
        tasks.chunks(most.max(1)).map(|tasks| self.submit_array(jobs, tasks.to_vec())).collect()
    }

    /// The resources of a task, and the retries of its nodes.
    fn resources(&self, jobs: &NodeJobs) -> Resources {
        let resources = jobs.resources.clone().or(&self.settings.resources);
        Resources { retries: jobs.retries.max(resources.retries), ..resources }
    }

    fn submit_array(&mut self, jobs: &NodeJobs, tasks: Vec<Vec<String>>) -> Result<u64> {
        let folder = Folder::create(&self.store)?;
        let name = format!("repro-{}-{}", self.store.cluster_name()?, folder.name());
        let resources = self.resources(jobs);
        let threads = resources.threads.unwrap_or(NonZero::<usize>::MIN);
        let batch_time = self.settings.batch_time;
        let (retries, limit) = (resources.retries, time_limit(&resources));
        // Where the duration is not known, each node may take as long as its limit.
        let within = if jobs.expected.is_some() { batch_time } else { Duration::MAX };
        let limits =
            |task: &Vec<String>| group::time(vec![limit; task.len().max(1)].iter(), within);
        let array = Array {
            name: name.clone(),
            comment: format!("repro {}", jobs.kind),
            tasks: tasks.len(),
            time: tasks.iter().map(limits).max().flatten(),
            logs: folder.logs(),
            exclude: Vec::new(),
            after: jobs.after.iter().map(u64::to_string).collect(),
            // There may be no coordinator to submit it again.
            requeue: true,
            resources,
        };
        let Options { name: program, arguments, environment, .. } = &self.options;
        let text = match jobs.work {
            Work::Nodes(_) => {
                let mut words: Vec<String> =
                    arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
                let path = folder.path().display().to_string();
                words.extend(["--submission".into(), path, "--task".into()]);
                script(environment, threads.get(), program, &words, true)
            }
            Work::Command(words) => script(environment, threads.get(), program, words, false),
        };
        let submission = Submission {
            name: name.clone(),
            kind: jobs.kind.to_owned(),
            process: ProcessId::this().clone(),
            threads,
            batch_time,
            tasks: Vec::new(),
            nodes: tasks,
            retries,
        };
        folder.write(&self.store, &submission, &text)?;
        let id = match self.call(&array, &text)? {
            Ok(id) => id,
            Err(cause) => {
                folder.remove(array.tasks);
                return Err(self.refused(&cause));
            }
        };
        folder.write_job(&self.store, id)?;
        self.submitted.push(id);
        Ok(id)
    }

    /// The error of a submission that Slurm refused. It names the jobs that it has accepted.
    fn refused(&self, cause: &str) -> anyhow::Error {
        let accepted: Vec<String> = self.submitted.iter().map(u64::to_string).collect();
        let left = match &accepted[..] {
            [] => String::new(),
            ids => format!("; `repro cancel` ends the jobs {} before it", ids.join(", ")),
        };
        Error::Infrastructure(format!("Slurm did not accept a job: {cause}{left}")).into()
    }

    /// Submits an array. Returns its id, or why Slurm does not accept it.
    fn call(&mut self, array: &Array, script: &str) -> Result<std::result::Result<u64, String>> {
        let until = Instant::now() + REFUSAL;
        loop {
            self.client.rest();
            let cause = match self.client.sbatch(&array.arguments(), script)? {
                Ok(id) => return Ok(Ok(id)),
                Err(Refused::ForEver(cause)) => return Ok(Err(cause)),
                Err(Refused::ForNow(cause)) => cause,
            };
            // The controller may have accepted the job.
            std::thread::sleep(PAUSE);
            let found = self.client.squeue(std::slice::from_ref(&array.name))?;
            if let Ok(rows) = found
                && let Some(row) = rows.first()
            {
                return Ok(Ok(row.id.job));
            }
            if Instant::now() > until {
                return Ok(Err(cause));
            }
        }
    }
}

/// The time limit of a node: a task retries its nodes itself, so that it needs the time for all
/// attempts.
fn time_limit(resources: &Resources) -> Option<Duration> {
    let attempts = resources.retries.saturating_add(1);
    resources.time_limit.map(|limit| limit.saturating_mul(attempts))
}
