//! `repro` runs a declared, content-hashed research pipeline. It ships with a study: how connected are the minima of
//! neural networks?
//!
//! # The journey of data
//!
//! ```text
//! pipeline.yaml -> Pipeline (as written) -> Plan (nodes, resolved) -> PlanStatus (cached, due or dependent, and why)
//!   a node whose inputs are settled: their digests -> Recipe -> Key -> Store::lookup
//!     hit:  settled, no work
//!     miss: Executor starts `repro exec KEY`: workspace -> Stage::run -> objects -> entry (the commit point)
//!           and the scheduler looks up again
//!   report/ and figures are copied to reports/<profile>/
//! ```
//!
//! A **key** names a question (the hash of a recipe), a **digest** names an answer (the hash of bytes). Since recipes hold
//! their inputs' digests, an upstream rerun that gives equal bytes stops there.
//!
//! # Who may import whom
//!
//! | room | may use |
//! |---|---|
//! | [`cli`] | all |
//! | [`stage`] | `engine::{stage, key}`, `study`, `kernel::sparse`, `report`, `fs`, `process` |
//! | [`engine`] | `fs`, `process` |
//! | [`study`] | `kernel` |
//! | [`kernel`], [`report`], [`fs`], [`process`] | nothing of ours |
//!
//! Two towers: the engine knows no mathematics and no stage kind, the study knows no files and no engine. Only `stage`
//! knows both, and `cli` hands its list of kinds to the engine. A test reads `src/` and holds this table.
//!
//! # Where to add
//!
//! A study of one's own needs no change here: `file` and `command` stages bring data and programs in.
//!
//! A curve: a file in `study/curve/` and a line in its list. A prior: `study/net/prior.rs`. A stage kind: a file in `stage/`
//! and a line in its list. An executor: a file in `engine/executor/` and a line in `cli/run.rs`.

pub mod cli;
pub mod engine;
pub mod fs;
pub mod kernel;
pub mod process;
pub mod report;
pub mod stage;
pub mod study;
