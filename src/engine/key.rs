//! Recipes, keys and digests: a [`Key`] is the hash of a recipe, a [`Digest`] the hash of a file.
//!
//! A [`Recipe`] contains everything that determines the output of a node. Its BLAKE3 is the key of
//! the node. `plan`, `run`, `why` and `verify` all use [`Recipe::key`].
//!
//! | ingredient | in the key? | why |
//! |---|---|---|
//! | stage kind | yes | another computation |
//! | `VERSION` of the kind | yes | raised when the output changes; a golden test per kind enforces it |
//! | parameters | yes, except those at their default | a new parameter with a default keeps old keys |
//! | digests of input files, by slot and file name | yes | content, not history: after an upstream rerun with equal bytes nothing downstream reruns |
//! | names and digests of the project's files that a stage declares | yes | the stage reads them; their paths on disk and their times are not in the key |
//! | which of those files are executable, and which folders are empty | yes | a program sees both |
//! | other permissions, times, hard links and extended attributes | no | they are not stored |
//! | the program, outputs, environment and parameters of a command | yes | they are parameters of the stage |
//! | resources (time limit, threads, GPUs, ...) | no | they do not change the output |
//! | the programs that a command finds on the machine | no | they are not declared; name their versions in `env` |
//! | seed and label of random streams | yes, if the kind draws random numbers | |
//! | order of inputs in a slot for many nodes | no: sorted | a reordered grid has the same results |
//! | stage and node names, profile, comments | no, except in the last row | a rename reruns no computation |
//! | paths, clock, host, user, environment | no | a stage must not read them; an entry records host and time |
//! | `-j`, executor, instruction set, threads | no | the bits do not depend on them |
//! | the hash of the program | no | each release would rerun everything; an entry records it |
//! | the fallback for unavailable data (`otherwise`) | no | a fallback has a recipe and key of its own |
//! | the [`root`] of everything upstream, with the names and parameters of its stages | only for kinds that embed it, as parameters | what a report says about its recipe must be right |

use crate::fs;
use anyhow::Result as AnyResult;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Parameters in canonical form: sorted by name, without those at their default.
pub type Params = BTreeMap<String, Json>;

/// The files and empty folders of one node, by name; the name of an empty folder ends with a slash.
pub type Artifact = BTreeMap<String, Content>;

macro_rules! hash_name {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The first ten hex digits, for display.
            pub fn short(&self) -> String {
                self.to_string()[..10].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(hex: &str) -> Result<Self, String> {
                let hash = blake3::Hash::from_hex(hex)
                    .map_err(|_| format!("`{hex}` is not 64 hex digits"))?;
                Ok($name(*hash.as_bytes()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

hash_name! {
    /// The BLAKE3 of a [`Recipe`].
    Key
}

hash_name! {
    /// The BLAKE3 of the bytes of a file.
    Digest
}

impl Digest {
    /// The digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of the file at `path`. Large files are hashed on all cores.
    pub fn of_file(path: &Path) -> AnyResult<Digest> {
        Ok(Digest(*fs::hash(path)?.as_bytes()))
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Digest {
        Digest(*hash.as_bytes())
    }
}

/// A file or empty folder of an artifact.
///
/// As text: the digest of the file, followed by `+x` if the file is executable, or `empty-folder`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// A file.
    File {
        /// The digest of its bytes.
        digest: Digest,
        /// Whether the file is executable by its owner.
        executable: bool,
    },
    /// An empty folder. Other folders are implied by the names of their files.
    EmptyFolder,
}

/// Suffix of the digest of an executable file.
const EXECUTABLE: &str = "+x";

/// The text of an empty folder.
const EMPTY_FOLDER: &str = "empty-folder";

impl Content {
    /// The digest of the file; `None` for a folder.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Content::File { digest, .. } => Some(*digest),
            Content::EmptyFolder => None,
        }
    }

    /// The text with a shortened digest, for display.
    pub fn short(&self) -> String {
        match self {
            Content::File { digest, executable } => {
                digest.short() + if *executable { EXECUTABLE } else { "" }
            }
            Content::EmptyFolder => EMPTY_FOLDER.to_owned(),
        }
    }
}

impl From<Digest> for Content {
    /// A file that is not executable.
    fn from(digest: Digest) -> Content {
        Content::File { digest, executable: false }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Content::File { digest, executable: false } => digest.fmt(f),
            Content::File { digest, executable: true } => write!(f, "{digest}{EXECUTABLE}"),
            Content::EmptyFolder => f.write_str(EMPTY_FOLDER),
        }
    }
}

impl FromStr for Content {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == EMPTY_FOLDER {
            return Ok(Content::EmptyFolder);
        }
        let executable = text.strip_suffix(EXECUTABLE);
        Ok(Content::File {
            digest: executable.unwrap_or(text).parse()?,
            executable: executable.is_some(),
        })
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Everything that determines the output of a node. See the table above.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The name of the stage kind.
    pub kind: String,
    /// The version of the stage kind.
    pub version: u32,
    /// The parameters.
    pub params: Params,
    /// By slot: the artifacts that fill it, sorted.
    pub inputs: BTreeMap<String, Vec<Artifact>>,
    /// The seed of the random streams, if the kind draws random numbers.
    pub seed: Option<Seed>,
}

/// The key of a node's random streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// The pipeline's `seed`.
    pub run: String,
    /// The label of the node.
    pub label: String,
}

impl Recipe {
    /// The key of the recipe.
    pub fn key(&self) -> Key {
        let mut hash = blake3::Hasher::new_derive_key("repro recipe v1");
        hash.update(self.canonical().as_bytes());
        Key(*hash.finalize().as_bytes())
    }

    /// The recipe as canonical JSON: no spaces, every mapping sorted by name.
    pub fn canonical(&self) -> String {
        // Destructured, so that a new field cannot be forgotten. Written without an intermediate
        // JSON tree, because large plans spend most of their time here.
        let Recipe { kind, version, params, inputs, seed } = self;
        let mut out = String::with_capacity(512);
        out.push_str("{\"inputs\":");
        write_map(inputs, &mut out, |artifacts, out| {
            out.push('[');
            for (i, artifact) in artifacts.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                write_artifact(artifact, out);
            }
            out.push(']');
        });
        out.push_str(",\"kind\":");
        write_text(kind, &mut out);
        out.push_str(",\"params\":");
        write_map(params, &mut out, write_canonical);
        out.push_str(",\"seed\":");
        match seed {
            Some(Seed { run, label }) => {
                out.push_str("{\"label\":");
                write_text(label, &mut out);
                out.push_str(",\"run\":");
                write_text(run, &mut out);
                out.push('}');
            }
            None => out.push_str("null"),
        }
        out.push_str(",\"version\":");
        out.push_str(&version.to_string());
        out.push('}');
        out
    }
}

/// The root of the outputs of many nodes: the BLAKE3 of their artifacts as canonical JSON, sorted
/// by that text. The root does not depend on the names of nodes, so a rename keeps the root.
pub fn root<'a>(artifacts: impl IntoIterator<Item = &'a Artifact>) -> Digest {
    let mut lines: Vec<String> = artifacts
        .into_iter()
        .map(|artifact| {
            let mut line = String::new();
            write_artifact(artifact, &mut line);
            line
        })
        .collect();
    lines.sort_unstable();
    Digest::of(format!("[{}]", lines.join(",")).as_bytes())
}

fn write_artifact(artifact: &Artifact, out: &mut String) {
    write_map(artifact, out, |content, out| {
        out.push('"');
        match content {
            Content::File { digest, executable } => {
                out.push_str(&blake3::Hash::from_bytes(digest.0).to_hex());
                out.push_str(if *executable { EXECUTABLE } else { "" });
            }
            Content::EmptyFolder => out.push_str(EMPTY_FOLDER),
        }
        out.push('"');
    });
}

fn write_map<V>(map: &BTreeMap<String, V>, out: &mut String, write: impl Fn(&V, &mut String)) {
    out.push('{');
    for (i, (name, value)) in map.iter().enumerate() {
        out.push_str(if i == 0 { "" } else { "," });
        write_text(name, out);
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

fn write_text(text: &str, out: &mut String) {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" _-./".contains(&byte)) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Json::from(text).to_string());
    }
}

/// Sorts mappings, since a crate in the build may enable serde_json's `preserve_order`.
fn write_canonical(value: &Json, out: &mut String) {
    match value {
        Json::Object(map) => {
            let sorted: BTreeMap<String, &Json> =
                map.iter().map(|(name, value)| (name.clone(), value)).collect();
            write_map(&sorted, out, |value, out| write_canonical(value, out));
        }
        Json::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                write_canonical(item, out);
            }
            out.push(']');
        }
        Json::String(text) => write_text(text, out),
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::json as json_value;
    use proptest::prelude::*;
    use serde_json::json;

    fn recipe() -> Recipe {
        let digest = Digest::of(b"images");
        Recipe {
            kind: "train".into(),
            version: 1,
            params: [
                ("hidden".into(), json!(50)),
                ("prior".into(), json!({"normal": {"variance": 0.01}})),
            ]
            .into(),
            inputs: [("data".into(), vec![[("images".into(), digest.into())].into()])].into(),
            seed: Some(Seed { run: "0".into(), label: "pair=1".into() }),
        }
    }

    #[test]
    fn every_ingredient_changes_the_key() {
        let base = recipe();
        let mut changed: Vec<Recipe> = (0..9).map(|_| base.clone()).collect();
        changed[0].kind = "align".into();
        changed[1].version = 2;
        changed[2].params.insert("hidden".into(), json!(51));
        changed[3].params.insert("epochs".into(), json!(1));
        changed[4].inputs.get_mut("data").unwrap()[0]
            .insert("images".into(), Digest::of(b"other").into());
        changed[5].seed = None;
        changed[6].seed.as_mut().unwrap().label = "pair=2".into();
        let executable = Content::File { digest: Digest::of(b"images"), executable: true };
        changed[7].inputs.get_mut("data").unwrap()[0].insert("images".into(), executable);
        changed[8].inputs.get_mut("data").unwrap()[0].insert("more/".into(), Content::EmptyFolder);
        let mut keys: Vec<Key> = changed.iter().chain([&base]).map(Recipe::key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 10);
    }

    #[test]
    fn a_content_is_read_back_from_its_text() {
        let digest = Digest::of(b"bytes");
        assert_eq!(Content::from(digest).to_string(), digest.to_string());
        for content in
            [digest.into(), Content::File { digest, executable: true }, Content::EmptyFolder]
        {
            assert_eq!(content.to_string().parse(), Ok(content));
            assert_eq!(serde_json::from_value::<Content>(json!(content)).unwrap(), content);
            let artifact = Artifact::from([("name".to_owned(), content)]);
            let mut canonical = String::new();
            write_artifact(&artifact, &mut canonical);
            assert_eq!(canonical, json!(artifact).to_string(), "one text wherever it is written");
        }
        for wrong in [
            "",
            "+x",
            "empty",
            &format!("{digest}+"),
            &format!("{digest}+x+x"),
            &format!("{digest}x"),
        ] {
            assert!(wrong.parse::<Content>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_of_different_types_have_different_keys() {
        let (mut whole, mut float) = (recipe(), recipe());
        whole.params.insert("x".into(), json!(1));
        float.params.insert("x".into(), json!(1.0));
        assert_ne!(whole.key(), float.key());
    }

    #[test]
    fn the_key_of_a_known_recipe_is_pinned() {
        // If this test fails, all existing caches are stale: raise the version in the hash's
        // context instead.
        insta::assert_snapshot!(recipe().canonical());
        insta::assert_snapshot!(recipe().key());
    }

    #[test]
    fn a_recipe_is_read_back_from_its_file() {
        let text = serde_json::to_string(&recipe()).unwrap();
        let back: Recipe = serde_json::from_str(&text).unwrap();
        assert_eq!(back.key(), recipe().key());
        assert!(serde_json::from_str::<Recipe>(&text.replace("\"kind\"", "\"knid\"")).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn a_number_is_read_back_from_its_file(
            value in json_value(), name in any::<String>(), label in any::<String>(),
        ) {
            let mut recipe = recipe();
            recipe.params.insert(name, value);
            recipe.seed = Some(Seed { run: label.clone(), label });
            let canonical = Ok(recipe.canonical());
            let pretty = serde_json::to_string_pretty(&recipe);
            let files = [serde_json::to_string(&recipe), pretty, canonical];
            for file in files {
                let back: Recipe = serde_json::from_str(&file.unwrap()).unwrap();
                prop_assert_eq!(back.canonical(), recipe.canonical());
                prop_assert_eq!(back.key(), recipe.key());
            }
        }
    }

    #[test]
    fn a_hash_must_have_64_hex_digits() {
        assert!("xyz".parse::<Key>().is_err());
        assert!("../../etc/passwd".parse::<Digest>().is_err());
        let key = recipe().key();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(key.short(), key.to_string()[..10]);
    }
}
