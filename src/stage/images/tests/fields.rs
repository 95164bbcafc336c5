//! Which files each field is read from.

use super::*;

#[test]
fn files_are_named_by_their_paths_where_shorter_names_do_not_tell_the_fields_apart() {
    let declared = |fields: Json| {
        let params: Params = serde_json::from_value(fields).unwrap();
        let key = ImagesStage::key_params(params.clone(), &Invocation::default());
        let files = ImagesStage::files(&params);
        let by_path = files[0].by_path;
        assert!(files.iter().all(|file| file.by_path == by_path));
        if by_path {
            assert_eq!(super::paths(&key), super::paths(&params));
        }
        (files.into_iter().map(|file| file.path).collect::<Vec<_>>(), by_path)
    };
    for (fields, paths, by_path) in [
        (json!({ "train": "a/b" }), vec!["a/b"], false),
        (json!({ "train": "a/d.npz", "test": "b/t.npz" }), vec!["a/d.npz", "b/t.npz"], false),
        (json!({ "train": ["a", "b"], "test": ["c", "b"] }), vec!["a", "b", "c"], false),
        (json!({ "train": "a/d.npz", "test": "b/d.npz" }), vec!["a/d.npz", "b/d.npz"], true),
        (
            json!({ "train": ["a/i", "a/l"], "test": ["b/i", "b/l"] }),
            vec!["a/i", "a/l", "b/i", "b/l"],
            true,
        ),
        (json!({ "train": "a/", "test": "b" }), vec!["a", "b"], true),
        (json!({ "train": "a/", "test": "a" }), vec!["a"], true),
        (json!({ "train": "d.npz", "test": "b" }), vec!["d.npz", "b"], true),
        // What is below another path is not declared twice.
        (json!({ "train": "a", "test": "a/t.npz" }), vec!["a"], true),
    ] {
        let paths: Vec<String> = paths.into_iter().map(str::to_owned).collect();
        assert_eq!(declared(fields.clone()), (paths, by_path), "{fields}");
    }
}

/// Other images and labels, which no set may be read from.
fn decoys() -> (Vec<u8>, Vec<u8>) {
    (idx_file(8, &[1, 2, 3], &[255; 6]), idx_file(8, &[1], &[9]))
}

#[test]
fn each_field_is_read_from_its_own_files() {
    let [x, y, u, v] = idx_sets();
    let (i, l) = decoys();
    let whole = npz(CompressionMethod::Stored, &arrays());
    let dark = npy("'|u1'", false, &[1, 2, 3], &[255; 6]);
    let nine = npy("'|u1'", false, &[1], &[9]);
    // An archive with the right arrays of one set, and wrong ones of the other.
    let wrong = |set: &str| {
        let arrays = arrays().map(|(name, array)| match name {
            _ if !name.ends_with(set) => (name, array),
            _ if name.starts_with('x') => (name, dark.clone()),
            _ => (name, nine.clone()),
        });
        npz(CompressionMethod::Stored, &arrays)
    };
    let plain = |set: &str| {
        let of_set = arrays().into_iter().filter(|(name, _)| name.ends_with(set));
        let arrays: Vec<_> = of_set.map(|(name, array)| (&name[..1], array)).collect();
        npz(CompressionMethod::Stored, &arrays)
    };
    let [train, test] = ["train", "test"].map(plain);
    let cases: Vec<(Json, Vec<File>)> = vec![
        (
            json!({ "train": "ok.npz", "test": "f" }),
            vec![
                ("ok.npz", wrong("test")),
                ("f/t10k-images-idx3-ubyte", u.clone()),
                ("f/t10k-labels-idx1-ubyte", v.clone()),
            ],
        ),
        (
            json!({ "train": "f", "test": "ok.npz" }),
            vec![
                ("ok.npz", wrong("train")),
                ("f/train-images-idx3-ubyte", x.clone()),
                ("f/train-labels-idx1-ubyte", y.clone()),
            ],
        ),
        // All four files in one folder, two in the other.
        (
            json!({ "train": "std", "test": "test" }),
            vec![
                ("std/train-images-idx3-ubyte", x.clone()),
                ("std/train-labels-idx1-ubyte", y.clone()),
                ("std/t10k-images-idx3-ubyte", i.clone()),
                ("std/t10k-labels-idx1-ubyte", l.clone()),
                ("test/t10k-images-idx3-ubyte", u.clone()),
                ("test/t10k-labels-idx1-ubyte", v.clone()),
            ],
        ),
        // The same names in both: the folders, or only the fields, say which set is which.
        (
            json!({ "train": "d/train", "test": "d/test" }),
            vec![
                ("d/train/images-idx3-ubyte", x.clone()),
                ("d/train/labels-idx1-ubyte", y.clone()),
                ("d/test/images-idx3-ubyte", u.clone()),
                ("d/test/labels-idx1-ubyte", v.clone()),
            ],
        ),
        (
            json!({ "train": "a", "test": "latest" }),
            vec![
                ("a/images", x.clone()),
                ("a/labels", y.clone()),
                ("latest/images", u.clone()),
                ("latest/labels", v.clone()),
            ],
        ),
        (
            json!({ "train": "splits" }),
            vec![
                ("train/images-idx3-ubyte", x.clone()),
                ("train/labels-idx1-ubyte", y.clone()),
                ("test/images-idx3-ubyte", u.clone()),
                ("test/labels-idx1-ubyte", v.clone()),
            ],
        ),
        // A name shows the set more clearly than its folder does.
        (
            json!({ "train": "train" }),
            vec![
                ("train/train-images", x.clone()),
                ("train/train-labels", y.clone()),
                ("train/labels", l),
                ("train/t10k-images", u.clone()),
                ("train/t10k-labels", v.clone()),
            ],
        ),
        (
            json!({ "train": "d", "test": "d/t" }),
            vec![
                ("d/train-images", x.clone()),
                ("d/train-labels", y.clone()),
                ("d/t/images", u.clone()),
                ("d/t/labels", v.clone()),
            ],
        ),
        (
            json!({ "train": "d", "test": "d/all.npz" }),
            vec![
                ("d/train-images", x.clone()),
                ("d/train-labels", y.clone()),
                ("d/all.npz", wrong("train")),
            ],
        ),
        (
            json!({ "train": ["a/i", "a/l"], "test": ["b/i", "b/l"] }),
            vec![("a/i", x.clone()), ("a/l", y.clone()), ("b/i", u.clone()), ("b/l", v.clone())],
        ),
        (
            json!({ "train": "a/d.npz", "test": "b/d.npz" }),
            vec![("a/d.npz", wrong("test")), ("b/d.npz", wrong("train"))],
        ),
        (json!({ "train": "a", "test": "b" }), vec![("a/d.npz", train), ("b/d.npz", test)]),
        (
            json!({ "train": "d" }),
            vec![("sub/d.npz", whole.clone()), ("train-labels.txt", b"one".to_vec())],
        ),
        // Files that macOS writes beside others are not data.
        (
            json!({ "train": "d" }),
            vec![("d.npz", whole), ("._d.npz", i.clone()), ("__MACOSX/._train-images", i.clone())],
        ),
        (
            json!({ "train": "d" }),
            vec![
                ("train-images", x),
                ("._train-images", i),
                ("train-labels", y),
                ("test-images", u),
                ("test-labels", v),
            ],
        ),
    ];
    for (fields, files) in cases {
        let read = run(fields.clone(), &files);
        let (data, _folder) = read.unwrap_or_else(|error| panic!("{fields}: {error}"));
        assert_eq!(rows(&data, Split::Train), (expected(0, 4), vec![0, 1, 2, 0], 3), "{fields}");
        assert_eq!(rows(&data, Split::Test), (expected(1, 2), vec![1, 2], 3), "{fields}");
    }
}

#[test]
fn folders_that_are_exchanged_or_have_two_sources_are_refused() {
    let [x, y, u, v] = idx_sets();
    let whole = || npz(CompressionMethod::Stored, &arrays());
    let standard: Vec<File> = vec![
        ("train/train-images", x.clone()),
        ("train/train-labels", y.clone()),
        ("test/t10k-images", u.clone()),
        ("test/t10k-labels", v.clone()),
    ];
    let exchanged = json!({ "train": "test", "test": "train" });
    assert_eq!(
        refusal(exchanged.clone(), &standard),
        "there is no file of images for `train` among `test/t10k-images`, `test/t10k-labels`\n\
         hint: expected a name such as `train-images-idx3-ubyte.gz`; or list the files: `train: \
         [IMAGES, LABELS]`"
    );
    let roleless: Vec<File> = vec![
        ("train/images", x.clone()),
        ("train/labels", y.clone()),
        ("test/images", u),
        ("test/labels", v),
    ];
    let found = refusal(exchanged.clone(), &roleless);
    assert!(found.starts_with("there is no file of images for `train` among `test/images`"));
    // Files that do not show their set are not those of both.
    let once: Vec<File> = vec![("d/t/images", x.clone()), ("d/t/labels", y.clone())];
    for (fields, place) in [
        (json!({ "train": "d/t", "test": "d/t/" }), "among `d/t/images`, `d/t/labels`"),
        (json!({ "train": "d", "test": "d/t" }), "in `d`"),
    ] {
        let found = refusal(fields, &once);
        let cause = format!("there is no file of images for `train` {place}\n");
        assert!(found.starts_with(&cause), "{found}");
    }
    let [a, b, ..] = arrays().map(|(_, array)| array);
    let plain = || npz(CompressionMethod::Stored, &[("x", a.clone()), ("y", b.clone())]);
    assert_eq!(
        refusal(exchanged, &[("train/d.npz", plain()), ("test/d.npz", plain())]),
        "`test/d.npz`, the archive of `train`, has `x` and `y`, but is called `test`\n\
         hint: exchange the folders; or name the archive itself in `train`"
    );
    let mut both: Vec<File> = vec![("train-images", x), ("labels", y), ("d.npz", whole())];
    both.push(("labels.txt", b"one\ntwo\n".to_vec()));
    assert_eq!(
        refusal(json!({ "train": "d" }), &both),
        "`d` has both an archive, `d.npz`, and IDX files, `labels`, `train-images`\n\
         hint: name one: in `train`, the `.npz` or `[IMAGES, LABELS]`"
    );
    assert_eq!(
        refusal(json!({ "train": "d" }), &[("a.npz", whole()), ("b/c.npz", whole())]),
        "`d` has two archives, `a.npz`, `b/c.npz`\nhint: name one of them in `train`"
    );
    assert_eq!(
        refusal(
            json!({ "train": "d.npz", "test": "t.npz" }),
            &[("d.npz", whole()), ("c.npz", whole())]
        ),
        "`t.npz` in `test` is a folder\nhint: name the `.npz` in it"
    );
    let named = npz(CompressionMethod::Stored, &[("X", a.clone()), ("y", b.clone())]);
    let files = [("a.npz", named), ("b.npz", whole())];
    assert_eq!(
        refusal(json!({ "train": "a.npz", "test": "b.npz" }), &files),
        "`a.npz` has no array `x_train`; it has `X`, `y`\n\
         hint: expected `x_train` and `y_train`, or `x` and `y`"
    );
    let found = refusal(json!({ "train": "a.npz", "test": "a.npz" }), &[("a.npz", plain())]);
    assert!(found.starts_with("`a.npz` has no array `x_train`; it has `x`, `y`\n"), "{found}");
}
