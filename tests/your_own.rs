//! docs/your-own.md: the files and commands of each section, in order, in an empty folder.
//!
//! Scripts run where Python has the packages that they import. Elsewhere the test says what it
//! skips, and uses nets of this program in place of those that a script trains.

use crate::python;
use crate::space::Space;
use repro::study::curve::{CURVES, Center, Path};
use repro::study::net::{Net, Shape};
use std::fs;
use std::path::{Path as FilePath, PathBuf};

/// The module into which the page puts the file of a curve.
mod curve {
    mod parabola;

    use repro::study::curve::Curve;

    pub(super) fn parabola() -> &'static dyn Curve {
        &parabola::Parabola
    }
}

fn project(path: &str) -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn page() -> String {
    fs::read_to_string(project("docs/your-own.md")).unwrap()
}

/// A code block: its language, the name of its file if it is one, and its text.
struct Block {
    language: String,
    file: Option<String>,
    text: String,
}

/// The code blocks of a section, whose heading is `## NAME`.
fn blocks(section: &str) -> Vec<Block> {
    let page = page();
    let (_, text) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let text = text.split("\n## ").next().unwrap();
    let mut parts = text.split("\n```");
    parts.next();
    let mut blocks = Vec::new();
    // Text before, inside and after blocks alternates.
    while let Some(block) = parts.next() {
        let (info, text) = block.split_once('\n').unwrap();
        let mut words = info.split(' ').map(str::to_owned);
        let (language, file) = (words.next().unwrap(), words.next());
        blocks.push(Block { language, file, text: format!("{text}\n") });
        assert!(parts.next().is_some(), "a block of `{section}` is not closed");
    }
    blocks
}

/// The images of the pipelines on the page.
const FETCH: &str = "dataset: digits, train: 2000, test: 500";

/// The start of a command that runs Python. The Python of the tests need not be in its `PATH`.
const COMMAND: &str = "run: [python3,";

/// What a section left in its folder, and what its scripts printed.
struct Followed {
    space: Space,
    printed: Vec<String>,
}

/// Follows a section: writes its files, and runs its commands. If Python cannot run a script,
/// calls `instead` with its name.
fn follow(section: &str, instead: impl Fn(&Space, &str)) -> Followed {
    let space = Space::with("");
    fs::remove_file(space.join("pipeline.yaml")).unwrap();
    let mut printed = Vec::new();
    for Block { language, file, text } in blocks(section) {
        if let Some(file) = file.filter(|_| language != "rust") {
            let text = match language == "yaml" && text.contains(COMMAND) {
                true => text.replace(COMMAND, &format!("run: [{},", python::executable())),
                false => text,
            };
            space.write(&file, text);
        } else if language == "sh" {
            for line in text.lines() {
                let words: Vec<&str> = line.split(' ').collect();
                match words[..] {
                    ["repro", ..] => _ = space.ok(&words[1..]),
                    ["python3", script] => match python::run(&space, script, &[]) {
                        Some(text) => printed.push(text),
                        None => instead(&space, script),
                    },
                    _ => panic!("`{line}` is neither `repro` nor `python3 SCRIPT`"),
                }
            }
        }
    }
    Followed { space, printed }
}

impl Followed {
    /// A table of the report.
    fn table(&self, name: &str) -> String {
        self.space.read(format!("reports/default/tables/{name}.csv"))
    }
}

/// The cell of the first row of a table, by column.
fn cell(table: &str, column: &str) -> f64 {
    let mut rows = table.lines().map(|row| row.split(','));
    let at = rows.next().unwrap().position(|name| name == column).unwrap();
    rows.next().unwrap().nth(at).unwrap().parse().unwrap()
}

#[test]
fn your_data_are_images_of_any_size() {
    let followed = follow("Your data", |space, _| {
        let images = fs::read(project("examples/digits-8x8/digits.npz")).unwrap();
        space.write("images.npz", images);
    });
    let report = followed.space.read("reports/default/report.md");
    assert!(report.contains("digits-8x8") && report.contains("32x16+bias"), "{report}");
    let errors = followed.table("nets");
    assert!(cell(&errors, "test_error") < 30.0, "the nets have learned: {errors}");
    assert!(followed.table("metrics").contains("2:3"));
}

#[test]
fn your_nets_are_joined_and_ours_are_read_in_pytorch() {
    let followed = follow("Your nets", |space, script| {
        if script == "train.py" {
            python::save_nets(space, FETCH, "64", "net-");
        }
    });
    let nets = followed.table("nets");
    assert_eq!(nets.matches("64+bias").count(), 3, "{nets}");
    let metrics = followed.table("metrics");
    assert!(metrics.contains("net-2:net-3"), "{metrics}");
    let error = cell(&followed.space.read("exported/nets.csv"), "test_error");
    assert!(error < 60.0, "the net has learned: {error}");
    if let Some(printed) = followed.printed.last() {
        let found: f64 = printed.trim().parse().unwrap();
        assert!((found - error).abs() < 0.02, "PyTorch finds {found}, not {error}");
    }
}

#[test]
fn your_curve_in_python_is_a_table_of_the_report() {
    let [script] = &blocks("Your curve")[..1] else { panic!("no script") };
    if !python::can_run("curve.py", &script.text) {
        return;
    }
    let followed = follow("Your curve", |_, script| panic!("{script} is not a command"));
    let report = followed.space.read("reports/default/report.md");
    for pair in ["a=1,b=2", "a=1,b=3", "a=2,b=3"] {
        assert!(report.contains(&format!("extras/own@{pair}/curve.csv")), "{pair}: {report}");
    }
}

#[test]
fn your_curve_in_rust_is_one_file_and_its_name_in_two_lines() {
    let blocks = blocks("Your curve");
    let file = blocks.iter().find(|block| block.file.as_deref() == Some("parabola.rs")).unwrap();
    assert_eq!(file.text, include_str!("your_own/curve/parabola.rs"), "the file that is compiled");
    let lines = blocks.iter().find(|block| block.language == "rust" && block.file.is_none());
    let (declared, list) = lines.unwrap().text.split_once('\n').unwrap();
    assert_eq!(declared, "mod parabola;");
    let words = |text: &str| text.split_whitespace().collect::<String>();
    let before = words(&list.replace(", &parabola::Parabola", ""));
    let module = fs::read_to_string(project("src/study/curve/mod.rs")).unwrap();
    assert!(words(&module).contains(&before), "the list is the one of the module: {before}");
    assert_eq!(CURVES.len(), list.matches("::").count() - 1);

    let widths = "3".parse().unwrap();
    let shape = Shape { inputs: 5, widths, classes: 2, biases: false };
    let net = |first: f32| {
        let mut net = Net::zeros(shape);
        net.params_mut().iter_mut().zip(0..).for_each(|(w, i)| *w = first + (i % 7) as f32);
        net
    };
    let (a, b) = (net(1.0), net(-2.0));
    let path = Path::new(curve::parabola(), Center::Neurons, &a, &b).unwrap();
    assert_eq!(path.point(0.0), a);
    assert_eq!(path.point(1.0), b);
    assert!(path.point(0.5).params().iter().all(|w| w.is_finite()));
}

#[test]
fn your_prior_is_trained_in_pytorch_and_joined() {
    let followed =
        follow("Your prior", |space, _| python::save_nets(space, FETCH, "64", "cauchy-"));
    let metrics = followed.table("metrics");
    for pair in ["cauchy-1:cauchy-2", "cauchy-1:cauchy-3", "cauchy-2:cauchy-3"] {
        assert!(metrics.contains(pair), "`{pair}` is not in:\n{metrics}");
    }
}
