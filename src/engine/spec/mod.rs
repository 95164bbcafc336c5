//! pipeline.yaml as written, and the plan that it resolves to.

pub mod expand;
pub mod grid;
pub mod pipeline;
pub mod plan;
pub mod reference;
pub mod schema;
pub mod sources;
mod upstream;
