//! Sources of the data, and the fallback where they are unavailable. No test uses the network: see
//! `space`.

use crate::space::{Space, nothing, set};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Requests MNIST, with a fallback.
const FALLBACK: &str = "\
stages:
  data:
    fetch: { dataset: mnist, otherwise: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, end: [a, b], epochs: 1 }
  curves:
    evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: linear, points: 3 }
  tables:
    aggregate: { curves: curves, nets: nets }
  figures:
    plot: { data: data, tables: tables, figure: error-by-method }
  report:
    report: { data: data, tables: tables, figures: figures }
";

fn fallback() -> Space {
    Space::with(FALLBACK)
}

fn strict() -> Space {
    Space::with(&FALLBACK.replace("otherwise: digits, ", ""))
}

const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// The folder of the real files, if `REPRO_DATA` is set; tests that need them are skipped
/// otherwise.
#[expect(clippy::print_stdout, reason = "the test's output should say that it was skipped")]
fn mnist() -> Option<PathBuf> {
    let folder = std::env::var_os("REPRO_DATA").map(PathBuf::from);
    let has_files = |folder: &PathBuf| {
        FILES
            .iter()
            .all(|name| folder.join(name).is_file() || folder.join(format!("{name}.gz")).is_file())
    };
    let found = folder.filter(has_files);
    if found.is_none() {
        println!("skipped: REPRO_DATA is not a folder with the files of MNIST");
    }
    found
}

/// The packed or unpacked file `name` in a folder of the real files.
fn file(folder: &Path, name: &str) -> PathBuf {
    let packed = folder.join(format!("{name}.gz"));
    if packed.is_file() { packed } else { folder.join(name) }
}

fn dataset(space: &Space) -> String {
    let digest = &space.digests()["data"]["data.json"];
    let card: serde_json::Value =
        serde_json::from_slice(&std::fs::read(space.object(digest)).unwrap()).unwrap();
    card["dataset"].as_str().unwrap().to_owned()
}

#[test]
fn without_folder_and_network_the_fallback_is_used_with_a_warning_on_every_run() {
    let space = fallback();
    let began = Instant::now();
    let first = space.ok(&["run"]).stderr;
    assert!(began.elapsed() < Duration::from_secs(30), "a refused connection takes no time");
    assert!(first.contains("warning: `data` is unavailable: "), "{first}");
    assert!(first.contains("`dataset: \"digits\"`"), "the warning names the fallback: {first}");
    assert_eq!(dataset(&space), "digits");
    let report = space.read("reports/default/report.md");
    let (top, _) = report.split_once("\n- **").unwrap();
    assert!(top.contains("`digits`") && top.contains("not MNIST"), "{top}");

    let second = space.ok(&["run"]).stderr;
    assert!(second.contains("all cached, nothing to do"), "{second}");
    assert!(
        second.contains("warning: `data` is unavailable: "),
        "the warning is repeated: {second}"
    );
    let quiet = space.ok(&["-q", "run"]);
    assert!(quiet.stderr.contains("warning: "), "the warning is printed even with `-q`");
    assert_eq!(quiet.stdout, "");
    let plan = space.plan(&[]);
    assert!(
        plan[0]["fallback_cause"].as_str().unwrap().contains("no data folder is set"),
        "{}",
        plan[0]
    );
    assert!(space.ok(&["plan"]).stdout.contains("uses its fallback"));
}

#[test]
fn the_fallback_has_its_own_key() {
    let space = fallback();
    space.ok(&["run"]);
    let used = space.plan(&[])[0]["key"].clone();
    space.edit("dataset: mnist, otherwise: digits", "dataset: digits");
    // The report states the parameters of everything upstream.
    assert_eq!(space.ran(&[]), set(["report"]), "the same key as for digits");
    assert_eq!(space.plan(&[])[0]["key"], used);
    space.edit("dataset: digits", "dataset: mnist");
    let stopped = space.exits(7, &["run"]).stderr;
    assert!(stopped.contains("is unavailable"), "{stopped}");
}

#[test]
fn without_a_fallback_the_run_exits_with_7_and_a_hint() {
    let stopped = strict().exits(7, &["run"]);
    assert_eq!(stopped.stdout, "");
    assert!(stopped.stderr.contains("no mirror served MNIST"), "{}", stopped.stderr);
    let hint =
        stopped.stderr.lines().find(|line| line.starts_with("hint: ")).expect("there is a hint");
    assert!(hint.contains("REPRO_DATA") && hint.contains("--data DIR"), "{hint}");
}

#[test]
fn refetch_tries_again_and_returns_to_the_fallback() {
    let space = fallback();
    space.ok(&["run"]);
    let again = space.ok(&["run", "--json", "--refetch"]);
    assert_eq!(again.nodes_of("running"), set(["data"]), "fetched again");
    assert_eq!(again.nodes_of("fallback-used"), set(["data"]));
    assert_eq!(again.ran(), nothing(), "the result is cached");
    assert_eq!(space.ok(&["run", "--json"]).nodes_of("running"), nothing(), "the choice is stored");
}

#[test]
fn an_empty_data_variable_is_ignored() {
    let space = fallback().env("REPRO_DATA", "");
    let warning = space.ok(&["run"]).stderr;
    assert!(warning.contains("no data folder is set"), "{warning}");
}

#[test]
fn a_data_folder_without_the_files_is_an_error_even_with_a_fallback() {
    for space in [strict(), fallback()] {
        space.write("empty/README", "nothing here");
        let folder = space.join("empty").display().to_string();
        let named = space.exits(1, &["run", "--data", "empty"]).stderr;
        for part in [&folder, "train-images-idx3-ubyte", "`README`"] {
            assert!(named.contains(part), "{named}");
        }
        assert!(!named.contains("is used"), "{named}");
    }
    let space = fallback();
    space.ok(&["run"]);
    let space = space.env("REPRO_DATA", "cache");
    space.exits(1, &["run"]);
}

#[test]
fn a_data_folder_with_wrong_bytes_is_an_error_even_with_a_fallback() {
    let space = fallback();
    space.ok(&["run"]);
    let case = |name: &str, bytes: &[u8], says: &str| {
        space.write(&format!("wrong/{name}"), bytes);
        let refused = space.exits(1, &["run", "--data", "wrong"]).stderr;
        assert!(refused.contains("train-images-idx3-ubyte") && refused.contains(says), "{refused}");
        std::fs::remove_dir_all(space.join("wrong")).unwrap();
    };
    case("train-images-idx3-ubyte", b"not images", "SHA-256");
    case("train-images-idx3-ubyte", b"", "SHA-256");
    case("train-images-idx3-ubyte.gz", b"not gzip", "cannot be unzipped");
    case("train-images-idx3-ubyte.gz", b"", "cannot be unzipped");
    let after = space.ok(&["run", "--json"]);
    assert_eq!(
        after.nodes_of("running"),
        set(["data"]),
        "the fallback was discarded, and MNIST is fetched again"
    );
    assert_eq!((after.nodes_of("fallback-used"), after.ran()), (set(["data"]), nothing()));
}

#[test]
fn a_data_folder_discards_the_fallback() {
    let Some(folder) = mnist() else { return };
    let space = fallback();
    space.ok(&["run"]);
    assert_eq!(dataset(&space), "digits");
    let data = folder.to_str().unwrap();
    let output = space.ok(&["run", "--json", "--data", data]);
    assert_eq!(output.ran(), space.nodes());
    assert_eq!(output.nodes_of("fallback-used"), nothing());
    assert_eq!(dataset(&space), "mnist");
    let report = space.read("reports/default/report.md");
    let (top, _) = report.split_once("\n- **").unwrap();
    assert!(top.contains("`mnist`"), "the report follows: {top}");
    assert_eq!(space.ran(&[]), nothing(), "once cached, MNIST needs no folder");
    assert_eq!(space.ok(&["run"]).stderr.matches("warning").count(), 0);
}

#[test]
fn the_source_and_packing_of_mnist_do_not_change_the_result() {
    let Some(folder) = mnist() else { return };
    let named = strict().env("REPRO_DATA", folder.to_str().unwrap());
    named.ok(&["run", "data"]);
    let plain = strict();
    for name in FILES {
        let source = file(&folder, name);
        let bytes = std::fs::read(&source).unwrap();
        let packed = source.extension().is_some_and(|e| e == "gz");
        if packed {
            let unpacked =
                std::process::Command::new("gzip").arg("-dc").arg(&source).output().unwrap();
            plain.write(&format!("plain/{name}"), unpacked.stdout);
        } else {
            plain.write(&format!("plain/{name}"), bytes);
        }
    }
    plain.ok(&["run", "data", "--data", "plain"]);
    let keys = |space: &Space| {
        space.files("entries").iter().map(|p| p.file_name().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let objects = |space: &Space| {
        space.files("objects").iter().map(|p| p.file_name().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((keys(&named), objects(&named)), (keys(&plain), objects(&plain)));
}

#[test]
fn one_flipped_byte_in_a_real_file_is_an_error() {
    let Some(folder) = mnist() else { return };
    let space = strict();
    for name in FILES {
        let source = file(&folder, name);
        let target = source.file_name().unwrap().to_str().unwrap();
        space.write(&format!("mine/{target}"), std::fs::read(&source).unwrap());
    }
    let labels = space.join("mine").join(file(&folder, FILES[3]).file_name().unwrap());
    crate::space::flip_byte(&labels);
    let refused = space.exits(1, &["run", "data", "--data", "mine"]).stderr;
    assert!(refused.contains(FILES[3]), "{refused}");
}
