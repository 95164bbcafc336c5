//! What a run changed: the files `changes.md` and `changes.html` beside the report.

use super::reports_folder;
use crate::cli::args::Common;
use crate::cli::output::changes::{Totals, document, parameters, text};
use crate::engine::cache::store::Store;
use crate::engine::key::Key;
use crate::engine::record::diff::{State, Tables, diff};
use crate::engine::record::history::{self, Run};
use crate::engine::run::event::{Event, Observer};
use crate::fs;
use crate::report::html::to_html;
use crate::stage::KINDS;
use anyhow::Result;
use std::collections::BTreeMap;

/// The largest number of rows of a table in the files.
const LIMIT: usize = 20;

/// Compares run `id` with the last one that succeeded and exported the same reports, of the nodes
/// `exported`. Writes the files if anything differs.
///
/// That run wrote the report that this one replaced. So the comparison includes overrides, and runs
/// of other targets do not count.
pub(super) fn write(
    common: &Common,
    store: &Store,
    id: &str,
    profile: Option<&str>,
    exported: &[&str],
    observer: &mut dyn Observer,
) -> Result<()> {
    if exported.is_empty() {
        return Ok(());
    }
    let Some(before) = history::previous(store, id, exported)? else { return Ok(()) };
    let after = history::read(store, id)?;
    // Most runs differ in few nodes or none, and a diff reads the recipes of all.
    if keys(&before) == keys(&after) {
        return Ok(());
    }
    let state = |run: &Run| State::of_run(store, KINDS, run);
    let (mut old, mut new) = (state(&before)?, state(&after)?);
    // A run of targets says nothing about other stages.
    if !before.targets.is_empty() {
        new.keep_stages_of(&old);
    }
    if !after.targets.is_empty() {
        old.keep_stages_of(&new);
    }
    let found = diff(store, &old, &new, Tables::Summaries)?;
    let totals = Totals::of(&found);
    // Parameters that move nothing, such as overrides with the values of the pipeline, are no
    // change of the results.
    if totals.is_zero() && found.stages.is_empty() {
        return Ok(());
    }
    let (page, folder) = (document(&found, LIMIT, store)?, reports_folder(common, profile)?);
    let path = folder.join("changes.md");
    {
        // As for the reports, all files of a folder come from one run.
        let _update = store.lock_update()?;
        let folder = common.directory.join(&folder);
        fs::create_dir_all(&folder)?;
        fs::write_beside(&folder.join("changes.md"), text(&found, &page).as_bytes())?;
        fs::write_beside(&folder.join("changes.html"), to_html(&page).as_bytes())?;
    }
    observer.observe(&Event::Changed {
        since: before.run,
        parameters: parameters(&found),
        moved: totals.sentence(),
        cells: totals.cells,
        beyond: totals.beyond,
        figures: totals.figures,
        lost: totals.lost,
        path: path.display().to_string(),
    });
    Ok(())
}

fn keys(run: &Run) -> BTreeMap<&str, Option<Key>> {
    run.nodes.iter().map(|node| (node.node.as_str(), node.key)).collect()
}
