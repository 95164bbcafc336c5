//! Draws a panel: field, axes, references, bands, lines and markers, from back to front.

use super::axis::Ruler;
use super::canvas::{At, Canvas, DrawError, text_width};
use super::figure::{Field, Mark, Panel, Series};
use super::style::*;
use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

/// ColorBrewer's YlGnBu, from light to dark; its steps differ in lightness.
const STEPS: [RGBColor; 9] = [
    RGBColor(255, 255, 217),
    RGBColor(237, 248, 177),
    RGBColor(199, 233, 180),
    RGBColor(127, 205, 187),
    RGBColor(65, 182, 196),
    RGBColor(29, 145, 192),
    RGBColor(34, 94, 168),
    RGBColor(37, 52, 148),
    RGBColor(8, 29, 88),
];
/// The width of a field's colour bar with its gap, in pixels.
pub(super) const BAR: f64 = 26.0;

/// A panel's rectangle and rulers.
pub(super) struct Frame<'a> {
    pub(super) x: Option<&'a Ruler>,
    pub(super) y: Option<&'a Ruler>,
    pub(super) bar: Option<&'a Ruler>,
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) size: At,
    pub(super) labelled: [bool; 2],
}

impl Frame<'_> {
    /// Draws `panel` in this frame.
    pub(super) fn draw(&self, canvas: &Canvas, panel: &Panel) -> Result<(), DrawError> {
        canvas.text(
            &panel.title,
            (self.left, self.top - 10.0),
            font(NORMAL, INK, HPos::Left).bold(),
        )?;
        if let (Some(field), Some(bar)) = (&panel.field, self.bar) {
            self.field(canvas, field, bar)?;
        }
        self.axes(canvas, panel)?;
        for (reference, pattern) in panel.references.iter().zip(REFERENCE_DASHES.iter().cycle()) {
            if let Some(y) = self.y(reference.y) {
                canvas.dashed(&[(self.left, y), (self.right(), y)], 1.0, GREY, pattern)?;
            }
        }
        for series in &panel.series {
            self.band(canvas, series)?;
        }
        let mut empty = panel.field.is_none();
        for series in &panel.series {
            empty &= !self.series(canvas, series)?;
        }
        if empty {
            let middle = (self.left + 0.5 * self.size.0, self.top + 0.5 * self.size.1);
            canvas.text("no data", middle, font(NORMAL, GREY, HPos::Center))?;
        }
        Ok(())
    }

    fn axes(&self, canvas: &Canvas, panel: &Panel) -> Result<(), DrawError> {
        let (left, right, top, bottom) = (self.left, self.right(), self.top, self.bottom());
        // A grid would obscure a field, so there are only tick marks.
        let (reach, colour) =
            if panel.field.is_some() { (4.0, INK) } else { (f64::INFINITY, GRID) };
        for (at, text) in self.x.iter().flat_map(|ruler| &ruler.ticks) {
            let x = left + at * self.size.0;
            canvas.line(&[(x, bottom), (x, top.max(bottom - reach))], 1.0, colour)?;
            if self.labelled[0] {
                canvas.text(
                    text,
                    (x, bottom + TICK + 0.5 * SMALL),
                    font(SMALL, INK, HPos::Center),
                )?;
            }
        }
        for (at, text) in self.y.iter().flat_map(|ruler| &ruler.ticks) {
            let y = bottom - at * self.size.1;
            canvas.line(&[(left, y), (right.min(left + reach), y)], 1.0, colour)?;
            if self.labelled[1] {
                canvas.text(text, (left - TICK, y), font(SMALL, INK, HPos::Right))?;
            }
        }
        canvas.line(&[(left, top), (left, bottom), (right, bottom)], 1.0, GREY)?;
        if self.labelled[0] {
            let below = bottom + TICK + SMALL + NORMAL;
            canvas.text(
                &panel.x.label,
                (left + 0.5 * self.size.0, below),
                font(NORMAL, INK, HPos::Center),
            )?;
        }
        if self.labelled[1] {
            let widest = self
                .y
                .iter()
                .flat_map(|ruler| &ruler.ticks)
                .map(|(_, text)| text_width(text, SMALL));
            let beside = left - TICK - widest.fold(0.0, f64::max) - NORMAL;
            let middle = (beside, top + 0.5 * self.size.1);
            canvas.text(&panel.y.label, middle, font(NORMAL, INK, HPos::Center).upright())?;
        }
        Ok(())
    }

    /// Draws the line and the markers; returns whether there are any.
    fn series(&self, canvas: &Canvas, series: &Series) -> Result<bool, DrawError> {
        // A point that a log axis cannot show is at the end of the axis; a line to it would
        // mislead.
        let y_of = |y| if series.mark == Mark::Curve { self.y(y) } else { self.y_within(y) };
        let position = |&(x, y): &At| Some((self.x(x)? + series.shift, y_of(y)?));
        let positions: Vec<Option<At>> = series.points.iter().map(position).collect();
        if series.mark.has_line() {
            for run in positions.split(Option::is_none) {
                let run: Vec<At> = run.iter().copied().flatten().collect();
                if run.len() > 1 {
                    canvas.dashed(&run, 1.7, colour(series.style), dash(series.style))?;
                }
            }
        }
        // A long curve has about seven markers, at different positions for each style, so that the
        // markers of close curves do not overlap.
        let long = series.mark == Mark::Curve && positions.len() > 14;
        let every = if long { positions.len().div_ceil(7) } else { 1 };
        let first = (series.style * 5 + every / 2) % every;
        let is_gap = |i: usize| positions.get(i).is_none_or(Option::is_none);
        for (i, &position) in positions.iter().enumerate() {
            let isolated = is_gap(i.wrapping_sub(1)) && is_gap(i + 1);
            if let Some(position) = position
                && (i % every == first || isolated)
            {
                marker(canvas, position, series.style, series.mark)?;
            }
        }
        Ok(positions.iter().any(Option::is_some))
    }

    fn band(&self, canvas: &Canvas, series: &Series) -> Result<(), DrawError> {
        let ends = series.points.iter().zip(&series.band).map(|(&(x, y), &ends)| {
            let (low, high) = ends?;
            self.y(y)?;
            Some((self.x(x)? + series.shift, self.y_within(low)?, self.y_within(high)?))
        });
        let ends: Vec<Option<(f64, f64, f64)>> = ends.collect();
        if series.mark == Mark::Curve {
            for run in ends.split(Option::is_none) {
                let run: Vec<_> = run.iter().copied().flatten().collect();
                let lower = run.iter().map(|&(x, low, _)| (x, low));
                let upper = run.iter().rev().map(|&(x, _, high)| (x, high));
                if run.len() > 1 {
                    canvas.area(
                        &lower.chain(upper).collect::<Vec<At>>(),
                        colour(series.style),
                        0.16,
                    )?;
                }
            }
            return Ok(());
        }
        for (x, low, high) in ends.into_iter().flatten() {
            canvas.line(&[(x, low), (x, high)], 1.0, colour(series.style))?;
            // A whisker that is clipped has no cap.
            for end in [low, high].into_iter().filter(|&end| self.top < end && end < self.bottom())
            {
                canvas.line(&[(x - 2.5, end), (x + 2.5, end)], 1.0, colour(series.style))?;
            }
        }
        Ok(())
    }

    /// Draws the field, by bilinear interpolation, and its colour bar.
    fn field(&self, canvas: &Canvas, field: &Field, bar: &Ruler) -> Result<(), DrawError> {
        let (Some(left), Some(right)) = (self.x(field.x.0), self.x(field.x.1)) else {
            return Ok(());
        };
        let (Some(bottom), Some(top)) = (self.y(field.y.0), self.y(field.y.1)) else {
            return Ok(());
        };
        const CELL: f64 = 2.0;
        let (columns, rows) =
            (((right - left) / CELL).ceil() as usize, ((bottom - top) / CELL).ceil() as usize);
        let step = |at: f64| ((at * STEPS.len() as f64) as usize).min(STEPS.len() - 1);
        for row in 0..rows {
            let v = (row as f64 + 0.5) / rows as f64;
            let colours: Vec<Option<usize>> = (0..columns)
                .map(|column| {
                    bar.position(field.at((column as f64 + 0.5) / columns as f64, v)?).map(step)
                })
                .collect();
            let (mut x, low) = (0, bottom - row as f64 * (bottom - top) / rows as f64);
            let high = (low - CELL - 0.4).max(top);
            for run in colours.chunk_by(|a, b| a == b) {
                let place = |i: usize| left + i as f64 * (right - left) / columns as f64;
                let ends = (place(x), place(x + run.len()));
                if let Some(step) = run[0] {
                    canvas.area(&rectangle(ends.0, high, ends.1, low), STEPS[step], 1.0)?;
                }
                x += run.len();
            }
        }
        let x = self.right() + BAR - 12.0;
        for (i, &colour) in STEPS.iter().enumerate() {
            let end = |i: usize| self.bottom() - self.size.1 * i as f64 / STEPS.len() as f64;
            canvas.area(&rectangle(x, end(i + 1), x + 12.0, end(i)), colour, 1.0)?;
        }
        for (at, text) in &bar.ticks {
            canvas.text(
                text,
                (x + 12.0 + TICK, self.bottom() - at * self.size.1),
                font(SMALL, INK, HPos::Left),
            )?;
        }
        let widest = bar.ticks.iter().map(|(_, text)| text_width(text, SMALL)).fold(0.0, f64::max);
        let beside = (x + 12.0 + TICK + widest + NORMAL, self.top + 0.5 * self.size.1);
        canvas.text(&field.axis.label, beside, font(NORMAL, INK, HPos::Center).upright())
    }

    fn x(&self, value: f64) -> Option<f64> {
        self.x?.position(value).map(|at| self.left + at * self.size.0)
    }

    fn y(&self, value: f64) -> Option<f64> {
        self.y?.position(value).map(|at| self.bottom() - at * self.size.1)
    }

    /// Clamped to the panel; values that a log axis cannot show are at the bottom.
    fn y_within(&self, value: f64) -> Option<f64> {
        self.y?.position_or_low(value).map(|at| self.bottom() - at.clamp(0.0, 1.0) * self.size.1)
    }

    fn right(&self) -> f64 {
        self.left + self.size.0
    }

    fn bottom(&self) -> f64 {
        self.top + self.size.1
    }
}

impl Field {
    /// The value at (`u`, `v`) by bilinear interpolation; both are 0 at the first and 1 at the last
    /// column or row.
    pub(super) fn at(&self, u: f64, v: f64) -> Option<f64> {
        let rows = self.values.len().checked_sub(1)?;
        let columns = self.values.first()?.len().checked_sub(1)?;
        let (x, y) = (u * columns as f64, v * rows as f64);
        let (i, j) = (x as usize, y as usize);
        let value = |row: usize, column: usize| {
            self.values.get(row.min(rows))?.get(column.min(columns)).copied()
        };
        let along = |row: usize| {
            let (a, b) = (value(row, i)?, value(row, i + 1)?);
            Some(a + (x - i as f64) * (b - a))
        };
        let (a, b) = (along(j)?, along(j + 1)?);
        Some(a + (y - j as f64) * (b - a))
    }
}

fn rectangle(left: f64, top: f64, right: f64, bottom: f64) -> [At; 4] {
    [(left, top), (right, top), (right, bottom), (left, bottom)]
}
