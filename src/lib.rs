//! `repro` runs a declared, content-hashed research pipeline. It ships with a study: how connected
//! are the minima of neural networks?
//!
//! # The journey of data
//!
//! ```text
//! pipeline.yaml -> Pipeline (as written) -> Plan (resolved nodes) -> PlanStatus (cached or stale)
//!   a node whose inputs are done: digests of inputs -> Recipe -> Key -> Store::lookup
//!     hit:  done
//!     miss: Executor starts `repro exec`: workspace -> Stage::run -> objects
//!           -> entry (the commit point), and the scheduler looks the key up again
//!   reports are copied to reports/<profile>/
//! ```
//!
//! A **key** is the hash of a recipe, a **digest** is the hash of an output. A recipe contains the
//! digests of its inputs, so an upstream rerun that gives equal bytes reruns nothing downstream.
//!
//! # Modules
//!
//! The [`engine`] knows no mathematics and no stage kind; the [`study`] knows no files and no
//! engine. [`stage`] joins them, and [`cli`] passes the list of kinds to the engine.
//! `docs/architecture.md` has the table of imports, the path of a run through the files, and how to
//! add a curve, a prior, a dataset, a stage kind, an executor or a cache backend.

pub mod cli;
pub mod engine;
pub mod fs;
pub mod kernel;
pub mod process;
pub mod report;
pub mod stage;
pub mod study;
