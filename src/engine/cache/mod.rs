//! The cache: results under their keys, the locks and leases of processes, garbage collection.

pub mod durable;
pub mod entry;
pub mod gc;
pub mod index;
pub mod lease;
pub mod lock;
pub mod pin;
pub mod process;
pub mod requester;
pub mod store;
pub mod verify;
