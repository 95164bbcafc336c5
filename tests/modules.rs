//! Which module may import which, checked by reading `src/`.
//!
//! docs/architecture.md has the same table. Every file is checked: a new folder needs a row.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A source file: its path from `src/`, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// The code without comments and unit tests.
    fn code(&self) -> String {
        // Unit tests, and fixtures shared by tests, come last in a file.
        let text = self.text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let text = text.split("\n#[cfg(test)]\npub(crate) mod ").next().unwrap();
        text.lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The path of the module: `engine/run/pool.rs` -> [engine, run, pool].
    pub(crate) fn module(&self) -> Vec<String> {
        let path = self.path.strip_suffix(".rs").unwrap();
        let mut module: Vec<String> = path.split('/').map(str::to_owned).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            module.pop();
        }
        module
    }
}

pub(crate) fn sources() -> Vec<Source> {
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
    assert!(found.len() > 40, "only {found:?}");
    let read = |path: PathBuf| Source {
        path: path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(&path).unwrap(),
    };
    found.into_iter().map(read).collect()
}

/// The paths of our modules that `code` in `module` names, from the root of the crate.
/// `a::{b, c}` counts as `a::b` and `a::c`.
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

/// Adds the paths of `a::{b, c::d}` at the start of `text`.
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

/// For each module, the modules that it may import; the longest matching name decides. Names are
/// paths below `src/`. A module may import itself, and nothing else unless listed.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("cli", &["engine", "stage", "report", "kernel", "fs", "process"]),
    (
        "stage",
        &["engine::stage", "engine::key", "study", "kernel::sparse", "report", "fs", "process"],
    ),
    ("engine::record", &["engine::run", "engine::spec", "engine::cache", BASE, "fs", "process"]),
    ("engine::run", &["engine::spec", "engine::cache", BASE, "fs", "process"]),
    ("engine::spec", &[BASE, "fs"]),
    ("engine::cache", &[BASE, "fs", "process"]),
    ("engine::stage", &[BASE]),
    ("engine::error", &[BASE]),
    ("engine::key", &["fs"]),
    ("engine::envelope", &["engine::key"]),
    ("engine::located", &[]),
    ("engine::provenance", &["engine::key"]),
    ("engine::resources", &[]),
    ("engine::text", &[]),
    ("study::registry", &[]),
    ("study::stats", &["study::registry"]),
    ("study::curve", &["study", "kernel"]),
    ("study::net", &["study::data", "study::bounded", "study::registry", "study::rng", "kernel"]),
    ("study::data", &["study::bounded", "study::registry", "study::rng", "kernel"]),
    ("study", &["kernel"]),
    ("kernel", &[]),
    ("report", &[]),
    ("fs", &[]),
    ("process", &[]),
];

/// Stands for all base modules of the engine in [`MAY_IMPORT`].
const BASE: &str = "base modules";

/// The base modules of the engine.
const BASE_MODULES: [&str; 8] = [
    "engine::envelope",
    "engine::error",
    "engine::key",
    "engine::located",
    "engine::provenance",
    "engine::resources",
    "engine::stage",
    "engine::text",
];

/// Whether `path` is `module` or in it.
fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The row of [`MAY_IMPORT`] for a module.
fn row(module: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    let rows = MAY_IMPORT.iter().filter(|(name, _)| is_in(module, name));
    rows.max_by_key(|(name, _)| name.len())
}

#[test]
fn every_file_imports_only_the_modules_of_its_row() {
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for source in sources() {
        let module = source.module().join("::");
        // The root, `main.rs`, and modules that only declare their submodules need no row.
        let Some((name, allowed)) = row(&module) else {
            let is_declaration = ["", "engine"].contains(&module.as_str());
            // Fixtures for unit tests use everything.
            let is_test = module == "engine::testing";
            assert!(is_declaration || is_test, "src/{}: add a row for this module", source.path);
            continue;
        };
        for path in paths(&source.code(), &source.module()) {
            let path = path.join("::");
            checked += 1;
            let is_allowed = |allowed: &&&str| match **allowed {
                BASE => BASE_MODULES.iter().any(|base| is_in(&path, base)),
                module => is_in(&path, module),
            };
            if !is_in(&path, name) && allowed.iter().find(is_allowed).is_none() {
                wrong.push(format!("src/{} imports {path}", source.path));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(checked > 300, "only {checked} imports were found");
}

#[test]
fn no_command_imports_another() {
    /// The modules of `cli` that commands share; all others are commands.
    const SHARED: [&str; 4] = ["args", "mod", "output", "session"];
    let mut wrong = Vec::new();
    let command = |module: &[String]| match module {
        [cli, command, ..] if cli == "cli" && !SHARED.contains(&command.as_str()) => {
            Some(command.clone())
        }
        _ => None,
    };
    let commands: BTreeSet<String> =
        sources().iter().filter_map(|s| command(&s.module())).collect();
    assert!(commands.len() > 10, "only {commands:?}");
    for source in sources().iter().filter(|source| source.path != "cli/mod.rs") {
        for path in paths(&source.code(), &source.module()) {
            let used = command(&path).filter(|used| commands.contains(used));
            if used.as_ref().is_some_and(|used| Some(used) != command(&source.module()).as_ref()) {
                wrong.push(format!("src/{} imports {}", source.path, path.join("::")));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn paths_are_resolved_as_in_rust() {
    let module = ["engine", "plan"].map(str::to_owned);
    let code = "use super::key::{Artifact, Seed};\n\
                use crate::{fs, study::net::{Mlp, prior::Prior}};\n\
                let x = crate::kernel::isa();\n\
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
