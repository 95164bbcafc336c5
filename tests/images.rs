//! Images of one's own, and nets that other programs have trained.

use crate::space::{Space, containing, nothing, set};
use std::path::Path;

fn file(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The project in `examples/digits-8x8`.
fn digits() -> Space {
    let space = crate::extras::example("digits-8x8", &[]);
    space.write("digits.npz", file("examples/digits-8x8/digits.npz"));
    space
}

/// The column `column` of a table with one row.
fn cell(table: &str, column: &str) -> String {
    let mut lines = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let (header, row) = (lines.next().unwrap(), lines.next().unwrap());
    row[header.iter().position(|name| *name == column).unwrap()].to_owned()
}

#[test]
fn images_of_8_x_8_pixels_are_studied_from_an_npz_to_a_report() {
    let space = digits();
    space.ok(&["run"]);
    let card = space.output("data", "data.json");
    let card: serde_json::Value = serde_json::from_str(&card).unwrap();
    let format = serde_json::json!({ "height": 8, "width": 8, "channels": 1, "classes": 10 });
    assert_eq!(card["images"], format);
    assert_eq!(card["dataset"], "digits of scikit-learn");
    let sizes = [&card["train"], &card["validation"], &card["test"]].map(|n| n.as_u64().unwrap());
    assert_eq!(sizes, [1237, 200, 360]);
    for net in 1..=3 {
        let table = space.output(&format!("nets@hidden=16x8,net={net}"), "nets.csv");
        let error: f64 = cell(&table, "test_error").parse().unwrap();
        assert!((1.0..30.0).contains(&error), "net {net} has learned: {error} %");
    }
    let report = space.read("reports/default/report.md");
    for part in ["digits of scikit-learn", "16x8+bias"] {
        assert!(report.contains(part), "`{part}` is not in:\n{report}");
    }
    assert!(!report.contains("The talk's published numbers are"), "{report}");
    assert_eq!(space.ran(&[]), nothing());
}

#[test]
fn images_that_change_are_read_again_and_a_moved_file_is_not() {
    let space = digits();
    space.ok(&["run", "data"]);
    space.write("elsewhere/digits.npz", file("examples/digits-8x8/digits.npz"));
    space.edit("train: digits.npz", "train: elsewhere/digits.npz");
    assert_eq!(space.ran(&["data"]), nothing());
    space.write("elsewhere/digits.npz", "PK, but no archive");
    let error = space.exits(1, &["run", "data"]).stderr;
    assert!(error.contains("`digits.npz` is not a zip archive"), "{error}");
}

/// A big-endian IDX file of bytes.
fn idx(dimensions: &[u32], body: &[u8]) -> Vec<u8> {
    let sizes = dimensions.iter().flat_map(|n| n.to_be_bytes());
    [0, 0, 8, dimensions.len() as u8].into_iter().chain(sizes).chain(body.to_vec()).collect()
}

#[test]
fn each_field_is_read_from_its_own_files() {
    let space = Space::with("stages:\n  data: { images: { train: d/train, test: d/test } }\n");
    // The same names in both folders.
    for (folder, pixel, n) in [("d/train", 7, 4), ("d/test", 9, 2)] {
        let labels: Vec<u8> = (0..n).map(|i| i % 2).collect();
        let pixels = vec![pixel; 6 * usize::from(n)];
        space.write(&format!("{folder}/images"), idx(&[n.into(), 2, 3], &pixels));
        space.write(&format!("{folder}/labels"), idx(&[n.into()], &labels));
        space.write(&format!("{folder}/._images"), "of macOS");
    }
    // The files of one folder, which the other field names too, are declared once.
    for fields in ["train: d/train, test: d/test", "train: d", "train: d, test: d/test/"] {
        space.edit("train: d/train, test: d/test", fields);
        space.ok(&["run"]);
        for (split, pixel, n) in [("train", 7, 4), ("test", 9, 2)] {
            let digest = &space.digests()["data"][&format!("{split}-images-idx3-ubyte")];
            let bytes = std::fs::read(space.object(digest)).unwrap();
            assert_eq!(bytes, idx(&[n, 2, 3], &vec![pixel; 6 * n as usize]), "{fields}: {split}");
        }
        space.edit(fields, "train: d/train, test: d/test");
    }
    // Exchanged folders are refused; an archive for one field does not replace the other's folder.
    space.edit("train: d/train, test: d/test", "train: d/test, test: d/train");
    let error = space.exits(1, &["run"]).stderr;
    assert!(error.contains("no file of images for `train` among `d/test/images`"), "{error}");
    space.write("digits.npz", file("examples/digits-8x8/digits.npz"));
    space.edit("train: d/test, test: d/train", "train: digits.npz, test: d/test");
    let error = space.exits(1, &["run"]).stderr;
    let cause = "`d/test/images` has images of 2 x 3, but `x_train` in `digits.npz` has images of";
    assert!(error.contains(cause), "{error}");
    space.write("d/test/digits.npz", file("examples/digits-8x8/digits.npz"));
    let error = space.exits(1, &["run"]).stderr;
    let cause = "`d/test` has both an archive, `d/test/digits.npz`, and IDX files, `d/test/images`";
    assert!(error.contains(cause), "{error}");
}

/// Ten nets' worth of names: two nets that this program has trained, exported and read back.
#[test]
fn exported_nets_are_imported_and_joined() {
    let space = digits();
    space.ok(&["run"]);
    for net in 1..=2 {
        let name = format!("nets@hidden=16x8,net={net}");
        let digest = &space.digests()[&name]["net.safetensors"];
        let bytes = std::fs::read(space.object(digest)).unwrap();
        space.write(&format!("theirs/{net}.safetensors"), bytes);
    }
    let pipeline = space.read("pipeline.yaml");
    let theirs = "  theirs:
    import: { data: data, file: [theirs/1.safetensors, theirs/2.safetensors] }
  joined:
    evaluate:
      a: { stage: theirs, rename: { file: a } }
      b: { stage: theirs, rename: { file: b } }
      where: a < b
      data: data
      curve: linear
      points: 3
";
    space.write("pipeline.yaml", pipeline + theirs);
    space.ok(&["run", "joined"]);
    let nodes = space.nodes();
    assert_eq!(containing(&nodes, &["joined"]).len(), 1, "{nodes:?}");
    for net in 1..=2 {
        let ours = space.output(&format!("nets@hidden=16x8,net={net}"), "nets.csv");
        let theirs = space.output(&format!("theirs@file=theirs/{net}.safetensors"), "nets.csv");
        for column in ["train_error", "validation_loss", "test_error", "test_loss", "norm_w1"] {
            assert_eq!(cell(&ours, column), cell(&theirs, column), "{column}");
        }
        assert_eq!(cell(&theirs, "epochs"), "");
    }
    // Nothing depends on the file but its bytes and its name.
    space.write("theirs/1.safetensors", std::fs::read(space.join("theirs/2.safetensors")).unwrap());
    let ran = space.ran(&["joined"]);
    assert_eq!(containing(&ran, &["theirs@file=theirs/1"]).len(), 1, "{ran:?}");
    assert_eq!(containing(&ran, &["theirs@file=theirs/2"]), set([]), "{ran:?}");
}

#[test]
fn a_file_that_is_no_net_is_refused_with_the_reason_and_a_hint() {
    let space = digits();
    space.write("net.pt", b"PK\x03\x04....archive/data.pkl");
    let pipeline = space.read("pipeline.yaml");
    space.write("pipeline.yaml", pipeline + "  theirs: { import: { data: data, file: net.pt } }\n");
    let error = space.exits(1, &["run", "theirs"]).stderr;
    for part in [
        "`net.pt` is a file of `torch.save`, which contains a pickle, not a safetensors file",
        "hint: in Python: `from safetensors.torch import save_file`",
    ] {
        assert!(error.contains(part), "{error}");
    }
    space.edit("file: net.pt", "file: net.safetensor");
    let error = space.exits(2, &["plan", "theirs"]).stderr;
    assert!(error.contains("there is no file or folder `net.safetensor`"), "{error}");
}
