//! The house's rules, held by reading `src/`: who may import whom, where `unsafe` may stand, what no file may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A source file: its path from `src/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Without comments and tests: what the program is made of.
    fn code(&self) -> String {
        // Unit tests come last, but for fixtures and the like that others' tests share: those stand last too.
        let text = self.text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let text = text.split("\n#[cfg(test)]\npub(crate) mod ").next().unwrap();
        text.lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The module it is: `engine/executor/local.rs` -> [engine, executor, local].
    fn module(&self) -> Vec<String> {
        let path = self.path.strip_suffix(".rs").unwrap();
        let mut module: Vec<String> = path.split('/').map(str::to_owned).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            module.pop();
        }
        module
    }

    fn room(&self) -> String {
        self.module().first().cloned().unwrap_or_default()
    }
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();
    assert!(found.len() > 40, "these are all: {found:?}");
    let read = |path: PathBuf| Source {
        path: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(&path).unwrap(),
    };
    found.into_iter().map(read).collect()
}

/// Every path that `code`, in `module`, names: from the crate's root, as far as it is written out. Braces are spread.
fn paths(code: &str, module: &[String]) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (lead, supers) in [("crate::", false), ("super::", true)] {
        for (at, _) in code.match_indices(lead) {
            let joined =
                code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if joined {
                continue;
            }
            let mut rest = &code[at..];
            let mut base = if supers { module.to_vec() } else { Vec::new() };
            while let Some(shorter) = rest.strip_prefix("super::") {
                base.pop();
                rest = shorter;
            }
            rest = rest.strip_prefix("crate::").unwrap_or(rest);
            spread(rest, &base, &mut found);
        }
    }
    found
}

/// Reads `a::{b, c::d}` at the start of `text`.
fn spread(text: &str, base: &[String], found: &mut BTreeSet<Vec<String>>) {
    let text = text.trim_start();
    if let Some(inner) = text.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    spread(&inner[start..at], base, found);
                    return;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    spread(&inner[start..at], base, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        return;
    }
    let mut path = base.to_vec();
    path.push(name.clone());
    match text[name.len()..].strip_prefix("::") {
        Some(rest) => spread(rest, &path, found),
        None => _ = found.insert(path),
    }
}

/// What each room may use of the others, as far as that is said: `engine::key` is that file alone.
fn may_use(room: &str) -> Option<&'static [&'static [&'static str]]> {
    Some(match room {
        "stage" => &[
            &["engine", "stage"],
            &["engine", "key"],
            &["study"],
            &["kernel", "sparse"],
            &["report"],
            &["fs"],
            &["process"],
        ],
        "engine" => &[&["fs"], &["process"]],
        "study" => &[&["kernel"]],
        "kernel" | "report" | "fs" | "process" => &[],
        _ => return None,
    })
}

#[test]
fn each_room_imports_only_what_it_may() {
    let mut broken = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for source in sources() {
        let room = source.room();
        let Some(allowed) = may_use(&room) else {
            assert!(
                ["", "cli"].contains(&room.as_str()),
                "`{room}` is a new room: say here what it may use"
            );
            continue;
        };
        for path in paths(&source.code(), &source.module()) {
            if path[0] == room {
                continue;
            }
            *seen.entry(room.clone()).or_default() += 1;
            let fits = |allowed: &&[&str]| {
                path.len() >= allowed.len() && path.iter().zip(*allowed).all(|(a, b)| a == b)
            };
            if !allowed.iter().any(fits) {
                broken.push(format!("{} uses {}", source.path, path.join("::")));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
    assert!(
        ["stage", "engine", "study"].iter().all(|room| seen.contains_key(*room)),
        "the reader sees imports: {seen:?}"
    );
}

#[test]
fn inside_the_engine_and_the_study_imports_go_one_way() {
    /// (file or folder of a room, what of that room it may use).
    const RULES: [(&[&str], &[&str]); 17] = [
        (
            &["engine", "schedule"],
            &[
                "entry", "error", "event", "executor", "key", "lock", "plan", "pool", "reason",
                "stage", "store", "survey",
            ],
        ),
        (&["engine", "pool"], &["error", "executor", "key", "stage"]),
        (&["engine", "store"], &["entry", "envelope", "key", "error", "memo"]),
        (&["engine", "hold"], &["error", "key", "lease", "owner", "store"]),
        (&["engine", "durable"], &["key", "lease", "owner", "store"]),
        (&["engine", "envelope"], &["key"]),
        (&["engine", "requester"], &["key", "store"]),
        (&["engine", "entry"], &["key"]),
        (&["engine", "lease"], &["key", "owner"]),
        (&["engine", "memo"], &["entry", "key"]),
        (&["engine", "owner"], &[]),
        (&["engine", "executor"], &["key", "executor", "wording"]),
        (&["engine", "event"], &["reason"]),
        (&["engine", "progress"], &["event", "wording"]),
        (&["engine", "key"], &[]),
        (&["study", "data"], &["rng", "bounded", "data"]),
        (&["study", "net"], &["rng", "bounded", "data", "net"]),
    ];
    let mut broken = Vec::new();
    for source in sources() {
        let module = source.module();
        for (owner, allowed) in RULES {
            if module.len() < 2 || module[..2].iter().zip(owner).any(|(a, b)| a != b) {
                continue;
            }
            for path in paths(&source.code(), &module) {
                if path[0] == owner[0]
                    && path.len() > 1
                    && path[1] != owner[1]
                    && !allowed.contains(&path[1].as_str())
                {
                    broken.push(format!("{} uses {}", source.path, path.join("::")));
                }
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn paths_are_read_as_rust_reads_them() {
    let module = ["engine", "plan"].map(str::to_owned);
    let code = "use super::key::{Artifact, Seed};\nuse crate::{fs, study::net::{Mlp, prior::Prior}};\nlet x = crate::kernel::isa();\n\
                use super::super::stage;\nlet y = a_crate::b; pub(crate) fn f() {}";
    let found: Vec<String> = paths(code, &module).into_iter().map(|path| path.join("::")).collect();
    let expected = [
        "engine::key::Artifact",
        "engine::key::Seed",
        "fs",
        "kernel::isa",
        "stage",
        "study::net::Mlp",
        "study::net::prior::Prior",
    ];
    assert_eq!(found, expected);
}

#[test]
fn no_file_or_folder_is_a_drawer_for_everything() {
    for source in sources() {
        for part in source.module() {
            let drawers =
                ["utils", "util", "common", "core", "manager", "helpers", "helper", "misc"];
            assert!(
                !drawers.contains(&part.as_str()),
                "src/{} has a name that says nothing",
                source.path
            );
        }
    }
}

#[test]
fn unsafe_stands_in_the_kernels_alone_and_says_why_it_is_safe() {
    let word =
        |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe");
    let mut blocks = 0;
    for source in sources() {
        let code: Vec<&str> =
            source.text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        if source.room() != "kernel" {
            let guilty: Vec<&&str> = code.iter().filter(|line| word(line)).collect();
            assert!(guilty.is_empty(), "src/{}: {guilty:?}", source.path);
            continue;
        }
        let count = code.iter().filter(|line| line.contains("unsafe {")).count();
        let said = source.text.matches("SAFETY").count();
        assert!(said >= count, "src/{}: {count} unsafe blocks, {said} SAFETY lines", source.path);
        blocks += count;
    }
    assert!(blocks > 0, "the reader sees them");
}

#[test]
fn no_file_is_longer_than_700_lines_without_its_tests() {
    for source in sources() {
        let lines = source.text.split("\n#[cfg(test)]\nmod tests").next().unwrap().lines().count();
        assert!(
            lines <= 700,
            "src/{} has {lines} lines: it holds more than one subject",
            source.path
        );
    }
}

#[test]
fn nothing_is_left_half_done() {
    // Put together here, so that this file does not find itself should it ever be read.
    let marks = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!")).into_iter();
    let marks: Vec<String> = marks
        .chain(["FIX", "TO", "XX"].map(|start| {
            format!(
                "{start}{}",
                if start == "FIX" {
                    "ME"
                } else if start == "TO" {
                    "DO"
                } else {
                    "X"
                }
            )
        }))
        .collect();
    for source in sources() {
        for mark in &marks {
            assert!(!source.text.contains(mark.as_str()), "src/{} has a {mark}", source.path);
        }
    }
}
