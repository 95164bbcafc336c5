//! The legend: symbols with labels, and the keys of its entries.

use super::canvas::{Align, At, Canvas, DrawError, text_width};
use super::figure::{Mark, Panel};
use super::style::*;

/// The width of a symbol, in pixels.
pub(super) const SYMBOL: f64 = 28.0;
/// The height of an entry, in pixels.
const ENTRY: f64 = 18.0;

/// The look of a symbol.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Symbol {
    Series(usize, Mark),
    Reference(&'static [f64]),
}

impl Symbol {
    /// Draws the symbol with its left end at `at`.
    pub(super) fn draw(self, canvas: &Canvas, (left, y): At) -> Result<(), DrawError> {
        let line = [(left, y), (left + SYMBOL, y)];
        match self {
            Symbol::Reference(pattern) => canvas.dashed(pattern, || canvas.line(&line, 1.0, GREY)),
            Symbol::Series(style, mark) => {
                if mark.has_line() {
                    canvas.dashed(dash(style), || canvas.line(&line, STROKE, colour(style)))?;
                }
                markers(canvas, &[(left + 0.5 * SYMBOL, y)], style, mark)
            }
        }
    }
}

/// The keys of labels: the same in all panels of a figure.
pub(super) struct Keys<'a>(Vec<&'a str>);

impl<'a> Keys<'a> {
    pub(super) fn new(panels: &'a [Panel]) -> Keys<'a> {
        let mut labels: Vec<&str> = Vec::new();
        for panel in panels {
            let series = panel.series.iter().map(|series| &series.label);
            for label in series.chain(panel.references.iter().map(|reference| &reference.label)) {
                if !labels.contains(&label.as_str()) {
                    labels.push(label);
                }
            }
        }
        Keys(labels)
    }

    /// The key of a label: a letter and a number.
    pub(super) fn key(&self, label: &str) -> String {
        let index = self.0.iter().position(|known| *known == label).unwrap_or(self.0.len());
        format!("s{index}")
    }

    /// The attribute of the SVG groups with the series of a label.
    pub(super) fn attribute(&self, label: &str) -> String {
        format!("data-series=\"{}\"", self.key(label))
    }
}

/// The entries of the legend of all panels, in the order in which they first occur: labels with
/// their symbols.
pub(super) fn entries(panels: &[Panel]) -> Vec<(&str, Symbol)> {
    let mut entries: Vec<(&str, Symbol)> = Vec::new();
    for panel in panels {
        let listed = panel.series.iter().filter(|series| series.note.is_empty());
        let series = listed.map(|s| (s.label.as_str(), Symbol::Series(s.style, s.mark)));
        let references = panel.references.iter().zip(REFERENCE_DASHES.iter().cycle());
        let references = references.map(|(r, dash)| (r.label.as_str(), Symbol::Reference(dash)));
        for (label, symbol) in series.chain(references) {
            if !label.is_empty() && entries.iter().all(|(known, _)| *known != label) {
                entries.push((label, symbol));
            }
        }
    }
    entries
}

/// The legend of a single drawing, in columns of equal width.
pub(super) struct Legend<'a> {
    entries: Vec<(&'a str, Symbol)>,
    columns: usize,
    corner: At,
    column: f64,
}

impl<'a> Legend<'a> {
    /// The legend of all panels.
    pub(super) fn new(panels: &'a [Panel], corner: At, width: f64) -> Legend<'a> {
        let entries = entries(panels);
        let widest = entries.iter().map(|(label, _)| text_width(label, NORMAL)).fold(0.0, f64::max);
        let column = SYMBOL + TICK + widest + 1.5 * MARGIN;
        let most = ((width / column) as usize).clamp(1, entries.len().max(1));
        let columns = entries.len().div_ceil(entries.len().div_ceil(most).max(1)).max(1);
        Legend { entries, columns, corner, column }
    }

    /// The height in pixels.
    pub(super) fn height(&self) -> f64 {
        ENTRY * self.entries.len().div_ceil(self.columns) as f64
    }

    /// Draws the legend.
    pub(super) fn draw(&self, canvas: &Canvas, keys: &Keys) -> Result<(), DrawError> {
        for (i, (label, symbol)) in self.entries.iter().enumerate() {
            let left = self.corner.0 + self.column * (i % self.columns) as f64;
            let y = self.corner.1 + ENTRY * ((i / self.columns) as f64 + 0.5);
            canvas.group(&keys.attribute(label), || symbol.draw(canvas, (left, y)))?;
            canvas.text(label, (left + SYMBOL + TICK, y), font(NORMAL, INK, Align::Start))?;
        }
        Ok(())
    }
}
