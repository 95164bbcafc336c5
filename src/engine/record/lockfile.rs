//! pipeline.lock: the digest that every output is expected to have, per profile. Text to values and back.
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
//! Profiles and nodes are sorted, one line a node, so that two branches that change different nodes merge by themselves
//! but for the root. The **root** of a profile is one hash that stands for all outputs ([`root`]), and that lines edited by
//! hand no longer have. `repro lock` makes it anew. A report prints it, and so cannot be part of it: such nodes stand behind
//! a `>`. Held to their digests they are all the same, but an edit of such a line shows only then.
//!
//! A line names each file's digest, not one for the whole artifact: it is two to three times as long, and a difference
//! then says which file differs. An executable file has `+x` behind its digest, an empty folder is `NAME/=empty-folder`
//! ([`Content`]). What a profile's lock holds for is that profile as pipeline.yaml has it: `-S` is refused
//! wherever a lock is made or held to, and a fallback (`otherwise`) never stands for the answer itself.
//!
//! Knows no files, no cache and no plan: text, names and digests alone.

use crate::engine::error::{Diagnostic, Error};
use crate::engine::key::{Artifact, Content, Digest, root};
use crate::engine::located::{Location, ValueError};
use crate::engine::text::count;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::str::FromStr as _;

/// What stands on top of every lock.
const ABOUT: &str = "# The digest of every output of every node, per profile, without overrides. Written by `repro lock`, \
                     checked by `repro run --locked`.";

/// The form of the text below; raised when an older program would misread it.
const VERSION: &str = "version: 2";

/// What git leaves where two branches changed the same lines.
const CONFLICT: [&str; 4] = ["<<<<<<<", "|||||||", "=======", ">>>>>>>"];

/// What helps with a line that makes no sense.
const RESTORE: &str = "restore the file, or remove it and lock again";

/// How many differences are told; what hangs on the first of them mostly differs too.
const SHOWN: usize = 12;

/// A whole lock.
#[derive(Clone, Debug)]
pub struct Lockfile {
    /// The file's name, for messages.
    source: String,
    /// By profile; `None` is the pipeline without any.
    sections: BTreeMap<Option<String>, Section>,
}

/// One profile's part.
#[derive(Clone, Debug, Default)]
struct Section {
    /// As it stands in the text, right or wrong.
    root: Option<Digest>,
    /// Where that stands.
    location: Option<Location>,
    /// The pipeline's seed when it was locked; a lock of before does not say.
    seed: Option<String>,
    nodes: BTreeMap<String, Artifact>,
    /// Those among them that tell readers the root.
    telling: BTreeSet<String>,
}

/// What marks the line of a node that tells the root.
const TELLS: &str = "> ";

/// What the nodes of one profile are held to.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    source: &'a str,
    profile: Option<&'a str>,
    section: &'a Section,
}

/// An output that is not what the lock has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The node.
    pub node: String,
    /// Its output.
    pub file: String,
    /// What the lock has; none if the lock has no such file.
    pub expected: Option<Content>,
    /// What was found; none if there is no such file.
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
    /// One that expects nothing yet.
    pub fn new(source: &str) -> Lockfile {
        Lockfile { source: source.to_owned(), sections: BTreeMap::new() }
    }

    /// Reads the text of `source`. Roots are not checked: that of a profile that is about to be locked may be stale.
    pub fn parse(source: &str, text: &str) -> Result<Lockfile, Diagnostic> {
        let sections = read(text).map_err(|error| Diagnostic::of(source, "", &error))?;
        Ok(Lockfile { source: source.to_owned(), sections })
    }

    /// Refuses a lock with a profile whose root is not that of its lines.
    pub fn check_roots(&self) -> Result<(), Diagnostic> {
        self.sections
            .iter()
            .try_for_each(|(profile, section)| self.check_root(profile.as_deref(), section))
    }

    fn check_root(&self, profile: Option<&str>, section: &Section) -> Result<(), Diagnostic> {
        if section.root == Some(section.true_root()) {
            return Ok(());
        }
        let (title, lock) = (title(profile), command("lock", profile));
        Err(Diagnostic {
            source: self.source.clone(),
            location: section.location,
            message: format!(
                "the root of [{title}] is not that of its lines: a line was lost, added or edited"
            ),
            hint: Some(format!("restore the file, or `{lock}` locks what the cache has now")),
        })
    }

    /// Every digest it expects, of any profile.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.sections
            .values()
            .flat_map(|section| section.nodes.values())
            .flat_map(|artifact| artifact.values().filter_map(Content::digest))
    }

    /// What is expected of `nodes`, which are all those of `profile`. Refused if the lock does not list exactly these, or
    /// if its root is not theirs.
    pub fn expected<'a>(
        &'a self,
        profile: Option<&'a str>,
        nodes: &BTreeSet<&str>,
    ) -> Result<Expected<'a>, Diagnostic> {
        let title = title(profile);
        let diagnostic = |location, message: String, hint: String| {
            Err(Diagnostic { source: self.source.clone(), location, message, hint: Some(hint) })
        };
        let relock = format!("`{}` locks what the cache has now", command("lock", profile));
        let Some(section) = self.sections.get(&profile.map(str::to_owned)) else {
            let hint = format!(
                "`{}`, then `{}` adds it",
                command("run", profile),
                command("lock", profile)
            );
            return diagnostic(None, format!("[{title}] is not in the lock"), hint);
        };
        self.check_root(profile, section)?;
        let locked: BTreeSet<&str> = section.nodes.keys().map(String::as_str).collect();
        if let Some(first) = nodes.difference(&locked).next() {
            let all = count(nodes.difference(&locked).count());
            return diagnostic(
                section.location,
                format!("[{title}] lacks `{first}` ({all} in all)"),
                relock,
            );
        }
        if let Some(first) = locked.difference(nodes).next() {
            let all = count(locked.difference(nodes).count());
            let message =
                format!("[{title}] has `{first}`, which the pipeline has not ({all} in all)");
            return diagnostic(section.location, message, relock);
        }
        Ok(Expected { source: &self.source, profile, section })
    }

    /// Expects `nodes`, of which those in `telling` tell the root, and no others of `profile` from now on. Gives their root,
    /// and how many nodes are new, changed or gone.
    pub fn set(
        &mut self,
        profile: Option<&str>,
        nodes: BTreeMap<String, Artifact>,
        telling: BTreeSet<String>,
    ) -> (Digest, usize) {
        let mut section = Section { nodes, telling, ..Section::default() };
        let root = section.true_root();
        section.root = Some(root);
        let before = self.sections.remove(&profile.map(str::to_owned)).unwrap_or_default().nodes;
        let names: BTreeSet<&String> = before.keys().chain(section.nodes.keys()).collect();
        let changed =
            names.into_iter().filter(|name| before.get(*name) != section.nodes.get(*name)).count();
        self.sections.insert(profile.map(str::to_owned), section);
        (root, changed)
    }

    /// Writes down the seed that `profile` was locked with.
    pub fn set_seed(&mut self, profile: Option<&str>, seed: &str) {
        if let Some(section) = self.sections.get_mut(&profile.map(str::to_owned)) {
            section.seed = Some(seed.to_owned());
        }
    }

    /// Refuses another seed than that which `profile` was locked with: nothing that draws could be as expected.
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
                "write `seed: {locked}`; or `{}`, then `{}` locks what it makes",
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
                let mark = if section.telling.contains(name) { TELLS } else { "" };
                writeln!(f, "{mark}{}", line(name, artifact))?;
            }
        }
        Ok(())
    }
}

impl Section {
    fn true_root(&self) -> Digest {
        root(
            self.nodes
                .iter()
                .filter(|(name, _)| !self.telling.contains(*name))
                .map(|(_, artifact)| artifact),
        )
    }
}

impl Expected<'_> {
    /// The outputs of `node` that are not as expected.
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

    /// An error if there are any.
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
                "what was found is kept (`repro show {}`); if it is meant, `{}` expects it from now on",
                first.node,
                command("lock", self.profile)
            )),
        }))
    }

    /// Refuses a line whose digest is that of another output.
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
            hint: Some(format!(
                "restore the file, or `{}` locks what the cache has now",
                command("lock", self.profile)
            )),
        })
    }

    /// The lock's name, for messages.
    pub fn source(&self) -> &str {
        self.source
    }

    /// The one hash that stands for all of it.
    pub fn root(&self) -> Digest {
        self.section.true_root()
    }
}

/// A node's line: its name, then its files.
fn line(name: &str, artifact: &Artifact) -> String {
    let mut line = escape(name);
    for (file, content) in artifact {
        let _ = write!(line, " {}={content}", escape(file));
    }
    line
}

/// Spaces part the words of a line; values with spaces in them are rare, and read `a%20b`.
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
            let hint = "keep the lines of either side, then `repro lock --profile NAME` makes that profile's part anew";
            return Err(refuse("a merge conflict is not resolved".into(), hint));
        }
        if !versioned {
            if line != VERSION {
                let hint = "one of another `repro` needs that program; or remove the file, and `repro lock` writes it anew";
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
                    format!("{line} is there twice"),
                    "remove the one that is out of date",
                ));
            }
            profile = Some(named);
        } else {
            let section = profile
                .as_ref()
                .and_then(|profile| sections.get_mut(profile))
                .ok_or_else(|| {
                    refuse(format!("`{}` stands before any `[profile NAME]`", shown(line)), RESTORE)
                })?;
            if let Some(root) = line.strip_prefix("root: ") {
                if section.root.is_some() {
                    return Err(refuse(
                        "the root is there twice".into(),
                        "remove one; `repro lock` makes it right",
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
            let told = line.strip_prefix(TELLS);
            let (name, artifact) =
                node(told.unwrap_or(line)).map_err(|message| refuse(message, RESTORE))?;
            if section.nodes.contains_key(&name) {
                return Err(refuse(
                    format!("`{name}` is there twice"),
                    "remove the line that is out of date",
                ));
            }
            if told.is_some() {
                section.telling.insert(name.clone());
            }
            section.nodes.insert(name, artifact);
        }
    }
    if !versioned {
        return Err(ValueError::at(
            None,
            "the lock is empty",
            Some("remove the file; `repro lock` writes one".into()),
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
            return Err(format!("`{}` of `{name}` is there twice", shown(file)));
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

/// What is quoted of a text that may be anything.
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
        let report = artifact(&[("report.md", "of all that")]);
        [
            ("nets@end=b", net("b")),
            ("nets@end=a", net("a")),
            ("data", artifact(&[])),
            ("report", report),
        ]
        .map(|(name, artifact)| (name.to_owned(), artifact))
        .into()
    }

    fn telling() -> BTreeSet<String> {
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
        lock.set(Some("ci"), nodes(), telling());
        lock
    }

    fn parse(text: &str) -> Lockfile {
        Lockfile::parse("pipeline.lock", text).unwrap()
    }

    fn told(diagnostic: &Diagnostic) -> String {
        format!("{diagnostic}\nhint: {}", diagnostic.hint.as_deref().unwrap_or("none"))
    }

    /// What `ci` is refused for, with these nodes in the plan.
    fn refusal(lock: &Lockfile, nodes: &[&str]) -> String {
        told(&lock.expected(Some("ci"), &nodes.iter().copied().collect()).unwrap_err())
    }

    const NODES: [&str; 4] = ["data", "nets@end=a", "nets@end=b", "report"];

    #[test]
    fn two_digests_that_have_changed_places_are_named() {
        let mut lock = Lockfile::new("pipeline.lock");
        lock.set(None, nodes(), telling());
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
    fn another_seed_than_the_locked_one_is_named() {
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
    fn a_lock_reads_well() {
        insta::assert_snapshot!(lock().to_string());
    }

    #[test]
    fn a_lock_survives_its_file_whatever_the_order_of_its_lines() {
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
    fn one_profile_is_locked_and_the_others_stay_even_where_their_root_is_wrong() {
        let text = lock().to_string();
        let quick = text.split_once("[profile quick]").unwrap().1;
        let broken = text.replace(quick, &quick.replace("data.json=", "other.json="));
        let mut lock = parse(&broken);
        let mut changed = nodes();
        changed.insert("nets@end=b".to_owned(), artifact(&[("net.safetensors", "other")]));
        changed.insert("nets@end=c".to_owned(), artifact(&[]));
        changed.remove("data");
        assert_eq!(lock.set(Some("ci"), changed, telling()).1, 3, "one changed, one new, one gone");
        let quick = |text: &str| text.split_once("[profile quick]").unwrap().1.to_owned();
        assert_eq!(quick(&lock.to_string()), quick(&broken));
        let diagnostic = lock.expected(Some("quick"), &["data"].into()).unwrap_err();
        assert!(
            diagnostic.message.starts_with("the root of [profile quick] is not that of its lines"),
            "{diagnostic}"
        );
    }

    #[test]
    fn the_pipeline_without_a_profile_is_not_a_profile_called_no_profile() {
        let mut lock = Lockfile::new("pipeline.lock");
        lock.set(None, nodes(), telling());
        assert!(lock.to_string().contains("\n[no profile]\n"));
        let lock = parse(&lock.to_string());
        assert!(lock.expected(None, &NODES.into()).is_ok());
        assert!(lock.expected(Some("no profile"), &NODES.into()).is_err());
        let diagnostic = Lockfile::new("pipeline.lock").expected(None, &NODES.into()).unwrap_err();
        assert_eq!(diagnostic.hint.as_deref(), Some("`repro run`, then `repro lock` adds it"));
    }

    #[test]
    fn any_change_of_an_output_is_seen_in_the_root_and_a_name_or_a_report_is_not() {
        let root = |nodes| lock().set(Some("ci"), nodes, telling()).0;
        let mut seen = vec![root(nodes())];
        let mut change = |change: &dyn Fn(&mut BTreeMap<String, Artifact>)| {
            let mut changed = nodes();
            change(&mut changed);
            seen.push(root(changed));
        };
        change(&|nodes| _ = nodes.remove("data"));
        change(&|nodes| _ = nodes.insert("data".into(), artifact(&[("data.json", "{}")])));
        change(&|nodes| _ = nodes.insert("more".into(), artifact(&[])));
        change(&|nodes| {
            _ = nodes.insert("report2".into(), artifact(&[("report.md", "of all that")]))
        });
        change(&|nodes| {
            _ = nodes
                .get_mut("nets@end=a")
                .unwrap()
                .insert("history.csv".into(), Digest::of(b"").into())
        });
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 6);
        let mut same = nodes();
        same.insert("report".into(), artifact(&[("report.md", "of something else")]));
        let data = same.remove("data").unwrap();
        same.insert("images".into(), data);
        assert_eq!(root(same), root(nodes()));
    }

    #[test]
    fn what_tells_the_root_is_held_to_its_line_though_it_is_no_part_of_it() {
        let text = lock().to_string();
        let report = nodes()["report"]["report.md"].to_string();
        let edited = parse(&text.replace(&report, &Digest::of(b"another").to_string()));
        edited.check_roots().unwrap();
        let expected = edited.expected(Some("ci"), &NODES.into()).unwrap();
        assert_eq!(expected.differences("report", &nodes()["report"]).len(), 1);
    }

    #[test]
    fn an_edited_line_or_a_lost_root_is_refused() {
        let text = lock().to_string();
        let edited = text.replacen("history.csv", "histories.csv", 1);
        insta::assert_snapshot!(refusal(&parse(&edited), &NODES), @r"
        pipeline.lock:5:1: the root of [profile ci] is not that of its lines: a line was lost, added or edited
        hint: restore the file, or `repro lock --profile ci` locks what the cache has now
        ");
        let root = text.lines().find(|line| line.starts_with("root: ")).unwrap();
        insta::assert_snapshot!(refusal(&parse(&text.replacen(&format!("{root}\n"), "", 1)), &NODES), @r"
        pipeline.lock:4:1: the root of [profile ci] is not that of its lines: a line was lost, added or edited
        hint: restore the file, or `repro lock --profile ci` locks what the cache has now
        ");
    }

    #[test]
    fn a_lock_of_other_nodes_than_the_plans_is_refused() {
        insta::assert_snapshot!(refusal(&lock(), &["data", "nets@end=a", "nets@end=b", "nets@end=c", "report", "tables"]), @r"
        pipeline.lock: [profile ci] lacks `nets@end=c` (2 nodes in all)
        hint: `repro lock --profile ci` locks what the cache has now
        ");
        insta::assert_snapshot!(refusal(&lock(), &["data"]), @r"
        pipeline.lock: [profile ci] has `nets@end=a`, which the pipeline has not (3 nodes in all)
        hint: `repro lock --profile ci` locks what the cache has now
        ");
        insta::assert_snapshot!(refusal(&Lockfile::new("pipeline.lock"), &NODES), @r"
        pipeline.lock: [profile ci] is not in the lock
        hint: `repro run --profile ci`, then `repro lock --profile ci` adds it
        ");
    }

    #[test]
    fn what_is_no_lock_is_refused_with_place_and_hint() {
        let case = |text: &str| told(&Lockfile::parse("pipeline.lock", text).unwrap_err());
        let good = lock().to_string();
        let (head, ci) = good.split_once("[profile ci]\n").unwrap();
        let with =
            |line: &str| case(&good.replace("[profile ci]\n", &format!("[profile ci]\n{line}\n")));
        let digest = Digest::of(b"");
        let faults = [
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
        insta::assert_snapshot!(faults.join("\n"));
    }

    #[test]
    fn differences_name_node_file_and_both_digests() {
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
        hint: what was found is kept (`repro show nets@end=a`); if it is meant, `repro lock --profile ci` expects it from now on
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
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_names_survive_the_file(nodes in prop::collection::btree_map(
            "[a-z]{1,3}(@\\PC{0,6}=[ \\PC\\s%]{0,8})?",
            prop::collection::btree_map("[a-z.=% \\n\u{a0}/]{0,6}", content(), 0..3),
            0..4,
        )) {
            let telling: BTreeSet<String> = nodes.keys().step_by(2).cloned().collect();
            let mut lock = Lockfile::new("pipeline.lock");
            lock.set(Some("ci"), nodes.clone(), telling.clone());
            let lock = parse(&lock.to_string());
            let section = &lock.sections[&Some("ci".to_owned())];
            prop_assert_eq!((&section.nodes, &section.telling), (&nodes, &telling));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "(version: 2\n)?(> )?(\\[profile [a-z]{1,2}\\]\n|root: .{0,3}\n|[a-z%=@ ]{0,6}\n|\\PC{0,9}\n){0,6}") {
            if let Err(diagnostic) = Lockfile::parse("pipeline.lock", &text) {
                prop_assert!(diagnostic.hint.is_some(), "{}", diagnostic);
            }
        }
    }
}
