//! Bringing nodes up to date: their status, the scheduler, jobs and their executors, events.
//!
//! ```text
//! status, reason     which nodes are cached or stale, and why
//! schedule           the loop that runs stale nodes; recompute, that of `verify --recompute`
//! pool               starts and awaits jobs for both
//! executor/          gets processes for jobs; worker is what runs in such a process
//! event, progress    what happens in a run, and how it is shown
//! expected           what results are checked against
//! snapshot           runs in which nothing changed
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
pub mod worker;
