//! The engine: from pipeline.yaml to artifacts. Knows no mathematics and no stage kind.
//!
//! | module | contents | may use |
//! |---|---|---|
//! | [`record`] | lock file, histories, differences, exports | all below |
//! | [`run`] | status, scheduler, jobs, events | all below |
//! | [`spec`] | pipeline.yaml and the plan | the base modules |
//! | [`cache`] | results, locks, leases, garbage collection | the base modules |
//! | base modules | kinds of stages, keys, provenance, errors, YAML with locations, texts | each other |

pub mod cache;
mod envelope;
pub mod error;
pub mod key;
pub mod located;
pub mod provenance;
pub mod record;
pub mod resources;
pub mod run;
pub mod spec;
pub mod stage;
#[cfg(test)]
mod testing;
pub mod text;
