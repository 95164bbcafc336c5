//! The report's page in Chromium: what readers can do with it, at several sizes and in both themes.
//!
//! `tests/browser/run.mjs` checks the claims, all on one report. It needs `chromium` and `node` on
//! the PATH, and `npm ci` in tests/browser. Without them the tests do nothing, and say so on
//! standard error; with `REPRO_REQUIRE=browser`, as in .ci/run, they fail.

use crate::space::Space;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// A study with all methods and figures and three pairs, so that there are intervals, and files of
/// the user in every format that a report shows.
const PIPELINE: &str = "\
seed: 0
stages:
  data:
    fetch: { dataset: digits, train: 400, validation: 100, test: 200 }
  nets:
    train: { data: data, hidden: [10, 20], prior: [none, { normal: { variance: 0.01 } }], \
     pair: [1, 2, 3], end: [a, b], epochs: 4 }
  matched:
    align: { a: nets@end=a, b: nets@end=b }
  matched-incoming:
    align: { a: nets@end=a, b: nets@end=b, cost: incoming }
  curves:
    evaluate: { a: nets@end=a, b: nets@end=b, data: data, \
     curve: [linear, arc, rho-arc, linear+wa, arc+wa], points: 7, wa_points: 4 }
  matched-curves:
    evaluate: { a: nets@end=a, b: matched, data: data, curve: [linear, arc, rho-arc], points: 7 }
  incoming-curves:
    evaluate: { a: nets@end=a, b: matched-incoming, data: data, curve: [linear, linear+wa], \
     points: 7, wa_points: 4 }
  tables:
    aggregate: { curves: [curves, matched-curves, incoming-curves], nets: nets }
  figures:
    plot:
      data: data
      tables: tables
      figure: [overview, training, error-by-method, error-by-split, normalised-error-by-prior, \
       error-by-width, max-error-by-width, loss-barrier-by-width, error-barrier-by-width]
  own:
    command:
      run: sh own.sh
      files: [own.sh, own]
      outputs: [notes.md, values.csv, drawing.svg, dot.png, rows.html]
  report:
    report: { data: data, tables: tables, figures: figures, extras: own }
";

/// A PNG of one pixel.
const DOT: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, 0x49, 0x48, 0x44, 0x52, 0, 0, 0,
    1, 0, 0, 0, 1, 8, 0, 0, 0, 0, 0x3a, 0x7e, 0x9b, 0x55, 0, 0, 0, 0x0a, 0x49, 0x44, 0x41, 0x54,
    0x78, 0xda, 0x63, 0x68, 0, 0, 0, 0x82, 0, 0x81, 0xda, 0x45, 8, 0x3b, 0, 0, 0, 0, 0x49, 0x45,
    0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];

/// A project with a report of [`PIPELINE`], with its provenance.
fn project() -> PathBuf {
    let space = Space::with(PIPELINE);
    space
        .write("own.sh", "cp own/* .\n")
        .write("own/notes.md", "Some *notes* with a [link](https://arxiv.org/abs/2008.00741).\n")
        .write("own/values.csv", "name,value\n<b>,1.5\n\"a, b\",2\n")
        .write(
            "own/drawing.svg",
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"80\" height=\"40\">\
             <title>A drawing</title><circle cx=\"20\" cy=\"20\" r=\"9\"/></svg>\n",
        )
        .write("own/dot.png", DOT)
        .write("own/rows.html", "<p>Rows of <em>HTML</em></p>\n")
        .ok(&["run"]);
    space.eject()
}

/// One line of the script.
#[derive(Deserialize)]
struct Checked {
    claim: String,
    error: Option<String>,
}

/// The errors of the claims by name, or why they were not checked.
static CHECKED: LazyLock<Result<BTreeMap<String, Option<String>>, String>> = LazyLock::new(|| {
    let checked = check();
    if let Err(reason) = &checked {
        // The macros' output is shown only for failed tests.
        let _ = writeln!(std::io::stderr(), "skipped the tests in a browser: {reason}");
    }
    checked
});

fn check() -> Result<BTreeMap<String, Option<String>>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let chromium = program("chromium")?;
    let node = program("node")?;
    if !folder.join("node_modules/playwright-core").is_dir() {
        return Err("there is no tests/browser/node_modules; run `npm ci` there".to_owned());
    }
    let project = project();
    let output = Command::new(node)
        .arg(folder.join("run.mjs"))
        .args([&chromium, &project.join("reports/default")])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("cannot run node: {e}"));
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let line = |line: &str| {
        let checked: Checked =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\n{stderr}"));
        (checked.claim, checked.error)
    };
    let checked = stdout.lines().map(line).collect();
    std::fs::remove_dir_all(project).unwrap();
    Ok(checked)
}

/// The path of a program on the PATH.
fn program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|p| p.is_file());
    found.ok_or_else(|| format!("there is no `{name}` on the PATH"))
}

fn assert_holds(claim: &str) {
    match &*CHECKED {
        Ok(claims) => match claims.get(claim) {
            Some(None) => {}
            Some(Some(error)) => panic!("{error}"),
            None => panic!("tests/browser/run.mjs does not check this"),
        },
        Err(reason) => {
            let required = std::env::var("REPRO_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|word| word == "browser"), "{reason}");
        }
    }
}

/// A test for each claim of the script.
macro_rules! claims {
    ($($claim:ident,)*) => {
        const CLAIMS: &[&str] = &[$(stringify!($claim)),*];

        $(#[test]
        fn $claim() {
            assert_holds(stringify!($claim));
        })*
    };
}

claims! {
    headings_sort_rows_by_number_up_down_and_back,
    headings_sort_from_the_keyboard_and_keep_the_order_of_equal_rows,
    the_filter_hides_rows_without_its_words,
    the_menus_offer_every_value_of_the_tables,
    a_choice_hides_rows_and_columns_until_it_is_reset,
    a_choice_hides_series_and_panels,
    a_choice_is_in_the_address_and_read_from_it,
    a_choice_without_anything_says_so,
    the_pointer_shows_the_values_of_the_nearest_point,
    the_values_of_figures_are_those_of_the_tables,
    the_arrow_keys_walk_along_the_points_and_escape_hides_them,
    a_touch_shows_values,
    the_legend_switches_series_off_and_on,
    the_explorer_of_pairs_shows_the_values_behind_each_mean,
    the_explorer_of_training_draws_a_line_for_each_net,
    the_page_shows_the_provenance_of_this_copy,
    a_page_without_provenance_shows_none,
    every_link_within_the_page_has_its_target,
    the_contents_lead_to_their_headings,
    downloads_are_the_files_of_the_report,
    axe_finds_no_violation_in_light,
    axe_finds_no_violation_in_dark,
    axe_finds_no_violation_in_open_menus_and_values,
    no_width_scrolls_the_page_sideways,
    the_theme_can_be_chosen_and_is_remembered,
    a_page_without_storage_works,
    the_page_prints_with_figures_beside_their_captions,
    a_choice_is_printed_as_it_is_shown,
    the_page_is_complete_without_scripts,
    the_console_and_the_network_stay_silent,
    the_first_paint_takes_less_than_a_second,
}

#[test]
fn every_claim_of_the_script_has_a_test() {
    if let Ok(claims) = &*CHECKED {
        let claims: BTreeSet<&str> = claims.keys().map(String::as_str).collect();
        assert_eq!(claims, CLAIMS.iter().copied().collect());
    }
}
