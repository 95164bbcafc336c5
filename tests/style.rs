//! Rules for the text of the project: names, lengths, `unsafe`, and words that are no longer used.

use crate::modules::sources;
use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the project: its path, and its text.
struct Text {
    path: String,
    text: String,
}

/// The Rust, Markdown, JavaScript and CSS files of the project, without generated ones and this
/// file.
fn texts() -> Vec<Text> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_dir() {
                // Packages of npm for the tests in a browser.
                if !path.ends_with("node_modules") {
                    walk(&path, found);
                }
            } else if matches!(extension, Some("rs" | "md" | "js" | "mjs" | "css")) {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found: Vec<PathBuf> =
        ["README.md", "CHANGELOG.md", "cache/README.md", "reports/README.md", "build.rs"]
            .map(|file| root.join(file))
            .into();
    for folder in ["src", "tests", "benches", "docs", "examples"] {
        walk(&root.join(folder), &mut found);
    }
    found.retain(|path| !path.ends_with("tests/style.rs"));
    found.sort();
    let read = |path: PathBuf| Text {
        path: path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(&path).unwrap(),
    };
    found.into_iter().map(read).collect()
}

/// Whether `text` contains `word`, with no letter, digit or underscore beside it.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
    })
}

#[test]
fn old_identifiers_and_phrases_are_gone() {
    const IDENTIFIERS: &[&str] = &[
        "Bench",
        "DELIVERS",
        "Depends",
        "Due",
        "Fault",
        "Hold",
        "IN_STEP",
        "Keep",
        "Manner",
        "Misfit",
        "Owner",
        "Place",
        "Question",
        "Seen",
        "Settled",
        "Standing",
        "Stop",
        "Survey",
        "Surveyor",
        "TELLS_ROOT",
        "Taken",
        "Terms",
        "Told",
        "at_work",
        "bury",
        "forget_curiosities",
        "harmless",
        "in_step",
        "leads_out",
        "look_elsewhere",
        "memo",
        "misfit",
        "remembering",
        "surveyor",
        "take_in",
        "tells_root",
        "wording",
    ];
    const PHRASES: &[&str] = &[
        "a question",
        "answered",
        "asked for",
        "asks the same",
        "at work on",
        "came out otherwise",
        "come out otherwise",
        "comes out otherwise",
        "enrol",
        "enrolled",
        "hangs on",
        "hang on",
        "held to",
        "hold it to",
        "laid out for people",
        "lies there",
        "lie there",
        "mend",
        "mended",
        "mends",
        "naive twin",
        "nobody's",
        "out of key",
        "settled",
        "stands there",
        "survey",
        "take away",
        "taken away",
        "taken in",
        "the answer",
        "the question",
        "the works there are",
        "told in",
        "toy",
    ];
    let mut found = Vec::new();
    for Text { path, text } in texts() {
        for (number, line) in (1..).zip(text.lines()) {
            let lower = line.to_lowercase();
            for word in IDENTIFIERS.iter().filter(|word| has_word(line, word)) {
                found.push(format!("{path}:{number}: `{word}`: {}", line.trim()));
            }
            for phrase in PHRASES.iter().filter(|phrase| has_word(&lower, phrase)) {
                found.push(format!("{path}:{number}: `{phrase}`: {}", line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{} places:\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_line_has_more_than_100_columns() {
    let mut long = Vec::new();
    for Text { path, text } in texts() {
        // Text between the quotes of a raw string is data: an expected message, a file.
        let mut in_raw_string = false;
        for (number, line) in (1..).zip(text.lines()) {
            let is_data = in_raw_string;
            if path.ends_with(".rs") {
                let opens = ["r\"", "r#\"", "r##\""].iter().any(|mark| line.contains(mark));
                let closes = line.trim_start().starts_with('"')
                    || line.contains("\"#")
                    || line.ends_with("\");");
                in_raw_string = if in_raw_string {
                    !closes
                } else {
                    opens && line.matches('"').count() % 2 == 1
                };
            }
            let is_table =
                line.trim_start().trim_start_matches("//!").trim_start().starts_with('|');
            let is_link = line.contains("http://") || line.contains("https://");
            if line.chars().count() > 100 && !is_table && !is_link && !is_data && !in_raw_string {
                long.push(format!("{path}:{number}"));
            }
        }
    }
    assert!(long.is_empty(), "{} lines:\n{}", long.len(), long.join("\n"));
}

#[test]
fn no_module_has_a_name_without_a_subject() {
    const VAGUE: [&str; 8] =
        ["utils", "util", "common", "core", "manager", "helpers", "helper", "misc"];
    for source in sources() {
        for part in source.module() {
            assert!(!VAGUE.contains(&part.as_str()), "src/{} needs a better name", source.path);
        }
    }
}

#[test]
fn unsafe_is_used_only_in_kernels_and_every_block_has_a_safety_comment() {
    let mut blocks = 0;
    for source in sources() {
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let code: Vec<&str> = source.text.lines().filter(is_code).collect();
        if source.module().first().is_none_or(|module| module != "kernel") {
            // `'unsafe-inline'` is a word of a page's content policy.
            let is_unsafe = |line: &&&str| has_word(&line.replace("unsafe-inline", ""), "unsafe");
            let used: Vec<&&str> = code.iter().filter(is_unsafe).collect();
            assert!(used.is_empty(), "src/{}: {used:?}", source.path);
            continue;
        }
        let count = code.iter().filter(|line| line.contains("unsafe {")).count();
        let comments = source.text.matches("SAFETY").count();
        assert!(comments >= count, "src/{}: {count} blocks, {comments} comments", source.path);
        blocks += count;
    }
    assert!(blocks > 0, "no unsafe block was found");
}

#[test]
fn no_file_has_more_than_700_lines_without_its_tests() {
    for source in sources() {
        let starts = ["", "pub(super) "].map(|scope| format!("\n#[cfg(test)]\n{scope}mod tests"));
        let end = starts.iter().filter_map(|start| source.text.find(start)).min();
        let lines = source.text[..end.unwrap_or(source.text.len())].lines().count();
        assert!(lines <= 700, "src/{} has {lines} lines: split it by subject", source.path);
    }
}

#[test]
fn no_file_has_an_unfinished_part() {
    let macros = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!"));
    let comments =
        [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("X", "XX")].map(str::to_owned);
    for Text { path, text } in texts() {
        for mark in macros.iter().chain(&comments) {
            assert!(!text.contains(mark.as_str()), "{path} has `{mark}`");
        }
    }
}
