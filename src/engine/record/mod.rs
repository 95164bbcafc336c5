//! Lock file, histories of runs, differences, exported folders.

pub mod diff;
pub mod export;
pub mod history;
pub mod lockfile;
