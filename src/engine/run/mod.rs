//! Running a plan: the status of its nodes, the scheduler, jobs and their executors, events.
//!
//! ```text
//! status, reason     which nodes are cached or stale, and why
//! schedule           the loop that runs stale nodes
//! submit             the job arrays of a whole plan, for a cluster
//! recompute          the loop of `verify --recompute`
//! pool               starts jobs and waits for them, for both loops
//! executor/          starts the processes of jobs
//! worker             runs jobs in such a process
//! event, progress    the events of a run, and their display
//! expected           the results in a lock file, for comparison
//! snapshot           skips the plan of a run if nothing has changed
//! ```

pub mod event;
pub mod executor;
pub mod expected;
pub mod pool;
pub mod progress;
pub mod reason;
pub mod recompute;
pub mod schedule;
pub mod snapshot;
pub mod status;
pub mod submit;
pub mod worker;
