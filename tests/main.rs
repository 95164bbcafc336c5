//! End-to-end tests: each creates a project folder, runs `repro` in it and checks output and files.
//!
//! A test's name is the claim that it checks. Tests check first which nodes ran, then the results:
//! a cache that returns right results after needless work is broken. No test needs the network or
//! MNIST.

mod browser;
mod cache;
mod changes;
mod citation;
mod clock;
mod command_stage;
mod data;
mod declared_files;
mod determinism;
mod disk;
mod environment;
mod extras;
mod faults;
mod file_modes;
mod file_stage;
mod fuzz;
mod gc;
mod golden;
mod history;
mod hostile_names;
mod inspect;
mod invalid_fields;
mod invalid_inputs;
mod invalid_selection;
mod invalidation;
mod isolation;
mod jobs;
mod limits;
mod links;
mod lock;
mod malformed;
mod modules;
mod processes;
mod protocol;
mod provenance;
mod read_only;
mod readme;
mod recompute;
mod ro_crate;
mod same_stat;
mod schema;
mod shared;
mod shared_nets;
mod space;
mod stages;
mod streams;
mod style;
mod survive;
mod templates;
mod unchanged;
mod values;
mod workers;
