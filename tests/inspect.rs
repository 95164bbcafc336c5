//! Commands that do not run jobs (plan, why, show, export, graph), targets, and the output of run.

use crate::space::{SMALL, Space, containing, flip_byte, name, nothing, set};
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn small() -> Space {
    Space::with(SMALL)
}

/// Every file of the project, with its bytes.
fn snapshot_of(space: &Space) -> Vec<(PathBuf, Vec<u8>)> {
    fn walk(folder: PathBuf, found: &mut Vec<(PathBuf, Vec<u8>)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(path, found)
            } else {
                found.push((path.clone(), fs::read(&path).unwrap()))
            }
        }
    }
    let mut found = Vec::new();
    walk(space.path().to_owned(), &mut found);
    found.sort();
    found
}

#[test]
fn a_plan_before_the_first_run() {
    insta::assert_snapshot!(small().ok(&["plan"]).stdout);
}

#[test]
fn a_plan_after_a_change() {
    let space = small();
    space.ok(&["run"]);
    let plan = space.ok(&["plan", "-S", "nets.prior=[none, {dropout: 0.25}]"]).stdout;
    let (plan, estimate) =
        plan.split_once("\nestimated total job time: ").expect("similar nets ran");
    assert!(estimate.ends_with("s\n"), "{estimate}");
    insta::assert_snapshot!(plan);
}

#[test]
fn a_plan_with_nothing_to_do_says_so() {
    let space = small();
    space.ok(&["run"]);
    let stdout = space.ok(&["plan"]).stdout;
    assert!(stdout.contains("everything is up to date"), "{stdout}");
}

#[test]
fn a_plan_in_json_has_these_fields() {
    let space = small();
    space.ok(&["run"]);
    let text = space.ok(&["plan", "--json", "-S", "nets.epochs=2"]).stdout;
    let plan: Json = serde_json::from_str(&text).unwrap();
    let fields = |value: &Json| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(fields(&plan), set(["schema", "profile", "overrides", "nodes", "estimate"]));
    assert_eq!((&plan["schema"], &plan["profile"]), (&2.into(), &"once".into()));
    assert_eq!(plan["overrides"], serde_json::json!(["nets.epochs=2"]));
    for node in plan["nodes"].as_array().unwrap() {
        assert_eq!(
            fields(node),
            set(["node", "stage", "kind", "state", "reasons", "key", "fallback_cause"])
        );
        let (state, reasons) =
            (node["state"].as_str().unwrap(), node["reasons"].as_array().unwrap());
        assert!(["cached", "stale", "maybe-stale"].contains(&state));
        assert_eq!(reasons.is_empty(), state == "cached", "{node}");
        assert_eq!(
            node["key"].is_null(),
            state == "maybe-stale",
            "a node whose inputs may change has no key: {node}"
        );
    }
    let net = plan["nodes"].as_array().unwrap().iter().find(|n| n["kind"] == "train").unwrap();
    let reason =
        serde_json::json!([{ "kind": "param-changed", "path": "epochs", "old": 1, "new": 2 }]);
    assert_eq!(net["reasons"], reason);
}

#[test]
fn plan_lists_the_nodes_that_run_runs() {
    let space = small();
    assert_eq!(space.pending(&[]), space.ok(&["run", "--json"]).ran());
    let change = ["-S", "nets.prior=[none, {dropout: 0.25}]"];
    let planned = space.pending(&change);
    assert_eq!(
        planned,
        set([
            "nets@prior=dropout-0.25,end=a",
            "nets@prior=dropout-0.25,end=b",
            "curves@prior=dropout-0.25",
            "tables"
        ])
    );
    assert_eq!(space.ran(&change), planned);
}

#[test]
fn check_exits_with_3_until_all_nodes_are_up_to_date() {
    let space = small();
    let pending = space.exits(3, &["plan", "--check"]);
    assert!(pending.stdout.contains("nets"), "the plan is printed too");
    assert!(pending.stderr.contains("8 nodes not up to date"), "{}", pending.stderr);
    space.ok(&["run"]);
    space.ok(&["plan", "--check"]);
    space.exits(3, &["plan", "--check", "-S", "nets.epochs=3"]);
    space.ok(&["plan", "--check", "data", "-S", "nets.epochs=3"]);
}

#[test]
fn read_only_commands_write_nothing() {
    let fresh = small();
    let before = snapshot_of(&fresh);
    for command in [
        &["plan"][..],
        &["run", "-n"],
        &["why", "nets"],
        &["show", "nets"],
        &["graph"],
        &["verify"],
    ] {
        fresh.ok(command);
        assert_eq!(snapshot_of(&fresh).len(), before.len(), "{command:?}");
    }
    let space = small();
    space.ok(&["run"]);
    let before = snapshot_of(&space);
    for command in [
        &["plan"][..],
        &["run", "-n"],
        &["run", "-n", "-f"],
        &["why", "nets"],
        &["show", "nets"],
        &["verify"],
    ] {
        space.ok(command);
        assert!(snapshot_of(&space) == before, "{command:?} wrote something");
    }
}

#[test]
fn a_dry_run_prints_the_plan() {
    let space = small();
    assert_eq!(space.ok(&["run", "-n"]).stdout, space.ok(&["plan"]).stdout);
    assert_eq!(
        space.ok(&["run", "-n", "-f", "data"]).stdout,
        space.ok(&["plan", "-f", "data"]).stdout
    );
}

#[test]
fn why_names_the_change_or_the_run_that_computed_the_node() {
    let space = small();
    let why = |arguments: &[&str]| space.ok(&[&["why"], arguments].concat()).stdout;
    insta::assert_snapshot!(why(&["nets@prior=none,end=a"]), @r"
    nets@prior=none,end=a: maybe-stale, runs if an upstream output changes
      depends on data (first time)
    ");
    space.ok(&["run"]);
    let fresh = why(&["tables"]);
    let run = space.files("runs").into_iter().next().unwrap();
    let (time, by) =
        fresh.strip_prefix("tables: cached, computed at ").unwrap().split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.len() == "2026-11-28T07:00:00Z".len(), "{fresh}");
    let id = run.file_stem().unwrap().to_str().unwrap();
    assert!(by.starts_with(&format!("by run {id} on ")), "{fresh}");
    insta::assert_snapshot!(why(&["nets@prior=none,end=a", "--profile", "twice"]), @r"
    nets@prior=none,end=a: stale
      param epochs 1 -> 2
    ");
    insta::assert_snapshot!(why(&["tables", "--profile", "twice"]), @r"
    tables: maybe-stale, runs if an upstream output changes
      depends on nets@prior=none,end=a and 3 more (param epochs 1 -> 2)
    ");
    insta::assert_snapshot!(why(&["data", "-S", "seed=1"]), @r"
    data: stale
      seed 0 -> 1
    ");
    flip_byte(&space.object(&space.digests()["data"]["data.json"]));
    insta::assert_snapshot!(why(&["data"]), @r"
    data: stale
      output `data.json` was changed on disk
    ");
}

#[test]
fn why_compares_with_the_last_run_of_the_same_profile() {
    let space = small();
    space.ok(&["run"]);
    space.ok(&["run", "--profile", "twice"]);
    let why = space.ok(&["why", "nets@prior=none,end=a", "-S", "nets.epochs=3"]).stdout;
    assert_eq!(why, "nets@prior=none,end=a: stale\n  param epochs 1 -> 3\n");
    let why = space
        .ok(&["why", "nets@prior=none,end=a", "--profile", "twice", "-S", "nets.epochs=3"])
        .stdout;
    assert_eq!(why, "nets@prior=none,end=a: stale\n  param epochs 2 -> 3\n");
}

#[test]
fn show_prints_recipe_key_outputs_and_provenance() {
    let space = small();
    let before = space.ok(&["show", "data"]).stdout;
    assert!(before.contains("not computed yet"), "{before}");
    let unknown = space.ok(&["show", "tables"]).stdout;
    assert!(unknown.contains("no key yet"), "{unknown}");
    space.ok(&["run"]);
    let text = space.ok(&["show", "nets@prior=dropout-0.5,end=b"]).stdout;
    for part in [
        "kind     train version ",
        "param    epochs = 1",
        "seed     0 with label hidden=3,pair=1,end=b",
        "input    data/train-images-idx3-ubyte ",
        "output   net.safetensors ",
        "time     ",
        "memory   ",
        "program  ",
        "param    optimizer = ",
        " (default)",
        "from     data: data",
    ] {
        assert!(text.contains(part), "`{part}` in:\n{text}");
    }
    let json: Json = serde_json::from_str(&space.ok(&["show", "nets", "--json"]).stdout).unwrap();
    assert_eq!(json["schema"], 2);
    let json = &json["nodes"];
    assert_eq!(json.as_array().unwrap().len(), 4);
    let digests = space.digests();
    for node in json.as_array().unwrap() {
        let outputs = node["entry"]["outputs"].as_object().unwrap();
        for (file, stored) in outputs {
            assert_eq!(stored["digest"], digests[&name(node)][file].as_str());
        }
        assert_eq!(node["recipe"]["kind"], "train");
        let program = node["entry"]["program"].as_str().unwrap();
        assert_eq!(program.len(), 64);
    }
}

#[test]
fn export_copies_the_outputs() {
    let space = small();
    space.ok(&["run"]);
    let digests = space.digests();
    let equal = |node: &str, folder: &str| {
        for (file, digest) in &digests[node] {
            let exported = fs::read(space.join(folder).join(file)).unwrap();
            assert!(exported == fs::read(space.object(digest)).unwrap(), "{node} {file}");
        }
    };
    let stdout = space.ok(&["export", "tables", "one/deep"]).stdout;
    assert_eq!(stdout.lines().count(), digests["tables"].len());
    assert!(
        stdout.lines().all(|path| space.join(path).is_file()),
        "stdout lists the files: {stdout}"
    );
    equal("tables", "one/deep");
    space.ok(&["export", "nets", "many"]);
    for node in containing(&space.nodes(), &["nets@"]) {
        equal(&node, &format!("many/{node}"));
    }
    // The user may edit the copies.
    space.write("one/deep/summary.csv", "mine");
    space.ok(&["verify"]);
}

#[test]
fn export_replaces_a_link_and_refuses_a_folder() {
    let space = Space::run_tiny();
    space.write("theirs", "not yours").write("out/else", "");
    for target in ["theirs", "nowhere", "out"].map(|target| space.join(target)) {
        let path = space.join("out/summary.csv");
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink(target, &path).unwrap();
        space.ok(&["export", "tables", "out"]);
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(
            fs::read(&path).unwrap(),
            fs::read(space.object(&space.digests()["tables"]["summary.csv"])).unwrap()
        );
    }
    assert_eq!(space.read("theirs"), "not yours");
    assert!(!space.join("nowhere").exists());
    let folder = space.join("there/summary.csv");
    fs::create_dir_all(&folder).unwrap();
    let refused = space.run(&["export", "tables", "there"]);
    assert!(
        refused.code != Some(0) && refused.stderr.contains("there/summary.csv`"),
        "{}",
        refused.stderr
    );
    assert!(folder.is_dir());
}

#[test]
fn export_of_a_stale_node_is_refused_with_the_command_to_run() {
    let refused = small().exits(2, &["export", "nets", "folder"]).stderr;
    assert!(
        refused.contains("more are not up to date\nhint: run `repro run nets` first"),
        "{refused}"
    );
}

#[test]
fn the_graph_in_mermaid_and_dot_has_stages_and_edges() {
    let space = small();
    insta::assert_snapshot!("mermaid", space.ok(&["graph"]).stdout);
    insta::assert_snapshot!("dot", space.ok(&["graph", "--format", "dot"]).stdout);
    let full = space.ok(&["graph", "--full"]).stdout;
    assert_eq!(full.matches("[\"nets@").count(), 4, "{full}");
    assert_eq!(full.matches(" --> ").count(), 4 + 2 * 3 + 2 + 4, "{full}");
}

#[test]
fn the_graph_in_svg_is_well_formed_and_coloured_by_state() {
    let space = small();
    space.ok(&["run", "nets@prior=none"]);
    let states = |arguments: &[&str]| {
        let picture = space.ok(&[&["graph", "--format", "svg"], arguments].concat()).stdout;
        let document = roxmltree::Document::parse(&picture).unwrap();
        let boxes = document.descendants().filter(|node| node.attribute("rx") == Some("4"));
        let colours: Vec<String> =
            boxes.map(|node| node.attribute("fill").unwrap().to_owned()).collect();
        let count = |colour: &str| colours.iter().filter(|fill| *fill == colour).count();
        [count("#e3f4e6"), count("#e6ecfa"), count("#ffe9cf")]
    };
    assert_eq!(
        states(&[]),
        [1, 1, 2],
        "cached: data; maybe stale: tables; stale, in part: nets, curves"
    );
    assert_eq!(states(&["--full"]), [3, 2, 3], "one of the curves has its inputs");
    let json: Json = serde_json::from_str(&space.ok(&["graph", "--json"]).stdout).unwrap();
    let nets =
        json["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "nets").unwrap();
    assert_eq!((&nets["cached"], &nets["stale"]), (&2.into(), &2.into()));
}

#[test]
fn a_pattern_is_a_target_for_every_command() {
    let space = small();
    assert_eq!(space.plan(&["*et?@*prior=none*"]).len(), 3, "two nets and their input");
    let shown: Json = serde_json::from_str(&space.ok(&["show", "c*", "--json"]).stdout).unwrap();
    assert_eq!(shown["nodes"].as_array().unwrap().len(), 2);
    let refused = space.exits(2, &["plan", "nest*"]).stderr;
    assert!(
        refused.contains("no node matches `nest*`") && refused.contains("stages: `curves`, `data`"),
        "{refused}"
    );
    let help = space.ok(&["run", "--help"]).stdout;
    assert!(help.contains("Targets:\n") && help.contains("a pattern: "), "{help}");
}

#[test]
fn every_line_of_run_json_is_an_event_and_the_history_keeps_them() {
    let space = small();
    let output = space.ok(&["run", "--json"]);
    assert_eq!(output.stderr, "");
    let events = output.events();
    let of = |event: &str| events.iter().filter(|e| e["event"] == event).count();
    assert_eq!((of("started"), of("running"), of("finished"), of("ended")), (1, 8, 8, 1));
    assert_eq!(events[0]["event"], "started");
    assert_eq!(
        (&events[0]["schema"], &events[0]["nodes"], &events[0]["profile"]),
        (&2.into(), &8.into(), &"once".into())
    );
    let ended = events.iter().find(|e| e["event"] == "ended").unwrap();
    assert_eq!(
        (&ended["ran"], &ended["cached"], &ended["failed"]),
        (&8.into(), &0.into(), &0.into())
    );
    let history = space.files("runs");
    let kept = fs::read_to_string(history.iter().next().unwrap()).unwrap();
    assert_eq!((history.len(), kept), (1, output.stdout));
}

#[test]
fn a_target_selects_a_stage_a_kind_a_node_or_a_part_of_a_grid() {
    let case = |target: &str, expected: BTreeSet<String>| {
        let space = small();
        assert_eq!(space.ran(&[target]), expected, "{target}");
    };
    let nets = set([
        "data",
        "nets@prior=none,end=a",
        "nets@prior=none,end=b",
        "nets@prior=dropout-0.5,end=a",
        "nets@prior=dropout-0.5,end=b",
    ]);
    case("nets", nets.clone());
    case("train", nets.clone());
    case("nets@prior=none,end=a", set(["data", "nets@prior=none,end=a"]));
    case("nets@prior=none", set(["data", "nets@prior=none,end=a", "nets@prior=none,end=b"]));
    case("train@end=a", set(["data", "nets@prior=none,end=a", "nets@prior=dropout-0.5,end=a"]));
    case("nets@epochs=1", nets);
    case(
        "curves@prior=none",
        set(["data", "nets@prior=none,end=a", "nets@prior=none,end=b", "curves@prior=none"]),
    );
    let space = small();
    assert_eq!(space.ran(&["data", "nets@end=b"]).len(), 3, "several targets");
}

#[test]
fn quiet_prints_nothing_on_success() {
    let space = Space::tiny();
    for _ in 0..2 {
        let output = space.ok(&["-q", "run"]);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    }
}

#[test]
fn standard_output_has_only_data() {
    let space = small();
    let run = space.ok(&["run"]);
    assert_eq!(run.stdout, "");
    assert_eq!(
        run.stderr.lines().filter(|line| line.contains(": ran ")).count(),
        8,
        "one stable line per node"
    );
    assert!(!run.stderr.contains('\x1b'), "no colours and no progress bar without a terminal");
    for command in [
        &["plan"][..],
        &["why", "nets"],
        &["show", "data"],
        &["graph"],
        &["verify"],
        &["export", "data", "out"],
    ] {
        assert_eq!(space.ok(command).stderr, "", "{command:?}");
    }
}

#[test]
fn verbose_lists_cached_nodes_and_the_reasons_of_the_others() {
    let space = small();
    space.ok(&["run"]);
    let stderr = space.ok(&["-v", "run", "--profile", "twice"]).stderr;
    assert!(stderr.contains("data: cached"), "{stderr}");
    assert!(stderr.contains("(param epochs 1 -> 2)"), "{stderr}");
}

#[test]
fn verify_prints_how_much_it_checked() {
    let space = small();
    assert!(space.ok(&["verify"]).stdout.contains("0 objects"), "an empty cache has no damage");
    space.ok(&["run"]);
    let verified: Json = serde_json::from_str(&space.ok(&["verify", "--json"]).stdout).unwrap();
    assert_eq!(verified["objects"], space.files("objects").len());
    assert_eq!((&verified["entries"], &verified["recipes"]), (&8.into(), &8.into()));
    assert_eq!(verified["problems"], serde_json::json!([]));
}

#[test]
fn all_json_output_states_its_schema() {
    let space = small();
    space.ok(&["run"]);
    for command in [
        &["plan"][..],
        &["why", "data"],
        &["show", "data"],
        &["export", "data", "out"],
        &["verify"],
        &["verify", "--recompute", "data"],
        &["lock"],
        &["verify", "--locked"],
        &["gc"],
        &["log"],
        &["log", "last"],
        &["diff", "last", "last"],
        &["graph"],
    ] {
        let json: Json =
            serde_json::from_str(&space.ok(&[command, &["--json"]].concat()).stdout).unwrap();
        assert_eq!(json["schema"], 2, "{command:?}");
    }
    let json: Json =
        serde_json::from_str(&space.ok(&["export", "data", "out", "--json"]).stdout).unwrap();
    let files: Vec<&str> =
        json["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    assert!(
        files.contains(&"out/data.json") && files.iter().all(|file| space.join(file).is_file()),
        "{files:?}"
    );
    flip_byte(&space.object(&space.digests()["data"]["data.json"]));
    let damaged: Json =
        serde_json::from_str(&space.exits(5, &["verify", "--json"]).stdout).unwrap();
    assert_eq!(damaged["schema"], 2);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let space = small();
    for (arguments, code) in [(&["graph"][..], 0), (&["plan", "--check"], 3)] {
        let mut child =
            space.command(arguments).stdout(std::process::Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn unknown_commands_and_options_exit_with_2() {
    let space = small();
    for wrong in
        [&["rum"][..], &["run", "--jbos", "3"], &["run", "-j", "0"], &["-q", "-v", "run"], &[]]
    {
        let refused = space.exits(2, wrong);
        assert!(
            refused.stderr.contains("Usage: ") || refused.stderr.contains("For more information"),
            "{}",
            refused.stderr
        );
    }
    assert_eq!(space.ran(&["nets@prior=none,end=a"]).len(), 2);
    assert_ne!(space.pending(&[]), nothing());
}
