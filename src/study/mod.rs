//! The study: data, nets, curves between nets, statistics. It reads no files and does not depend on
//! the engine.

pub mod bounded;
pub mod curve;
pub mod data;
pub mod net;
mod registry;
pub mod rng;
pub mod stats;
