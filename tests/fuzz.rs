//! Fuzzing: mutated pipelines and damaged gzip files cause no panic, and error messages stay short.
//!
//! The default run is short; for a long one:
//! `PROPTEST_CASES=1000000 cargo test --release --test integration fuzz`.

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use repro::engine::spec::pipeline::Pipeline;
use repro::engine::spec::plan::Plan;
use repro::stage::KINDS;
use repro::study::data::published::gunzip;
use std::io::Write as _;

use crate::space::TINY;

/// Tokens with a meaning in YAML, in pipelines, in a shell or on a terminal.
const TOKENS: [&str; 48] = [
    ":",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    "\n  ",
    "  ",
    "\t",
    "#",
    "&a ",
    "*a",
    "&a [*a, *a]",
    "<<: *a",
    "!!binary ",
    "!x ",
    "|",
    ">-",
    "\"",
    "'",
    "\\",
    "%YAML 1.2",
    "---",
    "...",
    "?",
    "~",
    "null",
    "true",
    "1e999",
    "-0",
    ".nan",
    "0x7fffffffffffffff",
    "99999999999999999999",
    "@",
    "=",
    "nets@end=a,end=a",
    "..",
    "../..",
    "/",
    "\0",
    "\u{202e}",
    "\u{feff}",
    "\u{1F600}",
    "$(reboot)",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// A pipeline of `file` and `command` stages.
const COMMANDS: &str = "\
seed: 7
profile: p
stages:
  raw: { file: { path: [data/raw, b.txt] } }
  go:
    command:
      { run: 'x', files: [x.sh], inputs: { raw: raw, all: [raw] }, outputs: [o/], env: { A: b },
        params: { n: [1, 2] }, time-limit: 3 }
profiles:
  p: { go: { params: { n: 3, m: null }, env: { A: ~, C: 0x1 }, inputs: { raw: null } } }
";

/// One edit of a text.
#[derive(Clone, Debug)]
enum Mutation {
    Remove(Index, usize),
    Insert(Index, String),
    Repeat(Index, usize, Index),
    Truncate(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<Index>(), 0usize..40).prop_map(|(at, n)| Mutation::Remove(at, n)),
        (any::<Index>(), select(&TOKENS[..]))
            .prop_map(|(at, token)| Mutation::Insert(at, token.to_owned())),
        (any::<Index>(), ".{0,6}").prop_map(|(at, text)| Mutation::Insert(at, text)),
        (any::<Index>(), 0usize..200, any::<Index>())
            .prop_map(|(from, n, to)| Mutation::Repeat(from, n, to)),
        any::<Index>().prop_map(Mutation::Truncate),
    ]
}

fn mutated(text: &str, mutations: &[Mutation]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for mutation in mutations {
        let position = |at: &Index| at.index(chars.len() + 1);
        match mutation {
            Mutation::Remove(at, n) => {
                let at = position(at);
                let end = (at + n).min(chars.len());
                chars.drain(at..end);
            }
            Mutation::Insert(at, text) => {
                let at = position(at);
                chars.splice(at..at, text.chars());
            }
            Mutation::Repeat(from, n, to) => {
                let (from, to) = (position(from), position(to));
                let repeated = chars[from..(from + n).min(chars.len())].to_vec();
                chars.splice(to..to, repeated);
            }
            Mutation::Truncate(at) => chars.truncate(position(at)),
        }
    }
    chars.into_iter().collect()
}

/// Parses a pipeline, plans it with each profile, and with overrides that have the text as their
/// value; returns the error messages.
fn errors(text: &str) -> Vec<String> {
    let pipeline = match Pipeline::parse("pipeline.yaml", text) {
        Ok(pipeline) => pipeline,
        Err(error) => return vec![error.to_string()],
    };
    let profiles: Vec<Option<String>> =
        pipeline.profiles.iter().map(|p| Some(p.name.clone())).chain([None]).collect();
    let mut found = Vec::new();
    for profile in profiles {
        let mut pipeline = pipeline.clone();
        let planned =
            pipeline.apply_profile(profile.as_deref()).and_then(|_| Plan::new(&pipeline, KINDS));
        found.extend(planned.err().map(|error| error.to_string()));
    }
    for path in ["", "go.params=", "go.params.n.m=", "go.run=", "nets.prior.laplace="] {
        let mut pipeline = pipeline.clone();
        let applied = pipeline.apply_override(&format!("{path}{text}"));
        found.extend(
            applied.and_then(|()| Plan::new(&pipeline, KINDS)).err().map(|error| error.to_string()),
        );
    }
    found
}

/// Whether a message has no more than some lines beside the override, which it may repeat, escaped.
fn is_short(error: &str, text: &str) -> bool {
    !error.is_empty() && error.len() < 4_000 + 3 * text.len()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_pipeline_is_planned_or_refused_with_a_short_message(
        base in select(&[TINY, COMMANDS, include_str!("../pipeline.yaml")][..]),
        mutations in prop::collection::vec(mutation(), 1..6),
    ) {
        let text = mutated(base, &mutations);
        for error in errors(&text) {
            prop_assert!(is_short(&error, &text), "{error}");
        }
    }

    #[test]
    fn a_text_of_random_tokens_is_planned_or_refused_with_a_short_message(
        tokens in prop::collection::vec(select(&TOKENS[..]), 0..60),
    ) {
        let text = tokens.concat();
        for error in errors(&text) {
            prop_assert!(is_short(&error, &text), "{error}");
        }
    }

    #[test]
    fn damaged_gzip_is_refused_or_unpacks_to_no_more_than_the_limit(
        bytes in prop::collection::vec(0u8..4, 0..3000),
        flips in prop::collection::vec((any::<Index>(), any::<u8>()), 0..5),
        keep in any::<Index>(),
        limit in 0usize..4000,
    ) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&bytes).unwrap();
        let mut packed = encoder.finish().unwrap();
        for (at, with) in &flips {
            let at = at.index(packed.len());
            packed[at] ^= with;
        }
        packed.truncate(keep.index(packed.len() * 4).max(packed.len() / 2));
        if let Ok(unpacked) = gunzip("x.gz", &packed, limit) {
            prop_assert!(unpacked.len() <= limit);
        }
    }
}

#[test]
fn a_gzip_bomb_is_refused_at_the_limit() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..256 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    assert!(gunzip("bomb.gz", &bomb, 50 << 20).is_err());
}
