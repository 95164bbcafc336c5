//! Edits that leave no trace in a file's size and times: they are noticed all the same.
//!
//! These tests need what not every machine has, and say so where they are skipped.

use crate::space::{Space, nothing};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PIPELINE: &str = "\
stages:
  raw:
    file: { path: data }
  copy:
    command: { run: 'cp inputs/raw/file out; echo; sh wait.sh', files: [wait.sh], inputs: { raw: raw }, outputs: [out] }
";

/// Writes the first byte of a file through a memory map, once at its start and then whenever it is told a byte.
const WRITER: &str = "\
import mmap, sys
with open(sys.argv[1], 'r+b') as file:
    bytes = mmap.mmap(file.fileno(), 0)
    bytes[0:1] = bytes[0:1]
    print('mapped', flush=True)
    for line in sys.stdin:
        bytes[0:1] = line[0:1].encode()
        print('written', flush=True)
";

/// A program that has a file in its memory.
struct Mapped(Child, BufReader<std::process::ChildStdout>);

impl Mapped {
    /// None where there is no Python.
    #[expect(
        clippy::print_stdout,
        reason = "whoever reads the test's output should know that nothing was tested"
    )]
    fn file(space: &Space, path: &str) -> Option<Mapped> {
        let mut python = Command::new("python3");
        let python = python
            .args(["-c", WRITER])
            .arg(space.join(path))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let Ok(mut child) = python.spawn() else {
            println!("skipped: there is no python3");
            return None;
        };
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut mapped = Mapped(child, said);
        mapped.hears("mapped");
        // What the times tell by now would be enough, were the page on the disk.
        std::thread::sleep(Duration::from_millis(2100));
        Some(mapped)
    }

    fn hears(&mut self, word: &str) {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), word);
    }

    fn write(&mut self, byte: char) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{byte}").unwrap();
        self.hears("written");
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn space() -> Space {
    let space = Space::with(PIPELINE);
    space.write("data/file", "1 and more\n").write("wait.sh", "");
    space
}

fn out(space: &Space) -> String {
    space.read(space.object(&space.digests()["copy"]["out"]))
}

#[test]
fn a_file_that_is_rewritten_through_a_memory_map_after_it_was_hashed_is_noticed() {
    let space = space();
    let Some(mut mapped) = Mapped::file(&space, "data/file") else { return };
    space.ok(&["run"]);
    assert_eq!(space.ran(&[]), nothing());
    mapped.write('2');
    space.ok(&["run"]);
    assert_eq!(out(&space), "2 and more\n");
}

#[test]
fn a_file_that_is_rewritten_through_a_memory_map_during_a_run_fails_it() {
    let space = space();
    let [begun, go] = ["begun", "go"].map(|name| space.join(name));
    let wait = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.05; done\n",
        begun.display(),
        go.display()
    );
    space.write("wait.sh", wait);
    let Some(mut mapped) = Mapped::file(&space, "data/file") else { return };
    let run = space.spawn(&["run", "--json"]);
    let until = Instant::now() + Duration::from_secs(60);
    while !begun.exists() {
        assert!(Instant::now() < until, "it never begins");
        std::thread::sleep(Duration::from_millis(10));
    }
    mapped.write('2');
    fs::write(go, "").unwrap();
    let (code, said) = run.wait();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the file `data/file` changed while the run read it"), "{said}");
}

#[test]
fn a_file_that_was_just_written_is_in_no_index() {
    let space = space();
    space.ok(&["run"]);
    std::thread::sleep(Duration::from_millis(2100));
    space.ok(&["run"]);
    let index = space.join("cache/v2/files.json");
    assert!(!index.exists() || !space.read(&index).contains("data/file"));
}

/// Makes two images that differ in the bytes of one file alone, and runs the program on one mounted in the place of the
/// other. Exits with 3 if the program fails, and with another code where images cannot be made or mounted.
const IMAGES: &str = "\
mke2fs -q -t ext4 -d data one.img 4M || exit 77
for time in atime mtime ctime crtime; do debugfs -w -R \"set_inode_field file $time 20200101000000\" one.img || exit 77; done
sed 's/1 and more/2 and more/' one.img > two.img
mount -o loop one.img data || exit 77
trap 'umount data' EXIT
stat -c '%i %s %Y %Z %d' data/file > before
\"$REPRO\" run && \"$REPRO\" run || exit 3
umount data && mount -o loop two.img data || exit 77
stat -c '%i %s %Y %Z %d' data/file > after
cmp before after || exit 77
\"$REPRO\" run && \"$REPRO\" export copy there || exit 3
";

#[test]
#[expect(
    clippy::print_stdout,
    reason = "whoever reads the test's output should know that nothing was tested"
)]
fn another_image_mounted_in_place_with_equal_inodes_and_times_is_noticed() {
    let space = Space::with(PIPELINE).env("REPRO", env!("CARGO_BIN_EXE_repro"));
    space.write("data/file", "1 and more\n").write("wait.sh", "");
    let ended = space.command_for("unshare", &["-m", "sh", "-c", IMAGES]).output();
    match ended.as_ref().map(|ended| (ended.status.code(), String::from_utf8_lossy(&ended.stderr)))
    {
        Ok((Some(0), _)) => assert_eq!(space.read("there/out"), "2 and more\n"),
        Ok((Some(3), said)) => panic!("{said}"),
        _ => println!("skipped: images cannot be made or mounted here"),
    }
}
