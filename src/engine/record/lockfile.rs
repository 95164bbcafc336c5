//! pipeline.lock: the expected digest of every output, per profile.
//!
//! ```text
//! # The digest of every output of every node, per profile, without overrides. ...
//! version: 2
//!
//! [profile ci]
//! root: 5f0c...
//! seed: 0
//! curves@curve=arc,hidden=10 metrics.csv=3f1c... points.csv=9a02...
//! nets@hidden=10,end=a net.safetensors=77d1...
//! > report report.html=40ee... report.md=c01d...
//! ```
//!
//! Profiles and nodes are sorted, with one line per node, so that git can merge branches that
//! change different nodes; only the root conflicts. The **root** of a profile is one hash of all
//! its outputs ([`root`]). It detects lines that were edited by hand. A report contains the root,
//! so its outputs cannot be part of the root; the lines of such nodes begin with `>`. Their digests
//! are checked like all others.
//!
//! A line has a digest per file, so that a mismatch names the file. An executable file has `+x`
//! after its digest, an empty folder is `NAME/=empty-folder` ([`Content`]). A section describes a
//! profile without overrides: commands that write or check a lock file refuse `-S` and results of
//! fallbacks.
//!
//! This module knows text, names and digests, but no files, no cache and no plan.

use crate::engine::error::{Diagnostic, Error};
use crate::engine::key::{Artifact, Content, Digest, root};
use crate::engine::located::{Location, ValueError};
use crate::engine::run::expected::ExpectedResults;
use crate::engine::text::count;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::str::FromStr as _;

/// The first line of every lock file.
const ABOUT: &str = "# The digest of every output of every node, per profile, without overrides. \
                     Written by `repro lock`, checked by `repro run --locked`.";

/// The version of the format; raised when an older program would misread the file.
const VERSION: &str = "version: 2";

/// The marks of a merge conflict in git.
const CONFLICT: [&str; 4] = ["<<<<<<<", "|||||||", "=======", ">>>>>>>"];

/// The hint for an invalid line.
const RESTORE: &str = "restore the file, or remove it and lock again";

/// The number of mismatches in an error; nodes downstream of the first one mostly differ, too.
const SHOWN: usize = 12;

/// A parsed lock file.
#[derive(Clone, Debug)]
pub struct Lockfile {
    /// The name of the file, for messages.
    source: String,
    /// The sections by profile; `None` is the pipeline without a profile.
    sections: BTreeMap<Option<String>, Section>,
}

/// The section of one profile.
#[derive(Clone, Debug, Default)]
struct Section {
    /// The root in the file, which may be wrong.
    root: Option<Digest>,
    /// The location of the root.
    location: Option<Location>,
    /// The seed of the pipeline when it was locked; `None` in lock files of earlier versions.
    seed: Option<String>,
    nodes: BTreeMap<String, Artifact>,
    /// The nodes whose outputs contain the root.
    embedding: BTreeSet<String>,
}

/// The mark of a node whose outputs contain the root.
const EMBEDS: &str = "> ";

/// The expected outputs of one profile.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    source: &'a str,
    profile: Option<&'a str>,
    section: &'a Section,
}

/// An output that differs from the lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The node.
    pub node: String,
    /// The output.
    pub file: String,
    /// The content in the lock file; `None` if it has no such output.
    pub expected: Option<Content>,
    /// The actual content; `None` if there is no such output.
    pub found: Option<Content>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let named = |content: &Option<Content>| {
            content.map_or("no such file".to_owned(), |content| content.to_string())
        };
        let Mismatch { node, file, expected, found } = self;
        write!(f, "`{node}`, `{file}`: expected {}, found {}", named(expected), named(found))
    }
}

/// `repro VERB --profile P`.
pub fn command(verb: &str, profile: Option<&str>) -> String {
    format!("repro {verb}{}", profile.map(|name| format!(" --profile {name}")).unwrap_or_default())
}

fn title(profile: Option<&str>) -> String {
    profile.map_or("no profile".to_owned(), |name| format!("profile {name}"))
}

impl Lockfile {
    /// An empty lock file.
    pub fn new(source: &str) -> Lockfile {
        Lockfile { source: source.to_owned(), sections: BTreeMap::new() }
    }

    /// Parses `text`, the content of the file `source`. Does not check the roots, because `repro
    /// lock` may replace a wrong root.
    pub fn parse(source: &str, text: &str) -> Result<Lockfile, Diagnostic> {
        let sections = read(text).map_err(|error| Diagnostic::of(source, "", &error))?;
        Ok(Lockfile { source: source.to_owned(), sections })
    }

    /// Fails if the root of a profile does not match its lines.
    pub fn check_roots(&self) -> Result<(), Diagnostic> {
        self.sections
            .iter()
            .try_for_each(|(profile, section)| self.check_root(profile.as_deref(), section))
    }

    fn check_root(&self, profile: Option<&str>, section: &Section) -> Result<(), Diagnostic> {
        if section.root == Some(section.computed_root()) {
            return Ok(());
        }
        let (title, lock) = (title(profile), command("lock", profile));
        Err(Diagnostic {
            source: self.source.clone(),
            location: section.location,
            message: format!(
                "the root of [{title}] does not match its lines: \
                 a line was removed, added or edited"
            ),
            hint: Some(restore_or(&lock)),
        })
    }

    /// All digests in the file.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.sections
            .values()
            .flat_map(|section| section.nodes.values())
            .flat_map(|artifact| artifact.values().filter_map(Content::digest))
    }

    /// The expected outputs of `profile`, which has the nodes `nodes`. Fails if the section lists
    /// other nodes, or if its root does not match its lines.
    pub fn expected<'a>(
        &'a self,
        profile: Option<&'a str>,
        nodes: &BTreeSet<&str>,
    ) -> Result<Expected<'a>, Diagnostic> {
        let title = title(profile);
        let diagnostic = |location, message: String, hint: String| {
            Err(Diagnostic { source: self.source.clone(), location, message, hint: Some(hint) })
        };
        let relock = format!("run `{}` to lock the cached results", command("lock", profile));
        let Some(section) = self.sections.get(&profile.map(str::to_owned)) else {
            let (run, lock) = (command("run", profile), command("lock", profile));
            let hint = format!("run `{run}`, then `{lock}`");
            return diagnostic(None, format!("there is no section [{title}]"), hint);
        };
        self.check_root(profile, section)?;
        let locked: BTreeSet<&str> = section.nodes.keys().map(String::as_str).collect();
        if let Some(first) = nodes.difference(&locked).next() {
            let all = count(nodes.difference(&locked).count());
            return diagnostic(
                section.location,
                format!("[{title}] has no entry for `{first}` ({all} missing)"),
                relock,
            );
        }
        if let Some(first) = locked.difference(nodes).next() {
            let all = count(locked.difference(nodes).count());
            let message =
                format!("[{title}] has `{first}`, which is not in the pipeline ({all} too many)");
            return diagnostic(section.location, message, relock);
        }
        Ok(Expected { source: &self.source, profile, section })
    }

    /// Replaces the section of `profile` by `nodes`; the outputs of those in `embedding` contain
    /// the root. Returns the root, and the number of nodes that were added, changed or removed.
    pub fn set(
        &mut self,
        profile: Option<&str>,
        nodes: BTreeMap<String, Artifact>,
        embedding: BTreeSet<String>,
    ) -> (Digest, usize) {
        let mut section = Section { nodes, embedding, ..Section::default() };
        let root = section.computed_root();
        section.root = Some(root);
        let before = self.sections.remove(&profile.map(str::to_owned)).unwrap_or_default().nodes;
        let names: BTreeSet<&String> = before.keys().chain(section.nodes.keys()).collect();
        let changed =
            names.into_iter().filter(|name| before.get(*name) != section.nodes.get(*name)).count();
        self.sections.insert(profile.map(str::to_owned), section);
        (root, changed)
    }

    /// Records the seed of `profile`.
    pub fn set_seed(&mut self, profile: Option<&str>, seed: &str) {
        if let Some(section) = self.sections.get_mut(&profile.map(str::to_owned)) {
            section.seed = Some(seed.to_owned());
        }
    }

    /// Fails if `profile` was locked with another seed.
    pub fn check_seed(&self, profile: Option<&str>, seed: &str) -> Result<(), Diagnostic> {
        let section = self.sections.get(&profile.map(str::to_owned));
        let Some((section, locked)) =
            section.and_then(|section| Some((section, section.seed.as_ref()?)))
        else {
            return Ok(());
        };
        if locked == seed {
            return Ok(());
        }
        Err(Diagnostic {
            source: self.source.clone(),
            location: section.location,
            message: format!(
                "[{}] was locked with the seed {locked}, and the pipeline has {seed}",
                title(profile)
            ),
            hint: Some(format!(
                "write `seed: {locked}`, or lock the results of the new seed with `{}`, then `{}`",
                command("run", profile),
                command("lock", profile)
            )),
        })
    }
}

impl fmt::Display for Lockfile {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{ABOUT}\n{VERSION}")?;
        for (profile, section) in &self.sections {
            writeln!(f, "\n[{}]", title(profile.as_deref()))?;
            if let Some(root) = section.root {
                writeln!(f, "root: {root}")?;
            }
            if let Some(seed) = &section.seed {
                writeln!(f, "seed: {}", escape(seed))?;
            }
            for (name, artifact) in &section.nodes {
                let mark = if section.embedding.contains(name) { EMBEDS } else { "" };
                writeln!(f, "{mark}{}", line(name, artifact))?;
            }
        }
        Ok(())
    }
}

impl Section {
    fn computed_root(&self) -> Digest {
        let nodes = self.nodes.iter().filter(|(name, _)| !self.embedding.contains(*name));
        root(nodes.map(|(_, artifact)| artifact))
    }
}

impl ExpectedResults for Expected<'_> {
    fn check(&self, node: &str, found: &Artifact) -> Result<(), Error> {
        self.refuse(&self.differences(node, found))
    }
}

impl Expected<'_> {
    /// The outputs of `node` that differ.
    pub fn differences(&self, node: &str, found: &Artifact) -> Vec<Mismatch> {
        let nothing = Artifact::new();
        let expected = self.section.nodes.get(node).unwrap_or(&nothing);
        let files: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        let differs = files.into_iter().filter(|file| expected.get(*file) != found.get(*file));
        let describe = |file: &String| Mismatch {
            node: node.to_owned(),
            file: file.clone(),
            expected: expected.get(file).copied(),
            found: found.get(file).copied(),
        };
        differs.map(describe).collect()
    }

    /// Fails if there are mismatches.
    pub fn refuse(&self, differences: &[Mismatch]) -> Result<(), Error> {
        let Some(first) = differences.first() else { return Ok(()) };
        let mut lines: String =
            differences.iter().take(SHOWN).map(|difference| format!("\n  {difference}")).collect();
        if differences.len() > SHOWN {
            let _ = write!(lines, "\n  and {} more", differences.len() - SHOWN);
        }
        let (outputs, verb) =
            if differences.len() == 1 { ("output", "differs") } else { ("outputs", "differ") };
        Err(Error::Differs(Diagnostic {
            source: self.source.to_owned(),
            location: None,
            message: format!(
                "{} {outputs} of [{}] {verb}:{lines}",
                differences.len(),
                title(self.profile)
            ),
            hint: Some(format!(
                "the new outputs are in the cache (see `repro show {}`); \
                 if the change is intended, run `{}`",
                first.node,
                command("lock", self.profile)
            )),
        }))
    }

    /// Fails if a line has the digest of another output.
    pub fn refuse_swapped(&self, differences: &[Mismatch]) -> Result<(), Diagnostic> {
        let other = |one: &Mismatch| {
            differences.iter().find(|other| *other != one && other.found == one.expected)
        };
        let swapped = differences
            .iter()
            .filter(|one| one.expected.is_some())
            .find_map(|one| Some((one, other(one)?)));
        let Some((Mismatch { node, file, .. }, other)) = swapped else { return Ok(()) };
        Err(Diagnostic {
            source: self.source.to_owned(),
            location: self.section.location,
            message: format!(
                "[{}] has the digest of `{}`, `{}` for `{node}`, `{file}`",
                title(self.profile),
                other.node,
                other.file
            ),
            hint: Some(restore_or(&command("lock", self.profile))),
        })
    }

    /// The name of the file, for messages.
    pub fn source(&self) -> &str {
        self.source
    }

    /// The root of the section.
    pub fn root(&self) -> Digest {
        self.section.computed_root()
    }
}

fn restore_or(lock: &str) -> String {
    format!("restore the file, or run `{lock}` to lock the cached results")
}

/// The line of a node: its name, then its files.
fn line(name: &str, artifact: &Artifact) -> String {
    let mut line = escape(name);
    for (file, content) in artifact {
        let _ = write!(line, " {}={content}", escape(file));
    }
    line
}

/// Escapes whitespace, which separates the words of a line: `a%20b`.
fn escape(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c == '%' || c.is_whitespace() || c.is_control() {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|byte| _ = write!(out, "%{byte:02x}"));
        } else {
            out.push(c);
        }
    }
    out
}

fn unescape(word: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = word.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                (digit(rest.next())? * 16 + digit(rest.next())?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn read(text: &str) -> Result<BTreeMap<Option<String>, Section>, ValueError> {
    let mut sections: BTreeMap<Option<String>, Section> = BTreeMap::new();
    let mut profile: Option<Option<String>> = None;
    let mut versioned = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end();
        let location = Some(Location { line: number, column: 1 });
        let refuse =
            |message: String, hint: &str| ValueError::at(location, message, Some(hint.to_owned()));
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if CONFLICT.iter().any(|mark| line.starts_with(mark)) {
            let hint = "keep the lines of either side, then run `repro lock --profile NAME`";
            return Err(refuse("there is an unresolved merge conflict".into(), hint));
        }
        if !versioned {
            if line != VERSION {
                let hint = "use the version of `repro` that wrote it, \
                            or remove the file and run `repro lock`";
                return Err(refuse(
                    format!("expected `{VERSION}` first, found `{}`", shown(line)),
                    hint,
                ));
            }
            versioned = true;
        } else if line.starts_with('[') {
            let refusal = || refuse(format!("`{}` is not `[profile NAME]`", shown(line)), RESTORE);
            let named = heading(line).ok_or_else(refusal)?;
            if sections.insert(named.clone(), Section { location, ..Section::default() }).is_some()
            {
                return Err(refuse(
                    format!("{line} is given twice"),
                    "remove the outdated section",
                ));
            }
            profile = Some(named);
        } else {
            let section = profile
                .as_ref()
                .and_then(|profile| sections.get_mut(profile))
                .ok_or_else(|| {
                    refuse(format!("`{}` comes before any `[profile NAME]`", shown(line)), RESTORE)
                })?;
            if let Some(root) = line.strip_prefix("root: ") {
                if section.root.is_some() {
                    return Err(refuse(
                        "the root is given twice".into(),
                        "remove one of them, then run `repro lock`",
                    ));
                }
                section.root = Some(digest_of(root).map_err(|message| refuse(message, RESTORE))?);
                section.location = location;
                continue;
            }
            if let Some(seed) = line.strip_prefix("seed: ") {
                section.seed = unescape(seed);
                continue;
            }
            let marked = line.strip_prefix(EMBEDS);
            let (name, artifact) =
                node(marked.unwrap_or(line)).map_err(|message| refuse(message, RESTORE))?;
            if section.nodes.contains_key(&name) {
                return Err(refuse(format!("`{name}` is given twice"), "remove the outdated line"));
            }
            if marked.is_some() {
                section.embedding.insert(name.clone());
            }
            section.nodes.insert(name, artifact);
        }
    }
    if !versioned {
        return Err(ValueError::at(
            None,
            "the lock file is empty",
            Some("remove the file, then run `repro lock`".into()),
        ));
    }
    Ok(sections)
}

/// `[profile NAME]` or `[no profile]`.
fn heading(line: &str) -> Option<Option<String>> {
    let inside = line.strip_prefix('[')?.strip_suffix(']')?;
    if inside == title(None) {
        return Some(None);
    }
    let name = inside.strip_prefix("profile ")?;
    (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| Some(name.to_owned()))
}

fn node(line: &str) -> Result<(String, Artifact), String> {
    let name_of =
        |word: &str| unescape(word).ok_or_else(|| format!("`{}` is not a name", shown(word)));
    let mut words = line.split(' ');
    let name = name_of(words.next().unwrap_or_default())?;
    let mut artifact = Artifact::new();
    for word in words {
        let (file, digest) = word
            .rsplit_once('=')
            .ok_or_else(|| format!("`{}` is not `file=digest`", shown(word)))?;
        if artifact.insert(name_of(file)?, content_of(digest)?).is_some() {
            return Err(format!("`{}` of `{name}` is given twice", shown(file)));
        }
    }
    Ok((name, artifact))
}

fn content_of(text: &str) -> Result<Content, String> {
    Content::from_str(text).map_err(|_| format!("`{}` is not 64 hex digits", shown(text)))
}

fn digest_of(hex: &str) -> Result<Digest, String> {
    Digest::from_str(hex).map_err(|_| format!("`{}` is not 64 hex digits", shown(hex)))
}

/// Shortens and escapes a text from the file for a message.
fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let start: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().count() > LONGEST { start + "..." } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn artifact(files: &[(&str, &str)]) -> Artifact {
        files
            .iter()
            .map(|(file, bytes)| ((*file).to_owned(), Digest::of(bytes.as_bytes()).into()))
            .collect()
    }

    fn nodes() -> BTreeMap<String, Artifact> {
        let net = |bytes| artifact(&[("net.safetensors", bytes), ("history.csv", "losses")]);
        let report = artifact(&[("report.md", "root")]);
        [
            ("nets@end=b", net("b")),
            ("nets@end=a", net("a")),
            ("data", artifact(&[])),
            ("report", report),
        ]
        .map(|(name, artifact)| (name.to_owned(), artifact))
        .into()
    }

    fn embedding() -> BTreeSet<String> {
        ["report".to_owned()].into()
    }

    /// Two profiles.
    fn lock() -> Lockfile {
        let mut lock = Lockfile::new("pipeline.lock");
        lock.set(
            Some("quick"),
            [("data".to_owned(), artifact(&[("data.json", "{}")]))].into(),
            BTreeSet::new(),
        );
        lock.set(Some("ci"), nodes(), embedding());
        lock
    }

    fn parse(text: &str) -> Lockfile {
        Lockfile::parse("pipeline.lock", text).unwrap()
    }

    fn shown_with_hint(diagnostic: &Diagnostic) -> String {
        format!("{diagnostic}\nhint: {}", diagnostic.hint.as_deref().unwrap_or("none"))
    }

    /// The error for `ci` with these nodes in the plan.
    fn refusal(lock: &Lockfile, nodes: &[&str]) -> String {
        shown_with_hint(&lock.expected(Some("ci"), &nodes.iter().copied().collect()).unwrap_err())
    }

    const NODES: [&str; 4] = ["data", "nets@end=a", "nets@end=b", "report"];

    #[test]
    fn two_swapped_digests_are_named() {
        let mut lock = Lockfile::new("pipeline.lock");
        lock.set(None, nodes(), embedding());
        let swapped =
            lock.to_string().replace("nets@end=a ", "X ").replace("nets@end=b ", "nets@end=a ");
        let lock = Lockfile::parse("pipeline.lock", &swapped.replace("X ", "nets@end=b ")).unwrap();
        lock.check_roots().unwrap();
        let nodes = nodes();
        let expected = lock.expected(None, &nodes.keys().map(String::as_str).collect()).unwrap();
        let differences: Vec<Mismatch> = nodes
            .iter()
            .flat_map(|(name, artifact)| expected.differences(name, artifact))
            .collect();
        let diagnostic = expected.refuse_swapped(&differences).unwrap_err();
        let named =
            "has the digest of `nets@end=b`, `net.safetensors` for `nets@end=a`, `net.safetensors`";
        assert!(diagnostic.message.ends_with(named), "{diagnostic}");
        expected.refuse_swapped(&[]).unwrap();
    }

    #[test]
    fn another_seed_than_the_locked_one_is_an_error() {
        let mut lock = lock();
        lock.check_seed(Some("ci"), "1").unwrap();
        lock.set_seed(Some("ci"), "a b");
        let lock = parse(&lock.to_string());
        lock.check_seed(Some("ci"), "a b").unwrap();
        lock.check_seed(Some("quick"), "1").unwrap();
        let diagnostic = lock.check_seed(Some("ci"), "1").unwrap_err();
        assert!(
            diagnostic
                .message
                .ends_with("[profile ci] was locked with the seed a b, and the pipeline has 1"),
            "{diagnostic}"
        );
    }

    #[test]
    fn the_text_of_a_lock_file() {
        insta::assert_snapshot!(lock().to_string());
    }

    #[test]
    fn a_lock_file_is_read_back_with_its_lines_in_any_order() {
        let text = lock().to_string();
        assert_eq!(parse(&text).to_string(), text);
        assert_eq!(parse(&text.replace('\n', "\r\n")).to_string(), text);
        let (before, ci) = text.split_once("\n[profile ci]\n").unwrap();
        let (ci, quick) = ci.split_once("\n[profile quick]\n").unwrap();
        let mut lines: Vec<&str> = ci.lines().collect();
        lines.reverse();
        let shuffled = format!(
            "{before}\n[profile quick]\n{quick}# mine\n[profile ci]\n{}\n",
            lines.join("\n")
        );
        assert_eq!(parse(&shuffled).to_string(), text);
        assert!(parse(&shuffled).expected(Some("ci"), &NODES.into()).is_ok());
    }

    #[test]
    fn locking_one_profile_keeps_the_others_even_with_a_wrong_root() {
        let text = lock().to_string();
        let quick = text.split_once("[profile quick]").unwrap().1;
        let broken = text.replace(quick, &quick.replace("data.json=", "other.json="));
        let mut lock = parse(&broken);
        let mut changed = nodes();
        changed.insert("nets@end=b".to_owned(), artifact(&[("net.safetensors", "other")]));
        changed.insert("nets@end=c".to_owned(), artifact(&[]));
        changed.remove("data");
        assert_eq!(
            lock.set(Some("ci"), changed, embedding()).1,
            3,
            "one changed, one added, one removed"
        );
        let quick = |text: &str| text.split_once("[profile quick]").unwrap().1.to_owned();
        assert_eq!(quick(&lock.to_string()), quick(&broken));
        let diagnostic = lock.expected(Some("quick"), &["data"].into()).unwrap_err();
        assert!(
            diagnostic.message.starts_with("the root of [profile quick] does not match its lines"),
            "{diagnostic}"
        );
    }

    #[test]
    fn no_profile_is_not_a_profile_named_no_profile() {
        let mut lock = Lockfile::new("pipeline.lock");
        lock.set(None, nodes(), embedding());
        assert!(lock.to_string().contains("\n[no profile]\n"));
        let lock = parse(&lock.to_string());
        assert!(lock.expected(None, &NODES.into()).is_ok());
        assert!(lock.expected(Some("no profile"), &NODES.into()).is_err());
        let diagnostic = Lockfile::new("pipeline.lock").expected(None, &NODES.into()).unwrap_err();
        assert_eq!(diagnostic.hint.as_deref(), Some("run `repro run`, then `repro lock`"));
    }

    #[test]
    fn the_root_changes_with_every_output_but_not_with_names_or_reports() {
        let root = |nodes| lock().set(Some("ci"), nodes, embedding()).0;
        let mut roots = vec![root(nodes())];
        let mut change = |change: &dyn Fn(&mut BTreeMap<String, Artifact>)| {
            let mut changed = nodes();
            change(&mut changed);
            roots.push(root(changed));
        };
        change(&|nodes| _ = nodes.remove("data"));
        change(&|nodes| _ = nodes.insert("data".into(), artifact(&[("data.json", "{}")])));
        change(&|nodes| _ = nodes.insert("more".into(), artifact(&[])));
        change(&|nodes| _ = nodes.insert("report2".into(), artifact(&[("report.md", "root")])));
        change(&|nodes| {
            _ = nodes
                .get_mut("nets@end=a")
                .unwrap()
                .insert("history.csv".into(), Digest::of(b"").into())
        });
        roots.sort_unstable();
        roots.dedup();
        assert_eq!(roots.len(), 6);
        let mut same = nodes();
        same.insert("report".into(), artifact(&[("report.md", "other")]));
        let data = same.remove("data").unwrap();
        same.insert("images".into(), data);
        assert_eq!(root(same), root(nodes()));
    }

    #[test]
    fn outputs_with_the_root_are_checked_though_they_are_not_part_of_it() {
        let text = lock().to_string();
        let report = nodes()["report"]["report.md"].to_string();
        let edited = parse(&text.replace(&report, &Digest::of(b"another").to_string()));
        edited.check_roots().unwrap();
        let expected = edited.expected(Some("ci"), &NODES.into()).unwrap();
        assert_eq!(expected.differences("report", &nodes()["report"]).len(), 1);
    }

    #[test]
    fn an_edited_line_or_a_missing_root_is_an_error() {
        let text = lock().to_string();
        let edited = text.replacen("history.csv", "histories.csv", 1);
        insta::assert_snapshot!(refusal(&parse(&edited), &NODES), @r"
        pipeline.lock:5:1: the root of [profile ci] does not match its lines: a line was removed, added or edited
        hint: restore the file, or run `repro lock --profile ci` to lock the cached results
        ");
        let root = text.lines().find(|line| line.starts_with("root: ")).unwrap();
        let without_root = parse(&text.replacen(&format!("{root}\n"), "", 1));
        insta::assert_snapshot!(refusal(&without_root, &NODES), @r"
        pipeline.lock:4:1: the root of [profile ci] does not match its lines: a line was removed, added or edited
        hint: restore the file, or run `repro lock --profile ci` to lock the cached results
        ");
    }

    #[test]
    fn a_lock_file_with_other_nodes_than_the_plan_is_an_error() {
        let more = ["data", "nets@end=a", "nets@end=b", "nets@end=c", "report", "tables"];
        insta::assert_snapshot!(refusal(&lock(), &more), @r"
        pipeline.lock: [profile ci] has no entry for `nets@end=c` (2 nodes missing)
        hint: run `repro lock --profile ci` to lock the cached results
        ");
        insta::assert_snapshot!(refusal(&lock(), &["data"]), @r"
        pipeline.lock: [profile ci] has `nets@end=a`, which is not in the pipeline (3 nodes too many)
        hint: run `repro lock --profile ci` to lock the cached results
        ");
        insta::assert_snapshot!(refusal(&Lockfile::new("pipeline.lock"), &NODES), @r"
        pipeline.lock: there is no section [profile ci]
        hint: run `repro run --profile ci`, then `repro lock --profile ci`
        ");
    }

    #[test]
    fn an_invalid_lock_file_is_an_error_with_location_and_hint() {
        let case =
            |text: &str| shown_with_hint(&Lockfile::parse("pipeline.lock", text).unwrap_err());
        let good = lock().to_string();
        let (head, ci) = good.split_once("[profile ci]\n").unwrap();
        let with =
            |line: &str| case(&good.replace("[profile ci]\n", &format!("[profile ci]\n{line}\n")));
        let digest = Digest::of(b"");
        let errors = [
            case(""),
            case("# a comment\n"),
            case("stages: {}\n"),
            case("version: 1\n"),
            case(&format!("version: 2\ndata data.json={digest}\n")),
            case("version: 2\n[profile a b]\n"),
            case(&format!("{head}[profile ci]\n<<<<<<< HEAD\n{ci}")),
            case(&good.replace("[profile quick]", "=======")),
            case(&good.replace("[profile quick]", "[profile ci]")),
            with("nets@end=a net.safetensors=3f1c"),
            with("nets@end=c net.safetensors"),
            with("nets@end=%zz"),
            with(&format!("nets@end=c f={digest} f={digest}")),
            with("nets@end=a"),
            with(&format!("root: {digest}")),
            with(&format!("nets@end=c {}\u{1b}[2J", "x".repeat(500))),
        ];
        insta::assert_snapshot!(errors.join("\n"));
    }

    #[test]
    fn mismatches_name_node_file_and_both_digests() {
        let lock = lock();
        let expected = lock.expected(Some("ci"), &NODES.into()).unwrap();
        assert_eq!(expected.differences("nets@end=a", &nodes()["nets@end=a"]), []);
        assert!(expected.refuse(&[]).is_ok());
        let found = artifact(&[("net.safetensors", "other"), ("more.csv", "")]);
        let differences = expected.differences("nets@end=a", &found);
        let error = expected.refuse(&differences).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        insta::assert_snapshot!(format!("{error}\nhint: {}", error.hint().unwrap()), @r"
        pipeline.lock: 3 outputs of [profile ci] differ:
          `nets@end=a`, `history.csv`: expected 31582e470d5f57ef22db8d0a3f900e5438db2923092f4a09364e5f05e270787e, found no such file
          `nets@end=a`, `more.csv`: expected no such file, found af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262
          `nets@end=a`, `net.safetensors`: expected 17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f, found 3f796163ebf94718de1cd7582655c012f995c06f1e6970ea2bdc15bcd88a324a
        hint: the new outputs are in the cache (see `repro show nets@end=a`); if the change is intended, run `repro lock --profile ci`
        ");
        let error = expected.refuse(&differences[..1]).unwrap_err();
        assert!(
            error.to_string().starts_with("pipeline.lock: 1 output of [profile ci] differs:\n"),
            "{error}"
        );
        let many: Vec<Mismatch> = (0..20).map(|_| differences[0].clone()).collect();
        assert!(expected.refuse(&many).unwrap_err().to_string().ends_with("\n  and 8 more"));
    }

    fn content() -> impl Strategy<Value = Content> {
        let file = (any::<u8>(), any::<bool>());
        let file = file.prop_map(|(byte, executable)| Content::File {
            digest: Digest::of(&[byte]),
            executable,
        });
        prop_oneof![4 => file, 1 => Just(Content::EmptyFolder)]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn any_names_are_read_back(nodes in prop::collection::btree_map(
            "[a-z]{1,3}(@\\PC{0,6}=[ \\PC\\s%]{0,8})?",
            prop::collection::btree_map("[a-z.=% \\n\u{a0}/]{0,6}", content(), 0..3),
            0..4,
        )) {
            let embedding: BTreeSet<String> = nodes.keys().step_by(2).cloned().collect();
            let mut lock = Lockfile::new("pipeline.lock");
            lock.set(Some("ci"), nodes.clone(), embedding.clone());
            let lock = parse(&lock.to_string());
            let section = &lock.sections[&Some("ci".to_owned())];
            prop_assert_eq!((&section.nodes, &section.embedding), (&nodes, &embedding));
        }

        #[test]
        fn no_text_makes_the_parser_panic(
            text in "(version: 2\n)?(> )?\
                     (\\[profile [a-z]{1,2}\\]\n|root: .{0,3}\n|[a-z%=@ ]{0,6}\n|\\PC{0,9}\n){0,6}",
        ) {
            if let Err(diagnostic) = Lockfile::parse("pipeline.lock", &text) {
                prop_assert!(diagnostic.hint.is_some(), "{}", diagnostic);
            }
        }
    }
}
