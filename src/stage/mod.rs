//! The bridge: stage kinds, each a file with its parameters and what it does. The only room that knows both towers.
//!
//! ```text
//! fetch -> train -> align -> evaluate -> aggregate -> plot -> report
//! ```
//!
//! A new kind is one file here and one line in [`KINDS`].

mod aggregate;
mod align;
mod artifact;
mod conclusions;
mod evaluate;
mod fetch;
mod format;
mod plot;
mod report;
mod tables;
mod talk;
mod train;

use crate::engine::stage::{Kind, KindOf};
pub use fetch::DATA_VARIABLE;

/// Every stage kind, in the order in which data flow.
pub const KINDS: &[&dyn Kind] = &[
    &KindOf::<fetch::Fetch>::KIND,
    &KindOf::<train::Train>::KIND,
    &KindOf::<align::Align>::KIND,
    &KindOf::<evaluate::Evaluate>::KIND,
    &KindOf::<aggregate::Aggregate>::KIND,
    &KindOf::<plot::Plot>::KIND,
    &KindOf::<report::Report>::KIND,
];
