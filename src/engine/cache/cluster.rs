//! The folder of the cache for jobs on a cluster.

use super::process::ProcessId;
use super::store::Store;
use crate::fs;
use anyhow::Result;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

impl Store {
    /// The folder of the submissions to Slurm.
    pub fn cluster(&self) -> PathBuf {
        self.path("slurm")
    }

    /// A short name of this cache, which no other cache has. The first call chooses it.
    pub fn cluster_name(&self) -> Result<String> {
        let path = self.cluster().join("id");
        fs::create_dir_all(&self.cluster())?;
        if fs::metadata_if_exists(&path)?.is_none() {
            fs::write_new(&path, &self.scratch()?, unique_name().as_bytes())?;
        }
        Ok(fs::read_text(&path)?.trim().to_owned())
    }
}

/// Eight hexadecimal digits that differ between calls, processes and hosts.
pub fn unique_name() -> String {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let calls = CALLS.fetch_add(1, Ordering::Relaxed);
    let text = format!("{} {calls} {}", ProcessId::this().tag(), now.as_nanos());
    blake3::hash(text.as_bytes()).to_hex()[..8].to_owned()
}
