//! How to cite the program and a run of it.

use super::Report;
use crate::report::document::Block;
use anyhow::Result;

pub(super) fn section(report: &Report) -> Result<Vec<Block>> {
    let version = env!("CARGO_PKG_VERSION");
    let mut note = format!("version {version}");
    if let Some(root) = report.params.root {
        note += &format!(", root of the outputs {root}");
    }
    let name = env!("CARGO_PKG_NAME");
    Ok(vec![Block::Text(format!(
        "To cite the program, see `CITATION.cff` in its repository, which reference managers and \
         GitHub read. To cite the numbers of this report, add the root, which identifies every \
         output.\n\n\
         ```bibtex\n\
         @software{{{name},\n  \
         title = {{{name}}},\n  \
         author = {{{{The authors of repro}}}},\n  \
         version = {{{version}}},\n  \
         note = {{{note}}}\n\
         }}\n\
         ```\n"
    ))])
}
