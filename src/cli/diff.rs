//! `repro diff`: compares two runs or two profiles, as Markdown, JSON or a page.

use super::args::Common;
use super::output::{changes, json};
use super::session::Session;
use crate::engine::cache::store::Store;
use crate::engine::record::diff::{Diff, State, Tables, diff};
use crate::engine::record::history;
use crate::fs;
use crate::report::html::to_html;
use crate::stage::KINDS;
use anyhow::Result;
use serde_json::{Value as Json, json};
use std::path::Path;

/// How to print the differences.
pub(super) struct Form<'a> {
    /// The largest number of rows of a table.
    pub(super) limit: usize,
    /// The file of the page.
    pub(super) html: Option<&'a Path>,
}

/// Compares two runs; by default the last two.
pub(super) fn runs(
    common: &Common,
    before: Option<String>,
    after: Option<String>,
    form: &Form,
) -> Result<String> {
    let store = common.store();
    let state = |name: Option<String>, default: &str| {
        let run =
            history::read(&store, &history::find(&store, name.as_deref().unwrap_or(default))?)?;
        State::of_run(&store, KINDS, &run)
    };
    let (before, after) = (state(before, "last~1")?, state(after, "last")?);
    print(common, &store, [before, after], form)
}

/// Compares the cached outputs of two profiles.
pub(super) fn profiles(
    common: &Common,
    before: Option<String>,
    after: Option<String>,
    form: &Form,
) -> Result<String> {
    let state = |profile: Option<String>| -> Result<State> {
        let name = profile.clone().unwrap_or_default();
        let session = Session::open(&Common { profile, ..common.clone() })?;
        let all: Vec<_> = session.plan.ids().collect();
        Ok(State::of_plan(&name, &session.plan, &session.plan_status(&all)?))
    };
    let (before, after) = (state(before)?, state(after)?);
    print(common, &common.store(), [before, after], form)
}

fn print(common: &Common, store: &Store, states: [State; 2], form: &Form) -> Result<String> {
    let [before, after] = states;
    let tables = if common.json { Tables::All } else { Tables::Summaries };
    let diff = diff(store, &before, &after, tables)?;
    if let Some(path) = form.html {
        let page = changes::document(&diff, form.limit, store)?;
        fs::write_beside(path, to_html(&page).as_bytes())?;
    }
    if common.json {
        return Ok(json(with_numbers(&diff)));
    }
    Ok(changes::text(&diff, &changes::document(&diff, form.limit, store)?))
}

/// The differences as JSON. Each cell has the change as a number, so that readers can sort by it
/// without parsing texts, and its size relative to the intervals.
fn with_numbers(diff: &Diff) -> Json {
    let mut whole = json!(diff);
    for (table, found) in diff.tables.iter().enumerate() {
        for (i, cell) in found.changes.cells.iter().enumerate() {
            let change = changes::number(cell);
            let place = &mut whole["tables"][table]["changes"]["cells"][i];
            place["change"] = json!(change.map(|change| change.difference()));
            place["relative"] = json!(change.map(|change| change.relative()));
            if let Some(ratio) = change.and_then(|change| change.ratio()) {
                place["ratio"] = json!(ratio);
                place["beyond"] = json!(ratio > 1.0);
            }
        }
    }
    whole
}
