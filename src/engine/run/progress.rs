//! The observers of a run: stable lines, a terminal with a progress bar, a stream of JSON.
//!
//! Observers know events only. Progress goes to standard error; standard output carries data.

use super::event::{Event, Observer, Summary};
use crate::engine::text::{bytes, count, escape_control, seconds};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

/// The amount of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Failures and warnings about fallbacks.
    Quiet,
    /// Also jobs and a summary.
    Normal,
    /// Also cached nodes and keys.
    Verbose,
}

/// Passes each event to several observers.
pub struct All(pub Vec<Box<dyn Observer>>);

impl Observer for All {
    fn observe(&mut self, event: &Event) {
        self.0.iter_mut().for_each(|observer| observer.observe(event));
    }

    fn output(&mut self, node: &str, line: &str) {
        self.0.iter_mut().for_each(|observer| observer.output(node, line));
    }

    fn tick(&mut self) {
        self.0.iter_mut().for_each(|observer| observer.tick());
    }
}

/// One JSON object per line, for `--json` and for the history. If a write fails, the run continues.
pub struct Json<W: Write>(BufWriter<W>);

impl<W: Write> Json<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Json(BufWriter::new(out))
    }
}

impl<W: Write> Observer for Json<W> {
    fn observe(&mut self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            let _ = self.0.write_all((line + "\n").as_bytes());
        }
        // Writes whole lines, because the run may be killed. Lines of cached nodes are buffered,
        // since there may be thousands; a killed run may lose the last ones.
        if !matches!(event, Event::Cached { .. }) {
            self.tick();
        }
    }

    fn tick(&mut self) {
        let _ = self.0.flush();
    }
}

/// One stable line per node that ran or failed.
pub struct Lines<W> {
    out: W,
    verbosity: Verbosity,
    sentences: Sentences,
}

impl<W: Write> Lines<W> {
    /// Writes to `out`.
    pub fn new(out: W, verbosity: Verbosity) -> Self {
        Lines { out, verbosity, sentences: Sentences::default() }
    }
}

impl<W: Write> Observer for Lines<W> {
    fn observe(&mut self, event: &Event) {
        for line in self.sentences.lines(event, self.verbosity) {
            let _ = writeln!(self.out, "{line}");
        }
    }

    fn output(&mut self, node: &str, line: &str) {
        let _ = writeln!(self.out, "{}", self.sentences.output(node, line));
    }
}

/// A progress bar with counts and the remaining time, below the lines about failures.
pub struct Terminal {
    bar: ProgressBar,
    verbosity: Verbosity,
    sentences: Sentences,
    running: BTreeMap<String, Instant>,
    /// The nodes whose jobs wait in a queue.
    queued: BTreeSet<String>,
}

impl Terminal {
    /// Writes to standard error, which must be a terminal.
    pub fn new(verbosity: Verbosity) -> Self {
        let bar = ProgressBar::new(0);
        let style =
            ProgressStyle::with_template("{bar:28} {pos}/{len}  {elapsed_precise}  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let (running, queued) = (BTreeMap::new(), BTreeSet::new());
        Terminal { bar, verbosity, sentences: Sentences::default(), running, queued }
    }

    fn refresh(&self) {
        let (done, all) = (self.sentences.done, self.sentences.nodes);
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
        let left = self
            .sentences
            .time_left()
            .map(|left| format!("about {} left  ", seconds(left)))
            .unwrap_or_default();
        let longest = self.running.iter().min_by_key(|(_, since)| **since);
        let now = longest.map_or(String::new(), |(node, since)| {
            let more = if self.running.len() > 1 {
                format!(" +{}", self.running.len() - 1)
            } else {
                String::new()
            };
            format!(
                "{} {}{more}",
                escape_control(node, &[]),
                seconds(since.elapsed().as_secs_f64())
            )
        });
        let queued = match self.queued.len() {
            0 => String::new(),
            queued if now.is_empty() => format!("{queued} pending"),
            queued => format!(", {queued} pending"),
        };
        self.bar.set_message(format!("{left}{now}{queued}"));
    }
}

impl Observer for Terminal {
    fn observe(&mut self, event: &Event) {
        match event {
            Event::Queued { node, .. } => {
                self.running.remove(node);
                self.queued.insert(node.clone());
            }
            Event::Running { node, .. } => {
                self.queued.remove(node);
                self.running.insert(node.clone(), Instant::now());
            }
            Event::Finished { node, .. } | Event::Failed { node, .. } => {
                self.queued.remove(node);
                self.running.remove(node);
            }
            _ => {}
        }
        let lines = self.sentences.lines(event, self.verbosity);
        if let Event::Ended(_) = event {
            self.bar.finish_and_clear();
        }
        let passing = matches!(
            event,
            Event::Queued { .. }
                | Event::Running { .. }
                | Event::Finished { .. }
                | Event::Cached { .. }
        );
        if !passing || self.verbosity == Verbosity::Verbose {
            lines
                .iter()
                .for_each(|line| self.bar.suspend(|| _ = writeln!(std::io::stderr(), "{line}")));
        }
        self.refresh();
    }

    fn output(&mut self, node: &str, line: &str) {
        let line = self.sentences.output(node, line);
        self.bar.suspend(|| _ = writeln!(std::io::stderr(), "{line}"));
    }

    fn tick(&mut self) {
        self.refresh();
    }
}

/// Formats events as lines of text.
#[derive(Default)]
struct Sentences {
    nodes: usize,
    done: usize,
    ran: usize,
    began: Option<Instant>,
    /// The nodes whose output has been printed.
    shown: BTreeSet<String>,
    /// The line about changes, printed last.
    changes: Option<String>,
}

impl Sentences {
    /// Formats a line of output of a node's job.
    fn output(&mut self, node: &str, line: &str) -> String {
        if !self.shown.contains(node) {
            self.shown.insert(node.to_owned());
        }
        escape_control(&format!("{node} | {line}"), &['\t']).into_owned()
    }

    fn lines(&mut self, event: &Event, verbosity: Verbosity) -> Vec<String> {
        let mut lines = Vec::new();
        let mut say = |at: Verbosity, line: String| {
            if verbosity >= at {
                lines.push(escape_control(&line, &['\t']).into_owned());
            }
        };
        match event {
            Event::Started { nodes, profile, overrides, .. } => {
                (self.nodes, self.began) = (*nodes, Some(Instant::now()));
                let profile =
                    profile.as_ref().map(|p| format!("profile `{p}`, ")).unwrap_or_default();
                let set = overrides.iter().map(|o| format!(", -S {o}")).collect::<String>();
                say(Verbosity::Normal, format!("{profile}{}{set}", count(*nodes)));
            }
            Event::Commit(commit) => {
                say(Verbosity::Verbose, format!("commit {}", commit.short()));
            }
            Event::Cached { node, .. } => {
                self.done += 1;
                say(Verbosity::Verbose, format!("[{}/{}] {node}: cached", self.done, self.nodes));
            }
            Event::Queued { node, key, reasons, .. }
            | Event::Running { node, key, reasons, .. } => {
                let why = reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                let phase = if let Event::Queued { .. } = event { "pending" } else { "running" };
                say(
                    Verbosity::Verbose,
                    format!("{node}: {phase} {} ({why})", &key[..10.min(key.len())]),
                );
            }
            Event::AlreadyRunning { node, process } => {
                say(
                    Verbosity::Normal,
                    format!("{node}: already running in {process}; waiting for its result"),
                );
            }
            Event::Retrying { node, cause, attempt, of } => {
                say(
                    Verbosity::Normal,
                    format!("{node}: failed: {cause}; retrying, attempt {attempt} of {of}"),
                );
            }
            Event::Finished { node, seconds: took, .. } => {
                self.done += 1;
                self.ran += 1;
                say(
                    Verbosity::Normal,
                    format!("[{}/{}] {node}: ran {}", self.done, self.nodes, seconds(*took)),
                );
            }
            Event::Failed { node, cause, hint, log, log_path, .. } => {
                self.done += 1;
                say(
                    Verbosity::Quiet,
                    format!("[{}/{}] {node}: failed: {cause}", self.done, self.nodes),
                );
                let log = if self.shown.contains(node) { &[] } else { log.as_slice() };
                log.iter().for_each(|line| say(Verbosity::Quiet, format!("    {line}")));
                hint.iter().for_each(|hint| say(Verbosity::Quiet, format!("    hint: {hint}")));
                say(Verbosity::Quiet, format!("    full log: {log_path}"));
            }
            Event::Skipped { node, because } => {
                self.done += 1;
                say(
                    Verbosity::Normal,
                    format!("[{}/{}] {node}: skipped, `{because}` failed", self.done, self.nodes),
                );
            }
            Event::FallbackUsed { node, fallback, cause } => {
                say(Verbosity::Quiet, format!("warning: `{node}` is unavailable: {cause}"));
                say(
                    Verbosity::Quiet,
                    format!("warning: all results below use its fallback {fallback}"),
                );
            }
            Event::LockMatched { lock, root, nodes } => {
                let verb = if *nodes == 1 { "matches" } else { "match" };
                say(Verbosity::Normal, format!("{lock}: {} {verb}; root {root}", count(*nodes)));
            }
            Event::Exported { folder, written, files, removed } => {
                let written = (*written > 0).then(|| format!("{written} of {files} files written"));
                let removed = (*removed > 0).then(|| format!("{removed} removed"));
                let done: Vec<String> = written.into_iter().chain(removed).collect();
                let state = if done.is_empty() { "unchanged".to_owned() } else { done.join(", ") };
                say(Verbosity::Normal, format!("{folder}: {state}"));
            }
            Event::RemoteNotice { message, hint } => {
                say(Verbosity::Quiet, format!("warning: {message}"));
                hint.iter().for_each(|hint| say(Verbosity::Quiet, format!("    hint: {hint}")));
            }
            Event::Pulled { results, bytes: size } => say(
                Verbosity::Normal,
                format!("{} from the remote cache ({})", plural(*results), bytes(*size)),
            ),
            Event::Pushed { results, unchanged, bytes: size } => say(
                Verbosity::Normal,
                format!(
                    "{} to the remote cache ({}); {unchanged} were there",
                    plural(*results),
                    bytes(*size)
                ),
            ),
            Event::Changed { since, parameters, moved, path, .. } => {
                self.changes = Some(changes(since, parameters, moved, path));
            }
            Event::Ended(summary) => {
                say(Verbosity::Normal, summarize(summary));
                self.changes.take().into_iter().for_each(|line| say(Verbosity::Normal, line));
            }
        }
        lines
    }

    /// The estimated remaining time; `None` until a node has finished.
    fn time_left(&self) -> Option<f64> {
        let elapsed = self.began?.elapsed();
        let pace = elapsed.as_secs_f64() / self.ran as f64;
        (self.ran > 0 && elapsed > Duration::from_secs(2))
            .then(|| pace * self.nodes.saturating_sub(self.done) as f64)
    }
}

/// `1 result` or `N results`.
fn plural(results: usize) -> String {
    format!("{results} result{}", if results == 1 { "" } else { "s" })
}

/// The largest number of changed parameters in a line.
const PARAMETERS: usize = 3;

fn changes(since: &str, parameters: &[String], moved: &str, path: &str) -> String {
    let mut parts: Vec<String> = parameters.iter().take(PARAMETERS).cloned().collect();
    if parameters.len() > PARAMETERS {
        parts.push(format!("and {} more", parameters.len() - PARAMETERS));
    }
    let parameters = if parts.is_empty() { String::new() } else { parts.join(", ") + "; " };
    format!("changes since run {since}: {parameters}{moved}: {path}")
}

fn summarize(summary: &Summary) -> String {
    let Summary { nodes, cached, ran, failed, skipped, seconds: took, saved_seconds, outcome: _ } =
        summary;
    if cached == nodes {
        return format!("{}: all cached, nothing to do; {}", count(*nodes), seconds(*took));
    }
    let saved = if *saved_seconds >= 0.1 {
        format!(" (saved {})", seconds(*saved_seconds))
    } else {
        String::new()
    };
    let nodes = count(*nodes);
    format!(
        "{nodes}: {cached} cached, {ran} ran, {failed} failed, {skipped} skipped; {}{saved}",
        seconds(*took)
    )
}

#[cfg(test)]
mod tests {
    use super::super::reason::Reason;
    use super::*;

    fn printed(verbosity: Verbosity) -> String {
        let mut lines = Lines::new(Vec::new(), verbosity);
        let node = || "nets@hidden=50".to_owned();
        let events = [
            Event::Started {
                schema: 1,
                run: "r".into(),
                profile: Some("quick".into()),
                pipeline: "pipeline.yaml".into(),
                overrides: vec!["a.b=1".into()],
                targets: Vec::new(),
                nodes: 4,
                process: "p".into(),
            },
            Event::FallbackUsed {
                node: "data".into(),
                fallback: "{}".into(),
                cause: "no mirror responds".into(),
            },
            Event::Cached {
                node: "data".into(),
                kind: "fetch",
                key: "aa".into(),
                saved_seconds: 2.0,
            },
            Event::Running {
                node: node(),
                kind: "train",
                key: "0123456789abcdef".into(),
                reasons: vec![Reason::FirstTime],
            },
            Event::Finished { node: node(), kind: "train", key: String::new(), seconds: 12.34 },
            Event::Failed {
                node: "curves".into(),
                kind: "evaluate",
                cause: "exit code 1".into(),
                hint: None,
                log: vec!["no memory".into()],
                log_path: "cache/x".into(),
            },
            Event::Skipped { node: "report".into(), because: "curves".into() },
            Event::LockMatched { lock: "pipeline.lock".into(), root: "5f0c".into(), nodes: 4 },
            Event::Exported { folder: "reports/quick".into(), written: 1, files: 3, removed: 0 },
            Event::Changed {
                since: "7-1".into(),
                parameters: ["a.b 1 -> 2", "a.c 1 -> 2", "a.d 1 -> 2", "a.e 1 -> 2"]
                    .map(str::to_owned)
                    .into(),
                moved: "3 cells and no figure moved".into(),
                cells: 3,
                beyond: None,
                figures: 0,
                lost: 0,
                path: "reports/quick/changes.md".into(),
            },
            Event::Ended(Summary {
                nodes: 4,
                cached: 1,
                ran: 1,
                failed: 1,
                skipped: 1,
                seconds: 75.0,
                saved_seconds: 2.0,
                outcome: super::super::event::Ending::Failed,
            }),
        ];
        events.iter().for_each(|event| lines.observe(event));
        String::from_utf8(lines.out).unwrap()
    }

    #[test]
    fn normal_lines_show_what_ran_and_a_summary() {
        insta::assert_snapshot!(printed(Verbosity::Normal));
    }

    #[test]
    fn quiet_lines_show_failures_and_fallbacks_only() {
        insta::assert_snapshot!(printed(Verbosity::Quiet));
    }

    #[test]
    fn a_queued_node_is_pending() {
        let (node, key) = ("n".to_owned(), "0123456789abcdef".to_owned());
        let event = Event::Queued { node, kind: "train", key, reasons: vec![Reason::FirstTime] };
        for (verbosity, line) in
            [(Verbosity::Verbose, "n: pending 0123456789 (first time)\n"), (Verbosity::Normal, "")]
        {
            let mut lines = Lines::new(Vec::new(), verbosity);
            lines.observe(&event);
            assert_eq!(String::from_utf8(lines.out).unwrap(), line);
        }
    }

    #[test]
    fn verbose_lines_show_reasons() {
        insta::assert_snapshot!(printed(Verbosity::Verbose));
    }
}
