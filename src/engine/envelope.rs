//! The envelope of small cache files: each file names its own path and carries a checksum.
//!
//! ```text
//! {"checksum":"<BLAKE3 of all that follows its comma>","path":"entries/<key>.json", ...fields}
//! ```
//!
//! `path` is relative to the cache. A file that was swapped for another, copied from another key,
//! truncated or edited fails the check, and counts as damaged. The checksum covers the bytes as
//! written, so a reader does not have to encode the value again.

use crate::engine::key::Digest;
use anyhow::{Context as _, Result};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

/// The path of the index of the project's files, below the cache.
pub(crate) const SOURCES: &str = "files.json";

const CHECKSUM: &str = "{\"checksum\":\"";

/// The content of the file at `path` with `value`, a struct with at least one field.
pub(crate) fn wrap(path: &str, value: &impl Serialize) -> Result<Vec<u8>> {
    let fields = serde_json::to_string(value).with_context(|| format!("cannot write `{path}`"))?;
    let fields = fields.strip_prefix('{').unwrap_or(&fields);
    let rest = format!("{}{fields}\n", prefix(path));
    Ok(format!("{CHECKSUM}{}\",{rest}", Digest::of(rest.as_bytes())).into_bytes())
}

/// Reads the value from the content of the file at `path`; `None` if [`wrap`] did not write the
/// content for this path.
pub(crate) fn unwrap<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (checksum, rest) = text.strip_prefix(CHECKSUM)?.split_once("\",")?;
    let is_whole = checksum == Digest::of(rest.as_bytes()).to_string();
    if is_whole && rest.starts_with(&prefix(path)) { serde_json::from_str(text).ok() } else { None }
}

fn prefix(path: &str) -> String {
    format!("\"path\":{},", Json::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Value {
        number: f64,
        text: String,
    }

    fn values() -> impl Strategy<Value = Value> {
        let number = any::<f64>().prop_filter("finite", |number| number.is_finite());
        (number, any::<String>()).prop_map(|(number, text)| Value { number, text })
    }

    proptest! {
        #[test]
        fn a_file_is_read_at_its_own_path_only(
            value in values(), path: String, other: String
        ) {
            let bytes = wrap(&path, &value).unwrap();
            prop_assert!(unwrap::<Value>(&path, &bytes).is_some());
            prop_assert!(serde_json::from_slice::<Json>(&bytes).is_ok(), "it is plain JSON");
            prop_assert_eq!(unwrap::<Value>(&other, &bytes).is_some(), path == other);
        }

        #[test]
        fn a_changed_or_truncated_file_is_not_read(
            value in values(), at: prop::sample::Index, bit in 0..8
        ) {
            let bytes = wrap("entries/k.json", &value).unwrap();
            let (at, mut flipped) = (at.index(bytes.len()), bytes.clone());
            flipped[at] ^= 1u8 << bit;
            prop_assert!(unwrap::<Value>("entries/k.json", &flipped).is_none());
            prop_assert!(unwrap::<Value>("entries/k.json", &bytes[..at]).is_none());
        }
    }
}
