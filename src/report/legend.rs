//! The legend: symbols with labels, in columns of equal width.

use super::canvas::{At, Canvas, DrawError, text_width};
use super::figure::{Mark, Panel};
use super::style::*;
use plotters::style::text_anchor::HPos;

/// The width of a symbol, in pixels.
const SYMBOL: f64 = 28.0;

/// The look of a symbol.
#[derive(Clone, Copy, PartialEq)]
enum Symbol {
    Series(usize, Mark),
    Reference(&'static [f64]),
}

/// The legend of a figure.
pub(super) struct Legend {
    entries: Vec<(String, Symbol)>,
    columns: usize,
    corner: At,
    column: f64,
}

impl Legend {
    const LINE: f64 = 18.0;

    /// The legend of all panels, in the order in which entries first occur.
    pub(super) fn new(panels: &[Panel], corner: At, width: f64) -> Legend {
        let mut entries: Vec<(String, Symbol)> = Vec::new();
        for panel in panels {
            let series = panel.series.iter().map(|s| (&s.label, Symbol::Series(s.style, s.mark)));
            let references = panel.references.iter().zip(REFERENCE_DASHES.iter().cycle());
            for (label, symbol) in
                series.chain(references.map(|(r, dash)| (&r.label, Symbol::Reference(dash))))
            {
                if !label.is_empty()
                    && !entries.iter().any(|(known, look)| known == label && *look == symbol)
                {
                    entries.push((label.clone(), symbol));
                }
            }
        }
        let widest = entries.iter().map(|(label, _)| text_width(label, NORMAL)).fold(0.0, f64::max);
        let column = SYMBOL + TICK + widest + 1.5 * MARGIN;
        let most = ((width / column) as usize).clamp(1, entries.len().max(1));
        let columns = entries.len().div_ceil(entries.len().div_ceil(most).max(1)).max(1);
        Legend { entries, columns, corner, column }
    }

    /// The height in pixels.
    pub(super) fn height(&self) -> f64 {
        Self::LINE * self.entries.len().div_ceil(self.columns) as f64
    }

    /// Draws the legend.
    pub(super) fn draw(&self, canvas: &Canvas) -> Result<(), DrawError> {
        for (i, (label, symbol)) in self.entries.iter().enumerate() {
            let left = self.corner.0 + self.column * (i % self.columns) as f64;
            let y = self.corner.1 + Self::LINE * ((i / self.columns) as f64 + 0.5);
            let line = [(left, y), (left + SYMBOL, y)];
            match *symbol {
                Symbol::Reference(pattern) => canvas.dashed(&line, 1.0, GREY, pattern)?,
                Symbol::Series(style, mark) => {
                    if mark.has_line() {
                        canvas.dashed(&line, 1.7, colour(style), dash(style))?;
                    }
                    marker(canvas, (left + 0.5 * SYMBOL, y), style, mark)?;
                }
            }
            canvas.text(label, (left + SYMBOL + TICK, y), font(NORMAL, INK, HPos::Left))?;
        }
        Ok(())
    }
}
