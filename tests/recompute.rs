//! `verify --recompute`: cached nodes are computed again and compared bit by bit.

use crate::space::{Space, TINY, is_alive, wait_until};
use repro::engine::cache::entry::Entry;
use repro::engine::cache::store::Store;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Replaces a node's output in a consistent way: the new bytes are stored under their digest, and
/// the entry has that digest.
fn forge(space: &Space, node: &str, file: &str, change: impl Fn(&mut Vec<u8>)) {
    let shown: Json = serde_json::from_str(&space.ok(&["show", node, "--json"]).stdout).unwrap();
    let shown = shown["nodes"][0].clone();
    let old = shown["entry"]["outputs"][file]["digest"].as_str().unwrap();
    let mut bytes = fs::read(space.object(old)).unwrap();
    change(&mut bytes);
    let new = blake3::hash(&bytes).to_string();
    fs::write(space.object(&new), &bytes).unwrap();
    let (store, key) =
        (Store::at(&space.join("cache")), shown["key"].as_str().unwrap().parse().unwrap());
    let mut entry = Entry::clone(&store.entry(key).unwrap().unwrap());
    let forged = entry.outputs.get_mut(file).unwrap();
    (forged.digest, forged.bytes) = (new.parse().unwrap(), bytes.len() as u64);
    store.publish(key, &entry).unwrap();
}

/// The files of the cache that `verify` must not change.
fn cache(space: &Space) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let folders = ["objects", "entries", "recipes", "logs", "runs", "fallbacks", "tmp"];
    let files = folders.iter().flat_map(|folder| space.files(folder)).filter(|path| path.is_file());
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

const NET: &str = "nets@hidden=3,prior=none,end=a";

#[test]
fn every_stage_is_reproduced_and_the_cache_is_unchanged() {
    let space = Space::run_tiny();
    let before = cache(&space);
    let printed = space.ok(&["verify", "--recompute", "-j", "2"]);
    let nodes = space.nodes();
    let reproduced: BTreeSet<String> = printed
        .stdout
        .lines()
        .filter_map(|line| Some(line.split_once(": reproduced in ")?.0.to_owned()))
        .collect();
    assert_eq!(reproduced, nodes);
    assert!(
        printed.stdout.ends_with(&format!("{0} of {0} nodes reproduced\n", nodes.len())),
        "{}",
        printed.stdout
    );
    assert!(cache(&space) == before);
    assert!(!space.join("cache/v2/recomputed").exists());
}

#[test]
fn a_forged_net_is_reported_with_its_element_and_both_values_and_both_versions_are_kept() {
    let space = Space::run_tiny();
    // The last weight of all, w2[9, 2], little-endian.
    forge(&space, NET, "net.safetensors", |bytes| {
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&1.5f32.to_le_bytes());
    });
    space.ok(&["verify"]);
    let before = cache(&space);
    let refused = space.exits(4, &["verify", "--recompute", "nets"]);
    let line = refused.stdout.lines().find(|line| line.contains("net.safetensors")).unwrap();
    assert!(
        line.starts_with(&format!(
            "{NET}: net.safetensors: array `w2`, element [9, 2]: cached 1.5, recomputed "
        )),
        "{line}"
    );
    assert!(refused.stdout.ends_with("7 of 8 nodes reproduced\n"), "{}", refused.stdout);
    assert!(
        refused.stderr.contains(&format!("`{NET}` differs from its cached outputs")),
        "{}",
        refused.stderr
    );
    assert!(cache(&space) == before, "nothing in the cache changes");
    let kept = refused
        .stdout
        .lines()
        .find_map(|line| line.split_once("both versions are in `"))
        .unwrap()
        .1;
    let kept = space.join(Path::new(kept.trim_end_matches('`')));
    let (cached, again) = (
        fs::read(kept.join("cached/net.safetensors")),
        fs::read(kept.join("recomputed/net.safetensors")),
    );
    let (cached, again) = (cached.unwrap(), again.unwrap());
    assert_eq!(cached.len(), again.len());
    assert!(cached != again);
}

#[test]
fn a_forged_table_is_reported_with_line_and_column_and_a_figure_with_the_byte() {
    let space = Space::run_tiny();
    forge(&space, "curves@hidden=4,prior=none,curve=arc+wa", "points.csv", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let (rest, _) = lines[2].rsplit_once(',').unwrap();
        lines[2] = format!("{rest},0.125");
        *bytes = (lines.join("\n") + "\n").into_bytes();
    });
    let printed = space.exits(4, &["verify", "--recompute", "curves", "--json"]).stdout;
    let printed: Json = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        (&printed["schema"], &printed["total"], &printed["reproduced"]),
        (&2.into(), &8.into(), &7.into())
    );
    let node = printed["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|node| node["outcome"] == "differs")
        .unwrap();
    let first = node["differences"][0]["first"].as_str().unwrap();
    assert!(first.starts_with("line 3, column `loss`: cached `0.125`, recomputed `"), "{first}");

    let space = Space::run_tiny();
    forge(&space, "figures@figure=error-by-width", "figure.svg", |bytes| bytes[1] = b'S');
    let printed = space.exits(4, &["verify", "--recompute", "figures"]).stdout;
    assert!(printed.contains(": byte 1: cached 0x53, recomputed 0x73"), "{printed}");
}

#[test]
fn the_same_seed_draws_the_same_sample_and_another_seed_another() {
    let space = Space::run_tiny();
    let drawn = |arguments: &[&str]| -> BTreeSet<String> {
        let printed =
            space.ok(&[&["verify", "--recompute", "--sample", "4"], arguments].concat()).stdout;
        assert!(printed.ends_with("4 of 4 nodes reproduced\n"), "{printed}");
        printed
            .lines()
            .filter_map(|line| Some(line.split_once(": reproduced in ")?.0.to_owned()))
            .collect()
    };
    assert_eq!(drawn(&[]), drawn(&["--seed", "0"]), "the default seed is 0");
    assert_ne!(drawn(&[]), drawn(&["--seed", "1"]));
    assert!(drawn(&["matched-curves"]).iter().all(|node| node.starts_with("matched-curves@")));
}

#[test]
fn nodes_that_are_not_cached_cannot_be_compared_and_the_hint_is_the_run_to_do_first() {
    let space = Space::with(TINY);
    let refused = space.exits(3, &["verify", "--recompute", "nets", "-S", "nets.epochs=3"]).stderr;
    assert!(refused.contains("8 nodes not up to date"), "{refused}");
    assert!(refused.contains("hint: run `repro run -S 'nets.epochs=3' nets` first"), "{refused}");
}

#[test]
fn a_damaged_input_is_reported_before_any_job_runs() {
    let space = Space::run_tiny();
    let shown = space.ok(&["show", "data"]).stdout;
    let images = shown.lines().find(|line| line.contains("output   train-images")).unwrap();
    // Size and permissions stay, so that only its hash shows the damage.
    let digest = images.split_whitespace().nth(2).unwrap();
    crate::space::flip_byte(&space.object(digest));
    let refused = space.exits(5, &["verify", "--recompute", NET]);
    assert!(refused.stderr.contains(digest), "{}", refused.stderr);
}

#[test]
fn a_program_with_random_output_differs() {
    let space = Space::with(
        "stages:\n  \
         drawn: { command: { run: 'head -c 8 /dev/urandom > out.bin', outputs: [out.bin] } }\n  \
         fixed: { command: { run: 'echo fixed > out.txt', outputs: [out.txt] } }\n",
    );
    space.ok(&["run"]);
    let refused = space.exits(4, &["verify", "--recompute"]);
    assert!(refused.stdout.contains("fixed: reproduced in "), "{}", refused.stdout);
    assert!(refused.stdout.contains("drawn: out.bin: byte 0: cached 0x"), "{}", refused.stdout);
    assert!(refused.stdout.ends_with("1 of 2 nodes reproduced\n"), "{}", refused.stdout);
}

#[test]
fn a_node_that_fails_when_it_is_recomputed_is_reported_with_its_log() {
    let space = Space::tiny();
    let secret = space.join("undeclared.txt");
    let pipeline = format!(
        "stages:\n  s: {{ command: {{ run: 'cat {} > out', outputs: [out] }} }}\n",
        secret.display()
    );
    space.write("pipeline.yaml", pipeline).write("undeclared.txt", "x");
    space.ok(&["run"]);
    fs::remove_file(secret).unwrap();
    let refused = space.exits(1, &["verify", "--recompute"]);
    let log = refused.stdout.lines().find_map(|line| line.split_once(" (log: `")).unwrap().1;
    let log = log.trim_end_matches("`)");
    assert!(space.read(log).contains("undeclared.txt"), "{}", refused.stdout);
    assert!(refused.stdout.ends_with("0 of 1 node reproduced\n"), "{}", refused.stdout);
    space.ok(&["plan", "--check"]);
}

/// Two stages that have run, and that sleep when they are recomputed.
fn slow_when_recomputed() -> Space {
    let space = Space::with("");
    let (again, pids) = (space.join("again"), space.join("pids"));
    let run = format!(
        "[ ! -e {} ] || {{ echo $$ >> {}; sleep 1000; }}; touch out",
        again.display(),
        pids.display()
    );
    let stage = |k: u8| {
        format!("  s{k}: {{ command: {{ run: '{run}', outputs: [out], params: {{ k: {k} }} }} }}\n")
    };
    space.write("pipeline.yaml", format!("stages:\n{}{}", stage(1), stage(2)));
    space.ok(&["run"]);
    space.write("again", "");
    space
}

#[test]
fn an_interrupted_recomputation_leaves_no_job() {
    for signals in [&["INT"][..], &["TERM"], &["HUP"], &["INT", "INT"], &["QUIT"]] {
        let space =
            slow_when_recomputed().wrapped_in(&["sh", "-c", "ulimit -c 0; exec \"$@\"", "sh"]);
        let verify = space.spawn(&["verify", "--recompute", "-j", "2"]);
        let pids = || fs::read_to_string(space.join("pids")).unwrap_or_default();
        wait_until("both jobs run", || pids().lines().count() == 2);
        for signal in signals {
            verify.signal(signal);
            std::thread::sleep(Duration::from_millis(20));
        }
        let code = if signals == ["QUIT"] { None } else { Some(130) };
        assert_eq!(verify.wait().0, code, "{signals:?}");
        assert!(pids().lines().all(|pid| !is_alive(pid)), "{signals:?}");
    }
}

#[test]
fn a_recomputation_that_fails_leaves_no_job() {
    let space = slow_when_recomputed();
    // Recomputed, it waits for another stage, removes its own result from the cache, and differs.
    let other = "  drawn: { command: { run: 'if [ -e AGAIN ]; then \
                 while ! [ -e PIDS ]; do sleep 0.01; done; rm OBJECTS; fi; \
                 head -c 8 /dev/urandom > out', outputs: [out] } }\n";
    let path = |name: &str| space.join(name).display().to_string();
    let other = other.replace("AGAIN", &path("again")).replace("PIDS", &path("pids"));
    let other = other.replace("OBJECTS", &space.object("*").display().to_string());
    fs::remove_file(space.join("again")).unwrap();
    space.write("pipeline.yaml", space.read("pipeline.yaml") + &other).ok(&["run"]);
    space.write("again", "");
    let refused = space.exits(7, &["verify", "--recompute", "-j", "3"]);
    assert!(refused.stderr.contains("cannot read `"), "{}", refused.stderr);
    assert!(space.read("pids").lines().all(|pid| !is_alive(pid)));
}

#[test]
fn a_recomputation_retries_as_often_as_the_stage_allows() {
    let space = Space::with("");
    let tries = space.join("tries");
    let run = format!(
        "if [ -e {0} ]; then echo x >> {0}; [ $(wc -l < {0}) = 2 ]; fi; touch out",
        tries.display()
    );
    space.write(
        "pipeline.yaml",
        format!("stages: {{ s: {{ command: {{ run: '{run}', outputs: [out], retries: 1 }} }} }}"),
    );
    space.ok(&["run"]);
    space.write("tries", "");
    let printed = space.ok(&["verify", "--recompute"]).stdout;
    assert!(printed.ends_with("1 of 1 node reproduced\n"), "{printed}");
    assert_eq!(space.read("tries").lines().count(), 2);
}

/// Recomputes two commands that have `more` fields; whether they ran at the same time.
fn overlap(more: &str) -> bool {
    let space = Space::with("");
    let (busy, both) = (space.join("busy"), space.join("both"));
    let run = format!(
        "mkdir {0} || touch {1}; sleep 0.7; rmdir {0} || true; touch out",
        busy.display(),
        both.display()
    );
    let fields = format!("run: '{run}', outputs: [out], params: {{ k: [1, 2] }}{more}");
    space.write("pipeline.yaml", format!("stages: {{ s: {{ command: {{ {fields} }} }} }}"));
    space.ok(&["run", "-j", "1"]);
    assert!(!both.exists());
    space.ok(&["verify", "--recompute", "-j", "2"]);
    both.exists()
}

#[test]
fn a_recomputation_respects_the_threads_and_memory_that_stages_request() {
    assert!(overlap(""), "otherwise this test checks nothing");
    assert!(!overlap(", threads: 2"));
    assert!(!overlap(", memory: 900TiB"));
}
