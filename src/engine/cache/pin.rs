//! Pins: keys that `gc` keeps, each under the names of the nodes it is pinned for.

use super::store::Store;
use crate::engine::key::Key;
use crate::fs;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What a file in `pins/` holds.
#[derive(Serialize, Deserialize)]
struct Pin {
    nodes: BTreeSet<String>,
}

impl Store {
    /// The pinned keys, each with the name of a node that it is pinned for; twice, if two nodes ask
    /// the same.
    pub fn pins(&self) -> Result<Vec<(Key, String)>> {
        let mut pins = Vec::new();
        for key in self.pinned_keys()? {
            pins.extend(self.pinned_for(key)?.into_iter().map(|node| (key, node)));
        }
        Ok(pins)
    }

    /// The pinned keys: the name of its file alone pins a key, whatever is in it.
    pub fn pinned_keys(&self) -> Result<BTreeSet<Key>> {
        Ok(fs::list(&self.root.join("pins"))?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Keeps `key` from being removed, under the name of `node`.
    pub fn pin(&self, key: Key, node: &str) -> Result<()> {
        let _turn = self.turn()?;
        let mut nodes = self.pinned_for(key)?;
        nodes.insert(node.to_owned());
        fs::create_dir_all(&self.root.join("pins"))?;
        self.write_pin(key, nodes)
    }

    /// Lets `key` go, as far as `node` is concerned.
    pub fn unpin(&self, key: Key, node: &str) -> Result<()> {
        let _turn = self.turn()?;
        let mut nodes = self.pinned_for(key)?;
        nodes.remove(node);
        if nodes.is_empty() {
            fs::remove_if_exists(&self.pin_path(key))
        } else {
            self.write_pin(key, nodes)
        }
    }

    /// The nodes that `key` is pinned for.
    fn pinned_for(&self, key: Key) -> Result<BTreeSet<String>> {
        let pin: Option<Pin> = self.read_enveloped(&self.pin_path(key))?;
        Ok(pin.map(|pin| pin.nodes).unwrap_or_default())
    }

    fn write_pin(&self, key: Key, nodes: BTreeSet<String>) -> Result<()> {
        self.write_enveloped(&self.pin_path(key), &Pin { nodes })
    }

    fn pin_path(&self, key: Key) -> PathBuf {
        self.root.join("pins").join(key.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{TestSpace, recipe};

    #[test]
    fn a_pin_that_is_damaged_or_swapped_still_keeps_its_key() {
        let TestSpace { store, .. } = &TestSpace::new();
        let [one, two] = ["one", "two"].map(|kind| recipe(kind).key());
        store.pin(one, "a").unwrap();
        store.pin(two, "b").unwrap();
        std::fs::rename(store.pin_path(one), store.pin_path(two)).unwrap();
        fs::write(&store.pin_path(one), "").unwrap();
        assert_eq!(store.pinned_keys().unwrap(), [one, two].into());
        assert_eq!(store.pins().unwrap(), [], "but for no node that can be named");
        store.pin(one, "a").unwrap();
        assert_eq!(store.pins().unwrap(), [(one, "a".to_owned())]);
    }
}
