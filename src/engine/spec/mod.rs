//! What the user declares: pipeline.yaml as written, and the plan made of it.

pub mod expand;
pub mod grid;
pub mod pipeline;
pub mod plan;
pub mod reference;
pub mod schema;
pub mod sources;
