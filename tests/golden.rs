//! The outputs of every stage kind, bit for bit, on every instruction set and with any parallelism.

use crate::space::Space;
use repro::engine::stage::Kind;
use repro::kernel::Isa;
use repro::stage::KINDS;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Every kind of the study, with parameters that reach each of its code paths. The engine `dfdx` is
/// not included, since its last bits depend on the machine.
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
  bends:
    learn:
      a: nets@end=a
      b: nets@end=b
      data: data
      curve: [bezier, chain:2]
      epochs: 2
  learned-curves:
    evaluate:
      { a: nets@end=a, b: nets@end=b, data: data, bends: bends, curve: learned, points: 5 }
  ensembles:
    ensemble:
      { a: nets@end=a, b: nets@end=b, data: data, curve: [linear, arc+wa], members: 3 }
  tables:
    aggregate: { curves: [curves, matched-curves], nets: nets }
  figures:
    plot:
      data: data
      tables: tables
      figure:
        - overview
        - training
        - error-by-method
        - error-by-split
        - normalised-error-by-prior
        - error-by-width
        - max-error-by-width
        - max-error-by-variance
        - loss-barrier-by-width
        - error-barrier-by-width
        - excess-by-width
  report:
    report: { data: data, tables: tables, figures: figures }
  learned-tables:
    aggregate: { curves: [curves, matched-curves, learned-curves], nets: nets }
  learned-figures:
    plot: { data: data, tables: learned-tables, figure: ratio-to-learned }
  ensemble-figures:
    plot: { data: data, tables: tables, ensembles: ensembles, figure: ensembles }
  more-curves:
    evaluate:
      a: nets@end=a
      b: matched
      data: data
      curve: linear
      repair: true
      points: 5
  dropout-curves:
    evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: dropout-path, points: 5 }
  planes:
    plane: { a: nets@end=a, b: nets@end=b, c: matched, data: data, points: 5 }
  plane-figures:
    plot: { data: data, tables: tables, planes: planes, figure: [planes, error-planes] }
  own:
    images: { train: own.npz, validation: 100 }
  theirs:
    import: { data: own, file: theirs.safetensors }
";

/// A project of [`PIPELINE`], with its files.
fn project() -> Space {
    let space = Space::with(PIPELINE);
    space.write("own.npz", include_bytes!("../examples/digits-8x8/digits.npz"));
    space.write("theirs.safetensors", net());
    space
}

/// A net 64-5-10 with biases, in Keras's layout and in f16.
pub(crate) fn net() -> Vec<u8> {
    let shapes: [(&str, Vec<usize>); 4] = [
        ("dense/kernel", vec![64, 5]),
        ("dense/bias", vec![5]),
        ("dense_1/kernel", vec![5, 10]),
        ("dense_1/bias", vec![10]),
    ];
    // f16 with different exponents, every third one negative.
    let half = |i: usize| {
        let (magnitude, sign) =
            (0x3c00 + (i * 37 % 16 * 0x80) as u16, u16::from(i.is_multiple_of(3)));
        (magnitude | (sign << 15)).to_le_bytes()
    };
    let bytes = shapes
        .each_ref()
        .map(|(_, shape)| (0..shape.iter().product::<usize>()).flat_map(half).collect::<Vec<u8>>());
    let views = shapes.iter().zip(&bytes).map(|((name, shape), bytes)| {
        (*name, TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// The study's kinds, in the order in which data flow: the first one that differs is the cause.
fn kinds() -> impl Iterator<Item = &'static dyn Kind> {
    KINDS.iter().copied().filter(|kind| !kind.is_general_purpose())
}

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
    let space = project();
    space.ok(&["run"]);
    let texts = listed(&space, &space.digests());
    for kind in kinds().map(Kind::name) {
        let description = format!(
            "stage kind `{kind}`: the same recipe gives other bytes than before. If that is \
             intended, raise its VERSION in src/stage, so that old caches are stale, and accept \
             the snapshot; if a kind before it differs too, begin there. The report also depends \
             on the program's own version."
        );
        let mut settings = insta::Settings::clone_current();
        settings.set_description(description);
        settings.bind(|| insta::assert_snapshot!(kind, texts[kind]));
    }
}

#[test]
fn the_bits_depend_neither_on_the_instruction_set_nor_on_parallelism() {
    let mut runs: Vec<(String, Digests)> = Vec::new();
    for isa in Isa::available() {
        for jobs in ["1", "4"] {
            if jobs == "4" && isa != Isa::Scalar {
                continue;
            }
            let space = project().env("REPRO_SIMD", isa.name());
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
fn an_unavailable_instruction_set_is_an_error() {
    let refused = Space::tiny().env("REPRO_SIMD", "mmx").exits(7, &["plan"]).stderr;
    assert!(
        refused.starts_with("error: `REPRO_SIMD=mmx` is not an instruction set of this machine"),
        "{refused}"
    );
}

#[test]
fn the_bits_depend_on_the_seed() {
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
