mod fields;

use super::*;
use crate::engine::key::{Artifact, Digest, Recipe, Seed};
use crate::engine::stage::Input;
use crate::fs;
use crate::stage::artifact::{read_json, read_labelled};
use crate::study::data::published;
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::num::NonZero;
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A file: its name below the declared path, and its bytes.
type File<'a> = (&'a str, Vec<u8>);

fn input(folder: &Path, files: &[File]) -> Input {
    let mut artifact = Artifact::new();
    let mut paths = BTreeMap::new();
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        artifact.insert((*name).to_owned(), Digest::of(bytes).into());
        paths.insert((*name).to_owned(), path);
    }
    Input::new(artifact, paths)
}

/// Runs the stage on `files`; returns its outputs as an input, and their folder.
fn run(fields: Json, files: &[File]) -> Result<(Input, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let (outputs, scratch) = (folder.path().join("out"), folder.path().join("scratch"));
    fs::create_dir_all(&outputs).unwrap();
    let params: Params = serde_json::from_value(fields).unwrap();
    ImagesStage::check(&params)?;
    let label = ImagesStage::label(&params);
    let params = ImagesStage::key_params(params, &Invocation::default());
    let seed = label.map(|label| Seed { run: "0".into(), label });
    let (inputs, recipe) = (
        BTreeMap::from([(FILES.to_owned(), vec![input(&folder.path().join("in"), files)])]),
        Recipe {
            kind: "images".into(),
            version: 1,
            params: Default::default(),
            inputs: Default::default(),
            seed,
        },
    );
    let cx = Context::new(recipe, inputs, [outputs.clone(), scratch], NonZero::<usize>::MIN);
    ImagesStage::run(params, &cx)?;
    let paths = ImagesStage::OUTPUTS.iter().map(|file| (file.to_string(), outputs.join(file)));
    Ok((Input::new(Artifact::new(), paths.collect()), folder))
}

fn refusal(fields: Json, files: &[File]) -> String {
    let error = run(fields, files).map(drop).unwrap_err();
    let hint = &error.downcast_ref::<Hinted>().expect("an error with a hint").hint;
    assert!(!hint.is_empty(), "{error}");
    format!("{error}\nhint: {hint}")
}

fn idx_file(kind: u8, dimensions: &[u32], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, kind, dimensions.len() as u8];
    bytes.extend(dimensions.iter().flat_map(|n| n.to_be_bytes()));
    bytes.extend(body);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// An array file of NumPy.
fn npy(descr: &str, fortran: bool, shape: &[usize], body: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let shape: String = shape.iter().map(|n| format!("{n},")).collect();
    let header = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': ({shape}), }}");
    npy_with(&header, body)
}

fn npy_with(header: &str, body: &[u8]) -> Vec<u8> {
    let padding = 63 - (10 + header.len()) % 64;
    let header = format!("{header}{}\n", " ".repeat(padding));
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(body);
    bytes
}

fn npz(method: CompressionMethod, arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        let options = SimpleFileOptions::default().compression_method(method);
        archive.start_file(format!("{name}.npy"), options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Training images of 2 x 3 pixels with the labels 0, 1, 2, 0, and two test images.
fn arrays() -> [(&'static str, Vec<u8>); 4] {
    let pixels: Vec<u8> = (0..24).map(|i| i * 10).collect();
    [
        ("x_train", npy("'|u1'", false, &[4, 2, 3], &pixels)),
        ("y_train", npy("'|u1'", false, &[4], &[0, 1, 2, 0])),
        ("x_test", npy("'|u1'", false, &[2, 2, 3], &pixels[6..18])),
        ("y_test", npy("'|u1'", false, &[2], &[1, 2])),
    ]
}

/// The IDX files of [`arrays`]: training images and labels, test images and labels.
fn idx_sets() -> [Vec<u8>; 4] {
    let pixels: Vec<u8> = (0..24).map(|i| i * 10).collect();
    [
        idx_file(8, &[4, 2, 3], &pixels),
        idx_file(8, &[4], &[0, 1, 2, 0]),
        idx_file(8, &[2, 2, 3], &pixels[6..18]),
        idx_file(8, &[2], &[1, 2]),
    ]
}

/// [`arrays`] with one of them replaced.
fn with(name: &str, bytes: Vec<u8>) -> Vec<u8> {
    let arrays =
        arrays().map(|(old, array)| (old, if old == name { bytes.clone() } else { array }));
    npz(CompressionMethod::Deflated, &arrays)
}

fn from_npz(bytes: Vec<u8>) -> Result<(Input, tempfile::TempDir)> {
    run(json!({ "train": "data/d.npz" }), &[("d.npz", bytes)])
}

#[expect(clippy::type_complexity, reason = "the entries of each row, the labels, the classes")]
fn rows(data: &Input, split: Split) -> (Vec<Vec<(usize, f32)>>, Vec<u16>, usize) {
    let read = read_labelled(data, split).unwrap();
    let rows = (0..read.len()).map(|i| read.images.row(i).collect());
    (rows.collect(), read.labels, read.classes)
}

/// The rows of all images of [`arrays`], from `first`.
fn expected(first: usize, n: usize) -> Vec<Vec<(usize, f32)>> {
    let pixel = |i: usize| ((i % 6), (i * 10) as f32 / 255.0);
    let row = |i: usize| (6 * i..6 * i + 6).filter(|&i| i > 0).map(pixel).collect();
    (first..first + n).map(row).collect()
}

#[test]
fn an_npz_of_any_order_compression_and_type_of_labels_is_read() {
    let c = |i: usize| (i * 10) as u8;
    // [4, 2, 3] with the first index the fastest.
    let fortran: Vec<u8> = (0..24).map(|k| c(k % 4 * 6 + k / 4 % 2 * 3 + k / 8)).collect();
    let labels = [0i64, 1, 2, 0];
    let long = labels.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let big = labels.iter().flat_map(|x| (*x as i32).to_be_bytes()).collect::<Vec<u8>>();
    let float = labels.iter().flat_map(|x| (*x as f64).to_le_bytes()).collect::<Vec<u8>>();
    for files in [
        npz(CompressionMethod::Stored, &arrays()),
        npz(CompressionMethod::Deflated, &arrays()),
        with("x_train", npy("'|u1'", true, &[4, 2, 3], &fortran)),
        with("y_train", npy("'<i8'", false, &[4], &long)),
        with("y_train", npy("'<i8'", false, &[4, 1], &long)),
        with("y_train", npy("'>i4'", false, &[4], &big)),
        with("y_train", npy("'<f8'", false, &[4], &float)),
    ] {
        let (data, _folder) = from_npz(files).unwrap();
        assert_eq!(rows(&data, Split::Train), (expected(0, 4), vec![0, 1, 2, 0], 3));
        assert_eq!(rows(&data, Split::Test), (expected(1, 2), vec![1, 2], 3));
        assert_eq!(rows(&data, Split::Validation), (vec![], vec![], 3));
        let card: DataCard = read_json(data.path(DATA_CARD).unwrap()).unwrap();
        let images = ImageFormat { height: 2, width: 3, channels: 1, classes: 3 };
        let dataset = DataName::Own("images".into());
        assert_eq!(card, DataCard { dataset, train: 4, validation: 0, test: 2, images });
    }
}

#[test]
fn floats_of_every_size_are_kept_exactly_and_in_idx_files_too() {
    // Fractions that f16 holds.
    let number = |i: usize| i as f32 / 32.0;
    let numbers: Vec<f32> = (0..24).map(number).collect();
    let bytes =
        |each: &dyn Fn(f32) -> Vec<u8>| numbers.iter().flat_map(|x| each(*x)).collect::<Vec<u8>>();
    let half = bytes(&|x| half::f16::from_f32(x).to_le_bytes().to_vec());
    let single = bytes(&|x| x.to_le_bytes().to_vec());
    let double = bytes(&|x| f64::from(x).to_be_bytes().to_vec());
    let [_, y, _, _] = arrays();
    let labels = idx_file(8, &[4], &[0, 1, 2, 0]);
    let same = |x: Vec<u8>| {
        let test = ("y_test", y.1.clone());
        npz(CompressionMethod::Deflated, &[("x_train", x.clone()), y.clone(), ("x_test", x), test])
    };
    for (fields, files) in [
        (
            json!({ "train": "d.npz" }),
            vec![("d.npz", same(npy("'<f2'", false, &[4, 2, 3], &half)))],
        ),
        (
            json!({ "train": "d.npz" }),
            vec![("d.npz", same(npy("'<f4'", false, &[4, 2, 3], &single)))],
        ),
        (
            json!({ "train": "d.npz" }),
            vec![("d.npz", same(npy("'>f8'", false, &[4, 2, 3], &double)))],
        ),
        (
            json!({ "train": ["i", "l"], "test": ["i", "l"] }),
            vec![("i", gzip(&idx_file(14, &[4, 2, 3], &double))), ("l", labels)],
        ),
    ] {
        let (data, _folder) = run(fields, &files).unwrap();
        for split in [Split::Train, Split::Test] {
            let (rows, _, _) = rows(&data, split);
            let expected =
                |i: usize| (6 * i..6 * i + 6).filter(|&i| i > 0).map(|i| (i % 6, number(i)));
            assert!(rows.iter().enumerate().all(|(i, row)| row.iter().copied().eq(expected(i))));
        }
    }
}

#[test]
fn idx_files_are_found_under_every_name_that_people_give_them() {
    let sets = idx_sets();
    for names in [
        [
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        ],
        [
            "train-images.idx3-ubyte",
            "train-labels.idx1-ubyte",
            "t10k-images.idx3-ubyte",
            "t10k-labels.idx1-ubyte",
        ],
        [
            "train-images-idx3-ubyte.gz",
            "train-labels-idx1-ubyte.gz",
            "test-images-idx3-ubyte.gz",
            "test-labels-idx1-ubyte.gz",
        ],
        [
            "MNIST/raw/train-images-idx3-ubyte",
            "MNIST/raw/train-labels-idx1-ubyte",
            "MNIST/raw/t10k-images-idx3-ubyte",
            "MNIST/raw/t10k-labels-idx1-ubyte",
        ],
        [
            "emnist-train-images",
            "emnist-train-labels",
            "emnist-test-images.gz",
            "emnist-test-labels.gz",
        ],
        ["Train_Images.idx", "Train_Labels.idx", "Test_Images.idx", "Test_Labels.idx"],
    ] {
        let mut files: Vec<File> = names
            .into_iter()
            .zip(&sets)
            .map(|(name, bytes)| {
                (name, if name.ends_with(".gz") { gzip(bytes) } else { bytes.clone() })
            })
            .collect();
        files.push(("README.md", b"train images, labels".to_vec()));
        // torchvision keeps both.
        let both = format!("{}.gz", names[0]);
        if !names[0].ends_with(".gz") {
            files.push((&both, gzip(&sets[0])));
        }
        let (data, _folder) = run(json!({ "train": "some/folder/" }), &files).unwrap();
        assert_eq!(rows(&data, Split::Train), (expected(0, 4), vec![0, 1, 2, 0], 3), "{names:?}");
        assert_eq!(rows(&data, Split::Test), (expected(1, 2), vec![1, 2], 3), "{names:?}");
    }
    // Listed files may have any name, in any order.
    let files: Vec<File> = ["a", "b", "c", "d"].into_iter().zip(sets).collect();
    let fields = json!({ "train": ["p/b", "p/a"], "test": ["q/c", "q/d"] });
    let (data, _folder) = run(fields, &files).unwrap();
    assert_eq!(rows(&data, Split::Train), (expected(0, 4), vec![0, 1, 2, 0], 3));
}

#[test]
fn arrays_in_several_archives_are_read() {
    let [x, y, u, v] = arrays().map(|(_, array)| array);
    let one = |array: &Vec<u8>| npz(CompressionMethod::Deflated, &[("arr_0", array.clone())]);
    let pair = |x: &Vec<u8>, y: &Vec<u8>| {
        npz(CompressionMethod::Stored, &[("x", x.clone()), ("y", y.clone())])
    };
    let apart =
        [("xi.npz", one(&x)), ("yi.npz", one(&y)), ("xt.npz", one(&u)), ("yt.npz", one(&v))];
    let fields = json!({ "train": ["xi.npz", "yi.npz"], "test": ["xt.npz", "yt.npz"] });
    let (data, _folder) = run(fields, &apart).unwrap();
    assert_eq!(rows(&data, Split::Test), (expected(1, 2), vec![1, 2], 3));
    let sets = [("a.npz", pair(&x, &y)), ("b.npz", pair(&u, &v))];
    let (data, _folder) = run(json!({ "train": "a.npz", "test": "b.npz" }), &sets).unwrap();
    assert_eq!(rows(&data, Split::Test), (expected(1, 2), vec![1, 2], 3));
    // Without `test`, `x` and `y` do not say which set they are.
    let found = refusal(json!({ "train": "a.npz" }), &sets[..1]);
    assert!(found.starts_with("`a.npz` has no array `x_train`; it has `x`, `y`\n"), "{found}");
}

#[test]
fn images_with_channels_and_of_one_row_keep_the_order_of_their_numbers() {
    let pixels: Vec<u8> = (0..72).map(|i| i + 1).collect();
    for (shape, format) in
        [(vec![2, 6, 2, 3], (6, 2, 3)), (vec![2, 3, 2, 6], (2, 6, 3)), (vec![2, 36], (1, 36, 1))]
    {
        let [_, y, _, v] = arrays();
        let x = npy("'|u1'", false, &shape, &pixels);
        let y = (y.0, npy("'|u1'", false, &[2], &[0, 1]));
        let files = npz(CompressionMethod::Stored, &[("x_train", x.clone()), y, ("x_test", x), v]);
        let (data, _folder) = from_npz(files).unwrap();
        let (rows, _, _) = rows(&data, Split::Train);
        assert!(rows.concat().iter().map(|(_, x)| (x * 255.0).round() as u8).eq(pixels.clone()));
        let card: DataCard = read_json(data.path(DATA_CARD).unwrap()).unwrap();
        let ImageFormat { height, width, channels, .. } = card.images;
        assert_eq!((height, width, channels), format);
    }
}

#[test]
fn a_validation_split_is_drawn_by_the_seed() {
    let files = npz(CompressionMethod::Stored, &arrays());
    let (data, _folder) =
        run(json!({ "train": "d.npz", "validation": 1, "name": "mine" }), &[("d.npz", files)])
            .unwrap();
    let (train, held_out) = (rows(&data, Split::Train), rows(&data, Split::Validation));
    assert_eq!((train.0.len(), held_out.0.len(), held_out.2), (3, 1, 3));
    let all = [train.0, held_out.0].concat();
    assert!(expected(0, 4).iter().all(|image| all.contains(image)));
    let card: DataCard = read_json(data.path(DATA_CARD).unwrap()).unwrap();
    assert_eq!(card.dataset, DataName::Own("mine".into()));
}

#[test]
fn what_does_not_fit_is_refused_with_the_file_and_the_array() {
    let case = |name: &str, array: Vec<u8>, expected: &str| {
        let files = with(name, array);
        assert_eq!(refusal(json!({ "train": "d.npz" }), &[("d.npz", files)]), expected);
    };
    let u1 = "'|u1'";
    case(
        "y_train",
        npy(u1, false, &[3], &[0, 1, 2]),
        "`x_train` in `d.npz` has 4 images, but `y_train` in `d.npz` has 3 labels\n\
         hint: expected one label per image",
    );
    case(
        "y_test",
        npy("'|i1'", false, &[2], &[1, 0xff]),
        "`y_test[1]` in `d.npz` is -1, which is not a class\n\
         hint: expected a whole number from 0 to 999",
    );
    case(
        "y_test",
        npy("'<f4'", false, &[2], &[0, 0, 0x80, 0x3f, 0, 0, 0, 0x3f]),
        "`y_test[1]` in `d.npz` is 0.5, which is not a class\n\
         hint: expected a whole number from 0 to 999",
    );
    case(
        "y_test",
        npy("'<u8'", false, &[2], &[[1, 0, 0, 0, 0, 0, 0, 0], [0xff; 8]].concat()),
        "`y_test[1]` in `d.npz` is 9223372036854775807, which is not a class\n\
         hint: expected a whole number from 0 to 999",
    );
    case(
        "y_train",
        npy(u1, false, &[4, 3], &[0; 12]),
        "`y_train` in `d.npz` has the shape [4, 3]: it is not labels\n\
         hint: expected [n], one class per image; in Python, of one column per class: \
         `y.argmax(axis=1)`",
    );
    case(
        "x_train",
        npy(u1, false, &[24], &[0; 24]),
        "`x_train` in `d.npz` has the shape [24]: it is not images\n\
         hint: expected [n, height, width] or [n, height, width, channels]",
    );
    case(
        "x_train",
        npy(u1, false, &[0, 2, 3], &[]),
        "`x_train` in `d.npz` has no images\nhint: save at least one",
    );
    case(
        "x_train",
        npy(u1, false, &[4, 0, 3], &[]),
        "`x_train` in `d.npz` has images of 0 x 3, 0 numbers\nhint: expected 1 to 1048576 numbers",
    );
    case(
        "x_train",
        npy("'<i8'", false, &[4, 1, 1], &[0; 32]),
        "`x_train` in `d.npz` is of whole numbers that are not uint8\n\
         hint: expected uint8, or floats in [0, 1]; in Python: `x.astype(\"uint8\")`",
    );
    let floats = |x: [f32; 4]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    case(
        "x_train",
        npy("'<f4'", false, &[4, 1, 1], &floats([0.0, 1.0, 255.0, 3.0])),
        "`x_train[2, 0, 0]` in `d.npz` is 255, not in [0, 1]\n\
         hint: expected floats in [0, 1]: divide by the largest possible value; in Python, of \
         bytes: `x / 255`",
    );
    for largest in [1.5, 16.0, 256.0] {
        let hint = "expected floats in [0, 1]: divide by the largest possible value";
        case(
            "x_train",
            npy("'<f4'", false, &[4, 1, 1], &floats([0.0, 1.0, 0.5, largest])),
            &format!("`x_train[3, 0, 0]` in `d.npz` is {largest}, not in [0, 1]\nhint: {hint}"),
        );
    }
    case(
        "x_train",
        npy("'<f4'", false, &[4, 1, 1], &floats([0.0, f32::NAN, 1.0, 0.0])),
        "`x_train[1, 0, 0]` in `d.npz` is NaN, not in [0, 1]\n\
         hint: expected uint8, or floats in [0, 1]",
    );
    case(
        "x_train",
        npy("'<f4'", false, &[4, 2, 3], &[0; 96]),
        "of `x_train` in `d.npz` and `x_test` in `d.npz`, one is uint8 and the other floats\n\
         hint: save both in the same type",
    );
    case(
        "x_test",
        npy(u1, false, &[2, 3, 3], &[0; 18]),
        "`x_test` in `d.npz` has images of 3 x 3, but `x_train` in `d.npz` has images of 2 x 3\n\
         hint: save all images in the same size",
    );
    let numbers =
        "hint: expected uint8, or floats in [0, 1], for images, and whole numbers for labels";
    for (descr, what) in [
        ("'|b1'", "is of the type `bool`"),
        ("'<c8'", "is of the type `complex64`"),
        ("'<f16'", "is of the type `float128`"),
        ("'|O'", "is an array of objects, which contains a pickle"),
        ("[('a', '<f4')]", "is an array with fields"),
    ] {
        case(
            "x_test",
            npy(descr, false, &[1], &[0; 64]),
            &format!("`x_test` in `d.npz` {what}\n{numbers}"),
        );
    }
    for (descr, shown) in [("'<U3'", "<U3"), ("'|S3'", "|S3")] {
        case(
            "y_train",
            npy(descr, false, &[4], &[0; 48]),
            &format!(
                "`y_train` in `d.npz` is text, of the type `{shown}`\n\
                 hint: expected whole numbers for labels: number the classes from 0, in the same \
                 way for training and test"
            ),
        );
    }
    let found = refusal(
        json!({ "train": "d.npz" }),
        &[("d.npz", npz(CompressionMethod::Stored, &arrays()[..3]))],
    );
    assert_eq!(
        found,
        "`d.npz` has no array `y_test`; it has `x_test`, `x_train`, `y_train`\n\
         hint: expected `x_train`, `y_train`, `x_test` and `y_test`"
    );
    let found = refusal(
        json!({ "train": "d.npz", "validation": 4 }),
        &[("d.npz", npz(CompressionMethod::Stored, &arrays()))],
    );
    assert_eq!(found, "holding out 4 of 4 training images leaves none\nhint: hold out fewer");
    let zeros = arrays().map(|(name, array)| match name.starts_with('y') {
        true => (
            name,
            npy(
                u1,
                false,
                &[if name == "y_test" { 2 } else { 4 }],
                &[0; 4][..if name == "y_test" { 2 } else { 4 }],
            ),
        ),
        false => (name, array),
    });
    let found =
        refusal(json!({ "train": "d.npz" }), &[("d.npz", npz(CompressionMethod::Stored, &zeros))]);
    assert!(found.starts_with("all labels are 0"), "{found}");
}

#[test]
fn damaged_and_absurd_files_are_refused_before_memory_is_taken() {
    let labels = idx_file(8, &[1], &[0]);
    let case = |images: Vec<u8>, expected: &str| {
        let files = [("a", images), ("b", labels.clone())];
        let found = refusal(json!({ "train": ["a", "b"], "test": ["a", "b"] }), &files);
        assert_eq!(found.split("\nhint: ").next(), Some(expected));
    };
    let images = idx_file(8, &[1, 28, 28], &[7; 784]);
    case(images[..99].to_vec(), "`a` has 99 bytes, but its header specifies 800");
    case([&images[..], &[0]].concat(), "`a` has more bytes, but its header specifies 800");
    let packed = gzip(&images);
    case(packed[..packed.len() - 9].to_vec(), "`a` cannot be unpacked: incomplete deflate stream");
    case(b"\x1f\x8bnot gzip".to_vec(), "`a` cannot be unpacked: invalid gzip header");
    case(b"<html>".to_vec(), "`a` starts with `0x3c68746d`: it is not an IDX file");
    case(vec![], "`a` has 0 bytes but its header specifies 4");
    let bomb = gzip(&idx_file(8, &[1_000_000, 1000, 10], &vec![0; 1 << 20]));
    case(bomb.clone(), &format!("`a` would have 10000000016 bytes, in a file of {}", bomb.len()));
    let absurd = idx_file(14, &[u32::MAX; 8], &[]);
    case(absurd, &format!("`a` would have {} bytes, in a file of 36", u128::MAX));
    // The same for arrays in archives.
    for (shape, bytes) in
        [(vec![1 << 40, 1 << 20], "1152921504606846976"), (vec![60_000, 784, 100], "4704000000")]
    {
        let files = with("x_train", npy("'|u1'", false, &shape, &[0; 9]));
        let length = files.len();
        let found = refusal(json!({ "train": "d.npz" }), &[("d.npz", files)]);
        let start =
            format!("`x_train` in `d.npz` would have {bytes} bytes, in a file of {length}\n");
        assert!(found.starts_with(&start), "{found}");
    }
    for (bytes, expected) in [
        (npy("'|u1'", false, &[4, 2, 3], &[0; 23]), "has 23 bytes, but its header specifies 24"),
        (npy("'|u1'", false, &[4, 2, 3], &[0; 25]), "has more bytes, but its header specifies 24"),
        (b"no array of NumPy".to_vec(), "cannot be read: it is not an array of NumPy"),
        (npy_with(&"(".repeat(900), &[]), "cannot be read: "),
        (npy_with(&format!("{{'descr': {}}}", "[".repeat(900)), &[]), "cannot be read: "),
        (npy_with(&" ".repeat(5000), &[]), "has a header of "),
        (npy("'|u1'", false, &[usize::MAX, 2], &[]), "would have "),
    ] {
        let found = refusal(json!({ "train": "d.npz" }), &[("d.npz", with("x_train", bytes))]);
        assert!(found.starts_with(&format!("`x_train` in `d.npz` {expected}")), "{found}");
    }
    let found = refusal(json!({ "train": "d.npz" }), &[("d.npz", b"PK, but no zip".to_vec())]);
    assert!(found.starts_with("`d.npz` is not a zip archive: "), "{found}");
}

#[test]
fn files_that_are_not_found_or_not_unique_are_refused_with_their_names() {
    let file = || idx_file(8, &[1], &[0]);
    let found = refusal(json!({ "train": "data" }), &[("train-images-idx3-ubyte", file())]);
    assert_eq!(
        found,
        "there is no file of labels for `train` among `train-images-idx3-ubyte`\n\
         hint: expected a name such as `train-labels-idx1-ubyte.gz`; or list the files: \
         `train: [IMAGES, LABELS]`"
    );
    let many = [("a-train-images", file()), ("b-train-images", file())];
    let found = refusal(json!({ "train": "data" }), &many);
    assert!(
        found.starts_with("several files have images for `train`: `a-train-images`, `b"),
        "{found}"
    );
    for (fields, cause) in [
        (json!({ "train": [] }), "`train` does not name one or two files"),
        (json!({ "train": ["a", "b", "c"] }), "`train` does not name one or two files"),
        (json!({ "train": ["a", "b"] }), "`train` lists two files, and `test` is missing"),
        (json!({ "train": "a", "test": "" }), "`test` does not name one or two files"),
        (json!({ "train": "a", "name": "mnist" }), "`mnist` is a dataset of `fetch`"),
        (json!({ "train": "a", "name": "a`b" }), "the name of the dataset is not valid"),
    ] {
        assert_eq!(refusal(fields, &[]).split('\n').next(), Some(cause));
    }
}

#[test]
fn the_folder_of_the_files_is_not_part_of_the_key() {
    let key = |fields: Json| {
        ImagesStage::key_params(serde_json::from_value(fields).unwrap(), &Invocation::default())
    };
    assert_eq!(key(json!({ "train": "/a/b/d.npz" })), key(json!({ "train": "d.npz" })));
    assert_eq!(
        key(json!({ "train": ["x/a", "y/b"], "test": "x/c.npz" })),
        key(json!({ "train": ["a", "b"], "test": "c.npz" }))
    );
    assert_eq!(key(json!({ "train": "a/b/" })), key(json!({ "train": "b" })));
}

#[test]
fn arrays_of_numpy_in_files_of_their_own_are_refused_with_how_to_join_them() {
    let [(_, x), (_, y), ..] = arrays();
    let join = "hint: save the arrays in one `.npz`: `numpy.savez(\"data.npz\", x_train=..., \
                y_train=..., x_test=..., y_test=...)`";
    let files = [("x.npy", x), ("y.npy", y)];
    let listed = json!({ "train": ["x.npy", "y.npy"], "test": ["x.npy", "y.npy"] });
    let cause = "`x.npy` starts with `0x934e554d`: it is not an IDX file";
    assert_eq!(refusal(listed, &files), format!("{cause}\n{join}"));
    let cause = "there is no file of images for `train` among `x.npy`, `y.npy`";
    assert_eq!(refusal(json!({ "train": "d" }), &files), format!("{cause}\n{join}"));
}

#[test]
fn channels_in_different_places_are_refused_with_both_shapes() {
    let set = |name: &str, shape: &[usize]| {
        let x = npy("'|u1'", false, shape, &vec![7; shape.iter().product()]);
        let labels: Vec<u8> = (0..shape[0]).map(|i| (i % 2) as u8).collect();
        let y = npy("'|u1'", false, &[shape[0]], &labels);
        [(format!("x_{name}"), x), (format!("y_{name}"), y)]
    };
    let read = |train: &[usize], test: &[usize]| {
        let arrays = [set("train", train), set("test", test)].concat();
        let arrays: Vec<_> = arrays.iter().map(|(name, x)| (&**name, x.clone())).collect();
        from_npz(npz(CompressionMethod::Deflated, &arrays)).map(drop)
    };
    let hint = "save both in the same order; in Python, of [n, channels, height, width]: \
                `x.transpose(0, 2, 3, 1)`";
    let error = read(&[40, 3, 8, 8], &[10, 8, 8, 3]).unwrap_err();
    let Hinted { cause, hint: found } = error.downcast_ref().unwrap();
    assert_eq!(
        cause,
        "`x_train` in `d.npz` has the shape [40, 3, 8, 8], but `x_test` in `d.npz` has the shape \
         [10, 8, 8, 3]: their channels are in different places"
    );
    assert_eq!(found, hint);
    assert!(read(&[10, 8, 8, 3], &[40, 3, 8, 8]).is_err());
    for (train, test) in [
        (vec![4, 3, 8, 8], vec![2, 3, 8, 8]),
        (vec![4, 8, 8, 3], vec![2, 8, 8, 3]),
        // One channel is in the same place wherever it is written.
        (vec![4, 1, 8, 8], vec![2, 8, 8, 1]),
        (vec![4, 1, 8, 8], vec![2, 8, 8]),
    ] {
        read(&train, &test).unwrap();
    }
}

/// The files of MNIST beside the repository, if they are there.
#[test]
#[expect(clippy::print_stdout, reason = "the test's output should say that it was skipped")]
fn the_files_of_mnist_are_recognised_by_their_digests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/mnist");
    let names = [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ];
    let read = |name| Some((name, std::fs::read(folder.join(name)).ok()?));
    let Some(mut files) = names.into_iter().map(read).collect::<Option<Vec<File>>>() else {
        println!("skipped: the folder `../shared/mnist` does not have the files of MNIST");
        return;
    };
    let dataset = |files: &[File]| -> DataName {
        let (data, _folder) = run(json!({ "train": "raw" }), files).unwrap();
        read_json::<DataCard>(data.path(DATA_CARD).unwrap()).unwrap().dataset
    };
    assert_eq!(dataset(&files), DataName::Known(Dataset::Mnist));
    let labels = published::gunzip("l", &files[3].1, 1 << 20).unwrap();
    let other = [&labels[..8], &[(labels[8] + 1) % 10], &labels[9..]].concat();
    files[3].1 = gzip(&other);
    assert_eq!(dataset(&files), DataName::Own("images".into()));
}

proptest! {
    #[test]
    fn damaged_files_never_panic(
        flips in prop::collection::vec((any::<Index>(), any::<u8>()), 1..5),
        keep in prop::option::of(any::<Index>()),
        header in "[\\[\\]{}(),:'\" a-z0-9<>|]{0,80}",
        stored: bool,
    ) {
        let method = if stored { CompressionMethod::Stored } else { CompressionMethod::Deflated };
        let files = [
            npz(method, &arrays()),
            with("x_test", npy_with(&header, &[0; 12])),
            npy("'|u1'", false, &[4, 2, 3], &[0; 24]),
        ];
        for mut bytes in files {
            if !stored || bytes.starts_with(b"PK") {
                for (at, with) in &flips {
                    let at = at.index(bytes.len());
                    bytes[at] = *with;
                }
            }
            if let Some(keep) = keep {
                bytes.truncate(keep.index(bytes.len()));
            }
            for name in ["d.npz", "i"] {
                let fields = match name {
                    "i" => json!({ "train": ["i", "i"], "test": ["i", "i"] }),
                    _ => json!({ "train": "d.npz" }),
                };
                if let Err(error) = run(fields, &[(name, bytes.clone())]) {
                    prop_assert!(error.is::<Hinted>(), "{error:#}");
                    prop_assert!(format!("{error:#}").len() < 2000, "{error:#}");
                }
            }
        }
    }
}
