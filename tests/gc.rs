//! Removal by `gc`, pins, `--require-cached`, retries, and leases of other hosts.

use crate::space::{Space, TINY, flip_byte, name, nothing, set};
use repro::engine::cache::process::ProcessId;
use std::fs::{self, File};
use std::time::{Duration, SystemTime};

const TWO: &str = "\
stages:
  one:
    command: { run: 'echo $REPRO_PARAM_WORD > out', params: { word: a }, outputs: [out] }
  two:
    command: { run: 'cat inputs/one/out > out', inputs: { one: one }, outputs: [out] }
profiles:
  other:
    one: { params: { word: b } }
";

/// A project that has run with the word `a`, then with `word`.
fn changed(word: &str) -> Space {
    let space = Space::with(TWO);
    space.ok(&["run"]);
    space.edit("word: a", &format!("word: {word}")).ok(&["run"]);
    space
}

#[test]
fn gc_lists_what_it_would_remove_and_removes_it_with_delete_only() {
    let space = changed("c");
    let output = space.ok(&["gc", "--keep-runs", "0"]).stdout;
    assert!(output.contains("run `repro gc --delete` to free it"), "{output}");
    let line = output.lines().find(|line| line.starts_with("command")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[..3], ["command", "2", "2"], "{output}");
    assert_eq!(space.files("entries").len(), 4);
    space.ok(&["gc", "--keep-runs", "0", "--delete"]);
    assert_eq!((space.files("entries").len(), space.files("recipes").len()), (2, 2));
    assert_eq!(space.ran(&[]), nothing(), "the requested results are complete");
    assert!(space.ok(&["verify"]).stdout.contains("no damage found"));
    assert_eq!(space.ok(&["gc", "--keep-runs", "1", "--delete"]).stdout, "nothing to remove\n");
    assert_eq!(
        space.edit("word: c", "word: a").ran(&[]),
        set(["one", "two"]),
        "removed results are computed again"
    );
}

#[test]
fn gc_keeps_results_of_the_last_runs_other_profiles_pins_and_the_lock_file() {
    let kept = |space: &Space| {
        space.ok(&["gc", "--keep-runs", "0", "--delete"]).stdout == "nothing to remove\n"
    };
    let space = changed("c");
    assert_eq!(space.ok(&["gc", "--delete"]).stdout, "nothing to remove\n", "ten runs are kept");

    let space = changed("b");
    space.edit("word: b } }\n", "word: a } }\n");
    assert_eq!(space.ran(&["--profile", "other"]), nothing());
    space.ok(&["gc", "--keep-runs", "0", "--delete"]);
    assert_eq!(space.ran(&["--profile", "other"]), nothing(), "the profile requests it");

    let space = Space::with(TWO);
    space.ok(&["run"]);
    space.ok(&["pin", "two", "one"]);
    space.edit("word: a", "word: c").ok(&["run"]);
    space.ok(&["gc", "--keep-runs", "0", "--delete"]);
    assert_eq!(space.edit("word: c", "word: a").ran(&[]), nothing(), "it was pinned");

    let space = Space::with(TWO);
    space.ok(&["run"]);
    space.ok(&["lock"]);
    space.edit("word: a", "word: c").ok(&["run"]);
    space.ok(&["gc", "--keep-runs", "0", "--delete"]);
    assert!(
        !kept(&space) || space.edit("word: c", "word: a").ran(&[]) == nothing(),
        "the lock file has it"
    );
    assert_eq!(space.ran(&["-S", "one.params={word: a}"]), nothing());
}

#[test]
fn an_unpinned_result_is_removed_even_if_the_pipeline_has_changed() {
    let space = Space::with(TWO);
    space.ok(&["run"]);
    space.ok(&["pin", "two", "one"]);
    space.edit("word: a", "word: c").ok(&["run"]);
    assert_eq!(space.ok(&["unpin", "two", "one"]).stdout, "2 pins removed\n");
    assert_eq!(space.ok(&["unpin", "two", "one"]).stdout, "0 pins removed\n");
    space.ok(&["gc", "--keep-runs", "0", "--delete"]);
    assert_eq!(space.edit("word: c", "word: a").ran(&[]), set(["one", "two"]));
    space.ok(&["pin", "two"]);
    space.write("pipeline.yaml", TWO.replace("  two:", "  zwei:"));
    assert!(space.exits(2, &["unpin", "drei"]).stderr.contains("`drei`"));
    assert_eq!(
        space.ok(&["unpin", "two"]).stdout,
        "1 pin removed\n",
        "the pipeline no longer has the stage"
    );
}

#[test]
fn gc_keeps_the_results_of_another_pipeline_of_the_folder_until_its_file_is_removed() {
    let (other, gc) =
        (["--pipeline", "./studies/small.yaml"], ["gc", "--keep-runs", "0", "--delete"]);
    let space = Space::with(TWO);
    space.write("studies/small.yaml", TWO.replace("word: a", "word: s"));
    space.ok(&["run"]);
    space.ok(&[&["run"], &other[..]].concat());
    for pipeline in [&[][..], &other[..]] {
        space.ok(&[&gc[..], pipeline].concat());
        assert_eq!(space.files("entries").len(), 4, "{pipeline:?}");
    }
    space.ok(&[&["lock"], &other[..]].concat());
    space.write("studies/small.yaml", TWO.replace("word: a", "word: t"));
    space.ok(&gc);
    assert_eq!(space.files("entries").len(), 4, "the lock file has it");
    std::fs::remove_file(space.join("studies/small.lock")).unwrap();
    space.write("studies/small.yaml", "stages: {");
    let refused = space.exits(2, &gc).stderr;
    let expected = "error: cannot tell what to keep for `studies/small.yaml`, which uses this \
                    cache: studies/small.yaml:1:";
    assert!(refused.starts_with(expected) && refused.contains("\nhint: "), "{refused}");
    assert_eq!(space.files("entries").len(), 4, "nothing is removed");
    std::fs::remove_file(space.join("studies/small.yaml")).unwrap();
    space.ok(&gc);
    assert_eq!(space.files("entries").len(), 2);
    assert_eq!(space.ran(&[]), nothing());
}

#[test]
fn pin_alone_lists_what_is_pinned() {
    let space = Space::with(TWO);
    assert_eq!(space.ok(&["pin"]).stdout, "no pinned nodes\n");
    assert!(!space.join("cache").exists());
    space.exits(3, &["pin", "two"]);
    assert_eq!(space.ok(&["unpin", "two"]).stdout, "0 pins removed\n");
    space.ok(&["run"]);
    space.ok(&["pin", "two", "one"]);
    let key = |node: &str| {
        let plan = space.plan(&[]);
        plan.iter().find(|planned| name(planned) == node).unwrap()["key"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (one, two) = (key("one"), key("two"));
    assert_eq!(space.ok(&["pin"]).stdout, format!("one  {}\ntwo  {}\n", &one[..10], &two[..10]));
    let listed: serde_json::Value =
        serde_json::from_str(&space.ok(&["pin", "--json"]).stdout).unwrap();
    let pinned = serde_json::json!([{ "node": "one", "key": one }, { "node": "two", "key": two }]);
    assert_eq!((&listed["schema"], &listed["pinned"]), (&2.into(), &pinned));
}

#[test]
fn two_nodes_of_one_recipe_have_separate_pins() {
    let stage = "  one:\n    command: { run: 'echo x > out', outputs: [out] }\n";
    let space = Space::with(&format!("stages:\n{stage}{}", stage.replace("one:", "two:")));
    space.ok(&["run"]);
    space.ok(&["pin", "one", "two"]);
    assert_eq!(space.ok(&["unpin", "one"]).stdout, "1 pin removed\n");
    assert!(space.ok(&["pin"]).stdout.starts_with("two  "));
}

#[test]
fn with_require_cached_the_first_node_that_would_run_is_an_error() {
    let space = Space::with(TWO);
    let refused = space.exits(3, &["run", "--require-cached"]).stderr;
    assert!(refused.contains("error: `one` is not cached: 2 nodes not up to date"), "{refused}");
    assert!(
        refused.contains("hint: run `repro run one` to compute it (reason: first time)"),
        "{refused}"
    );
    space.ok(&["run"]);
    space.ok(&["run", "--require-cached"]);
    let refused = space.exits(3, &["run", "--require-cached", "-S", "one.params={word: z}"]).stderr;
    assert!(refused.contains("param params.word a -> z"), "{refused}");
    assert_eq!(
        space.ok(&["log"]).stdout.matches("unfinished").count(),
        0,
        "a refused run has no history"
    );
    let refused = space.exits(2, &["run", "--require-cached", "--dry-run"]).stderr;
    assert!(refused.contains("cannot be used with"), "{refused}");
}

#[test]
fn a_failed_node_is_retried_as_often_as_requested() {
    let space = Space::with(
        "stages:\n  flaky:\n    command: { run: 'sh try.sh', files: [try.sh], outputs: [out] }\n",
    );
    let count = space.join("count");
    let script =
        format!("echo x >> {0}; [ $(wc -l < {0}) -ge 3 ] && echo done > out", count.display());
    space.write("try.sh", script);
    let failed = space.exits(1, &["run", "--retries", "1"]);
    assert!(failed.stderr.contains("retrying, attempt 2 of 2"), "{}", failed.stderr);
    assert_eq!(space.ran(&["--retries", "1"]), set(["flaky"]));
    assert_eq!(space.read("count").lines().count(), 3);
}

/// A process of another host.
fn process_of_other_host() -> ProcessId {
    ProcessId { host: "other-host".into(), ..ProcessId::this().clone() }
}

/// A project whose node `two` has no result, but a lease of another host with a heartbeat some
/// seconds ago.
fn leased_by_other_host(seconds: u64) -> Space {
    let space = Space::with(TWO);
    space.ok(&["run"]);
    let plan = space.plan(&[]);
    let key = plan.iter().find(|node| name(node) == "two").unwrap()["key"].as_str().unwrap();
    fs::remove_file(space.join(format!("cache/v2/entries/{key}.json"))).unwrap();
    let lease = format!("cache/v2/leases/{key}");
    space.write(&lease, serde_json::to_vec(&process_of_other_host()).unwrap());
    let beat = SystemTime::now() - Duration::from_secs(seconds);
    File::options().write(true).open(space.join(lease)).unwrap().set_modified(beat).unwrap();
    space
}

#[test]
fn an_expired_lease_of_another_host_is_taken_over_and_a_held_one_stops_gc() {
    const LONG: u64 = 3600;
    assert_eq!(leased_by_other_host(LONG).ran(&[]), set(["two"]));
    leased_by_other_host(LONG).ok(&["gc", "--delete"]);
    let refused = leased_by_other_host(1).exits(6, &["gc", "--delete"]).stderr;
    assert!(refused.contains("on other-host is using the cache"), "{refused}");
    let space = leased_by_other_host(1);
    let mut run = space.spawn(&["run", "--json"]);
    run.wait_for(|event| event["event"] == "already-running" && event["node"] == "two");
}

#[test]
fn a_workspace_of_another_machine_stays_while_it_has_a_heartbeat_and_stops_gc() {
    let space = Space::with(TWO);
    let namesake =
        ProcessId { machine: "other-machine".into(), pid: u32::MAX, ..ProcessId::this().clone() };
    let folder = format!("cache/v2/tmp/{}", namesake.tag());
    let partial = format!("{folder}/workspace/partial");
    space.write(&partial, "an ou").ok(&["run"]);
    assert!(space.join(&partial).exists());
    let refused = space.exits(6, &["gc", "--delete"]).stderr;
    assert!(refused.contains("is using the cache"), "{refused}");
    assert!(space.join(&partial).exists());
    let long_ago = SystemTime::now() - Duration::from_secs(600);
    File::open(space.join(&folder)).unwrap().set_modified(long_ago).unwrap();
    space.ok(&["run"]);
    assert!(space.join(&partial).exists(), "the machine may be asleep");
    File::open(space.join(&folder)).unwrap().set_modified(long_ago).unwrap();
    space.ok(&["gc", "--delete"]);
    assert_eq!(space.files("tmp").len(), 0);
}

/// Four nodes: `bottom` depends on `left` and `right`, which depend on `top`.
const DIAMOND: &str = "\
stages:
  top:
    command: { run: 'echo a > out', outputs: [out] }
  left:
    command: { run: 'sed s/a/l/ inputs/top/out > out', inputs: { top: top }, outputs: [out] }
  right:
    command: { run: 'sed s/a/r/ inputs/top/out > out', inputs: { top: top }, outputs: [out] }
  bottom:
    command: { run: 'cat inputs/*/out > out', inputs: { left: left, right: right }, outputs: [out] }
profiles:
  other: {}
";

#[test]
fn gc_keeps_results_downstream_of_a_quarantined_object() {
    for (pipeline, nodes) in
        [(DIAMOND, &["top", "left", "right", "bottom"][..]), (TINY, &["data", "tables"])]
    {
        for node in nodes {
            let space = Space::with(pipeline);
            space.ok(&["run"]);
            let undisturbed = space.digests();
            flip_byte(&space.object(undisturbed[*node].values().next().unwrap()));
            space.exits(5, &["verify"]);
            space.ok(&["gc", "--delete", "--keep-runs", "0"]);
            assert_eq!(
                space.ran(&[]),
                set([node]),
                "equal bytes do not invalidate downstream nodes"
            );
            assert_eq!(space.digests(), undisturbed);
            space.ok(&["verify"]);
        }
    }
}

#[test]
fn gc_keeps_results_downstream_of_a_lost_entry_and_removes_the_others() {
    let space = changed("c");
    let key = |node: &str| {
        space.plan(&[]).iter().find(|planned| name(planned) == node).unwrap()["key"].clone()
    };
    let entry = space.join(format!("cache/v2/entries/{}.json", key("one").as_str().unwrap()));
    fs::write(&entry, "").unwrap();
    space.exits(5, &["verify"]);
    space.ok(&["gc", "--delete", "--keep-runs", "0"]);
    assert_eq!(
        space.files("entries").len(),
        2,
        "both results of `two` are kept, since either may be requested next"
    );
    assert_eq!(space.ran(&[]), set(["one"]));
    space.ok(&["gc", "--delete", "--keep-runs", "0"]);
    assert_eq!((space.files("entries").len(), space.ran(&[])), (2, nothing()));
}

/// A project that uses the cache of another one.
fn sharing(first: &Space, pipeline: &str) -> Space {
    let space = Space::with(pipeline);
    std::os::unix::fs::symlink(first.join("cache"), space.join("cache")).unwrap();
    space
}

const GC: [&str; 4] = ["gc", "--delete", "--keep-runs", "0"];

#[test]
fn gc_keeps_the_results_of_another_project_that_shares_the_cache() {
    let a = Space::with(TWO);
    a.ok(&["run"]);
    let b = sharing(&a, &TWO.replace("word: a", "word: z"));
    b.ok(&["run"]);
    for space in [&a, &b] {
        space.ok(&GC);
        assert_eq!((a.ran(&[]), b.ran(&[])), (nothing(), nothing()));
    }
    let text = b.read("pipeline.yaml");
    for broken in [
        "stages: {",
        "\u{0}",
        &text.replace("one: one", "one: unknown"),
        &text.replace("other:", "other: 7\n  x:"),
    ] {
        b.write("pipeline.yaml", broken);
        let refused = a.exits(2, &GC).stderr;
        let folder = b.path().canonicalize().unwrap();
        let expected = format!(
            "cannot tell what to keep for `{}`, which uses this cache",
            folder.join("pipeline.yaml").display()
        );
        assert!(refused.contains(&expected), "{refused}");
    }
    b.write("pipeline.yaml", text);
    assert_eq!(b.ran(&[]), nothing(), "nothing was removed");
}

#[test]
fn gc_fails_while_a_project_that_shares_the_cache_cannot_be_found() {
    let a = Space::with(TWO);
    a.ok(&["run"]);
    let b = sharing(&a, &TWO.replace("word: a", "word: z"));
    b.ok(&["run"]);
    let moved = b.path().with_extension("moved");
    fs::rename(b.path(), &moved).unwrap();
    for is_replaced in [false, true] {
        if is_replaced {
            fs::create_dir(b.path()).unwrap();
            b.write("pipeline.yaml", TWO);
        }
        let refused = a.exits(2, &GC).stderr;
        assert!(
            refused.contains(b.path().to_str().unwrap()) && refused.contains("not found"),
            "{refused}"
        );
        assert!(
            refused.contains("cache/v2/pipelines/") && refused.contains("remove this file"),
            "{refused}"
        );
    }
    fs::remove_dir_all(b.path()).unwrap();
    fs::rename(&moved, b.path()).unwrap();
    a.ok(&GC);
    assert_eq!(b.ran(&[]), nothing());
    for record in a.files("pipelines") {
        fs::write(record, "").unwrap();
    }
    let refused = a.exits(2, &GC).stderr;
    assert!(refused.contains("the file is corrupt"), "{refused}");
    for record in a.files("pipelines") {
        fs::remove_file(record).unwrap();
    }
    a.ok(&GC);
    assert_eq!(b.ran(&[]), set(["one", "two"]), "without its record, gc removed its results");
}

#[test]
fn a_project_that_is_moved_with_its_cache_is_found_again() {
    let space = Space::with(TWO);
    space.ok(&["run"]);
    let b = sharing(&space, &TWO.replace("word: a", "word: z"));
    b.ok(&["run"]);
    let moved = space.path().with_extension("moved");
    fs::rename(space.path(), &moved).unwrap();
    fs::remove_file(b.join("cache")).unwrap();
    std::os::unix::fs::symlink(moved.join("cache"), b.join("cache")).unwrap();
    b.ok(&GC);
    fs::rename(&moved, space.path()).unwrap();
    assert_eq!(space.ran(&[]), nothing());
}

#[test]
fn gc_lists_a_cache_of_an_earlier_format_and_does_not_change_it() {
    let space = Space::with(TWO);
    space.ok(&["run"]);
    space.write("cache/v1/entries/k.json", [b' '; 1500]).write("cache/v1/lock", "");
    let paths = || {
        let mut all = space.all_paths();
        all.retain(|path| !path.display().to_string().contains("/snapshots"));
        all
    };
    let before = paths();
    let output = space.ok(&["gc", "--delete"]).stdout;
    assert!(
        output.contains("cache/v1` is from an older version of repro (1.5 KiB); run `rm -rf "),
        "{output}"
    );
    assert_eq!(paths(), before);
    let output: serde_json::Value =
        serde_json::from_str(&space.ok(&["gc", "--json"]).stdout).unwrap();
    assert_eq!(output["older_formats"][0]["bytes"], 1500);
}

#[test]
fn concurrent_pins_of_one_key_are_all_recorded() {
    let names: Vec<String> = (0..12).map(|k| format!("s{k}")).collect();
    let stage =
        |name: &String| format!("  {name}: {{ command: {{ run: touch out, outputs: [out] }} }}\n");
    let space = Space::with(&format!("stages:\n{}", names.iter().map(stage).collect::<String>()));
    space.ok(&["run"]);
    let pinning: Vec<_> = names.iter().map(|name| space.spawn(&["pin", name])).collect();
    pinning.into_iter().for_each(|pin| assert_eq!(pin.wait().0, Some(0)));
    let pinned = space.ok(&["pin"]).stdout;
    assert_eq!(pinned.lines().count(), names.len(), "{pinned}");
}
