//! wip
pub mod cli;
pub mod engine;
pub mod fs;
pub mod kernel;
pub mod report;
pub mod stage;
pub mod study;
