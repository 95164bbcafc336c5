//! What every stage kind puts out, bit for bit, wherever and however it runs.

use crate::space::Space;
use repro::kernel::Isa;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Each kind, in each way that its parameters make it go; but not the engine whose last bits depend on the machine.
const PIPELINE: &str = "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100, validation: 50 }
  nets:
    train:
      data: data
      hidden: 6
      prior: [none, { normal: { variance: 0.01 } }, { laplace: { scale: 0.07 } }, { dropout: 0.5 }]
      end: [a, b]
      epochs: 2
  adam:
    train: { data: data, hidden: 6, epochs: 1, optimizer: { adam: {} } }
  matched:
    align: { a: nets@end=a, b: nets@end=b }
  curves:
    evaluate:
      a: nets@end=a
      b: nets@end=b
      data: data
      curve: [linear, arc, rho-arc, linear+wa, arc+wa]
      points: 5
      wa_points: 3
  matched-curves:
    evaluate: { a: nets@end=a, b: matched, data: data, curve: [linear, arc, rho-arc], points: 5 }
  tables:
    aggregate: { curves: [curves, matched-curves], nets: nets }
  figures:
    plot:
      data: data
      tables: tables
      figure:
        - training
        - error-by-method
        - error-by-split
        - normalised-error-by-prior
        - error-by-width
        - max-error-by-width
        - max-error-by-variance
        - loss-barrier-by-width
        - error-barrier-by-width
  report:
    report: { data: data, tables: tables, figures: figures }
";

/// The kinds in the order in which data flow, so that the first that differs is the one to look at.
const KINDS: [&str; 7] = ["fetch", "train", "align", "evaluate", "aggregate", "plot", "report"];

type Digests = BTreeMap<String, BTreeMap<String, String>>;

fn listed(space: &Space, digests: &Digests) -> BTreeMap<String, String> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for node in space.plan(&[]) {
        let (name, kind) = (node["node"].as_str().unwrap(), node["kind"].as_str().unwrap());
        let text = texts.entry(kind.to_owned()).or_default();
        for (file, digest) in &digests[name] {
            writeln!(text, "{name} {file} {}", &digest[..16]).unwrap();
        }
    }
    texts
}

#[test]
fn the_output_of_every_stage_kind_is_pinned() {
    let space = Space::with(PIPELINE);
    space.ok(&["run"]);
    let texts = listed(&space, &space.digests());
    assert!(
        texts.keys().all(|kind| KINDS.contains(&kind.as_str())),
        "a new kind joins the list: {:?}",
        texts.keys()
    );
    for kind in KINDS {
        let description = format!(
            "stage kind `{kind}`: the same recipe gives other bytes than before. If that is meant, raise the VERSION of this \
             stage in src/stage/{kind}.rs (else old caches would go on giving the old answer) and accept the snapshot; if \
             a kind before it differs too, begin there. The report also follows the program's own version."
        );
        let mut settings = insta::Settings::clone_current();
        settings.set_description(description);
        settings.bind(|| insta::assert_snapshot!(kind, texts[kind]));
    }
}

#[test]
fn the_bits_do_not_depend_on_the_instruction_set_nor_on_how_many_run_at_once() {
    let mut runs: Vec<(String, Digests)> = Vec::new();
    for isa in Isa::available() {
        for jobs in ["1", "4"] {
            if jobs == "4" && isa != Isa::Scalar {
                continue;
            }
            let space = Space::with(PIPELINE).env("REPRO_SIMD", isa.name());
            space.ok(&["run", "-j", jobs]);
            runs.push((format!("{} -j {jobs}", isa.name()), space.digests()));
        }
    }
    assert!(runs.len() >= 2);
    for (how, digests) in &runs[1..] {
        assert_eq!(digests, &runs[0].1, "{how} against {}", runs[0].0);
    }
}

#[test]
fn an_instruction_set_that_is_not_there_is_refused() {
    let refused = Space::tiny().env("REPRO_SIMD", "mmx").exits(7, &["plan"]).stderr;
    assert!(
        refused.starts_with("error: `REPRO_SIMD=mmx` is not an instruction set of this machine"),
        "{refused}"
    );
}

#[test]
fn another_seed_gives_other_bits_and_the_same_seed_the_same() {
    let digests = |seed: &str| {
        let space = Space::tiny();
        space.edit("seed: 0", seed).ok(&["run"]);
        space.digests()
    };
    let (zero, one) = (digests("seed: 0"), digests("seed: 1"));
    assert_eq!(zero, Space::run_tiny().digests());
    for (node, file) in
        [("data", "train-images-idx3-ubyte"), ("nets@hidden=3,prior=none,end=a", "net.safetensors")]
    {
        assert_ne!(zero[node][file], one[node][file]);
    }
}
