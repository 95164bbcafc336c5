//! Runs jobs on a cluster with Slurm.

mod script;
mod state;
