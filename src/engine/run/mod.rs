//! Bringing nodes up to date: their status, the scheduler, jobs and their executors, events.

pub mod event;
pub mod executor;
pub mod pool;
pub mod progress;
pub mod reason;
pub mod recompute;
pub mod schedule;
pub mod snapshot;
pub mod status;
pub mod worker;
