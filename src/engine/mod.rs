//! The engine: from pipeline.yaml to artifacts. Knows no mathematics and no stage kind.

pub mod deliver;
pub mod diff;
pub mod entry;
mod envelope;
pub mod error;
pub mod event;
pub mod exec;
pub mod executor;
mod expand;
pub mod files;
pub mod gc;
mod grid;
pub mod history;
pub mod key;
pub mod lease;
pub mod lock;
mod memo;
mod node;
pub mod owner;
mod pin;
pub mod pipeline;
pub mod plan;
pub mod pool;
pub mod progress;
pub mod reason;
pub mod recompute;
pub mod requester;
pub mod schedule;
pub mod schema;
pub mod stage;
pub mod store;
pub mod survey;
#[cfg(test)]
mod toy;
pub mod value;
pub mod verify;
pub mod wording;
