use super::*;
use crate::stage::names::End;
use crate::study::net::Widths;
use half::{bf16, f16};
use proptest::prelude::*;
use proptest::sample::Index;
use safetensors::serialize;
use safetensors::tensor::{Dtype, TensorView};

/// A tensor to write: its name, its shape, and its numbers as f32.
type Given<'a> = (&'a str, Vec<usize>, Vec<f32>);

fn bytes_of(dtype: Dtype, numbers: &[f32]) -> Vec<u8> {
    let each = |x: f32| match dtype {
        Dtype::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
        Dtype::BF16 => bf16::from_f32(x).to_le_bytes().to_vec(),
        Dtype::F64 => f64::from(x).to_le_bytes().to_vec(),
        Dtype::I64 => (x as i64).to_le_bytes().to_vec(),
        Dtype::I8 => (x as i8).to_le_bytes().to_vec(),
        _ => x.to_le_bytes().to_vec(),
    };
    numbers.iter().flat_map(|x| each(*x)).collect()
}

fn file_of(dtype: Dtype, tensors: &[Given]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, _, x)| bytes_of(dtype, x)).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (*name, TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    serialize(views, None).unwrap()
}

fn file(tensors: &[Given]) -> Vec<u8> {
    file_of(Dtype::F32, tensors)
}

/// A tensor with different numbers, none of which f16 and bf16 round.
fn tensor<'a>(name: &'a str, shape: &[usize]) -> Given<'a> {
    let n: usize = shape.iter().product();
    let start = name.len() as f32;
    (name, shape.to_vec(), (0..n).map(|i| ((i % 16) as f32 - start) * 0.5).collect())
}

fn transposed(&(name, ref shape, ref x): &Given<'static>) -> Given<'static> {
    let (rows, columns) = (shape[0], shape[1]);
    let x = (0..rows * columns).map(|k| x[k % rows * columns + k / rows]).collect();
    (name, vec![columns, rows], x)
}

const ENDS: Ends = Ends { inputs: 6, classes: 3 };

fn read(bytes: &[u8], named: &[(&str, &str)], ends: Ends) -> Result<(Net, Account)> {
    let named = named.iter().map(|(key, tensor)| (key.to_string(), tensor.to_string())).collect();
    read_net("m.safetensors", bytes, &named, ends)
}

fn refusal(bytes: &[u8]) -> String {
    refusal_of(read(bytes, &[], ENDS))
}

fn refusal_of(result: Result<(Net, Account)>) -> String {
    let error = result.map(|(net, _)| net).unwrap_err();
    let hint = &error.downcast_ref::<Hinted>().expect("an error with a hint").hint;
    let text = format!("{error}\nhint: {hint}");
    text.strip_prefix("`m.safetensors`: ").map_or(text.clone(), str::to_owned)
}

/// The parameters of a net 6-4-3 with biases, layer by layer.
fn params(tensors: &[&Given]) -> Vec<f32> {
    tensors.iter().flat_map(|(_, _, x)| x.iter().copied()).collect()
}

#[test]
fn the_layers_are_found_under_the_names_that_programs_give_them() {
    for names in [
        ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"],
        ["0.weight", "0.bias", "2.weight", "2.bias"],
        ["layers.8.weight", "layers.8.bias", "layers.10.weight", "layers.10.bias"],
        ["module.net.0.weight", "module.net.0.bias", "module.net.3.weight", "module.net.3.bias"],
        ["hidden.weight", "hidden.bias", "out.weight", "out.bias"],
        ["z_in.weight", "z_in.bias", "a_out.weight", "a_out.bias"],
        ["l1_weight", "l1_bias", "l2_weight", "l2_bias"],
        ["w1", "b1", "w2", "b2"],
        ["W1", "b1", "W2", "b2"],
        ["dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"],
        ["dense_9/kernel:0", "dense_9/bias:0", "dense_10/kernel:0", "dense_10/bias:0"],
        [
            "params.Dense_0.kernel",
            "params.Dense_0.bias",
            "params.Dense_1.kernel",
            "params.Dense_1.bias",
        ],
    ] {
        let [w1, b1, w2, b2] = [
            tensor(names[0], &[4, 6]),
            tensor(names[1], &[4]),
            tensor(names[2], &[3, 4]),
            tensor(names[3], &[3]),
        ];
        let expected = params(&[&w1, &b1, &w2, &b2]);
        let is_kernel = names[0].contains("kernel");
        let given =
            if is_kernel { [transposed(&w1), b1, transposed(&w2), b2] } else { [w1, b1, w2, b2] };
        let (net, account) = read(&file(&given), &[], ENDS).unwrap();
        assert_eq!(net.shape().to_string(), "6-4-3 with biases", "{names:?}");
        assert_eq!(net.params(), expected, "{names:?}");
        assert_eq!(account.layers[1].weights.tensor, names[2]);
        assert_eq!(account.layers[0].weights.transposed, is_kernel);
        // The same tensors by name, in a file of one more.
        let more = [&given[..], &[tensor("step", &[7])]].concat();
        let keys: Vec<(&str, &str)> = ["w1", "b1", "w2", "b2"].into_iter().zip(names).collect();
        let (named, account) = read(&file(&more), &keys, ENDS).unwrap();
        assert_eq!(named, net, "{names:?}");
        assert!(account.notes.contains(&"`step` is not used".to_owned()), "{:?}", account.notes);
    }
}

#[test]
fn deep_layers_are_ordered_by_number() {
    let names: Vec<String> = (1..=12).map(|l| format!("fc{l}.weight")).collect();
    let tensors: Vec<Given> = names
        .iter()
        .enumerate()
        .map(|(l, name)| {
            let (rows, columns) = (if l == 11 { 3 } else { 5 }, if l == 0 { 6 } else { 5 });
            (name.as_str(), vec![rows, columns], vec![l as f32; rows * columns])
        })
        .collect();
    let (net, _) = read(&file(&tensors), &[], ENDS).unwrap();
    assert_eq!(net.shape().to_string(), "6-5x5x5x5x5x5x5x5x5x5x5-3");
    assert!((0..12).all(|l| net.weights(l)[0] == l as f32));
}

#[test]
fn a_matrix_that_fits_both_ways_is_read_as_its_name_says_or_as_the_others() {
    let square = |name: &'static str| (name, vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]);
    let [first, last] = [tensor("0.weight", &[2, 6]), tensor("2.weight", &[3, 2])];
    let (as_written, turned) = ([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]);
    let case = |given: &[Given], expected: [f32; 4], note: &str| {
        let (net, account) = read(&file(given), &[], ENDS).unwrap();
        assert_eq!(net.weights(1), expected);
        assert!(account.notes.contains(&note.to_owned()), "{:?}", account.notes);
    };
    case(
        &[first.clone(), square("1.weight"), last.clone()],
        as_written,
        "`1.weight` [2, 2] fits both ways; [outputs, inputs] is assumed, PyTorch's order",
    );
    let [kernel, last_kernel] = [("0.kernel", &first), ("2.kernel", &last)].map(|(name, t)| {
        let (_, shape, x) = transposed(t);
        (name, shape, x)
    });
    case(
        &[kernel, square("1.kernel"), last_kernel],
        turned,
        "`1.kernel` [2, 2] fits both ways; [inputs, outputs] is assumed, Keras's order for \
         `kernel`",
    );
    case(
        &[transposed(&first), square("1.weight"), transposed(&last)],
        turned,
        "`1.weight` [2, 2] fits both ways; [inputs, outputs] is assumed, as in the file's other \
         layers",
    );
}

#[test]
fn floats_of_every_size_are_read_and_conversions_are_said() {
    let given = [tensor("a1.weight", &[4, 6]), tensor("a2.weight", &[3, 4])];
    let expected = params(&[&given[0], &given[1]]);
    for (dtype, name) in [(Dtype::F16, "f16"), (Dtype::BF16, "bf16"), (Dtype::F64, "f64")] {
        let (net, account) = read(&file_of(dtype, &given), &[], ENDS).unwrap();
        assert_eq!(net.params(), expected, "{name}");
        assert!(!net.shape().biases);
        let note = format!("`a2.weight` was converted from {name} to f32");
        assert!(account.notes.contains(&note), "{:?}", account.notes);
    }
}

#[test]
fn what_cannot_be_used_is_named_with_its_shape_and_the_reason() {
    let (w1, w2) = (|| tensor("fc1.weight", &[4, 6]), || tensor("fc2.weight", &[3, 4]));
    let case = |given: &[Given], expected: &str| {
        let found = refusal(&file(given));
        assert_eq!(found.split("\nhint: ").next(), Some(expected));
        assert!(found.split("\nhint: ").nth(1).is_some_and(|hint| !hint.is_empty()));
    };
    let not = "which a feed-forward net does not have";
    case(
        &[tensor("conv.weight", &[8, 1, 3, 3]), w1(), w2()],
        &format!("`conv.weight` [8, 1, 3, 3] is a convolution, {not}"),
    );
    case(
        &[w1(), tensor("bn1.running_mean", &[4]), w2()],
        &format!("`bn1.running_mean` [4] belongs to a normalisation layer, {not}"),
    );
    case(
        &[w1(), tensor("1.weight", &[4]), w2()],
        &format!("`1.weight` [4] has one dimension: it belongs to a normalisation layer, {not}"),
    );
    case(
        &[w1(), tensor("1.weight", &[1]), w2()],
        &format!(
            "`1.weight` [1] has one number: it belongs to a PReLU or a normalisation layer, {not}"
        ),
    );
    case(
        &[w1(), tensor("fc1.bias", &[4]), w2()],
        "`fc2.weight` [3, 4] has no bias, but the file has `fc1.bias`",
    );
    case(
        &[w1(), tensor("fc1.bias", &[5]), w2(), tensor("fc2.bias", &[3])],
        "`fc1.bias` [5] does not fit `fc1.weight` [4, 6], which has 4 outputs",
    );
    case(
        &[tensor("fc1.weight", &[4, 7]), w2()],
        "`fc1.weight` [4, 7] does not fit the data, which have 6 inputs",
    );
    case(
        &[w1(), tensor("fc2.weight", &[3, 5])],
        "`fc2.weight` [3, 5] does not fit `fc1.weight` [4, 6], which has 4 outputs",
    );
    case(
        &[w1(), tensor("fc2.weight", &[9, 4])],
        "`fc2.weight` [9, 4] has 9 outputs, but the data have 3 classes",
    );
    case(
        &[tensor("fc1.weight", &[3, 6])],
        "`fc1.weight` is the only layer; a net has at least one hidden layer and an output layer",
    );
    case(&[], "it has no layers; a net has at least one hidden layer and an output layer");
    case(
        &[w1(), w2(), tensor("scale", &[1])],
        "`scale` [1] is neither weights nor biases of a layer",
    );
    case(
        &[w1(), w2(), tensor("fc3.bias", &[3])],
        "`fc3.bias` is the bias of a layer without weights",
    );
    case(
        &[w1(), tensor("fc1.kernel", &[6, 4]), w2()],
        "`fc1.kernel` and `fc1.weight` are of the same layer `fc1`",
    );
    case(
        &[
            tensor("a.weight", &[4, 6]),
            tensor("b.weight", &[4, 4]),
            tensor("c.weight", &[4, 4]),
            w2(),
        ],
        "the order of the layers `a`, `b`, `c`, `fc2` is ambiguous",
    );
    case(
        &[tensor("a.weight", &[4, 6]), tensor("b.weight", &[3, 5])],
        "the layers `a`, `b` do not form a net with 6 inputs and 3 classes, those of the data",
    );
    case(
        &[tensor("fc1.weight", &[0, 6]), tensor("fc2.weight", &[3, 0])],
        "`fc1.weight` [0, 6] has 0 outputs, which is not a possible number of neurons",
    );
    case(
        &[w1(), tensor("fc2.weight", &[8193, 4]), tensor("fc3.weight", &[3, 8193])],
        "`fc2.weight` [8193, 4] has 8193 outputs, which is not a possible number of neurons",
    );
    let names: Vec<String> = (0..40).map(|l| format!("fc{l}.weight")).collect();
    let many: Vec<Given> = names.iter().map(|name| tensor(name, &[1, 1])).collect();
    case(&many, "it has 40 layers; a net has at most 33");
    let quantised = refusal(&file_of(Dtype::I8, &[w1(), w2()]));
    assert!(
        quantised.starts_with("`fc1.weight` [4, 6] is of the type i8, not f16, bf16, f32 or f64\n"),
        "{quantised}"
    );
}

#[test]
fn wrong_names_of_layers_are_refused_with_the_nearest_one() {
    let bytes = file(&[
        tensor("fc1.weight", &[4, 6]),
        tensor("fc1.bias", &[4]),
        tensor("fc2.weight", &[3, 4]),
    ]);
    let case = |named: &[(&str, &str)], expected: &str| {
        assert_eq!(refusal_of(read(&bytes, named, ENDS)), expected);
    };
    case(
        &[("w1", "fc1.wieght"), ("w2", "fc2.weight")],
        "there is no tensor `fc1.wieght`\nhint: did you mean `fc1.weight`?",
    );
    case(
        &[("w1", "x"), ("w2", "fc2.weight")],
        "there is no tensor `x`\nhint: known: `fc1.bias`, `fc1.weight`, `fc2.weight`",
    );
    case(
        &[("w1", "fc1.weight"), ("w3", "fc2.weight")],
        "`layers` names 2 weights, but not `w2`\nhint: number the layers from 1",
    );
    case(
        &[("w1", "fc1.weight"), ("b3", "fc1.bias"), ("w2", "fc2.weight")],
        "`layers` names the bias `b3`, but no weights of that layer\nhint: name `w3` too",
    );
    case(
        &[("w1", "fc1.bias"), ("w2", "fc2.weight")],
        "`fc1.bias` [4] has 1 dimensions, not 2\nhint: the weights of a layer are a matrix",
    );
}

#[test]
fn names_of_layers_that_leave_out_biases_of_the_file_are_refused() {
    let weights = [tensor("fc1.weight", &[4, 6]), tensor("fc2.weight", &[3, 4])];
    let [b1, b2] = [tensor("fc1.bias", &[4]), tensor("fc2.bias", &[3])];
    let w = [("w1", "fc1.weight"), ("w2", "fc2.weight")];
    let case = |biases: &[&Given<'static>], named: &[(&str, &str)], expected: &str| {
        let given: Vec<Given> = weights.iter().chain(biases.iter().copied()).cloned().collect();
        let named = [&w[..], named].concat();
        assert_eq!(refusal_of(read(&file(&given), &named, ENDS)), expected);
    };
    case(
        &[&b1],
        &[],
        "the file has `fc1.bias`, which `layers` does not name\nhint: add `b1: fc1.bias`",
    );
    case(
        &[&b1, &b2],
        &[],
        "the file has `fc1.bias`, which `layers` does not name\n\
         hint: add `b1: fc1.bias, b2: fc2.bias`",
    );
    case(
        &[&b1, &b2],
        &[("b1", "fc1.bias")],
        "`layers` names `b1` but not `b2`\nhint: add `b2: fc2.bias`",
    );
    case(
        &[&b1],
        &[("b1", "fc1.bias")],
        "`layers` names `b1` but not `b2`\n\
         hint: a net has a bias in every layer or in none; save zeros for the missing one",
    );
    // Tensors of other layers are not part of the net.
    let other = [&weights[..], &[tensor("fc3.bias", &[3])]].concat();
    assert!(!read(&file(&other), &w, ENDS).unwrap().0.shape().biases);
}

#[test]
fn the_hint_to_name_the_layers_begins_with_one_that_fits_the_inputs() {
    let case = |given: &[Given], layers: &str| {
        let found = refusal(&file(given));
        let hint = format!("\nhint: name the layers: `layers: {{ {layers} }}`");
        assert!(found.ends_with(&hint), "{found}");
    };
    let weights = || {
        [
            tensor("head.weight", &[3, 4]),
            tensor("stem.weight", &[4, 6]),
            tensor("x.weight", &[4, 4]),
            tensor("y.weight", &[4, 4]),
        ]
    };
    case(&weights(), "w1: stem.weight, w2: ...");
    let biases = ["head", "stem", "x", "y"].map(|layer| format!("{layer}.bias"));
    let biases = biases.iter().zip([3, 4, 4, 4]).map(|(name, n)| tensor(name, &[n]));
    let both: Vec<Given> = weights().into_iter().chain(biases).collect();
    case(&both, "w1: stem.weight, b1: stem.bias, w2: ..., b2: ...");
    let unnamed = [tensor("a_in", &[3, 4]), tensor("b_in", &[4, 6]), tensor("c_in", &[4])];
    case(&unnamed, "w1: b_in, b1: ..., w2: ..., b2: ...");
    case(&[tensor("a_in", &[3, 4])], "w1: a_in, w2: ...");
}

#[test]
fn files_of_other_formats_are_refused_with_the_lines_that_save_the_right_one() {
    for (bytes, what) in [
        (&b"PK\x03\x04....archive/data.pkl"[..], "a file of `torch.save`, which contains a pickle"),
        (b"PK\x03\x04....model.weights.h5", "a model of Keras"),
        (b"PK\x03\x04....arr_0.npy", "an archive of NumPy arrays"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x80\x02}q", "a pickle"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it"),
    ] {
        let found = refusal(bytes);
        let start = format!("`m.safetensors` is {what}, not a safetensors file\n");
        assert!(found.starts_with(&start), "{found}");
        assert!(
            found.ends_with("`save_file(model.state_dict(), \"model.safetensors\")`"),
            "{found}"
        );
    }
    for bytes in [&b""[..], b"a text", &[0xff; 64], b"\x02\0\0\0\0\0\0\0{}"] {
        let found = refusal(bytes);
        assert!(
            found.starts_with("`m.safetensors` is not a safetensors file: ")
                || found.starts_with("it has no layers"),
            "{found}"
        );
    }
    let lfs = refusal(b"version https://git-lfs.github.com/spec/v1\n");
    assert!(lfs.ends_with("hint: type `git lfs pull`"), "{lfs}");
}

#[test]
fn a_number_that_is_not_finite_is_refused_with_its_index() {
    for (dtype, x) in
        [(Dtype::F32, f32::NAN), (Dtype::F16, f32::INFINITY), (Dtype::F64, -f32::INFINITY)]
    {
        let mut given = [tensor("fc1.weight", &[4, 6]), tensor("fc2.weight", &[3, 4])];
        given[0].2[3 * 6 + 5] = x;
        let found = refusal(&file_of(dtype, &given));
        let start = format!("`fc1.weight[3, 5]` is {x}, not a finite number\n");
        assert!(found.starts_with(&start), "{found}");
    }
    let mut bytes =
        file_of(Dtype::F64, &[tensor("fc1.weight", &[4, 6]), tensor("fc2.weight", &[3, 4])]);
    let last = bytes.len() - 8;
    bytes[last..].copy_from_slice(&1e300f64.to_le_bytes());
    let found = refusal(&bytes);
    assert!(found.starts_with("`fc2.weight[2, 3]` is 1e300, out of the range of f32\n"), "{found}");
}

fn recipe() -> crate::engine::key::Recipe {
    crate::engine::key::Recipe {
        kind: "train".into(),
        version: 1,
        params: Default::default(),
        inputs: Default::default(),
        seed: None,
    }
}

#[test]
fn an_exported_net_of_ours_is_imported_with_its_prior() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net");
    for biases in [true, false] {
        let widths = Widths::try_from(&[4, 4][..]).unwrap();
        let mut net = Net::zeros(Shape { inputs: 6, widths, classes: 3, biases });
        net.params_mut().iter_mut().enumerate().for_each(|(i, w)| *w = i as f32 * 0.1);
        let prior = "dropout 0.5".parse().unwrap();
        let name = NetName::End { pair: 1, end: End::B };
        let hidden = net.shape().hidden();
        let card = NetCard { hidden, prior, shared_epochs: None, name, aligned: None };
        write_net(&path, &net, &card, &recipe()).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(read(&bytes, &[], ENDS).unwrap().0, net);
        assert_eq!(card_of(&bytes).unwrap().prior, prior);
    }
}

#[test]
fn a_net_is_called_by_the_path_of_its_file() {
    let params = |file: &str| -> Params {
        serde_json::from_value(serde_json::json!({ "file": file })).unwrap()
    };
    for (file, name) in [
        ("nets/a.safetensors", "nets/a"),
        ("../nets/.a.b.safetensors", "../nets/.a.b"),
        ("/nets/a.safetensors", "/nets/a"),
        ("a", "a"),
    ] {
        assert_eq!(params(file).name(), name);
        assert_eq!(ImportStage::check(&params(file)), Ok(()));
    }
    for file in ["", ".", ".safetensors", "nets/", "./", "a:b.safetensors", "a\nb"] {
        assert!(ImportStage::check(&params(file)).is_err(), "{file:?}");
    }
    let layers = |key: &str| -> Params {
        serde_json::from_value(serde_json::json!({ "file": "a", "layers": { key: "x" } })).unwrap()
    };
    for key in ["w0", "w", "x1", "w01", "b-1", "w300"] {
        assert!(ImportStage::check(&layers(key)).is_err(), "{key}");
    }
    assert_eq!(ImportStage::check(&layers("b2")), Ok(()));
}

#[test]
fn a_file_has_one_spelling_and_is_no_pattern() {
    let refusal = |file: &str| {
        let params = serde_json::from_value(serde_json::json!({ "file": file })).unwrap();
        let Hinted { cause, hint } = ImportStage::check(&params).unwrap_err();
        assert!(cause.starts_with(&format!("`file: {file}` is ")), "{cause}");
        hint
    };
    for (file, normal) in [
        ("./nets/a.safetensors", "nets/a.safetensors"),
        (".//a.safetensors", "a.safetensors"),
        ("nets//a.safetensors", "nets/a.safetensors"),
        ("nets/./a.safetensors", "nets/a.safetensors"),
        ("nets/../nets/a.safetensors", "nets/a.safetensors"),
        (".././../nets/a.safetensors", "../../nets/a.safetensors"),
        ("//nets/a.safetensors", "/nets/a.safetensors"),
    ] {
        assert_eq!(refusal(file), format!("write `file: {normal}`"));
    }
    for pattern in ["nets/*.safetensors", "./nets/?.safetensors", "*"] {
        let hint = refusal(pattern);
        assert!(hint.starts_with("patterns are not expanded; list the files: "), "{hint}");
    }
}

/// The nets beside the repository, which an independent program has measured, and its numbers.
#[test]
#[expect(clippy::print_stdout, reason = "the test's output should say that it was skipped")]
fn the_nets_of_pytorch_have_the_errors_that_numpy_says() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("../shared/nets");
    let Ok(expected) = std::fs::read(folder.join("expected.json")) else {
        println!("skipped: there is no file `../shared/nets/expected.json`");
        return;
    };
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    let mnist = |name: &str| {
        let path = root.join(format!("../shared/mnist/t10k-{name}-ubyte.gz"));
        crate::study::data::published::gunzip(name, &std::fs::read(path).unwrap(), 1 << 23).unwrap()
    };
    let (images, labels) = (mnist("images-idx3"), mnist("labels-idx1"));
    let test = crate::study::data::idx::read_examples(("i", &images), ("l", &labels)).unwrap();
    let test = crate::study::data::Labelled::from(&test);
    let ends = Ends { inputs: 784, classes: 10 };
    let read_file = |name: &str| {
        let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        read(&bytes, &[], ends)
    };
    let nets = expected["nets"].as_object().unwrap();
    assert!(nets.len() >= 7);
    for (name, expected) in nets {
        let (net, _) = read_file(name).unwrap();
        let found = crate::study::net::evaluate(&net, &test.images, &test.labels);
        let error = (found.error - expected["error"].as_f64().unwrap()).abs();
        let loss = (found.loss - expected["loss"].as_f64().unwrap()).abs();
        assert!(error <= 0.02 + 1e-9 && loss <= 1e-5, "{name}: {found:?}, not {expected}");
    }
    let (half, account) = read_file("half-no-bias").unwrap();
    assert_eq!(half.shape().to_string(), "784-64-10");
    assert!(account.notes.iter().any(|note| note.ends_with("from f16 to f32")));
    let (_, account) = read_file("transposed-keras-names").unwrap();
    assert!(account.layers.iter().all(|layer| layer.weights.transposed));
    assert!(refusal_of(read_file("refuse-conv")).contains("is a convolution"));
    assert!(refusal_of(read_file("refuse-nan")).starts_with("`fc1.weight[3, 5]` is NaN"));
}

proptest! {
    #[test]
    fn a_damaged_file_gives_a_short_error_or_a_net_no_larger_than_itself(
        flips in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        numbers in prop::collection::vec((any::<Index>(), any::<u64>()), 0..3),
        keep in any::<Index>(),
        dtype in prop::sample::select(vec![Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64]),
    ) {
        let mut bytes = file_of(dtype, &[
            tensor("fc1.weight", &[4, 6]),
            tensor("fc1.bias", &[4]),
            tensor("fc2.weight", &[3, 4]),
            tensor("fc2.bias", &[3]),
        ]);
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
        for (at, number) in &numbers {
            let digits = header.match_indices(|c: char| c.is_ascii_digit());
            let digits: Vec<usize> = digits.map(|(at, _)| at).collect();
            let at = digits[at.index(digits.len())];
            header.replace_range(at..=at, &number.to_string());
        }
        let body = bytes.split_off(8 + length);
        bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &body].concat();
        for (at, with) in &flips {
            let at = at.index(bytes.len());
            bytes[at] = *with;
        }
        bytes.truncate(keep.index(bytes.len() * 4).max(8));
        match read(&bytes, &[], ENDS) {
            Ok((net, _)) => prop_assert!(net.params().len() <= bytes.len()),
            Err(error) => {
                prop_assert!(error.is::<Hinted>(), "{error:#}");
                prop_assert!(format!("{error:#}").len() < 2000, "{error:#}");
            }
        }
    }
}
