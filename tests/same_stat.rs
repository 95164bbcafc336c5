//! Edits that leave a file's size and times unchanged are detected.
//!
//! Some tests need Python or the right to mount; without it they print that they are skipped.

use crate::space::{Space, nothing, wait_until};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const PIPELINE: &str = "\
stages:
  raw:
    file: { path: data }
  copy:
    command:
      run: 'cp inputs/raw/file out; echo; sh wait.sh'
      files: [wait.sh]
      inputs: { raw: raw }
      outputs: [out]
";

/// A Python script that writes the first byte of a file through a memory map: once at its start,
/// then for each line that it reads.
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

/// A process that has mapped a file into memory.
struct MappedFile {
    python: Child,
    stdout: BufReader<ChildStdout>,
}

impl MappedFile {
    /// `None` if there is no Python.
    #[expect(clippy::print_stdout, reason = "the test's output shows that it was skipped")]
    fn open(space: &Space, path: &str) -> Option<MappedFile> {
        let mut python = Command::new("python3");
        let python = python
            .args(["-c", WRITER])
            .arg(space.join(path))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let Ok(mut python) = python.spawn() else {
            println!("skipped: there is no python3");
            return None;
        };
        let stdout = BufReader::new(python.stdout.take().unwrap());
        let mut file = MappedFile { python, stdout };
        file.expect_line("mapped");
        outwait_granularity();
        Some(file)
    }

    fn expect_line(&mut self, expected: &str) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), expected);
    }

    fn write(&mut self, byte: char) {
        writeln!(self.python.stdin.as_mut().unwrap(), "{byte}").unwrap();
        self.expect_line("written");
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        let _ = self.python.kill();
        let _ = self.python.wait();
    }
}

/// Waits longer than the granularity of file times (2 s), but not as long as the kernel may take to
/// write a mapped page back, which is when such a file's times change.
fn outwait_granularity() {
    std::thread::sleep(Duration::from_millis(2100));
}

fn space() -> Space {
    let space = Space::with(PIPELINE);
    space.write("data/file", "1 and more\n").write("wait.sh", "");
    space
}

fn out(space: &Space) -> String {
    space.output("copy", "out")
}

#[test]
fn a_write_through_a_memory_map_after_a_run_is_detected() {
    let space = space();
    let Some(mut mapped) = MappedFile::open(&space, "data/file") else { return };
    space.ok(&["run"]);
    assert_eq!(space.ran(&[]), nothing());
    mapped.write('2');
    space.ok(&["run"]);
    assert_eq!(out(&space), "2 and more\n");
}

#[test]
fn a_write_through_a_memory_map_during_a_run_fails_the_run() {
    let space = space();
    let [started, resume] = ["started", "resume"].map(|name| space.join(name));
    let wait = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.05; done\n",
        started.display(),
        resume.display()
    );
    space.write("wait.sh", wait);
    let Some(mut mapped) = MappedFile::open(&space, "data/file") else { return };
    let run = space.spawn(&["run", "--json"]);
    wait_until("the command has started", || started.exists());
    mapped.write('2');
    fs::write(resume, "").unwrap();
    let (code, stderr) = run.wait();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("the file `data/file` changed during the run"), "{stderr}");
}

#[test]
fn a_recently_written_file_is_not_indexed() {
    let space = space();
    space.ok(&["run"]);
    outwait_granularity();
    space.ok(&["run"]);
    let index = space.join("cache/v2/files.json");
    assert!(!index.exists() || !space.read(&index).contains("data/file"));
}

/// Makes two disk images that differ only in the bytes of one file, runs `repro` with the first
/// mounted, then with the second. Exits with 3 if `repro` fails, and with another code if the
/// images cannot be made or mounted.
const IMAGES: &str = "\
mke2fs -q -t ext4 -d data one.img 4M || exit 77
for time in atime mtime ctime crtime; do
  debugfs -w -R \"set_inode_field file $time 20200101000000\" one.img || exit 77
done
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
#[expect(clippy::print_stdout, reason = "the test's output shows that it was skipped")]
fn another_image_with_equal_inodes_and_times_mounted_in_its_place_is_detected() {
    let space = space().env("REPRO", env!("CARGO_BIN_EXE_repro"));
    let output = space.command_for("unshare", &["-m", "sh", "-c", IMAGES]).output();
    let ended = output.as_ref().map(|o| (o.status.code(), String::from_utf8_lossy(&o.stderr)));
    match ended {
        Ok((Some(0), _)) => assert_eq!(space.read("there/out"), "2 and more\n"),
        Ok((Some(3), stderr)) => panic!("{stderr}"),
        _ => println!("skipped: images cannot be made or mounted here"),
    }
}
