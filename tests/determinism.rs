//! The `ci` profile matches the committed pipeline.lock on every instruction set of this machine,
//! with any number of jobs and in any order.
//!
//! After an intended change of results, raise the VERSION of the stages that changed, then run
//! `repro run --profile ci` and `repro lock --profile ci`.

use crate::space::Space;
use repro::engine::key::Digest;
use repro::kernel::Isa;
use std::path::Path;

const CI: [&str; 2] = ["--profile", "ci"];

/// The shipped pipeline and lock file, not run yet.
fn shipped() -> Space {
    let read = |file: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
    };
    let space = Space::with(&read("pipeline.yaml"));
    space.write("pipeline.lock", read("pipeline.lock"));
    space
}

/// Runs all nodes on `isa`, `jobs` at once, and checks them against the lock.
fn matches_lock(isa: Isa, jobs: &str) {
    let space = shipped().env("REPRO_SIMD", isa.name());
    let output = space.run(&[&["run", "--locked", "--json", "-j", jobs], &CI[..]].concat());
    assert_eq!(output.code, Some(0), "{} -j {jobs}:\n{}", isa.name(), output.stderr);
    assert!(
        output.cached().is_empty() && output.ran().len() == space.plan(&CI).len(),
        "all nodes ran"
    );
}

#[test]
fn the_ci_profile_matches_the_lock_on_every_vector_instruction_set_with_1_job_or_4() {
    for isa in Isa::available().into_iter().filter(|isa| *isa != Isa::Scalar) {
        matches_lock(isa, "1");
        matches_lock(isa, "4");
    }
}

#[test]
fn the_ci_profile_matches_the_lock_without_vector_instructions() {
    // Ten times slower: a fused multiply-add is a function call. With 1 job it takes 30 s.
    matches_lock(Isa::Scalar, "4");
}

#[test]
fn the_ci_profile_matches_the_lock_in_another_order() {
    let space = shipped();
    let nodes: Vec<String> = space.plan(&CI).iter().map(crate::space::name).collect();
    let mut ran = Vec::new();
    // Backwards from the last curve: reports and figures would run everything at once.
    let targets = nodes.iter().rev().filter(|node| node.contains("curves@"));
    for target in targets.chain([nodes.last().unwrap()]) {
        let output =
            space.ok(&[&["run", target, "--locked", "--json", "-j", "1"], &CI[..]].concat());
        let events = output.events();
        ran.extend(
            events.iter().filter(|event| event["event"] == "finished").map(crate::space::name),
        );
    }
    let position = |name: &str| ran.iter().position(|node| node == name).unwrap();
    let (first, last) = (
        nodes.iter().find(|n| n.starts_with("nets@")),
        nodes.iter().rfind(|n| n.starts_with("nets@")),
    );
    assert!(position(last.unwrap()) < position(first.unwrap()), "another order: {ran:?}");
    assert_eq!(ran.len(), nodes.len(), "each node ran once");
    space.ok(&[&["verify", "--locked"], &CI[..]].concat());
}

#[test]
fn a_changed_digit_of_one_digest_is_found() {
    let space = shipped();
    let lock = space.read("pipeline.lock");
    let node = "nets@hidden=10,prior=none,net=1";
    let at = lock.find(&format!("\n{node} ")).unwrap();
    let at = at + lock[at..].find("net.safetensors=").unwrap() + "net.safetensors=".len();
    let expected = lock[at..at + 64].to_owned();
    let other = if expected.starts_with('0') { "1" } else { "0" };
    let flipped = format!("{}{other}{}", &lock[..at], &lock[at + 1..]);
    space.write("pipeline.lock", &flipped);
    let refused = space.exits(2, &[&["run", "--locked"], &CI[..]].concat()).stderr;
    assert!(refused.contains("the root of [profile ci] does not match its lines"), "{refused}");
    // Also with the matching root. By definition it is the BLAKE3 hash of all outputs as JSON: one
    // object for each node, sorted as text, without the nodes that embed the root.
    let (head, below) = flipped.split_once("root: ").unwrap();
    let (_, lines) = below.split_once('\n').unwrap();
    let own = lines.find("\n\n[").map_or(lines, |end| &lines[..=end]);
    let mut outputs: Vec<String> = own
        .lines()
        .filter(|line| {
            !["> ", "seed: "].iter().any(|lead| line.starts_with(lead)) && !line.is_empty()
        })
        .map(|line| {
            let files =
                line.split(' ').skip(1).map(|word| format!("\"{}\"", word.replace('=', "\":\"")));
            format!("{{{}}}", files.collect::<Vec<_>>().join(","))
        })
        .collect();
    outputs.sort();
    let root = Digest::of(format!("[{}]", outputs.join(",")).as_bytes());
    space.write("pipeline.lock", format!("{head}root: {root}\n{lines}"));
    let refused = space.exits(4, &[&["run", node, "--locked"], &CI[..]].concat()).stderr;
    let message = format!(
        "error: pipeline.lock: 1 output of [profile ci] differs:\n  \
         `{node}`, `net.safetensors`: expected {other}{}, found {expected}\n\
         hint: the new outputs are in the cache (see `repro show {node}`); \
         if the change is intended, run `repro lock --profile ci`\n",
        &expected[1..]
    );
    assert!(refused.ends_with(&message), "{refused}");
}
