//! RO-Crates: a folder with results, and metadata that describes how they were computed.
//!
//! The metadata follow RO-Crate 1.1 and the profile Process Run Crate 0.5 of Workflow Run RO-Crate
//! (<https://w3id.org/ro/wfrun/process/0.5>): one `CreateAction` for each job, with the program and
//! the stage kind as instruments, parameters and inputs as objects, and outputs as results. Outputs
//! that are not in the folder are described by digest and size.
//!
//! Knows the plan and the entries; writes nothing.

use crate::engine::cache::entry::Entry;
use crate::engine::key::{Artifact, Digest, Key, Recipe};
use crate::engine::spec::plan::PlanNode;
use crate::engine::stage::{EMBEDDED, FILES};
use crate::engine::text::utc;
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

/// The file with the metadata.
pub const METADATA: &str = "ro-crate-metadata.json";

const CRATE: &str = "https://w3id.org/ro/crate/1.1";
const PROFILE: &str = "https://w3id.org/ro/wfrun/process/0.5";
const CONTEXTS: [&str; 2] =
    ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"];
const COMPLETED: &str = "http://schema.org/CompletedActionStatus";

/// The number of hex digits of hashes in identifiers.
const DIGITS: usize = 16;

/// A job, and the nodes that share its result.
pub struct JobRecord<'a> {
    /// The nodes; at least one.
    pub nodes: Vec<&'a PlanNode>,
    /// Their key.
    pub key: Key,
    /// Their recipe.
    pub recipe: Recipe,
    /// The result.
    pub entry: Arc<Entry>,
    /// The folder of the outputs in the crate, if they are in it.
    pub folder: Option<String>,
}

/// A file of the project in the crate.
pub struct ProjectFile {
    /// The path in the crate.
    pub path: String,
    /// The content.
    pub bytes: Vec<u8>,
    /// One sentence.
    pub description: &'static str,
    /// Whether it is a license of the crate.
    pub is_license: bool,
}

/// The contents of a crate.
pub struct Contents<'a> {
    /// One line.
    pub name: String,
    /// One sentence or more.
    pub description: String,
    /// The jobs; inputs come before their users.
    pub jobs: Vec<JobRecord<'a>>,
    /// The project's files.
    pub files: Vec<ProjectFile>,
    /// The declared files of stages, by digest: the path in the crate, and the size in bytes.
    pub declared: BTreeMap<Digest, (String, u64)>,
    /// The digest of this program.
    pub program: Digest,
    /// The version of this program.
    pub version: &'static str,
}

impl Contents<'_> {
    /// The objects that are copied to the crate: path, digest, and whether the file is executable.
    pub fn objects(&self) -> Vec<(String, Digest, bool)> {
        let outputs = self.jobs.iter().flat_map(|job| {
            let output = |(name, folder): (&String, &String)| {
                let stored = &job.entry.outputs[name];
                (format!("{folder}/{name}"), stored.digest, stored.executable)
            };
            let names = job.entry.outputs.keys();
            names
                .zip(std::iter::repeat(job.folder.as_ref()))
                .filter_map(move |(name, folder)| Some(output((name, folder?))))
        });
        let declared = self.declared.iter();
        let declared = declared.map(|(digest, (path, _))| (path.clone(), *digest, false));
        outputs.chain(declared).collect()
    }

    /// The metadata, as the content of [`METADATA`].
    pub fn metadata(&self) -> String {
        let mut graph = Graph::default();
        self.add_files(&mut graph);
        let actions: Vec<Json> =
            self.jobs.iter().map(|job| self.add_job(job, &mut graph)).collect();
        let mut all = self.root(&graph, &actions);
        all.extend(graph.entities);
        all.extend(actions);
        format!("{:#}\n", json!({ "@context": CONTEXTS, "@graph": all }))
    }

    /// The descriptor, the root and the profile.
    fn root(&self, graph: &Graph, actions: &[Json]) -> Vec<Json> {
        let last = self.jobs.iter().map(|job| job.entry.finished).max().unwrap_or_default();
        let licenses: Vec<String> =
            self.files.iter().filter(|file| file.is_license).map(|file| uri(&file.path)).collect();
        let license = match licenses.is_empty() {
            true => json!("No license is stated."),
            false => references(licenses),
        };
        let mentions = actions.iter().filter_map(|action| action["@id"].as_str());
        vec![
            json!({
                "@id": METADATA,
                "@type": "CreativeWork",
                "about": reference("./"),
                "conformsTo": reference(CRATE),
            }),
            json!({
                "@id": "./",
                "@type": "Dataset",
                "conformsTo": reference(PROFILE),
                "name": self.name,
                "description": self.description,
                "datePublished": date(last),
                "license": license,
                "hasPart": references(&graph.parts),
                "mentions": references(mentions),
            }),
            json!({
                "@id": PROFILE,
                "@type": "CreativeWork",
                "name": "Process Run Crate",
                "version": "0.5",
            }),
        ]
    }

    fn add_files(&self, graph: &mut Graph) {
        for file in &self.files {
            let mut entity = described(&file.path, &file.bytes_digest(), file.bytes.len() as u64);
            entity.insert("description".into(), file.description.into());
            graph.add_part(&file.path, entity);
        }
        for job in &self.jobs {
            let Some(folder) = &job.folder else { continue };
            for (name, stored) in &job.entry.outputs {
                let path = format!("{folder}/{name}");
                let mut entity = described(name, &stored.digest, stored.bytes);
                let description = format!("Output of `{}`.", job.name());
                entity.insert("description".into(), description.into());
                graph.add_part(&path, entity);
                graph.files.entry(stored.digest).or_insert_with(|| uri(&path));
            }
        }
        for (digest, (path, bytes)) in &self.declared {
            let name = path.rsplit('/').next().unwrap_or(path);
            graph.add_part(path, described(name, digest, *bytes));
        }
    }

    /// Adds the entities that an action refers to; returns the action.
    fn add_job(&self, job: &JobRecord, graph: &mut Graph) -> Json {
        let JobRecord { recipe, entry, .. } = job;
        let mut objects = BTreeSet::new();
        for (slot, artifacts) in &recipe.inputs {
            for (name, content) in artifacts.iter().flatten() {
                let Some(digest) = content.digest() else { continue };
                let declared = self.declared.get(&digest).filter(|_| slot == FILES);
                objects.insert(match declared {
                    Some((path, _)) => uri(path),
                    None => graph.artifact(name, digest, None),
                });
            }
        }
        let params = recipe.params.iter().filter(|(name, _)| !EMBEDDED.contains(&name.as_str()));
        for (name, value) in params {
            objects.insert(graph.value("parameter", name, value));
        }
        let mut results = BTreeSet::new();
        for (name, stored) in &entry.outputs {
            results.insert(match &job.folder {
                Some(folder) => uri(&format!("{folder}/{name}")),
                None => {
                    let name = format!("{}/{name}", job.name());
                    graph.artifact(&name, stored.digest, Some(stored.bytes))
                }
            });
        }
        let program = graph.program(entry.program, self.program, self.version);
        let kind = graph.kind(&recipe.kind, recipe.version);
        let instruments = [kind].into_iter().chain(program);
        let started = entry.finished.saturating_sub(entry.seconds.max(0.0).round() as u64);
        let mut action = json!({
            "@id": format!("#{}", uri(job.name())),
            "@type": "CreateAction",
            "name": job.name(),
            "description": job.description(),
            "startTime": date(started),
            "endTime": date(entry.finished),
            "actionStatus": COMPLETED,
            "instrument": references(instruments),
            "environment": references(graph.environment(entry)),
        });
        for (name, ids) in [("object", objects), ("result", results)] {
            if !ids.is_empty() {
                action[name] = references(ids);
            }
        }
        action
    }
}

impl ProjectFile {
    fn bytes_digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

impl JobRecord<'_> {
    fn name(&self) -> &str {
        self.nodes.first().map_or("", |node| &node.name)
    }

    fn description(&self) -> String {
        let Recipe { kind, version, seed, .. } = &self.recipe;
        let mut text = format!("Stage kind `{kind}`, version {version}; key {}.", self.key);
        if let Some(seed) = seed {
            let _ = write!(text, " Seed {} with label `{}`.", seed.run, seed.label);
        }
        let others: Vec<String> =
            self.nodes.iter().skip(1).map(|node| format!("`{}`", node.name)).collect();
        if !others.is_empty() {
            let _ = write!(text, " The same result is used for {}.", others.join(", "));
        }
        text
    }
}

/// The entities so far.
#[derive(Default)]
struct Graph {
    entities: Vec<Json>,
    /// The identifiers of all entities.
    known: BTreeSet<String>,
    /// The identifiers of the files in the crate.
    parts: Vec<String>,
    /// The identifier of one output in the crate for each digest.
    files: BTreeMap<Digest, String>,
}

impl Graph {
    /// Adds an entity, unless there is one with this identifier. Returns the identifier.
    fn add(&mut self, id: String, kind: &str, mut entity: Map<String, Json>) -> String {
        if self.known.insert(id.clone()) {
            entity.insert("@id".into(), id.clone().into());
            entity.insert("@type".into(), kind.into());
            self.entities.push(entity.into());
        }
        id
    }

    /// Adds a file of the crate.
    fn add_part(&mut self, path: &str, entity: Map<String, Json>) {
        let id = self.add(uri(path), "File", entity);
        self.parts.push(id);
    }

    /// The entity for an output with this content: a file of the crate, or a description.
    fn artifact(&mut self, name: &str, digest: Digest, bytes: Option<u64>) -> String {
        if let Some(id) = self.files.get(&digest) {
            return id.clone();
        }
        let mut entity = described(name, &digest, bytes.unwrap_or_default());
        if bytes.is_none() {
            entity.remove("contentSize");
        }
        self.add(format!("#blake3-{digest}"), "CreativeWork", entity)
    }

    /// The entity for a parameter or a property of the environment.
    fn value(&mut self, of: &str, name: &str, value: &Json) -> String {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let digest = &Digest::of(text.as_bytes()).to_string()[..DIGITS];
        let id = format!("#{of}-{}-{digest}", uri(name));
        self.add(id, "PropertyValue", map(json!({ "name": name, "value": text })))
    }

    /// The entities for the properties of a job's environment.
    fn environment(&mut self, entry: &Entry) -> Vec<String> {
        let mut values = vec![("host", Json::from(entry.host.clone()))];
        if let Some(environment) = &entry.environment {
            values.push(("system", environment.system.clone().into()));
            let processor = environment.processor.clone();
            values.extend(processor.map(|processor| ("processor", processor.into())));
            values.push(("cores", environment.cores.into()));
            values.push(("threads", environment.threads.into()));
            let commit = environment.commit.as_ref();
            values.extend(commit.map(|commit| ("git commit", commit.to_string().into())));
        }
        let values = values.into_iter();
        values.map(|(name, value)| self.value("environment", name, &value)).collect()
    }

    /// The entity for a program, if its digest is known. `this` is the digest of the program of
    /// version `version`.
    fn program(&mut self, digest: Option<Digest>, this: Digest, version: &str) -> Option<String> {
        let digest = digest?;
        let version = match digest == this {
            true => version.to_owned(),
            false => format!("unknown (BLAKE3 {digest})"),
        };
        let entity = json!({
            "name": "repro",
            "softwareVersion": version,
            "identifier": format!("blake3:{digest}"),
        });
        Some(self.add(format!("urn:blake3:{digest}"), "SoftwareApplication", map(entity)))
    }

    /// The entity for a stage kind.
    fn kind(&mut self, name: &str, version: u32) -> String {
        let entity = json!({
            "name": format!("repro {name}"),
            "softwareVersion": version.to_string(),
        });
        let id = format!("urn:repro:kind:{}:{version}", uri(name));
        self.add(id, "SoftwareApplication", map(entity))
    }
}

fn reference(id: &str) -> Json {
    json!({ "@id": id })
}

/// The references to these entities: a list, or a single one, as RO-Crate recommends.
fn references(ids: impl IntoIterator<Item = impl AsRef<str>>) -> Json {
    let mut all: Vec<Json> = ids.into_iter().map(|id| reference(id.as_ref())).collect();
    match (all.pop(), all.is_empty()) {
        (Some(one), true) => one,
        (last, _) => all.into_iter().chain(last).collect(),
    }
}

/// A time in seconds since 1970 UTC, in the form that the profile recommends.
fn date(seconds: u64) -> String {
    utc(seconds).replace('Z', "+00:00")
}

fn map(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}

/// A file of this name and content.
fn described(name: &str, digest: &Digest, bytes: u64) -> Map<String, Json> {
    let mut entity = map(json!({
        "name": name,
        "identifier": format!("blake3:{digest}"),
        "contentSize": bytes.to_string(),
    }));
    let format = name.rsplit_once('.').and_then(|(_, extension)| media_type(extension));
    if let Some(format) = format {
        entity.insert("encodingFormat".into(), format.into());
    }
    entity
}

fn media_type(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "cff" | "yaml" | "yml" => "application/yaml",
        "csv" => "text/csv",
        "html" => "text/html",
        "jpeg" | "jpg" => "image/jpeg",
        "json" => "application/json",
        "lock" | "txt" => "text/plain",
        "md" => "text/markdown",
        "png" => "image/png",
        "safetensors" => "application/octet-stream",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}

/// A path as a relative URI, or a name as part of one: characters other than those that need no
/// escape anywhere in it are escaped.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

/// The digests of the project's files that stages declare, in the order of `recipes`, with their
/// names.
pub fn declared_files<'r>(
    recipes: impl IntoIterator<Item = &'r Recipe>,
) -> BTreeMap<Digest, String> {
    let mut found = BTreeMap::new();
    let artifacts = recipes.into_iter().flat_map(|recipe| recipe.inputs.get(FILES));
    let files = artifacts.flatten().flat_map(Artifact::iter);
    for (name, digest) in files.filter_map(|(name, content)| Some((name, content.digest()?))) {
        found.entry(digest).or_insert_with(|| name.clone());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_only_characters_that_need_no_escape() {
        assert_eq!(uri("outputs/nets@end=a/a b.csv"), "outputs/nets%40end%3Da/a%20b.csv");
        assert_eq!(uri("a:b/ä?#%"), "a%3Ab/%C3%A4%3F%23%25");
    }

    #[test]
    fn a_list_of_one_reference_is_the_reference() {
        assert_eq!(references(["a"]), json!({ "@id": "a" }));
        assert_eq!(references(["a", "b"]), json!([{ "@id": "a" }, { "@id": "b" }]));
        assert_eq!(references([""; 0]), json!([]));
    }

    #[test]
    fn a_value_is_one_entity_for_all_actions_that_use_it() {
        let mut graph = Graph::default();
        let [one, two, other] =
            [json!(50), json!(50), json!("50 ")].map(|x| graph.value("parameter", "hidden", &x));
        assert_eq!(one, two);
        assert_ne!(one, other);
        assert_eq!(graph.entities.len(), 2);
        assert_eq!(graph.entities[0]["value"], "50");
    }

    #[test]
    fn a_program_of_unknown_version_is_named_by_its_digest() {
        let mut graph = Graph::default();
        let [this, other] = [Digest::of(b"this"), Digest::of(b"other")];
        assert_eq!(graph.program(None, this, "0.1.0"), None);
        graph.program(Some(this), this, "0.1.0");
        graph.program(Some(other), this, "0.1.0");
        let versions: Vec<&str> =
            graph.entities.iter().filter_map(|entity| entity["softwareVersion"].as_str()).collect();
        assert_eq!(versions, ["0.1.0", &format!("unknown (BLAKE3 {other})")]);
    }

    #[test]
    fn declared_files_are_named_by_their_first_recipe() {
        let recipe = |name: &str| {
            let file = (name.to_owned(), Digest::of(b"text").into());
            let inputs = [(FILES.to_owned(), vec![[file].into()])].into();
            Recipe { kind: "k".into(), version: 1, params: [].into(), inputs, seed: None }
        };
        let found = declared_files(&[recipe("a.txt"), recipe("b.txt")]);
        assert_eq!(found, [(Digest::of(b"text"), "a.txt".to_owned())].into());
    }
}
