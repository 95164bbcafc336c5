//! The cache: results under their keys, the locks and leases of processes, garbage collection.
//!
//! ```text
//! cache/v2/
//!   recipes/<key>.json    a recipe
//!   entries/<key>.json    its result: digests and sizes of the outputs; time, memory, host
//!   objects/<digest>      an output's bytes: read-only, with a modification time from the digest
//!   fallbacks/<key>       why the key could not be computed; its fallback is used
//!   logs/<key>            the output of the last attempt
//!   recomputed/<key>/     outputs that differed when they were recomputed, beside the cached ones
//!   quarantine/<digest>   a damaged object
//!   runs/<id>.jsonl       the history of a run
//!   snapshots/<digest>    a run that left everything up to date, so that the next needs no plan
//!   exports/<digest>      the files that were exported to a folder
//!   pins/<key>            the names of the nodes that the key is pinned for; `gc` keeps its result
//!   pipelines/<digest>    a pipeline that has run here; `gc` keeps its results
//!   slurm/                the jobs on a cluster, their logs and records
//!   files.json            digests of the project's files
//!   entries.index         the content of all entries
//!   leases/<key>          the process that computes the key
//!   leases/removal.lock   locked to remove a lease
//!   tmp/<process>/        workspaces and temporary files of a process
//!   lock                  shared by processes that add, exclusive for a process that removes
//!   update.lock           locked to read, change and write back a pin, a report or a lock file
//! ```
//!
//! A result is published by renames: its objects, then its entry. The entry's rename is the commit
//! point. A crash before it leaves objects that no entry names, and the recipe is computed again.
//! Publishing twice has the same effect as once. `durability.rs` describes when a result reaches
//! the disk.
//!
//! An object is sealed once no other process can write to it: project files are copied, and an
//! output is moved only after all processes of its stage have ended, if the file has one hard link
//! and belongs to the user. A process that makes it writable again and writes through a memory map,
//! on a file system that does not update times ([`Witness`](crate::fs::Witness)), is detected by
//! `verify` only.
//!
//! A file that was swapped for another is detected:
//!
//! | file | check when it is read |
//! |---|---|
//! | recipe | its key is the BLAKE3 of its content |
//! | entry, fallback, pin, export, snapshot, `files.json` | path and checksum (`envelope.rs`) |
//! | object | size and time, or its digest; `verify` always hashes it |
//! | pipeline | its name is the digest of its content |
//! | `entries.index` | a checksum; an entry counts only for the metadata of its file |
//! | lease, workspace | none: at worst, a result is computed twice |
//! | log, recomputed and quarantined files | none: they are for the user |
//! | history | none: it decides what `log` shows, and which further results `gc` keeps |
//!
//! Knows keys and digests, and no stage.

pub mod backend;
pub mod cluster;
pub mod durability;
pub mod entry;
pub mod exports;
mod fallback;
pub mod gc;
mod heartbeat;
mod index;
pub mod lease;
pub mod local;
pub mod lock;
mod pin;
pub mod pipelines;
pub mod process;
mod recipe;
pub mod remote;
mod runs;
pub mod store;
pub mod transfer;
pub mod verify;
pub mod workspace;
