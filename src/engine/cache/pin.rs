//! Pins: keys whose results `gc` keeps, with the names of the pinned nodes.

use super::store::Store;
use crate::engine::key::Key;
use crate::fs;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The folder of the pins.
pub(super) const PINS: &str = "pins";

/// The content of a file in `pins/`.
#[derive(Serialize, Deserialize)]
struct Pin {
    nodes: BTreeSet<String>,
}

impl Store {
    /// The pinned keys with the names of their nodes; a key that is pinned for two nodes is listed
    /// twice.
    pub fn pins(&self) -> Result<Vec<(Key, String)>> {
        let mut pins = Vec::new();
        for key in self.pinned_keys()? {
            pins.extend(self.pinned_for(key)?.into_iter().map(|node| (key, node)));
        }
        Ok(pins)
    }

    /// The pinned keys. A file pins the key in its name even if its content is damaged.
    pub fn pinned_keys(&self) -> Result<BTreeSet<Key>> {
        Ok(fs::list(&self.path(PINS))?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Pins `key` for `node`.
    pub fn pin(&self, key: Key, node: &str) -> Result<()> {
        let _update = self.lock_update()?;
        let mut nodes = self.pinned_for(key)?;
        nodes.insert(node.to_owned());
        fs::create_dir_all(&self.path(PINS))?;
        self.write_pin(key, nodes)
    }

    /// Removes the pin of `key` for `node`.
    pub fn unpin(&self, key: Key, node: &str) -> Result<()> {
        let _update = self.lock_update()?;
        let mut nodes = self.pinned_for(key)?;
        nodes.remove(node);
        match nodes.is_empty() {
            true => fs::remove_if_exists(&self.pin_path(key)),
            false => self.write_pin(key, nodes),
        }
    }

    /// The nodes that `key` is pinned for.
    fn pinned_for(&self, key: Key) -> Result<BTreeSet<String>> {
        let pin: Option<Pin> = self.local.read_enveloped(&self.pin_path(key))?;
        Ok(pin.map(|pin| pin.nodes).unwrap_or_default())
    }

    fn write_pin(&self, key: Key, nodes: BTreeSet<String>) -> Result<()> {
        self.local.write_enveloped(&self.pin_path(key), &Pin { nodes })
    }

    fn pin_path(&self, key: Key) -> PathBuf {
        self.path(PINS).join(key.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{TestSpace, recipe};

    #[test]
    fn a_damaged_pin_still_pins_its_key_for_no_node() {
        let TestSpace { store, .. } = &TestSpace::new();
        let [one, two] = ["one", "two"].map(|kind| recipe(kind).key());
        store.pin(one, "a").unwrap();
        store.pin(two, "b").unwrap();
        std::fs::rename(store.pin_path(one), store.pin_path(two)).unwrap();
        fs::write(&store.pin_path(one), "").unwrap();
        assert_eq!(store.pinned_keys().unwrap(), [one, two].into());
        assert_eq!(store.pins().unwrap(), []);
        store.pin(one, "a").unwrap();
        assert_eq!(store.pins().unwrap(), [(one, "a".to_owned())]);
    }
}
