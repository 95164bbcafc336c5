//! The program from outside: each test is a project folder of its own, a few runs of `repro`, and what they said and left.
//!
//! A test's name is its claim. What ran comes first, results second: a cache that gives right numbers by working twice is
//! broken. No test needs the network, MNIST or the time of day.

mod cache;
mod carried;
mod clock;
mod data;
mod declared;
mod disk;
mod environment;
mod faults;
mod fuzz;
mod gc;
mod golden;
mod history;
mod house;
mod inspect;
mod isolation;
mod jobs;
mod limits;
mod links;
mod lock;
mod looking;
mod malformed;
mod names;
mod open;
mod processes;
mod protocol;
mod readme;
mod recompute;
mod repeat;
mod schema;
mod shared;
mod space;
mod stages;
mod streams;
mod survive;
mod unchanged;
mod unseen;
mod values;
mod workers;
