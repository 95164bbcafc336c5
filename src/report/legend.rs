//! The legend: samples with labels, in columns of equal width.

use super::canvas::{At, Canvas, DrawError, text_width};
use super::figure::{Mark, Panel};
use super::style::*;
use plotters::style::text_anchor::HPos;

/// The width of a sample, in pixels.
const SAMPLE: f64 = 28.0;

/// The look of a sample.
#[derive(Clone, Copy, PartialEq)]
enum Sample {
    Series(usize, Mark),
    Reference(&'static [f64]),
}

/// The legend of a figure.
pub(super) struct Legend {
    entries: Vec<(String, Sample)>,
    columns: usize,
    corner: At,
    column: f64,
}

impl Legend {
    const LINE: f64 = 18.0;

    /// The legend of all panels, in the order in which entries first occur.
    pub(super) fn new(panels: &[Panel], corner: At, width: f64) -> Legend {
        let mut entries: Vec<(String, Sample)> = Vec::new();
        for panel in panels {
            let series = panel.series.iter().map(|s| (&s.label, Sample::Series(s.style, s.mark)));
            let references = panel.references.iter().zip(REFERENCE_DASHES.iter().cycle());
            for (label, sample) in
                series.chain(references.map(|(r, dash)| (&r.label, Sample::Reference(dash))))
            {
                if !label.is_empty()
                    && !entries.iter().any(|(seen, as_)| seen == label && *as_ == sample)
                {
                    entries.push((label.clone(), sample));
                }
            }
        }
        let widest = entries.iter().map(|(label, _)| text_width(label, NORMAL)).fold(0.0, f64::max);
        let column = SAMPLE + TICK + widest + 1.5 * MARGIN;
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
        for (i, (label, sample)) in self.entries.iter().enumerate() {
            let left = self.corner.0 + self.column * (i % self.columns) as f64;
            let y = self.corner.1 + Self::LINE * ((i / self.columns) as f64 + 0.5);
            let line = [(left, y), (left + SAMPLE, y)];
            match *sample {
                Sample::Reference(pattern) => canvas.dashed(&line, 1.0, GREY, pattern)?,
                Sample::Series(style, mark) => {
                    if mark.has_line() {
                        canvas.dashed(&line, 1.7, colour(style), dash(style))?;
                    }
                    marker(canvas, (left + 0.5 * SAMPLE, y), style, mark)?;
                }
            }
            canvas.text(label, (left + SAMPLE + TICK, y), type_of(NORMAL, INK, HPos::Left))?;
        }
        Ok(())
    }
}
