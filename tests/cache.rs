//! The specification of the cache: the changes that invalidate a node, one per test, and those that
//! do not.

use crate::space::{Space, TINY, containing, copy, name, nothing, set};
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Runs, edits pipeline.yaml and runs again; returns the nodes of the second run.
#[track_caller]
fn rerun(from: &str, to: &str) -> BTreeSet<String> {
    let space = Space::run_tiny();
    space.edit(from, to);
    let planned = space.pending(&[]);
    let ran = space.ran(&[]);
    assert!(ran.is_subset(&planned), "the plan has the nodes that run");
    assert_eq!(space.ran(&[]), nothing(), "everything is up to date afterwards");
    ran
}

/// The nodes downstream of the curves.
const DOWNSTREAM: [&str; 4] =
    ["tables", "figures@figure=error-by-method", "figures@figure=error-by-width", "report"];

fn and_downstream(nodes: BTreeSet<String>) -> BTreeSet<String> {
    nodes.into_iter().chain(set(DOWNSTREAM)).collect()
}

#[test]
fn the_first_run_runs_every_node_and_the_second_none() {
    let space = Space::tiny();
    let first = space.ok(&["run", "--json"]);
    assert_eq!(first.ran(), space.nodes());
    assert_eq!(first.ran().len(), 29);
    assert_eq!(first.cached(), nothing());
    let second = space.ok(&["run", "--json"]);
    assert_eq!((second.ran(), second.cached()), (nothing(), space.nodes()));
    let stderr = space.ok(&["run"]).stderr;
    assert!(stderr.contains("29 nodes: all cached, nothing to do"), "{stderr}");
    assert!(stderr.contains("reports/default: unchanged"), "{stderr}");
}

// Changes that invalidate.

#[test]
fn a_parameter_reruns_its_stage_and_the_nodes_downstream() {
    let nodes = Space::tiny().nodes();
    let ran = rerun("epochs: 2", "epochs: 3");
    assert_eq!(ran, &nodes - &set(["data"]));
}

#[test]
fn a_priors_variance_reruns_the_nets_with_that_prior_and_the_nodes_downstream_as_planned() {
    let space = Space::run_tiny();
    space.edit("variance: 0.01", "variance: 0.005");
    let plan = space.plan(&[]);
    let in_state = |state: &str| -> BTreeSet<String> {
        plan.iter().filter(|n| n["state"] == state).map(name).collect()
    };
    let changed = containing(&space.nodes(), &["normal-0.005"]);
    assert_eq!(in_state("stale"), containing(&changed, &["nets@"]));
    assert_eq!(in_state("stale").len(), 4);
    assert_eq!(in_state("maybe-stale"), &and_downstream(changed.clone()) - &in_state("stale"));
    for node in plan.iter().filter(|n| n["state"] != "cached") {
        let why = space.ok(&["why", &name(node)]).stdout;
        assert!(why.contains("param prior.normal.variance 0.01 -> 0.005"), "{why}");
    }
    assert_eq!(space.ran(&[]), and_downstream(changed));
    let report = space.read("reports/default/report.md");
    assert!(
        report.contains("normal 0.005") && !report.contains("normal 0.01"),
        "the report follows"
    );
}

#[test]
fn the_seed_reruns_stages_with_random_numbers_and_the_nodes_downstream() {
    assert_eq!(rerun("seed: 0", "seed: 1"), Space::tiny().nodes());
}

#[test]
fn the_content_of_an_input_reruns_the_nodes_that_read_it() {
    let space = Space::run_tiny();
    let output = space.ok(&["run", "--json", "-S", "data.validation=50"]);
    assert_eq!(output.ran(), space.nodes());
    let reason = output
        .events()
        .into_iter()
        .find(|e| e["event"] == "running" && e["kind"] == "train")
        .unwrap();
    let reasons = reason["reasons"].as_array().unwrap();
    assert!(reasons.iter().all(|r| r["kind"] == "input-changed"), "{reasons:?}");
    assert!(reasons.iter().any(|r| r["slot"] == "data/train-images-idx3-ubyte"), "{reasons:?}");
    assert!(
        !reasons.iter().any(|r| r["slot"] == "data/test-images-idx3-ubyte"),
        "the test images are the same"
    );
}

#[test]
fn an_added_grid_value_runs_the_new_nodes_and_the_nodes_downstream() {
    let ran = rerun("hidden: [3, 4]", "hidden: [3, 4, 5]");
    assert_eq!(ran, and_downstream(containing(&ran, &["hidden=5"])));
    assert_eq!(ran.len(), 4 + 2 + 4 + 2 + DOWNSTREAM.len());
}

#[test]
fn a_removed_grid_value_runs_the_nodes_downstream() {
    assert_eq!(rerun("hidden: [3, 4]", "hidden: [3]"), set(DOWNSTREAM));
}

#[test]
fn a_parameter_of_a_curve_reruns_the_curves_that_use_it() {
    let nodes = Space::tiny().nodes();
    let straight = rerun("[linear, arc+wa], points: 5", "[linear, arc+wa], points: 7");
    assert_eq!(
        straight,
        and_downstream(containing(&nodes, &["curve=linear"])),
        "a refitted curve does not use `points`"
    );
    for change in ["wa_points: 4", "wa_points: 3, wa_refine: 3"] {
        let refitted = rerun("wa_points: 3", change);
        assert_eq!(refitted, and_downstream(containing(&nodes, &["curve=arc+wa"])), "{change}");
    }
}

#[test]
fn an_added_curve_trains_nothing() {
    let ran = rerun("[linear, arc+wa]", "[linear, arc, arc+wa]");
    assert_eq!(ran, and_downstream(containing(&ran, &["curve=arc"])));
    assert_eq!(ran.len(), 4 + DOWNSTREAM.len());
}

#[test]
fn an_added_figure_runs_itself_and_the_report() {
    let ran = rerun(
        "[error-by-method, error-by-width]",
        "[error-by-method, error-by-width, max-error-by-width]",
    );
    assert_eq!(ran, set(["figures@figure=max-error-by-width", "report"]));
}

#[test]
fn a_text_of_the_report_reruns_the_report_only() {
    assert_eq!(
        rerun("figures: figures }", "figures: figures, about: \"In few words.\" }"),
        set(["report"])
    );
}

#[test]
fn a_value_set_on_the_command_line_counts_like_one_in_the_file() {
    let space = Space::run_tiny();
    let set_once = space.ran(&["-S", "nets.prior=[none, {normal: {variance: 0.005}}]"]);
    assert_eq!(set_once, and_downstream(containing(&set_once, &["normal-0.005"])));
    assert_eq!(space.read("pipeline.yaml"), TINY);
    assert_eq!(space.ran(&[]), nothing(), "the old results are still cached");
    let written = space.edit("variance: 0.01", "variance: 0.005").ran(&[]);
    assert_eq!(
        written,
        set(["report"]),
        "the new ones too, except the report, which shows the value that was set"
    );
}

// Changes that do not invalidate.

#[test]
fn changing_back_runs_nothing() {
    let space = Space::run_tiny();
    space.edit("epochs: 2", "epochs: 3").ok(&["run"]);
    assert_eq!(space.edit("epochs: 3", "epochs: 2").ran(&[]), nothing());
}

#[test]
fn comments_and_layout_do_not_invalidate() {
    let space = Space::run_tiny();
    let (before, from) = TINY.split_once("  nets:\n").unwrap();
    let (_, after) = from.split_once("  matched:\n").unwrap();
    let nets = "  nets:  # two ends of each pair\n    train:\n      end:\n        - a\n        \
                - \"b\"\n      hidden: [0x3, 4]\n      epochs: 2\n      data: 'data'\n      \
                prior:\n        - none\n        - normal:\n            variance: 1.0e-2\n";
    space.write("pipeline.yaml", format!("# A study.\n\n{before}{nets}\n  matched:\n{after}"));
    assert_eq!(space.ran(&[]), nothing());
}

#[test]
fn the_order_of_stages_does_not_invalidate() {
    let space = Space::run_tiny();
    let stages: Vec<&str> =
        TINY.split_once("stages:\n").unwrap().1.split_inclusive("}\n").collect();
    let reversed: String = stages.into_iter().rev().collect();
    space.write("pipeline.yaml", format!("stages:\n{reversed}seed: 0\n"));
    assert_eq!(space.ran(&[]), nothing());
}

#[test]
fn the_name_of_a_stage_invalidates_only_the_report_which_names_the_stages() {
    let space = Space::run_tiny();
    let renamed = TINY
        .replace("nets@", "minima@")
        .replace("nets: nets", "nets: minima")
        .replace("  nets:", "  minima:");
    space.write("pipeline.yaml", renamed.replace("matched", "aligned"));
    assert_eq!(space.ran(&[]), set(["report"]));
    assert!(space.nodes().contains("minima@hidden=3,prior=none,end=a"));
}

#[test]
fn the_order_of_a_grid_does_not_invalidate() {
    assert_eq!(
        rerun("hidden: [3, 4], prior: [none, {", "hidden: [4, 3], prior: [none, {"),
        nothing()
    );
    assert_eq!(
        rerun("[error-by-method, error-by-width]", "[error-by-width, error-by-method]"),
        nothing()
    );
}

#[test]
fn the_order_of_a_list_of_inputs_does_not_invalidate() {
    assert_eq!(rerun("[curves, matched-curves]", "[matched-curves, curves]"), nothing());
}

#[test]
fn a_grid_of_one_value_equals_the_value() {
    assert_eq!(rerun("curve: arc, points", "curve: [arc], points"), nothing());
}

#[test]
fn a_value_written_out_at_its_default_does_not_invalidate() {
    let written = "pair: 1, batch: 128, engine: kernel, \
                   optimizer: { sgd: { rate: 0.01, momentum: 0.9 } }, epochs: 2";
    assert_eq!(rerun("epochs: 2", written), nothing());
    assert_eq!(rerun("test: 100 }", "test: 100, validation: 0, otherwise: null }"), nothing());
}

#[test]
fn a_fallback_that_is_not_needed_does_not_invalidate() {
    assert_eq!(rerun("test: 100 }", "test: 100, otherwise: mnist }"), nothing());
}

#[test]
fn a_parameter_that_a_curve_does_not_use_does_not_invalidate() {
    assert_eq!(
        rerun("curve: arc, points", "curve: arc, wa_points: 9, wa_refine: 9, points"),
        nothing()
    );
}

#[test]
fn switching_the_profile_and_back_runs_nothing_the_second_time() {
    let space = Space::run_tiny();
    let profiles = "profiles:\n  more: { nets: { epochs: 3 } }\n  same: {}\n";
    space.write("pipeline.yaml", format!("{TINY}{profiles}"));
    assert_eq!(
        space.ran(&["--profile", "same"]),
        set(["report"]),
        "the report shows the profile's name"
    );
    assert_eq!(space.ran(&["--profile", "more"]), &space.nodes() - &set(["data"]));
    assert_eq!(space.ran(&[]), nothing());
    assert_eq!(space.ran(&["--profile", "more"]), nothing());
    assert_ne!(space.read("reports/more/report.md"), space.read("reports/default/report.md"));
}

#[test]
fn the_number_of_jobs_and_the_instruction_set_do_not_invalidate() {
    let space = Space::run_tiny().env("REPRO_SIMD", "scalar");
    assert_eq!(space.ran(&["-j", "1"]), nothing());
    assert_eq!(space.ran(&["-j", "7"]), nothing());
}

#[test]
fn moving_the_project_runs_nothing() {
    let (space, moved) = (Space::run_tiny(), Space::tiny());
    for folder in ["cache", "reports"] {
        fs::rename(space.join(folder), moved.join(folder)).unwrap();
    }
    assert_eq!(moved.ran(&[]), nothing());
}

#[test]
fn a_copy_without_the_times_of_files_runs_nothing_and_is_sealed_again() {
    let (space, moved) = (Space::run_tiny(), Space::tiny());
    copy(space.path(), moved.path(), false);
    assert_eq!(moved.ran(&[]), nothing());
    let times = |space: &Space| -> BTreeSet<_> {
        space
            .files("objects")
            .iter()
            .map(|path| path.metadata().unwrap().modified().unwrap())
            .collect()
    };
    assert_eq!(times(&moved), times(&space));
    assert_eq!(
        times(&space).len(),
        space.files("objects").len(),
        "each object has a different time"
    );
}

#[test]
fn the_current_folder_does_not_invalidate() {
    let (space, moved) = (Space::run_tiny(), Space::tiny());
    let folder = space.path().to_str().unwrap();
    assert_eq!(moved.ran(&["-C", folder]), nothing());
    assert!(!moved.join("cache").exists(), "nothing is written to it");
}

#[test]
fn two_nodes_of_one_recipe_run_once() {
    let space = Space::with(
        "stages:\n  one: { fetch: { dataset: digits, train: 20, test: 10 } }\n  \
         two: { fetch: { dataset: digits, train: 20, test: 10 } }\n",
    );
    let output = space.ok(&["run", "--json", "-j", "2"]);
    assert_eq!(output.ran().union(&output.cached()).count(), 2);
    assert_eq!(space.files("entries").len(), 1);
}

// Where invalidation stops.

#[test]
fn equal_bytes_do_not_invalidate_downstream_nodes() {
    // `wa_images` exceeds the number of images: the keys change, the bytes do not.
    let space = Space::run_tiny();
    space.edit("[linear, arc+wa], points: 5", "linear+wa, wa_images: 300").ok(&["run"]);
    let without_report = || {
        let mut digests = space.digests();
        digests.remove("report");
        digests
    };
    let before = without_report();
    space.edit("wa_images: 300", "wa_images: 400");
    let refitted = containing(&space.nodes(), &["curves@"]);
    let refitted = &refitted - &containing(&refitted, &["matched"]);
    assert_eq!(
        space.pending(&[]),
        and_downstream(refitted.clone()),
        "the plan does not know the bytes"
    );
    // The report states the parameters of everything upstream.
    assert_eq!(space.ran(&[]), &refitted | &set(["report"]));
    assert_eq!(without_report(), before);
}

#[test]
fn unused_choices_of_a_curve_are_not_in_its_recipe() {
    let space = Space::run_tiny();
    space.edit("[linear, arc+wa], points: 5", "linear, points: 5").ok(&["run"]);
    space.edit(
        "linear, points: 5",
        "linear, points: 5, center: zero, wa_targets: blend, wa_images: 10",
    );
    assert_eq!(space.ran(&[]), nothing(), "a straight line has no center and is not refitted");
}

#[test]
fn a_curve_is_measured_on_the_first_training_images_and_all_others() {
    let space = Space::run_tiny();
    let curves = |space: &Space| {
        let nodes = containing(&space.nodes(), &["curves@"]);
        let nodes = &nodes - &containing(&nodes, &["matched"]);
        let rows = |node: &String| {
            let points = space.output(node, "points.csv");
            let of = |split: &str| -> Vec<String> {
                points.lines().filter(|row| row.contains(split)).map(str::to_owned).collect()
            };
            (of(",train,"), of(",test,"))
        };
        nodes.iter().map(rows).collect::<Vec<_>>()
    };
    let whole = curves(&space);
    space.edit("arc+wa], points: 5", "arc+wa], points: 5, train_images: 50").ok(&["run"]);
    let cut = curves(&space);
    assert!(!whole.is_empty());
    for ((train, test), (cut_train, cut_test)) in whole.iter().zip(&cut) {
        assert_eq!(test, cut_test, "the test split is whole, and the refit is the same");
        assert_ne!(train, cut_train);
        for row in cut_train {
            let error: f64 = row.split(',').nth_back(1).unwrap().parse().unwrap();
            assert_eq!(error % 2.0, 0.0, "50 images have errors in steps of 2 %: {row}");
        }
    }
}

#[test]
fn a_forced_node_does_not_invalidate_downstream_nodes() {
    let space = Space::run_tiny();
    let before = space.digests();
    let net = "nets@hidden=3,prior=none,end=a";
    assert_eq!(space.ran(&["--force", net]), set([net]));
    assert_eq!(space.ran(&[]), nothing());
    assert_eq!(space.digests(), before);
    assert_eq!(space.ran(&["--force"]), space.nodes(), "without a target, every node is forced");
    assert_eq!(space.digests(), before, "with the same bits");
}

#[test]
fn a_lost_result_that_is_computed_with_equal_bytes_reruns_no_other_node() {
    let space = Space::run_tiny();
    let net = "nets@hidden=3,prior=none,end=a";
    let key = space.plan(&[net]).into_iter().find(|node| name(node) == net).unwrap()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    fs::remove_file(space.join(format!("cache/v2/entries/{key}.json"))).unwrap();
    assert!(space.pending(&[]).len() > 4, "the plan does not know the bytes");
    assert_eq!(space.ran(&[]), set([net]));
}

// Damaged and swapped files.

fn swap(one: &Path, two: &Path) {
    let temporary = one.with_extension("temporary");
    for (from, to) in [(one, &*temporary), (two, one), (&*temporary, two)] {
        fs::rename(from, to).unwrap();
    }
}

/// Damages the files of two nodes with one output each. A run must compute them again with the same
/// digests; `verify` before it must exit with 5 and name a file.
#[track_caller]
fn is_detected(folder: &str, two: [&str; 2], damage: impl Fn(&Path, &Path)) {
    for verify in [false, true] {
        let space = Space::run_tiny();
        let expected = space.digests();
        let shown = two.map(|node| -> Json {
            serde_json::from_str(&space.ok(&["show", node, "--json"]).stdout).unwrap()
        });
        let files = shown.map(|shown| {
            let node = &shown["nodes"][0];
            let outputs = node["entry"]["outputs"].as_object().unwrap();
            let name = match folder {
                "objects" => {
                    outputs.values().next().unwrap()["digest"].as_str().unwrap().to_owned()
                }
                _ => format!("{}.json", node["key"].as_str().unwrap()),
            };
            space.join("cache/v2").join(folder).join(name)
        });
        damage(&files[0], &files[1]);
        if verify {
            let refused = space.exits(5, &["verify"]).stderr;
            let named = |file: &Path| refused.contains(file.file_stem().unwrap().to_str().unwrap());
            assert!(files.iter().any(|file| named(file)), "{refused}");
            assert!(
                refused.contains("hint: damaged files were moved to quarantine; run `repro run`"),
                "{refused}"
            );
        }
        let ran = space.ran(&[]);
        assert!(ran.is_subset(&set(two)) && !ran.is_empty(), "{ran:?}");
        assert_eq!(space.digests(), expected);
        space.ok(&["verify"]);
    }
}

#[test]
fn swapped_and_copied_cache_files_are_detected() {
    let nets = ["nets@hidden=3,prior=none,end=a", "nets@hidden=3,prior=none,end=b"];
    for folder in ["entries", "objects"] {
        is_detected(folder, nets, swap);
        is_detected(folder, nets, |one, two| {
            fs::remove_file(two).unwrap();
            fs::copy(one, two).unwrap();
            let times = fs::metadata(one).unwrap().modified().unwrap();
            fs::File::open(two).unwrap().set_modified(times).unwrap();
        });
    }
}

#[test]
fn an_entry_edited_to_another_valid_digest_is_detected() {
    let nets = ["nets@hidden=3,prior=none,end=a", "nets@hidden=3,prior=none,end=b"];
    is_detected("entries", nets, |one, two| {
        let [text, other] = [one, two].map(|path| fs::read_to_string(path).unwrap());
        let digest = |text: &str| text.split_once("\"digest\":\"").unwrap().1[..64].to_owned();
        fs::write(one, text.replace(&digest(&text), &digest(&other))).unwrap();
    });
}
