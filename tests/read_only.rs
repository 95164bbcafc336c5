//! Commands that only read never wait for a lock.

use crate::space::Space;
use std::fs::File;
use std::time::{Duration, Instant};

#[test]
fn read_only_commands_ignore_an_exclusive_lock_on_the_cache() {
    let space = Space::run_tiny();
    space.ok(&["run", "--force", "tables"]);
    let commands: [&[&str]; 11] = [
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
    let before = commands.map(|command| space.run(command));
    let lock = File::open(space.join("cache/v2/lock")).unwrap();
    lock.lock().unwrap();
    for (command, before) in commands.iter().zip(&before) {
        let began = Instant::now();
        let now = space.run(command);
        assert_eq!(
            (now.code, &now.stdout, &now.stderr),
            (before.code, &before.stdout, &before.stderr),
            "{command:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(5), "{command:?}");
    }
    // Commands that write fail, or wait with `--wait-for-lock`.
    for write in [&["run"][..], &["gc", "--delete"]] {
        let refused = space.exits(6, write).stderr;
        assert!(
            refused.contains("is in use\nhint: wait until the other process has finished"),
            "{refused}"
        );
    }
    let mut waiting = space.spawn(&["run", "--json", "--wait-for-lock"]);
    std::thread::sleep(Duration::from_millis(100));
    lock.unlock().unwrap();
    waiting.wait_for(|event| event["event"] == "ended");
    assert_eq!(waiting.wait().0, Some(0));
}
