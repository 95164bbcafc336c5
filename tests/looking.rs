//! Looking never waits: not for a run, not for who holds the cache alone.

use crate::space::Space;
use std::fs::File;
use std::time::{Duration, Instant};

#[test]
fn commands_that_read_answer_at_once_while_another_process_holds_the_cache_alone() {
    let space = Space::run_tiny();
    space.ok(&["run", "--force", "tables"]);
    let looks: [&[&str]; 11] = [
        &["plan"],
        &["run", "--dry-run"],
        &["why", "tables"],
        &["show", "tables"],
        &["log"],
        &["log", "last"],
        &["diff"],
        &["diff", "--profiles", "default", "default"],
        &["graph"],
        &["verify"],
        &["export", "tables", "elsewhere"],
    ];
    let before = looks.map(|look| space.run(look));
    let lock = File::open(space.join("cache/v2/lock")).unwrap();
    lock.lock().unwrap();
    for (look, before) in looks.iter().zip(&before) {
        let began = Instant::now();
        let now = space.run(look);
        assert_eq!(
            (now.code, &now.stdout, &now.stderr),
            (before.code, &before.stdout, &before.stderr),
            "{look:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(5), "{look:?}");
    }
    // Whoever would write is told, or waits if asked to.
    for write in [&["run"][..], &["gc", "--delete"]] {
        let refused = space.exits(6, write).stderr;
        assert!(
            refused.contains("is in use\nhint: wait until nobody else is at work there"),
            "{refused}"
        );
    }
    let mut waiting = space.spawn(&["run", "--json", "--wait-for-lock"]);
    std::thread::sleep(Duration::from_millis(100));
    lock.unlock().unwrap();
    waiting.wait_for(|event| event["event"] == "ended");
    assert_eq!(waiting.wait().0, Some(0));
}
