//! `repro man`: manual pages.

use super::args::Cli;
use crate::fs;
use anyhow::Result;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use std::path::Path;

/// Returns the page of `repro`. With a folder, writes it and the page of each command there, and
/// returns the paths.
pub(super) fn man(folder: Option<&Path>) -> Result<String> {
    let mut repro = Cli::command();
    // Names the pages of commands `repro-run` and so on.
    repro.build();
    let Some(folder) = folder else {
        return Ok(String::from_utf8_lossy(&page(&repro)?).into_owned());
    };
    fs::create_dir_all(folder)?;
    let shown = repro
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help");
    let mut written = String::new();
    for command in std::iter::once(&repro).chain(shown) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let path = folder.join(format!("{name}.1"));
        fs::write(&path, page(command)?)?;
        written += &format!("{}\n", path.display());
    }
    Ok(written)
}

fn page(command: &Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}
