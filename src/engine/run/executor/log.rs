//! The log of a job: the output of its process. This module reads and trims logs.

use super::Failure;
use crate::engine::text::shorten;
use crate::fs;
use std::io::{Read as _, Result, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// The prefix of an error that `repro` prints.
pub const ERROR: &str = "error: ";
/// The prefix of the hint of an error.
pub const HINT: &str = "hint: ";

/// The maximum number of bytes that are read from the end of a log. A log may be larger than
/// memory.
const END: u64 = 64 << 10;

/// The number of bytes of the log of a successful job that are kept.
const KEPT: u64 = 1 << 20;

/// The maximum length of a quoted line, in characters.
const WIDTH: usize = 240;

/// The last lines of a log that are not blank. Long lines are shortened.
pub fn tail(log: &Path, lines: usize) -> Vec<String> {
    let text = end(log, END).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> =
        text.split('\n').map(shown).filter(|line| !line.trim().is_empty()).collect();
    let last = &all[all.len().saturating_sub(lines)..];
    last.iter().map(|line| shorten(line, WIDTH).into_owned()).collect()
}

/// The text after the last carriage return, as a terminal shows it. Progress bars overwrite their
/// line.
fn shown(line: &str) -> &str {
    let line = line.trim_end_matches('\r');
    line.rsplit_once('\r').map_or(line, |(_, last)| last)
}

/// Appends the failure of a job to its log.
pub fn append_failure(log: &Path, failure: &Failure) {
    let mut text = String::new();
    if end(log, 1).is_ok_and(|last| last.first().is_some_and(|byte| *byte != b'\n')) {
        text.push('\n');
    }
    text += &format!("{ERROR}{}\n", failure.cause);
    failure.hint.iter().for_each(|hint| text += &format!("{HINT}{hint}\n"));
    // An error is ignored: the failure has been reported already.
    let _ = fs::append(log).and_then(|mut file| Ok(file.write_all(text.as_bytes())?));
}

/// Truncates the log of a successful job to its last lines.
pub fn trim(log: &Path) {
    let is_long =
        fs::metadata_if_exists(log).is_ok_and(|meta| meta.is_some_and(|meta| meta.len() > KEPT));
    if is_long && let Ok(text) = end(log, KEPT) {
        let first = text.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // An error is ignored: a full disk must not fail a successful job.
        let _ = fs::create(log).and_then(|mut file| Ok(file.write_all(&text[first..])?));
    }
}

fn end(path: &Path, bytes: u64) -> Result<Vec<u8>> {
    let mut file = fs::open(path).map_err(std::io::Error::other)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    Ok(text)
}

/// Reads a log as it grows.
#[derive(Debug)]
pub struct Follower {
    log: PathBuf,
    at: u64,
    /// The last line, while it is incomplete.
    rest: Vec<u8>,
}

impl Follower {
    /// A follower that reads the log from its start.
    pub fn new(log: PathBuf) -> Follower {
        Follower { log, at: 0, rest: Vec::new() }
    }

    /// The lines that were completed since the last call.
    pub fn read(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(text) = self.chunk()
            && !text.is_empty()
        {
            self.at += text.len() as u64;
            self.rest.extend(text);
            let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let whole: Vec<u8> = self.rest.drain(..whole).collect();
            lines
                .extend(String::from_utf8_lossy(&whole).lines().map(|line| shown(line).to_owned()));
        }
        lines
    }

    /// The remaining lines after the end of the job, including an incomplete last line.
    pub fn finish(&mut self) -> Vec<String> {
        let mut lines = self.read();
        let rest = std::mem::take(&mut self.rest);
        lines.extend((!rest.is_empty()).then(|| shown(&String::from_utf8_lossy(&rest)).to_owned()));
        lines
    }

    fn chunk(&self) -> Result<Vec<u8>> {
        let mut file = fs::open(&self.log).map_err(std::io::Error::other)?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut text = Vec::new();
        file.take(END).read_to_end(&mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines_that_are_not_blank() {
        let (dir, path) = log(b"one\n\ntwo\n \nthr\xffee\n\n");
        assert_eq!(tail(&path, 2), ["two", "thr\u{fffd}ee"]);
        assert_eq!(tail(&path, 9).len(), 3);
        assert_eq!(tail(&dir.path().join("none"), 3), [""; 0], "a missing log is an empty one");
    }

    #[test]
    fn only_the_end_of_a_long_log_is_read() {
        let lines: Vec<String> = (0..100_000).map(|line| format!("line {line}")).collect();
        let (_dir, path) = log(lines.join("\n"));
        assert_eq!(tail(&path, 2), lines[99_998..]);
        let all = tail(&path, 100_000);
        let (first, whole) = all.split_first().unwrap();
        assert!(whole.len() > 1000 && whole.len() < 10_000, "{}", whole.len());
        assert_eq!(whole, &lines[100_000 - whole.len()..]);
        assert!(
            lines[99_999 - whole.len()].ends_with(first.as_str()),
            "the first line may be incomplete"
        );
    }

    #[test]
    fn of_a_progress_bar_only_the_last_state_is_quoted() {
        let (_dir, path) = log("10%\r50%\r100%\nwindows\r\n90%\r\r\n99%\r");
        assert_eq!(tail(&path, 9), ["100%", "windows", "90%", "99%"]);
    }

    #[test]
    fn a_long_line_is_shortened() {
        let (_dir, path) = log("é".repeat(1000));
        assert_eq!(tail(&path, 9), [format!("{}... (760 more characters)", "é".repeat(240))]);
    }

    #[test]
    fn a_failure_is_appended_on_separate_lines() {
        let failure = Failure { cause: "no".into(), hint: Some("try later".into()) };
        for (before, after) in [
            ("", "error: no\nhint: try later\n"),
            ("one\n", "one\nerror: no\nhint: try later\n"),
            ("one\ntwo", "one\ntwo\nerror: no\nhint: try later\n"),
        ] {
            let (_dir, path) = log(before);
            append_failure(&path, &failure);
            assert_eq!(fs::read_text(&path).unwrap(), after);
        }
    }

    #[test]
    fn a_follower_returns_each_line_once_as_soon_as_it_is_complete() {
        let (_dir, path) = log("one\ntw");
        let mut follower = Follower::new(path.clone());
        assert_eq!(follower.read(), ["one"]);
        fs::write(&path, "one\ntwo\n1%\r2%\nthr\u{e9}e\n").unwrap();
        assert_eq!(follower.read(), ["two", "2%", "thr\u{e9}e"]);
        fs::write(&path, "one\ntwo\n1%\r2%\nthr\u{e9}e\nlast").unwrap();
        assert_eq!(follower.finish(), ["last"]);
        assert_eq!(follower.finish(), [""; 0]);
    }

    #[test]
    fn the_end_of_a_long_log_of_a_successful_job_is_kept_in_whole_lines() {
        let lines: Vec<String> = (0..200_000).map(|line| format!("line {line}\n")).collect();
        let (_dir, path) = log(lines.concat());
        trim(&path);
        let kept = fs::read_text(&path).unwrap();
        let length = kept.len() as u64;
        assert!(length <= KEPT && length > KEPT - 20 && kept.starts_with("line "));
        assert!(lines.concat().ends_with(&kept));
    }
}
