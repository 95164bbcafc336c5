//! What a job and its executor agree on: where a job's log lies, and how it says why it has no answer.

use crate::engine::text::shorten;
use crate::fs;
use std::io::{Read as _, Result, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// The exit code by which `repro exec` says that the answer cannot be had now (sysexits' `EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;

/// The exit code by which it says that another process is at work on the question, or has answered it (`EX_TEMPFAIL`).
pub const TAKEN: u8 = 75;

/// The exit code by which it says that it was asked to end, and did.
pub const STOPPED: u8 = 130;

/// What the line begins with by which `repro` says why it failed.
pub const ERROR: &str = "error: ";
/// What the line begins with by which it says what would help.
pub const HINT: &str = "hint: ";

/// How much of a log's end is read at most, in bytes: it may have grown to more than there is memory.
const END: u64 = 64 << 10;

/// How much of the log of a job that went well is kept, in bytes.
const KEPT: u64 = 1 << 20;

/// How many characters of a line are shown where a log is quoted.
const WIDTH: usize = 240;

/// The last lines of a job's log, as far as they lie at its end, each cut to a readable length.
pub fn tail(log: &Path, lines: usize) -> Vec<String> {
    last(log, lines).iter().map(|line| shorten(line, WIDTH).into_owned()).collect()
}

/// Why a job failed, as the last lines of its log say: the last error and the hint after it.
pub(super) fn said(log: &Path) -> (Option<String>, Option<String>) {
    let lines = last(log, 2);
    let find =
        |lead: &str| lines.iter().rev().find_map(|line| line.strip_prefix(lead)).map(str::to_owned);
    (find(ERROR), find(HINT))
}

/// Removes from the last lines of a log what the job itself said of its failure, if that is `cause`: it is
/// shown already.
pub fn drop_reason(lines: &mut Vec<String>, cause: &str) {
    let begins = |text: &str| text.chars().take(WIDTH / 2).collect::<String>();
    let is_cause = |line: &String| {
        line.strip_prefix(ERROR).is_some_and(|error| begins(error) == begins(cause))
    };
    let hints = usize::from(lines.last().is_some_and(|line| line.starts_with(HINT)));
    let rest = lines.len() - hints;
    if rest > 0 && is_cause(&lines[rest - 1]) {
        lines.truncate(rest - 1);
    }
}

fn last(log: &Path, lines: usize) -> Vec<String> {
    let text = end(log, END).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> =
        text.split('\n').map(shown).filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

/// What a terminal shows of a line in the end: a progress bar returns to its beginning again and again.
fn shown(line: &str) -> &str {
    let line = line.trim_end_matches('\r');
    line.rsplit_once('\r').map_or(line, |(_, last)| last)
}

/// Of the log of a job that went well, keeps the end.
pub fn trim(log: &Path) {
    let is_long =
        fs::metadata_if_exists(log).is_ok_and(|meta| meta.is_some_and(|meta| meta.len() > KEPT));
    if is_long && let Ok(text) = end(log, KEPT) {
        let first = text.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // The log is for people; a full disk is no reason to fail what went well.
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
    /// The beginning of a line that has no end yet.
    rest: Vec<u8>,
    /// The last lines, if `repro` may have written them: they say why the job failed, and so does the
    /// run.
    held: Vec<String>,
}

impl Follower {
    /// From the log's beginning on.
    pub fn new(log: PathBuf) -> Follower {
        Follower { log, at: 0, rest: Vec::new(), held: Vec::new() }
    }

    /// The lines that were written since the last call.
    pub fn read(&mut self) -> Vec<String> {
        let mut lines = std::mem::take(&mut self.held);
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
        let is_ours = |line: &String| line.starts_with(ERROR) || line.starts_with(HINT);
        let ours = lines.iter().rev().take_while(|line| is_ours(line)).count();
        self.held = lines.split_off(lines.len() - ours);
        lines
    }

    /// The same at the end of the job: all that is left.
    pub fn finish(&mut self) -> Vec<String> {
        let mut lines = self.read();
        lines.append(&mut self.held);
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
    fn of_a_progress_bar_its_last_state_is_quoted() {
        let (_dir, path) = log("10%\r50%\r100%\nwindows\r\n90%\r\r\n99%\r");
        assert_eq!(tail(&path, 9), ["100%", "windows", "90%", "99%"]);
    }

    #[test]
    fn a_long_line_is_quoted_by_its_beginning() {
        let (_dir, path) = log("é".repeat(1000));
        assert_eq!(tail(&path, 9), [format!("{}... (760 more characters)", "é".repeat(240))]);
    }

    #[test]
    fn the_reason_is_the_last_error_of_all() {
        let (_dir, path) =
            log("error: of the program\nerror: the command ended with exit code 1\n");
        assert_eq!(said(&path).0.unwrap(), "the command ended with exit code 1");
    }

    #[test]
    fn a_follower_gives_each_line_once_as_soon_as_it_is_whole() {
        let (_dir, path) = log("one\ntw");
        let mut follower = Follower::new(path.clone());
        assert_eq!(follower.read(), ["one"]);
        fs::write(&path, "one\ntwo\n1%\r2%\nthr\u{e9}e\nerror: x\n").unwrap();
        assert_eq!(follower.read(), ["two", "2%", "thr\u{e9}e"]);
        fs::write(&path, "one\ntwo\n1%\r2%\nthr\u{e9}e\nerror: x\nhint: y\nlast").unwrap();
        assert_eq!(follower.finish(), ["error: x", "hint: y", "last"]);
        assert_eq!(follower.finish(), [""; 0]);
    }

    #[test]
    fn of_a_long_log_of_a_job_that_went_well_the_end_is_kept_from_a_line_on() {
        let lines: Vec<String> = (0..200_000).map(|line| format!("line {line}\n")).collect();
        let (_dir, path) = log(lines.concat());
        trim(&path);
        let kept = fs::read_text(&path).unwrap();
        assert!(
            kept.len() as u64 <= KEPT && kept.len() as u64 > KEPT - 20 && kept.starts_with("line ")
        );
        assert!(lines.concat().ends_with(&kept));
    }
}
