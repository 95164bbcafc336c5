//! Recorded recipes. They let a child process compute a result from its key alone, and later runs
//! explain the changes.

use super::store::Store;
use crate::engine::error::Error;
use crate::engine::key::{Key, Recipe};
use crate::fs;
use anyhow::Result;

impl Store {
    /// Records a recipe under its key. It is synced to disk with the result.
    pub fn record_recipe(&self, recipe: &Recipe) -> Result<Key> {
        let key = recipe.key();
        let path = self.local.recipe_path(key);
        let text = recipe.canonical();
        // Also replaces a damaged recipe, which would fail every job that reads it.
        if fs::read_if_regular(&path)?.is_none_or(|bytes| bytes != text.as_bytes()) {
            fs::replace(&path, &self.scratch()?, text.as_bytes())?;
        }
        Ok(key)
    }

    /// The recipe of `key`.
    pub fn recipe(&self, key: Key) -> Result<Option<Recipe>> {
        let path = self.local.recipe_path(key);
        let bytes = fs::read_if_regular(&path)?;
        // A loss of power may leave an empty file.
        let is_none = match &bytes {
            Some(bytes) => bytes.is_empty(),
            None => fs::metadata_if_exists(&path)?.is_none(),
        };
        if is_none {
            return Ok(None);
        }
        let corrupt = |reason: &str| Error::Corrupt {
            message: format!("the recipe `{}` {reason}", path.display()),
            hint: "`repro verify` removes the recipe and keeps its result".into(),
        };
        let bytes = bytes.ok_or_else(|| corrupt("is not a regular file"))?;
        let recipe: Recipe = serde_json::from_slice(&bytes)
            .map_err(|error| corrupt(&format!("cannot be read: {error}")))?;
        if recipe.key() != key {
            return Err(corrupt("has another key").into());
        }
        Ok(Some(recipe))
    }

    /// All readable recipes, by key.
    pub fn recipes(&self) -> Result<Vec<(Key, Recipe)>> {
        let keys = self.keys("recipes")?;
        Ok(keys.into_iter().filter_map(|key| Some((key, self.recipe(key).ok()??))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{TestSpace, publish, recipe};

    #[test]
    fn a_recorded_recipe_is_read_back_and_a_changed_one_is_corruption() {
        let TestSpace { store, .. } = &TestSpace::new();
        let key = store.record_recipe(&recipe("k")).unwrap();
        assert_eq!(store.recipe(key).unwrap(), Some(recipe("k")));
        assert_eq!(store.recipe(recipe("other").key()).unwrap(), None);
        for damaged in [recipe("other").canonical().as_str(), "{", " ", "[]"] {
            fs::write(&store.local.recipe_path(key), damaged).unwrap();
            let error = store.recipe(key).unwrap_err();
            assert!(
                matches!(error.downcast_ref(), Some(Error::Corrupt { .. })),
                "{damaged}: {error}"
            );
            assert_eq!(store.recipes().unwrap(), [], "a damaged recipe is skipped");
        }
        store.record_recipe(&recipe("k")).unwrap();
        assert_eq!(store.recipe(key).unwrap(), Some(recipe("k")), "recording replaces it");
    }

    #[test]
    fn a_recipe_that_a_loss_of_power_left_empty_is_missing_and_is_recorded_again() {
        let space = TestSpace::new();
        let (key, _) = publish(&space.store, "k", b"bytes");
        fs::write(&space.store.local.recipe_path(key), "").unwrap();
        assert!(space.store.recipe(key).unwrap().is_none());
        publish(&space.store, "k", b"bytes");
        assert!(space.store.recipe(key).unwrap().is_some());
    }
}
