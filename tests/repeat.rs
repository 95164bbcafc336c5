//! The `ci` profile gives the digests of the committed pipeline.lock: on every instruction set of this machine, however
//! many nodes run at once, in whatever order.
//!
//! If a change of the numbers is meant: raise the VERSION of the stages that changed, then make the lock anew in the
//! project's folder by `cargo run --release -- run --profile ci && cargo run --release -- lock --profile ci`.

use crate::space::Space;
use repro::engine::key::Digest;
use repro::kernel::Isa;
use std::path::Path;

const CI: [&str; 2] = ["--profile", "ci"];

/// The shipped pipeline with its lock, never run.
fn shipped() -> Space {
    let read = |file: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
    };
    let space = Space::with(&read("pipeline.yaml"));
    space.write("pipeline.lock", read("pipeline.lock"));
    space
}

/// Runs everything with `jobs` at once on `isa`, held to the lock.
fn runs_as_locked(isa: Isa, jobs: &str) {
    let space = shipped().env("REPRO_SIMD", isa.name());
    let output = space.run(&[&["run", "--locked", "--json", "-j", jobs], &CI[..]].concat());
    assert_eq!(output.code, Some(0), "{} -j {jobs}:\n{}", isa.name(), output.stderr);
    assert!(
        output.cached().is_empty() && output.ran().len() == space.plan(&CI).len(),
        "everything was computed"
    );
}

#[test]
fn the_ci_profile_is_as_locked_on_every_vector_instruction_set_one_node_at_a_time_or_four() {
    for isa in Isa::available().into_iter().filter(|isa| *isa != Isa::Scalar) {
        runs_as_locked(isa, "1");
        runs_as_locked(isa, "4");
    }
}

#[test]
fn the_ci_profile_is_as_locked_without_vector_instructions() {
    // Ten times slower, for a fused multiply-add is then a call; at one node at a time it would take half a minute.
    runs_as_locked(Isa::Scalar, "4");
}

#[test]
fn the_ci_profile_is_as_locked_when_its_nodes_run_in_another_order() {
    let space = shipped();
    let nodes: Vec<String> = space.plan(&CI).iter().map(crate::space::name).collect();
    let mut ran = Vec::new();
    // The last are reports and figures, which ask for everything at once: backwards from the last curve.
    let targets = nodes.iter().rev().filter(|node| node.contains("curves@"));
    for target in targets.chain([nodes.last().unwrap()]) {
        let output =
            space.ok(&[&["run", target, "--locked", "--json", "-j", "1"], &CI[..]].concat());
        let events = output.events();
        ran.extend(
            events.iter().filter(|event| event["event"] == "finished").map(crate::space::name),
        );
    }
    let place = |name: &str| ran.iter().position(|node| node == name).unwrap();
    let (first, last) = (
        nodes.iter().find(|n| n.starts_with("nets@")),
        nodes.iter().rfind(|n| n.starts_with("nets@")),
    );
    assert!(place(last.unwrap()) < place(first.unwrap()), "another order it was: {ran:?}");
    assert_eq!(ran.len(), nodes.len(), "each once");
    space.ok(&[&["verify", "--locked"], &CI[..]].concat());
}

#[test]
fn one_flipped_digit_of_one_digest_is_found() {
    let space = shipped();
    let lock = space.read("pipeline.lock");
    let node = "nets@hidden=10,prior=none,pair=1,end=a";
    let at = lock.find(&format!("\n{node} ")).unwrap();
    let at = at + lock[at..].find("net.safetensors=").unwrap() + "net.safetensors=".len();
    let expected = lock[at..at + 64].to_owned();
    let other = if expected.starts_with('0') { "1" } else { "0" };
    let flipped = format!("{}{other}{}", &lock[..at], &lock[at + 1..]);
    space.write("pipeline.lock", &flipped);
    let refused = space.exits(2, &[&["run", "--locked"], &CI[..]].concat()).stderr;
    assert!(refused.contains("the root of [profile ci] is not that of its lines"), "{refused}");
    // And with a root that fits, by its definition: the BLAKE3 of all outputs as JSON, node by node in the order of that
    // text, without the names of nodes and without those that tell the root.
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
        "error: pipeline.lock: 1 output of [profile ci] differs:\n  `{node}`, `net.safetensors`: expected {other}{}, \
         found {expected}\nhint: the new outputs are in the cache (see `repro show {node}`); \
         if the change is intended, run `repro lock --profile ci`\n",
        &expected[1..]
    );
    assert!(refused.ends_with(&message), "{refused}");
}
