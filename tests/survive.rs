//! The cache survives lost and edited files, crashes, interrupts, concurrent runs and failing
//! stages.

use crate::space::{Space, containing, flip_byte, name, nothing, overwrite, set};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

#[test]
fn deleted_or_edited_reports_are_restored_and_no_stage_runs() {
    let space = Space::run_tiny();
    let (report, figure) =
        ("reports/default/report.md", "reports/default/figures/error-by-method.svg");
    let (text, drawing) = (space.read(report), space.read(figure));
    fs::remove_dir_all(space.join("reports")).unwrap();
    assert_eq!(space.ran(&[]), nothing());
    assert_eq!((space.read(report), space.read(figure)), (text.clone(), drawing.clone()));
    space.write(report, "mine").write("reports/default/notes.txt", "kept");
    fs::remove_file(space.join(figure)).unwrap();
    let printed = space.ok(&["run"]).stderr;
    assert!(
        printed.contains("nothing to do")
            && printed.contains("reports/default: 2 of 11 files written"),
        "{printed}"
    );
    assert_eq!((space.read(report), space.read(figure)), (text, drawing));
    assert_eq!(space.read("reports/default/notes.txt"), "kept", "other files stay");
}

#[test]
fn each_pipeline_in_a_folder_has_its_own_reports() {
    let space = Space::run_tiny();
    let report = "reports/default/report.md";
    let before = space.read(report);
    let other = space.read("pipeline.yaml").replace("epochs: 2", "epochs: 1");
    space.write("other.yaml", &other).write("studies/small.yaml", &other);
    for pipeline in
        ["other.yaml", "./studies/small.yaml", space.join("other.yaml").to_str().unwrap()]
    {
        space.ok(&["run", "--pipeline", pipeline]);
        assert_eq!(space.read(report), before, "{pipeline}");
    }
    assert_ne!(space.read("reports/other/default/report.md"), before);
    let folders =
        fs::read_dir(space.join("reports")).unwrap().map(|entry| entry.unwrap().file_name());
    let folders: Vec<String> = folders.map(|name| name.into_string().unwrap()).collect();
    let small = folders.iter().find(|name| name.starts_with("studies-small-")).unwrap();
    assert_eq!(
        space.read(format!("reports/{small}/default/report.md")),
        space.read("reports/other/default/report.md")
    );
    assert_eq!(folders.len(), 3, "{folders:?}");
}

#[test]
fn pipelines_that_differ_in_their_file_extension_have_their_own_reports() {
    let space = Space::run_tiny();
    let other = space.read("pipeline.yaml").replace("epochs: 2", "epochs: 1");
    space.write("small.yaml", space.read("pipeline.yaml")).write("small.yml", other);
    ["small.yaml", "small.yml"].iter().for_each(|file| _ = space.ok(&["run", "--pipeline", file]));
    let report = |folder: &str| space.read(format!("reports/{folder}/default/report.md"));
    let small = report("small");
    assert_ne!(small, report("small.yml"));
    space.ok(&["run", "--pipeline", "small.yml"]);
    assert_eq!(report("small"), small);
}

#[test]
fn concurrent_runs_with_different_overrides_export_a_report_of_one_of_them() {
    let space = Space::run_tiny();
    let report = || -> BTreeMap<std::path::PathBuf, Vec<u8>> {
        let files = space.all_paths().into_iter().filter(|path| path.is_file());
        let reports = space.join("reports");
        // The files with the changes are not part of the report.
        let is_of_report = |path: &std::path::PathBuf| {
            path.starts_with(&reports) && !path.with_extension("").ends_with("changes")
        };
        files.filter(is_of_report).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    };
    const OTHER: &[&str] = &["run", "--json", "-S", "nets.epochs=1"];
    let plain = report();
    space.ok(OTHER);
    let other = report();
    assert!(plain != other && plain.keys().eq(other.keys()));
    for _ in 0..20 {
        fs::remove_dir_all(space.join("reports")).unwrap();
        let runs = [space.spawn(&["run", "--json"]), space.spawn(OTHER)];
        runs.into_iter().for_each(|run| assert_eq!(run.wait().0, Some(0)));
        let now = report();
        assert!(now == plain || now == other, "the report is a mixture");
    }
}

#[test]
fn a_run_whose_report_cannot_be_exported_is_not_done() {
    let space = Space::run_tiny();
    let last = space.ok(&["run", "--json"]).events().pop().unwrap();
    assert_eq!(
        (&last["event"], &last["outcome"]),
        (&"ended".into(), &"done".into()),
        "after the export"
    );
    fs::remove_dir_all(space.join("reports")).unwrap();
    space.write("reports", "in the way");
    let last = space.exits(7, &["run", "--json"]).events().pop().unwrap();
    assert_eq!((&last["event"], &last["outcome"]), (&"ended".into(), &"unavailable".into()));
    let log = space.ok(&["log"]).stdout;
    assert!(log.lines().nth(1).unwrap().ends_with("  unavailable"), "{log}");
}

/// One object of each output file of each stage: digest -> its name. Several nodes may have it.
fn a_sample_of_objects(space: &Space) -> BTreeMap<String, String> {
    let mut seen = BTreeSet::new();
    let mut sample = BTreeMap::new();
    for (node, outputs) in space.digests() {
        let stage = node.split('@').next().unwrap().to_owned();
        for (file, digest) in outputs {
            if seen.insert((stage.clone(), file.clone())) {
                sample.insert(digest, format!("{node}/{file}"));
            }
        }
    }
    sample
}

#[test]
fn verify_reports_a_flipped_byte_and_the_next_run_computes_the_object_again() {
    let space = Space::run_tiny();
    let undisturbed = space.digests();
    let sample = a_sample_of_objects(&space);
    assert!(sample.len() > 20, "all stages are in it: {sample:?}");
    for (digest, what) in &sample {
        flip_byte(&space.object(digest));
        let verified = space.exits(5, &["verify"]);
        assert!(verified.stderr.contains(digest), "{what}:\n{}", verified.stderr);
        assert!(verified.stderr.contains("hint: "), "{}", verified.stderr);
        let ran = space.ran(&[]);
        let makers =
            undisturbed.iter().filter(|(_, outputs)| outputs.values().any(|d| d == digest));
        let makers: BTreeSet<String> = makers.map(|(node, _)| node.clone()).collect();
        assert!(!ran.is_empty() && ran.is_subset(&makers), "{what}: {ran:?} of {makers:?}");
        assert_eq!(space.digests(), undisturbed, "{what}");
    }
    let sound = space.ok(&["verify"]).stdout;
    assert!(sound.contains("no damage found"), "{sound}");
}

#[test]
fn a_run_detects_a_flipped_byte() {
    let space = Space::run_tiny();
    let undisturbed = space.digests();
    for (node, file) in [
        ("nets@hidden=3,prior=none,end=a", "history.csv"),
        ("tables", "summary.csv"),
        ("report", "report.md"),
    ] {
        let digest = &undisturbed[node][file];
        flip_byte(&space.object(digest));
        let output = space.ok(&["run", "--json"]);
        assert_eq!(output.ran(), set([node]), "equal bytes rerun no dependents");
        let running = output.events().into_iter().find(|e| e["event"] == "running").unwrap();
        assert_eq!(running["reasons"][0]["kind"], "output-damaged", "{running}");
        assert_eq!(running["reasons"][0]["file"], file);
        assert_eq!(space.digests(), undisturbed);
    }
}

#[test]
fn damaged_objects_move_to_quarantine() {
    let space = Space::run_tiny();
    let digest = space.digests()["report"]["report.md"].clone();
    let mut bytes = fs::read(space.object(&digest)).unwrap();
    flip_byte(&space.object(&digest));
    space.exits(5, &["verify"]);
    let kept = fs::read(space.join("cache/v2/quarantine").join(&digest)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    assert_eq!(kept, bytes);
}

#[test]
fn a_deleted_empty_or_truncated_object_is_computed_again() {
    let space = Space::run_tiny();
    let undisturbed = space.digests();
    let node = "nets@hidden=4,prior=none,end=b";
    let net = space.object(&undisturbed[node]["net.safetensors"]);
    let bytes = fs::read(&net).unwrap();
    let damages: [&dyn Fn(); 4] = [
        &|| fs::remove_file(&net).unwrap(),
        &|| overwrite(&net, b""),
        &|| overwrite(&net, &bytes[..bytes.len() - 1]),
        &|| {
            fs::remove_file(&net).unwrap();
            fs::create_dir(&net).unwrap();
        },
    ];
    for damage in damages {
        damage();
        assert_eq!(space.ran(&[]), set([node]));
        assert_eq!(space.digests(), undisturbed);
    }
}

#[test]
fn verify_reports_a_deleted_object() {
    let space = Space::run_tiny();
    let digest = &space.digests()["tables"]["summary.csv"];
    fs::remove_file(space.object(digest)).unwrap();
    let verified = space.exits(5, &["verify"]);
    assert!(verified.stderr.contains(digest.as_str()), "{}", verified.stderr);
    assert!(verified.stderr.contains("lacks its output `summary.csv`"), "{}", verified.stderr);
}

#[test]
fn a_deleted_empty_truncated_or_invalid_entry_is_computed_again() {
    let space = Space::run_tiny();
    let undisturbed = space.digests();
    let plan = space.plan(&[]);
    let key = plan.iter().find(|node| name(node) == "tables").unwrap()["key"].as_str().unwrap();
    let entry = space.join(format!("cache/v2/entries/{key}.json"));
    let text = fs::read(&entry).unwrap();
    let damages: [&dyn Fn(); 5] = [
        &|| fs::remove_file(&entry).unwrap(),
        &|| overwrite(&entry, b""),
        &|| overwrite(&entry, &text[..text.len() / 2]),
        &|| overwrite(&entry, b"{}"),
        &|| overwrite(&entry, b"\xff\xfe"),
    ];
    for damage in damages {
        damage();
        assert_eq!(space.ran(&[]), set(["tables"]));
        assert_eq!(space.digests(), undisturbed);
    }
    overwrite(&entry, b"");
    assert!(space.exits(5, &["verify"]).stderr.contains(key), "verify reports it");
}

#[test]
fn verify_reports_a_damaged_recipe_and_a_run_replaces_it() {
    let space = Space::run_tiny();
    let undisturbed = space.digests();
    for recipe in space.files("recipes") {
        flip_byte(&recipe);
    }
    assert_eq!(space.ran(&["--force"]), space.nodes());
    assert_eq!(space.digests(), undisturbed);
    let recipe = space.files("recipes").into_iter().next().unwrap();
    flip_byte(&recipe);
    let key = recipe.file_stem().unwrap().to_str().unwrap().to_owned();
    let node = space.plan(&[]).into_iter().find(|node| node["key"] == key.as_str()).unwrap();
    let refused = space.exits(5, &["show", &name(&node)]).stderr;
    assert!(
        refused.contains("hint: `repro verify` removes the recipe and keeps its result"),
        "{refused}"
    );
    let refused = space.exits(5, &["verify"]).stderr;
    assert!(
        refused.contains(&key)
            && refused.contains(
                "hint: damaged files were moved to quarantine; run `repro verify --recompute`"
            )
    );
    assert!(!recipe.exists());
    assert_eq!(space.ran(&[]), nothing());
    space.ok(&["verify"]);
    let printed = space.ok(&["verify", "--recompute", &name(&node)]).stdout;
    assert!(printed.ends_with("1 of 1 node reproduced\n"), "{printed}");
    space.ok(&["show", &name(&node)]);
    assert!(recipe.exists());
    overwrite(&recipe, b"{");
    assert!(
        space.exits(5, &["show", &name(&node)]).stderr.contains("cannot be read: EOF"),
        "no JSON is damage too"
    );
}

#[test]
fn verify_reports_other_files_among_the_objects_and_leaves_them() {
    let space = Space::run_tiny();
    space.write("cache/v2/objects/notes.txt", "mine");
    let refused = space.exits(5, &["verify"]).stderr;
    assert!(
        refused.contains("`objects/notes.txt`")
            && refused.contains("hint: `repro` does not remove "),
        "{refused}"
    );
    assert_eq!(space.read("cache/v2/objects/notes.txt"), "mine");
}

#[test]
fn other_files_in_the_cache_do_not_fail_a_run_and_the_cache_can_be_deleted() {
    let space = Space::run_tiny();
    let undisturbed = space.digests();
    for folder in ["recipes", "entries", "logs", "runs", "tmp", "fallbacks"] {
        space
            .write(&format!("cache/v2/{folder}/.DS_Store"), "x")
            .write(&format!("cache/v2/{folder}/x.json"), "x");
    }
    assert_eq!(space.ran(&[]), nothing());
    space.ok(&["verify"]);
    fs::remove_dir_all(space.join("cache")).unwrap();
    assert_eq!(space.ran(&[]), space.nodes());
    assert_eq!(space.digests(), undisturbed);
}

#[test]
fn after_a_kill_at_any_moment_the_next_run_gives_the_same_results() {
    let undisturbed = Space::run_tiny().digests();
    let mut killed = 0;
    for moment in [1, 5, 12, 18, 24, 27] {
        let space = Space::tiny();
        let mut run = space.spawn(&["run", "--json"]);
        run.wait_for_finished(moment);
        run.signal("KILL");
        let finished = run.finished();
        let (code, _) = run.wait();
        killed += usize::from(code.is_none());
        let ran = space.ran(&[]);
        assert_eq!(ran.intersection(&finished).count(), 0, "finished nodes are not run again");
        assert!(ran.len() + finished.len() <= space.nodes().len());
        assert_eq!(space.digests(), undisturbed, "killed after {moment}");
        space.ok(&["verify"]);
        assert_eq!(space.files("tmp").len(), 0, "the files of the killed run are removed");
    }
    assert!(killed > 0, "no run was killed before its end");
}

/// A net that takes minutes, and two that take milliseconds.
const SLOW: &str = "\
stages:
  data:
    fetch: { dataset: digits, train: 2000, test: 10 }
  quick:
    train: { data: data, hidden: 3, epochs: 1, end: [a, b] }
  slow:
    train: { data: data, hidden: 2000, epochs: 100000 }
";

/// Starts [`SLOW`] and waits until only the slow net is left.
fn run_slow(space: &Space) -> crate::space::Running {
    let mut run = space.spawn(&["run", "--json", "-j", "2"]);
    run.wait_for_finished(3);
    run
}

#[test]
fn a_run_that_is_killed_during_a_job_keeps_finished_nodes() {
    let space = Space::with(SLOW);
    let run = run_slow(&space);
    run.signal("KILL");
    assert_eq!(run.wait().0, None);
    assert_eq!(space.ran(&["data", "quick"]), nothing());
    assert_eq!(space.pending(&[]), set(["slow"]));
    let why = space.ok(&["why", "slow"]).stdout;
    assert!(why.contains("not finished yet"), "{why}");
    assert_eq!(space.ran(&["-S", "slow.epochs=0"]), set(["slow"]));
}

#[test]
fn an_interrupted_run_exits_with_130_and_keeps_finished_nodes() {
    for signal in ["INT", "TERM"] {
        let space = Space::with(SLOW);
        let run = run_slow(&space);
        run.signal(signal);
        let (code, stderr) = run.wait();
        assert_eq!(code, Some(130), "{stderr}");
        assert!(stderr.contains("interrupted; finished results are kept"), "{stderr}");
        assert_eq!(space.ran(&["data", "quick"]), nothing());
    }
}

#[test]
fn concurrent_runs_share_the_cache_and_no_node_runs_twice() {
    let undisturbed = Space::run_tiny().digests();
    let space = Space::tiny();
    let runs: Vec<_> = (0..3).map(|_| space.spawn(&["run", "--json", "-j", "2"])).collect();
    let mut ran = BTreeMap::new();
    for mut run in runs {
        run.wait_for(|event| event["event"] == "ended");
        run.finished().into_iter().for_each(|node| *ran.entry(node).or_insert(0) += 1);
        assert_eq!(run.wait().0, Some(0));
    }
    assert_eq!(ran.keys().cloned().collect::<BTreeSet<_>>(), space.nodes());
    assert!(ran.values().all(|&times| times == 1), "{ran:?}");
    assert_eq!(space.digests(), undisturbed);
    assert_eq!((space.files("tmp").len(), space.leases().len()), (0, 0));
}

#[test]
fn a_run_waits_for_a_job_of_another_run_and_starts_it_when_that_run_is_killed() {
    let space = Space::with(SLOW);
    let first = run_slow(&space);
    let mut second = space.spawn(&["run", "--json", "-j", "2"]);
    second.wait_for(|event| event["event"] == "already-running" && event["node"] == "slow");
    // Read-only commands do not wait.
    assert_eq!(space.pending(&[]), set(["slow"]));
    space.ok(&["show", "quick"]);
    space.ok(&["verify"]);
    first.signal("KILL");
    second.wait_for(|event| event["event"] == "running" && event["node"] == "slow");
    assert_eq!(second.finished(), nothing());
}

#[test]
fn gc_exits_with_6_during_a_run() {
    let space = Space::with(SLOW);
    let run = run_slow(&space);
    let refused = space.exits(6, &["gc", "--delete"]);
    assert!(refused.stderr.contains("is in use"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("hint: wait until the other process has finished"),
        "{}",
        refused.stderr
    );
    space.ok(&["gc"]);
    drop(run);
}

/// One net of three diverges; an alignment and a curve depend on it.
const DIVERGES: &str = "\
stages:
  data:
    fetch: { dataset: digits, train: 200, test: 10 }
  bad:
    train: { data: data, hidden: 3, epochs: 1, optimizer: { sgd: { rate: 1.0e+30 } } }
  good:
    train: { data: data, hidden: 3, epochs: 1, end: [a, b] }
  broken:
    align: { a: bad, b: bad }
  broken-curves:
    evaluate: { a: bad, b: broken, data: data, curve: linear }
  curves:
    evaluate: { a: good@end=a, b: good@end=b, data: data, curve: linear }
";

#[test]
fn a_failed_stage_exits_with_1_and_reports_its_log_and_the_skipped_nodes() {
    let space = Space::with(DIVERGES);
    let failed = space.exits(1, &["run", "-j", "1"]);
    assert_eq!(failed.stdout, "");
    let printed = failed.stderr;
    assert!(printed.contains("bad: failed: "), "{printed}");
    assert!(printed.contains("diverged"), "the cause: {printed}");
    assert!(printed.contains("broken: skipped, `bad` failed"), "{printed}");
    assert!(printed.contains("full log: "), "{printed}");
    assert!(!printed.contains("good"), "no job starts after a failure: {printed}");
    let log = printed.lines().find_map(|line| line.trim().strip_prefix("full log: ")).unwrap();
    assert!(space.read(log).contains("diverged"));
    let again = space.exits(1, &["run", "--json", "-j", "1"]);
    assert_eq!(
        (again.ran(), again.nodes_of("failed")),
        (nothing(), set(["bad"])),
        "a failure is not cached"
    );
}

#[test]
fn with_keep_going_nodes_that_do_not_depend_on_the_failure_run() {
    let space = Space::with(DIVERGES);
    let failed = space.exits(1, &["run", "--json", "-k"]);
    assert_eq!(failed.ran(), set(["data", "good@end=a", "good@end=b", "curves"]));
    assert_eq!(failed.nodes_of("failed"), set(["bad"]));
    assert_eq!(failed.nodes_of("skipped"), set(["broken", "broken-curves"]));
    let ended = failed.events().pop().unwrap();
    assert_eq!((&ended["failed"], &ended["skipped"]), (&1.into(), &2.into()), "{ended}");
    assert_eq!(
        space.edit("rate: 1.0e+30", "rate: 0.02").ran(&[]),
        set(["bad", "broken", "broken-curves"])
    );
}

#[test]
fn a_quiet_run_reports_failures() {
    let space = Space::with(DIVERGES);
    let failed = space.exits(1, &["-q", "run", "-k"]);
    assert!(
        failed.stderr.contains("bad: failed: ") && failed.stderr.contains("diverged"),
        "{}",
        failed.stderr
    );
    assert_eq!(containing(&space.pending(&[]), &["good", "curves"]), set(["broken-curves"]));
}
