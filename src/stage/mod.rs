//! The stage kinds. Only this module depends on both the engine and the study.
//!
//! ```text
//! fetch  -> train  -> align -> learn -> evaluate -> aggregate -> plot -> report
//! images -> import                   -> ensemble, plane       -> plot -> report
//! ```
//!
//! `file` and `command` serve any pipeline. A new kind is a file here and a line in [`KINDS`].

mod aggregate;
mod align;
mod artifact;
mod command;
mod compare;
mod curve_key;
mod ensemble;
mod evaluate;
mod fetch;
mod file;
mod images;
mod import;
mod learn;
mod names;
mod plane;
mod plot;
mod quality;
mod report;
mod rows;
mod tables;
mod talk;
mod texts;
mod train;
mod width_law;

use crate::engine::stage::{Kind, KindOf};
pub use fetch::DATA_VARIABLE;

/// Every stage kind, in the order in which data flow.
pub const KINDS: &[&dyn Kind] = &[
    &KindOf::<fetch::FetchStage>::KIND,
    &KindOf::<images::ImagesStage>::KIND,
    &KindOf::<train::TrainStage>::KIND,
    &KindOf::<import::ImportStage>::KIND,
    &KindOf::<align::AlignStage>::KIND,
    &KindOf::<learn::LearnStage>::KIND,
    &KindOf::<evaluate::EvaluateStage>::KIND,
    &KindOf::<ensemble::EnsembleStage>::KIND,
    &KindOf::<plane::PlaneStage>::KIND,
    &KindOf::<aggregate::AggregateStage>::KIND,
    &KindOf::<plot::PlotStage>::KIND,
    &KindOf::<report::ReportStage>::KIND,
    &KindOf::<file::FileStage>::KIND,
    &KindOf::<command::CommandStage>::KIND,
];
