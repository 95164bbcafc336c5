//! The report as a document: its sections in order, and the files that the page contains.

use super::{Report, bound, cite, critical_width, ensembles, extras, full_tables, glossary};
use super::{provenance, questions, references, settings, shared_start, verdict};
use crate::report::document::{Block, Document};
use crate::stage::plot::Subject;
use anyhow::Result;

/// A section of the report. A template places it by its id.
pub(super) struct Section {
    /// The anchor of its heading.
    pub(super) id: &'static str,
    /// The text of its heading.
    pub(super) title: &'static str,
    /// Its content; a section without content has no heading.
    pub(super) blocks: fn(&Report) -> Result<Vec<Block>>,
}

/// Every section, in the order of the report.
pub(super) const SECTIONS: &[Section] = &[
    Section { id: "verdict", title: "Verdict", blocks: verdict::section },
    Section { id: "contents", title: "Contents", blocks: |_| Ok(vec![Block::Contents]) },
    Section {
        id: "methods",
        title: "Methods: which curve has the lowest error?",
        blocks: questions::methods,
    },
    Section {
        id: "bound",
        title: "Which curve: how far is each method from the learned one?",
        blocks: bound::section,
    },
    Section {
        id: "widths",
        title: "Widths: when do minima cease to be isolated?",
        blocks: questions::widths,
    },
    Section {
        id: "critical-width",
        title: "Critical width: how many neurons connect the minima?",
        blocks: critical_width::section,
    },
    Section {
        id: "depth",
        title: "Depth: are the minima of deeper nets more isolated?",
        blocks: questions::depth,
    },
    Section {
        id: "priors",
        title: "Priors: do they connect the minima better?",
        blocks: questions::priors,
    },
    Section {
        id: "ensembles",
        title: "Ensembles: do nets along a curve predict better?",
        blocks: ensembles::section,
    },
    Section {
        id: "shared-start",
        title: "Shared start: after how many epochs do minima stay connected?",
        blocks: shared_start::section,
    },
    Section {
        id: "planes",
        title: "Planes: what lies between the minima?",
        blocks: |report| Ok(report.figures_on(Subject::Planes)),
    },
    Section {
        id: "training",
        title: "Training and endpoints: which nets are connected?",
        blocks: questions::training,
    },
    Section { id: "extras", title: extras::TITLE, blocks: |report| report.extras.section() },
    Section { id: "tables", title: "Full tables", blocks: full_tables::section },
    Section { id: "settings", title: "Settings and definitions", blocks: settings::section },
    Section { id: "provenance", title: "Provenance", blocks: provenance::section },
    Section { id: "glossary", title: "Glossary", blocks: glossary::section },
    Section { id: "references", title: "References", blocks: references::section },
    Section { id: "cite", title: "How to cite", blocks: cite::section },
];

impl Section {
    /// The heading and the content; nothing without content.
    pub(super) fn with_heading(&self, report: &Report) -> Result<Vec<Block>> {
        let mut blocks = (self.blocks)(report)?;
        if !blocks.is_empty() {
            let heading =
                Block::Heading { level: 2, id: self.id.to_owned(), text: self.title.to_owned() };
            blocks.insert(0, heading);
        }
        Ok(blocks)
    }
}

impl Report<'_> {
    pub(super) fn title(&self) -> String {
        "How connected are the minima of neural networks?".to_owned()
    }

    /// The report without a template.
    pub(super) fn document(&self) -> Result<Document> {
        let mut blocks = Vec::new();
        for section in SECTIONS {
            blocks.extend(section.with_heading(self)?);
        }
        Ok(Document {
            title: self.title(),
            description: verdict::description(self),
            blocks,
            files: self.files()?,
        })
    }
}
