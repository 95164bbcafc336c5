//! Lock file, histories of runs, differences, exported folders, provenance.

pub mod diff;
pub mod export;
pub mod history;
pub mod lockfile;
pub mod provenance;
pub mod ro_crate;
