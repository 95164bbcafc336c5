//! The study: data, nets, curves between nets, statistics. Knows no files and no engine.

pub mod bounded;
pub mod curve;
pub mod data;
pub mod net;
pub mod rng;
pub mod stats;
