//! Lines between nets made by PyTorch, before and after weight matching, against the numbers of an
//! independent program: the folder `shared/nets` beside the project. Where it is missing, the
//! tests are skipped.

use crate::space::Space;
use repro::kernel::sparse::Sparse;
use repro::study::bounded::Restarts;
use repro::study::curve::align::{AlignSettings, Alignment, Cost, Order, align};
use repro::study::data::{idx, published};
use repro::study::net::{Net, Quality, Shape, Widths, evaluate};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::Value;
use std::num::NonZero;
use std::path::{Path, PathBuf};

/// The folder beside the project.
#[expect(clippy::print_stdout, reason = "the test's output should say that it was skipped")]
fn shared(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name);
    let found = folder.is_dir().then_some(folder);
    if found.is_none() {
        println!("skipped: there is no folder `../shared/{name}`");
    }
    found
}

/// What the tests read.
struct Shared {
    nets: PathBuf,
    expected: Value,
    images: Sparse,
    labels: Vec<u16>,
}

impl Shared {
    fn open() -> Option<Shared> {
        let (nets, data) = (shared("nets")?, shared("mnist")?);
        let expected = std::fs::read(nets.join("expected.json")).unwrap();
        let unzipped = |name: &str| {
            let packed = std::fs::read(data.join(format!("{name}.gz"))).unwrap();
            published::gunzip(name, &packed, 1 << 23).unwrap()
        };
        let [images, labels] = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
        let [pixels, classes] = [images, labels].map(unzipped);
        let test = idx::read_examples((images, &pixels), (labels, &classes)).unwrap();
        Some(Shared {
            nets,
            expected: serde_json::from_slice(&expected).unwrap(),
            images: Sparse::from_pixels(&test.pixels, 784),
            labels: test.labels,
        })
    }

    /// A net with the layers `fc1`, `fc2` and so on, with biases.
    fn net(&self, name: &str) -> Net {
        let bytes = std::fs::read(self.nets.join(format!("{name}.safetensors"))).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let numbers = |name: &str| {
            let tensor = tensors.tensor(name).unwrap();
            assert_eq!(tensor.dtype(), Dtype::F32);
            let (numbers, _) = tensor.data().as_chunks::<4>();
            numbers.iter().map(|w| f32::from_le_bytes(*w)).collect::<Vec<f32>>()
        };
        let (mut params, mut widths) = (Vec::new(), Vec::new());
        for l in 1..=tensors.names().len() / 2 {
            let biases = numbers(&format!("fc{l}.bias"));
            widths.push(biases.len());
            params.extend(numbers(&format!("fc{l}.weight")).into_iter().chain(biases));
        }
        let classes = widths.pop().unwrap();
        let widths = Widths::try_from(&widths[..]).unwrap();
        Net::from_params(Shape { inputs: 784, widths, classes, biases: true }, params).unwrap()
    }

    #[track_caller]
    fn check(&self, net: &Net, expected: &Value, case: &str) {
        check_quality(evaluate(net, &self.images, &self.labels), expected, case);
    }

    /// Checks the points of the line from `a` to `b`.
    fn check_line(&self, a: &Net, b: &Net, expected: &Value, case: &str) {
        let points = expected.as_object().unwrap();
        assert_eq!(points.len(), 5, "{case}");
        for (t, expected) in points {
            let (t, case) = (t.parse::<f64>().unwrap(), format!("{case} at {t}"));
            let params = a.params().iter().zip(b.params());
            let params =
                params.map(|(&a, &b)| ((1.0 - t) * f64::from(a) + t * f64::from(b)) as f32);
            let net = Net::from_params(a.shape(), params.collect()).unwrap();
            self.check(&net, expected, &case);
        }
    }
}

/// The error and the loss of a net that another program measured.
#[track_caller]
fn check_quality(Quality { error, loss }: Quality, expected: &Value, case: &str) {
    let [expected_error, expected_loss] =
        ["error", "loss"].map(|metric| expected[metric].as_f64().unwrap());
    // An image on the edge may fall either way in f32.
    assert!((error - expected_error).abs() <= 0.02 + 1e-9, "{case}: {error} {expected}");
    assert!((loss - expected_loss).abs() <= 1e-5, "{case}: {loss} {expected}");
}

/// The number that differs by no more than rounding.
#[track_caller]
fn near(found: f64, expected: &Value, case: &str) {
    let expected = expected.as_f64().unwrap();
    assert!(
        (found - expected).abs() < 1e-5 * expected.abs().max(1.0),
        "{case}: {found} {expected}"
    );
}

fn matched(a: &Net, b: &Net, order: Order) -> Alignment {
    let restarts = Restarts::try_from(4).unwrap();
    let settings = AlignSettings { cost: Cost::Neurons, order, restarts };
    align(a, b, settings, None, NonZero::new(2).unwrap()).unwrap()
}

/// The pairs whose names start with `kind`.
fn check_pairs(kind: &str) {
    let Some(shared) = Shared::open() else { return };
    let pairs = shared.expected["pairs"].as_object().unwrap();
    let pairs: Vec<_> = pairs.iter().filter(|(names, _)| names.starts_with(kind)).collect();
    assert_eq!(pairs.len(), 3);
    std::thread::scope(|scope| {
        for (names, expected) in pairs {
            let shared = &shared;
            scope.spawn(move || {
                let (a, b) = names.split_once(' ').unwrap();
                let [a, b] = [a, b].map(|name| shared.net(name));
                shared.check_line(&a, &b, &expected["linear"], names);
                let ascended = matched(&a, &b, Order::Ascending);
                near(ascended.objective[0], &expected["objective_before"], names);
                near(ascended.objective[1], &expected["objective_matched"], names);
                let permuted = ascended.permutations.apply(&b).unwrap();
                let case = format!("{names} matched");
                shared.check_line(&a, &permuted, &expected["linear_matched"], &case);
                let default = matched(&a, &b, Order::default());
                assert!(default.objective[1] >= ascended.objective[1], "{names}");
            });
        }
    });
}

#[test]
fn lines_between_nets_of_one_hidden_layer_are_those_of_another_program() {
    check_pairs("one-");
}

#[test]
fn lines_between_nets_of_three_hidden_layers_are_those_of_another_program() {
    check_pairs("three-");
}

/// Imports the nets of one shape, and joins them before and after matching.
const STAGES: &str = r"  SHAPE:
    import: { data: data, file: [SHAPE-1.safetensors, SHAPE-2.safetensors, SHAPE-3.safetensors] }
  SHAPE-matched:
    align:
      a: { stage: SHAPE, rename: { file: a } }
      b: { stage: SHAPE, rename: { file: b } }
      where: a < b
      order: ascending
  SHAPE-lines:
    evaluate:
      a: { stage: SHAPE, rename: { file: a } }
      b: { stage: SHAPE, rename: { file: b } }
      where: a < b
      data: data
      curve: linear
      points: 5
  SHAPE-matched-lines:
    evaluate:
      a: { stage: SHAPE, rename: { file: a } }
      b: SHAPE-matched
      data: data
      curve: linear
      points: 5
";

#[test]
fn lines_between_imported_nets_are_measured_as_another_program_measures_them() {
    let Some(shared) = Shared::open() else { return };
    let data = shared.nets.with_file_name("mnist");
    let stages = ["one", "three"].map(|shape| STAGES.replace("SHAPE", shape)).concat();
    let pipeline = format!("stages:\n  data:\n    fetch: {{ dataset: mnist }}\n{stages}");
    let space = Space::with(&pipeline).env("REPRO_DATA", data.to_str().unwrap());
    for net in ["one-1", "one-2", "one-3", "three-1", "three-2", "three-3"] {
        let file = format!("{net}.safetensors");
        std::fs::copy(shared.nets.join(&file), space.join(&file)).unwrap();
    }
    space.ok(&["run"]);
    for (names, expected) in shared.expected["pairs"].as_object().unwrap() {
        let kind = names.split_once('-').unwrap().0;
        let (a, b) = names.split_once(' ').unwrap();
        for (stage, line) in [("lines", "linear"), ("matched-lines", "linear_matched")] {
            let node = format!("{kind}-{stage}@a={a}.safetensors,b={b}.safetensors");
            let points = space.output(&node, "points.csv");
            let header: Vec<&str> = points.lines().next().unwrap().split(',').collect();
            let column = |name: &str| header.iter().position(|column| *column == name).unwrap();
            let mut measured = 0;
            for row in points.lines().map(|row| row.split(',').collect::<Vec<_>>()) {
                if row[column("split")] != "test" {
                    continue;
                }
                let number = |name: &str| row[column(name)].parse::<f64>().unwrap();
                let expected = &expected[line][number("t").to_string()];
                let case = format!("{node} at {}", number("t"));
                let quality = Quality { error: number("error"), loss: number("loss") };
                check_quality(quality, expected, &case);
                measured += 1;
            }
            assert_eq!(measured, 5, "{node}");
        }
    }
}
