//! The bridge: stage kinds, each a file with its parameters and what it does. The only room that knows both towers.
//!
//! ```text
//! fetch -> train -> align -> evaluate -> aggregate -> plot -> report
//! ```
//!
//! and, for any study, `file` and `command`. A new kind is one file here and one line in [`KINDS`].

mod aggregate;
mod align;
mod artifact;
mod captions;
mod command;
mod conclusions;
mod environment;
mod evaluate;
mod extras;
mod fetch;
mod figures;
mod file;
mod format;
mod limits;
mod paths;
mod plot;
mod report;
mod results;
mod rows;
mod scratch;
mod sections;
mod tables;
mod talk;
mod texts;
mod train;
mod undeclared;

use crate::engine::stage::{Kind, KindOf};
pub use fetch::DATA_VARIABLE;

/// Every stage kind: those of the study, in the order in which data flow, and those for any study.
pub const KINDS: &[&dyn Kind] = &[
    &KindOf::<fetch::Fetch>::KIND,
    &KindOf::<train::Train>::KIND,
    &KindOf::<align::Align>::KIND,
    &KindOf::<evaluate::Evaluate>::KIND,
    &KindOf::<aggregate::Aggregate>::KIND,
    &KindOf::<plot::Plot>::KIND,
    &KindOf::<report::Report>::KIND,
    &KindOf::<file::File>::KIND,
    &KindOf::<command::Command>::KIND,
];

/// How many of them are the study's.
const OF_THE_STUDY: usize = 7;
