//! Recorded fallbacks: keys that could not be computed, so that another recipe is used instead.

use super::store::Store;
use crate::engine::key::Key;
use crate::fs;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The content of a file in `fallbacks/`.
#[derive(Serialize, Deserialize)]
struct Fallback {
    cause: String,
}

impl Store {
    /// The reason why the fallback of `key` is used; `None` if it is not used.
    pub fn fallback(&self, key: Key) -> Result<Option<String>> {
        let fallback: Option<Fallback> = self.local.read_enveloped(&self.fallback_path(key))?;
        Ok(fallback.map(|fallback| fallback.cause))
    }

    /// Records that `key` could not be computed, so that later runs use its fallback.
    pub fn record_fallback(&self, key: Key, cause: &str) -> Result<()> {
        let fallback = Fallback { cause: cause.to_owned() };
        self.local.write_enveloped(&self.fallback_path(key), &fallback)
    }

    /// Removes the record, so that the next run tries `key` again.
    pub fn remove_fallback(&self, key: Key) -> Result<()> {
        fs::remove_if_exists(&self.fallback_path(key))
    }

    fn fallback_path(&self, key: Key) -> PathBuf {
        self.path("fallbacks").join(key.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Lookup;
    use crate::engine::testing::{TestSpace, recipe};

    #[test]
    fn a_fallback_counts_for_its_own_key_only() {
        let TestSpace { store, .. } = &TestSpace::new();
        let [one, two] = ["one", "two"].map(|kind| recipe(kind).key());
        store.record_fallback(one, "no mirror responded").unwrap();
        std::fs::copy(store.fallback_path(one), store.fallback_path(two)).unwrap();
        assert_eq!(store.fallback(two).unwrap(), None);
        assert_eq!(store.fallback(one).unwrap().as_deref(), Some("no mirror responded"));
    }

    #[test]
    fn a_fallback_is_recorded_until_it_is_removed_and_is_no_result() {
        let TestSpace { store, .. } = &TestSpace::new();
        let key = recipe("k").key();
        assert_eq!(store.fallback(key).unwrap(), None);
        store.record_fallback(key, "no mirror responded").unwrap();
        assert_eq!(store.fallback(key).unwrap().as_deref(), Some("no mirror responded"));
        assert_eq!(store.lookup(key).unwrap(), Lookup::Absent);
        store.remove_fallback(key).unwrap();
        store.remove_fallback(key).unwrap();
        assert_eq!(store.fallback(key).unwrap(), None);
    }
}
