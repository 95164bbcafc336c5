//! Hostile input: texts and bytes that nobody wrote on purpose. Nothing panics, and what is refused is refused in a few words.
//!
//! A short run here; `PROPTEST_CASES=1000000 cargo test --release --test integration fuzz` makes it a long one.

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use repro::engine::spec::pipeline::Pipeline;
use repro::engine::spec::plan::Plan;
use repro::stage::KINDS;
use repro::study::data::mnist::gunzip;
use std::io::Write as _;

use crate::space::TINY;

/// Pieces that mean something to YAML, to us, to a shell or to a terminal.
const PIECES: [&str; 48] = [
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
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

const OPEN: &str = "\
seed: 7
profile: p
stages:
  raw: { file: { path: [data/raw, b.txt] } }
  go:
    command: { run: 'x', files: [x.sh], inputs: { raw: raw, all: [raw] }, outputs: [o/], env: { A: b }, params: { n: [1, 2] }, time-limit: 3 }
profiles:
  p: { go: { params: { n: 3, m: null }, env: { A: ~, C: 0x1 }, inputs: { raw: null } } }
";

/// One change of a text.
#[derive(Clone, Debug)]
enum Change {
    Remove(Index, usize),
    Insert(Index, String),
    Repeat(Index, usize, Index),
    CutOff(Index),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), 0usize..40).prop_map(|(at, n)| Change::Remove(at, n)),
        (any::<Index>(), select(&PIECES[..]))
            .prop_map(|(at, piece)| Change::Insert(at, piece.to_owned())),
        (any::<Index>(), ".{0,6}").prop_map(|(at, text)| Change::Insert(at, text)),
        (any::<Index>(), 0usize..200, any::<Index>())
            .prop_map(|(from, n, to)| Change::Repeat(from, n, to)),
        any::<Index>().prop_map(Change::CutOff),
    ]
}

fn changed(text: &str, changes: &[Change]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for change in changes {
        let place = |at: &Index| at.index(chars.len() + 1);
        match change {
            Change::Remove(at, n) => {
                let at = place(at);
                let end = (at + n).min(chars.len());
                chars.drain(at..end);
            }
            Change::Insert(at, piece) => {
                let at = place(at);
                chars.splice(at..at, piece.chars());
            }
            Change::Repeat(from, n, to) => {
                let (from, to) = (place(from), place(to));
                let again = chars[from..(from + n).min(chars.len())].to_vec();
                chars.splice(to..to, again);
            }
            Change::CutOff(at) => chars.truncate(place(at)),
        }
    }
    chars.into_iter().collect()
}

/// Reads and plans a text, under each of its profiles; gives what it was refused for.
fn refusals(text: &str) -> Vec<String> {
    let pipeline = match Pipeline::parse("pipeline.yaml", text) {
        Ok(pipeline) => pipeline,
        Err(fault) => return vec![fault.to_string()],
    };
    let profiles: Vec<Option<String>> =
        pipeline.profiles.iter().map(|p| Some(p.name.clone())).chain([None]).collect();
    let mut refused = Vec::new();
    for profile in profiles {
        let mut pipeline = pipeline.clone();
        let planned =
            pipeline.apply_profile(profile.as_deref()).and_then(|_| Plan::new(&pipeline, KINDS));
        refused.extend(planned.err().map(|fault| fault.to_string()));
    }
    for path in ["", "go.params=", "go.params.n.m=", "go.run=", "nets.prior.laplace="] {
        let mut pipeline = pipeline.clone();
        let applied = pipeline.apply_override(&format!("{path}{text}"));
        refused.extend(
            applied.and_then(|()| Plan::new(&pipeline, KINDS)).err().map(|fault| fault.to_string()),
        );
    }
    refused
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pipeline_that_was_tampered_with_is_planned_or_refused_in_a_few_words(
        base in select(&[TINY, OPEN, include_str!("../pipeline.yaml")][..]),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        for refusal in refusals(&changed(base, &changes)) {
            prop_assert!(!refusal.is_empty() && refusal.len() < 4_000, "{refusal}");
        }
    }

    #[test]
    fn a_soup_of_pieces_is_planned_or_refused_in_a_few_words(pieces in prop::collection::vec(select(&PIECES[..]), 0..60)) {
        for refusal in refusals(&pieces.concat()) {
            prop_assert!(!refusal.is_empty() && refusal.len() < 4_000, "{refusal}");
        }
    }

    #[test]
    fn damaged_gzip_is_refused_or_gives_no_more_than_the_limit(
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
fn a_bomb_of_zeros_is_given_up_at_the_limit() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..256 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    assert!(gunzip("bomb.gz", &bomb, 50 << 20).is_err());
}
