//! Which jobs share a task of a job array, and which tasks share an array.

use super::super::Job;
use crate::engine::stage::Resources;
use std::time::Duration;

/// The number of tasks for jobs whose duration is not known. A task releases jobs that turn out to
/// be long.
const UNKNOWN: usize = 64;

/// The least number of tasks for many short jobs, so that they run in parallel.
const LEAST: usize = 8;

/// The number of jobs of a task, for `jobs` jobs that take `expected` each.
pub(super) fn size(jobs: usize, expected: Option<Duration>, batch_time: Duration) -> usize {
    let Some(expected) = expected else { return jobs.div_ceil(UNKNOWN).max(1) };
    // The start of a job takes some time, too.
    let each = expected.as_secs_f64().max(0.01);
    let fitting = (batch_time.as_secs_f64() / each).min(jobs as f64) as usize;
    fitting.min(jobs.div_ceil(LEAST)).max(1)
}

/// Whether two jobs may be in one array: those of one kind, with the same resources.
pub(super) fn is_alike(one: (&Job, &Resources), other: (&Job, &Resources)) -> bool {
    let class = |(job, resources): (&Job, &Resources)| {
        let Resources { threads, memory, gpus, time_limit, .. } = resources;
        (job.kind, *threads, *memory, *gpus, time_limit.is_some())
    };
    class(one) == class(other) && one.1.sbatch == other.1.sbatch
}

/// The time limit of a task: the time that its jobs may take, at most until the last job that
/// starts within the batch time ends, and a minute to start. `None` if a job has no limit.
pub(super) fn time<'a>(
    jobs: impl Iterator<Item = &'a Option<Duration>>,
    batch_time: Duration,
) -> Option<Duration> {
    let (mut total, mut longest) = (Duration::ZERO, Duration::ZERO);
    for limit in jobs {
        let limit = (*limit)?;
        (total, longest) = (total.saturating_add(limit), longest.max(limit));
    }
    let most = total.min(batch_time.saturating_add(longest));
    Some(most.saturating_add(Duration::from_secs(60)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::job;
    use std::num::NonZero;

    const BATCH: Duration = Duration::from_secs(300);

    #[test]
    fn short_jobs_share_a_task_and_long_ones_do_not() {
        let known = |jobs, seconds| size(jobs, Some(Duration::from_secs_f64(seconds)), BATCH);
        assert_eq!([known(100, 3600.0), known(100, 300.0), known(100, 60.0)], [1, 1, 5]);
        assert_eq!(known(2000, 0.0), 250, "eight tasks run in parallel");
        assert_eq!([known(1, 0.1), known(3, 0.1)], [1, 1]);
        assert_eq!([1, 64, 65, 2000].map(|jobs| size(jobs, None, BATCH)), [1, 1, 2, 32]);
    }

    #[test]
    fn a_task_has_the_time_for_its_jobs() {
        let seconds = |limits: &[Option<u64>]| {
            let limits: Vec<_> =
                limits.iter().map(|limit| limit.map(Duration::from_secs)).collect();
            time(limits.iter(), BATCH).map(|time| time.as_secs())
        };
        assert_eq!(seconds(&[Some(10), Some(20)]), Some(90));
        assert_eq!(seconds(&[Some(3600); 5]), Some(300 + 3600 + 60));
        assert_eq!(seconds(&[Some(10), None]), None);
    }

    #[test]
    fn jobs_of_one_kind_with_equal_resources_share_an_array() {
        let (plain, wide) =
            (Resources::default(), Resources { threads: NonZero::new(2), ..Resources::default() });
        let partition = Resources { sbatch: vec!["-p x".into()], ..Resources::default() };
        let (one, other) = (job("a"), Job { kind: "b", ..job("b") });
        assert!(is_alike((&one, &plain), (&job("b"), &plain)));
        assert!(!is_alike((&one, &plain), (&other, &plain)));
        assert!(!is_alike((&one, &plain), (&one, &wide)));
        assert!(!is_alike((&one, &plain), (&one, &partition)));
    }
}
