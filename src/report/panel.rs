//! Draws a panel: field, axes, references, bands, lines and markers, from back to front.

use super::axis::Ruler;
use super::canvas::{Align, At, Canvas, DrawError, text_width, wrapped};
use super::figure::{Field, Mark, Panel, PointLabel, Series};
use super::legend::Keys;
use super::style::*;

/// The width of a field's colour bar with its gap, in pixels.
pub(super) const BAR: f64 = 26.0;
/// Pixels from a point to its label.
const LABEL_GAP: f64 = 8.0;

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
    pub(super) fn draw(
        &self,
        canvas: &Canvas,
        panel: &Panel,
        keys: &Keys,
    ) -> Result<(), DrawError> {
        let title = title_lines(&panel.title, self.size.0);
        for (i, line) in title.iter().rev().enumerate() {
            let at = (self.left, self.top - 10.0 - LINE * i as f64);
            canvas.text(line, at, font(NORMAL, INK, Align::Start).bold())?;
        }
        if let (Some(field), Some(bar)) = (&panel.field, self.bar) {
            self.field(canvas, field, bar)?;
        }
        self.axes(canvas, panel)?;
        for (reference, pattern) in panel.references.iter().zip(REFERENCE_DASHES.iter().cycle()) {
            if let Some(y) = self.y(reference.y) {
                let line = [(self.left, y), (self.right(), y)];
                canvas.group(&keys.attribute(&reference.label), || {
                    canvas.dashed(pattern, || canvas.line(&line, 1.0, GREY))
                })?;
            }
        }
        for series in panel.series.iter().filter(|series| series.band.iter().any(Option::is_some)) {
            canvas.group(&keys.attribute(&series.label), || self.band(canvas, series))?;
        }
        let mut empty = panel.field.is_none();
        for series in &panel.series {
            let positions = self.positions(series);
            empty &= positions.iter().all(Option::is_none);
            canvas.group(&keys.attribute(&series.label), || {
                if panel.field.is_some() {
                    self.halo(canvas, series, &positions)?;
                }
                self.series(canvas, series, &positions)
            })?;
        }
        panel.labels.iter().try_for_each(|label| self.label(canvas, label))?;
        if empty {
            let middle = (self.left + 0.5 * self.size.0, self.top + 0.5 * self.size.1);
            canvas.text("no data", middle, font(NORMAL, GREY, Align::Middle))?;
        }
        Ok(())
    }

    fn axes(&self, canvas: &Canvas, panel: &Panel) -> Result<(), DrawError> {
        let (left, right, top, bottom) = (self.left, self.right(), self.top, self.bottom());
        // A grid would obscure a field, so there are only tick marks.
        let (reach, colour) =
            if panel.field.is_some() { (4.0, INK) } else { (f64::INFINITY, GRID) };
        let ticks =
            |ruler: Option<&'_ Ruler>| ruler.map_or_else(Vec::new, |ruler| ruler.ticks.clone());
        let x_of = |at: f64| left + at * self.size.0;
        let y_of = |at: f64| bottom - at * self.size.1;
        let (x_ticks, y_ticks) = (ticks(self.x), ticks(self.y));
        for &(at, _) in &x_ticks {
            let end = top.max(bottom - reach);
            canvas.line(&[(x_of(at), bottom), (x_of(at), end)], 1.0, colour)?;
        }
        for &(at, _) in &y_ticks {
            canvas.line(&[(left, y_of(at)), (right.min(left + reach), y_of(at))], 1.0, colour)?;
        }
        canvas.line(&[(left, top), (left, bottom), (right, bottom)], 1.0, GREY)?;
        if self.labelled[0] {
            let rows = self.x.map_or_else(Vec::new, |ruler| tick_rows(ruler, self.size.0));
            for ((at, text), row) in x_ticks.iter().zip(&rows) {
                let below = (x_of(*at), bottom + TICK + 0.5 * SMALL + LINE * *row as f64);
                canvas.text(text, below, font(SMALL, INK, Align::Middle))?;
            }
            let extra = LINE * rows.iter().copied().max().unwrap_or(0) as f64;
            let below = (left + 0.5 * self.size.0, bottom + TICK + SMALL + NORMAL + extra);
            canvas.text(&panel.x.label, below, font(NORMAL, INK, Align::Middle))?;
        }
        if self.labelled[1] {
            for (at, text) in &y_ticks {
                canvas.text(text, (left - TICK, y_of(*at)), font(SMALL, INK, Align::End))?;
            }
            let beside = left - TICK - self.y.map_or(0.0, widest_tick) - NORMAL;
            let lines = wrapped(&panel.y.label, NORMAL, label_width(self.size.1));
            for (i, line) in lines.iter().rev().enumerate() {
                let at = (beside - LINE * i as f64, top + 0.5 * self.size.1);
                canvas.text(line, at, font(NORMAL, INK, Align::Middle).upright())?;
            }
        }
        Ok(())
    }

    /// Sets the line of a series off from a field, whose steps include the colours of lines.
    fn halo(
        &self,
        canvas: &Canvas,
        series: &Series,
        positions: &[Option<At>],
    ) -> Result<(), DrawError> {
        let runs = positions.split(Option::is_none).filter(|run| run.len() > 1);
        runs.filter(|_| series.mark.has_line()).try_for_each(|run| {
            let run: Vec<At> = run.iter().copied().flatten().collect();
            canvas.line(&run, STROKE + 2.4, PAPER)
        })
    }

    /// Draws a text away from the middle of the frame: above its point in the upper half and in the
    /// middle, and left or right of it below.
    fn label(&self, canvas: &Canvas, label: &PointLabel) -> Result<(), DrawError> {
        let (Some(x), Some(y)) = (self.x(label.at.0), self.y(label.at.1)) else { return Ok(()) };
        let width = text_width(&label.text, NORMAL);
        let above = y < self.top + 0.5 * self.size.1;
        let left = match (x - self.left) / self.size.0 {
            ..0.35 if !above => x - LABEL_GAP - width,
            0.65.. if !above => x + LABEL_GAP,
            _ => x - 0.5 * width,
        };
        let left = left.clamp(self.left, (self.right() - width).max(self.left));
        let beside = left > x || left + width < x;
        let y = if beside { y } else { y - LABEL_GAP - 0.5 * LINE };
        let (top, bottom) = (y - 0.5 * LINE, y + 0.5 * LINE);
        canvas.area(&rectangle(left - 2.0, top, left + width + 2.0, bottom), PAPER, 0.8)?;
        canvas.text(&label.text, (left, y), font(NORMAL, INK, Align::Start).bold())
    }

    /// The positions of the points; `None` where the axes cannot show them.
    fn positions(&self, series: &Series) -> Vec<Option<At>> {
        // A point that a log axis cannot show is at the end of the axis; a line to it would
        // mislead.
        let y_of = |y| if series.mark == Mark::Curve { self.y(y) } else { self.y_within(y) };
        let position = |&(x, y): &At| Some((self.x(x)? + series.shift, y_of(y)?));
        series.points.iter().map(position).collect()
    }

    /// Draws the line and the markers.
    fn series(
        &self,
        canvas: &Canvas,
        series: &Series,
        positions: &[Option<At>],
    ) -> Result<(), DrawError> {
        if series.mark.has_line() {
            canvas.dashed(dash(series.style), || {
                for run in positions.split(Option::is_none).filter(|run| run.len() > 1) {
                    let run: Vec<At> = run.iter().copied().flatten().collect();
                    canvas.line(&run, STROKE, colour(series.style))?;
                }
                Ok(())
            })?;
        }
        // A long curve has about seven markers, at different positions for each style, so that the
        // markers of close curves do not overlap.
        let long = series.mark == Mark::Curve && positions.len() > 14;
        let every = if long { positions.len().div_ceil(7) } else { 1 };
        let first = (series.style * 5 + every / 2) % every;
        let is_gap = |i: usize| positions.get(i).is_none_or(Option::is_none);
        let is_marked = |i: usize| i % every == first || is_gap(i.wrapping_sub(1)) && is_gap(i + 1);
        let marked = positions.iter().enumerate().filter(|(i, _)| is_marked(*i));
        let centers: Vec<At> = marked.filter_map(|(_, position)| *position).collect();
        markers(canvas, &centers, series.style, series.mark)
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
                let lower: Vec<At> = run.iter().map(|&(x, low, _)| (x, low)).collect();
                let upper: Vec<At> = run.iter().rev().map(|&(x, _, high)| (x, high)).collect();
                if run.len() > 1 {
                    let corners = [canvas.in_detail(&lower), canvas.in_detail(&upper)].concat();
                    canvas.area(&corners, colour(series.style), 0.16)?;
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
        // The field of positions on the bar, 0 to 1, so that a log scale is interpolated as such.
        let position = |value: &f64| bar.position_or_low(*value).unwrap_or(f64::NAN);
        let values = field.values.iter().map(|row| row.iter().map(position).collect()).collect();
        let positions = Field { values, ..field.clone() };
        // Cells of 2 pixels are not noticeable, and keep the file small.
        const CELL: f64 = 2.0;
        let (columns, rows) =
            (((right - left) / CELL).ceil() as usize, ((bottom - top) / CELL).ceil() as usize);
        let step = |at: f64| ((at * STEPS as f64) as usize).min(STEPS - 1);
        let row = |row: usize| -> Vec<Option<usize>> {
            let v = (row as f64 + 0.5) / rows as f64;
            let at = |column: usize| positions.at((column as f64 + 0.5) / columns as f64, v);
            (0..columns).map(|column| at(column).filter(|at| at.is_finite()).map(step)).collect()
        };
        let steps: Vec<Vec<Option<usize>>> = (0..rows).map(row).collect();
        // Each step is drawn over the smaller ones, as one path.
        for level in 0..STEPS {
            for (row, steps) in steps.iter().enumerate() {
                let (mut x, low) = (0, bottom - row as f64 * (bottom - top) / rows as f64);
                // Rows overlap, so that no gap shows between them.
                let high = (low - CELL - 0.4).max(top);
                for run in steps.chunk_by(|a, b| (*a >= Some(level)) == (*b >= Some(level))) {
                    let place = |i: usize| left + i as f64 * (right - left) / columns as f64;
                    let ends = (place(x), place(x + run.len()));
                    if run[0] >= Some(level) {
                        let colour = Colour::step(level);
                        canvas.area(&rectangle(ends.0, high, ends.1, low), colour, 1.0)?;
                    }
                    x += run.len();
                }
            }
        }
        for level in 1..STEPS {
            for [from, to] in positions.contour(level as f64 / STEPS as f64) {
                let place = |(u, v): At| (left + u * (right - left), bottom - v * (bottom - top));
                canvas.line(&[place(from), place(to)], 0.7, PAPER)?;
            }
        }
        let x = self.right() + BAR - 12.0;
        for i in 0..STEPS {
            let end = |i: usize| self.bottom() - self.size.1 * i as f64 / STEPS as f64;
            canvas.area(&rectangle(x, end(i + 1), x + 12.0, end(i)), Colour::step(i), 1.0)?;
        }
        for (at, text) in &bar.ticks {
            canvas.text(
                text,
                (x + 12.0 + TICK, self.bottom() - at * self.size.1),
                font(SMALL, INK, Align::Start),
            )?;
        }
        let beside = (x + 12.0 + TICK + widest_tick(bar) + NORMAL, self.top + 0.5 * self.size.1);
        canvas.text(&field.axis.label, beside, font(NORMAL, INK, Align::Middle).upright())
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
    /// The segments on which the field has the value `level`, as positions from 0 to 1 in both
    /// directions: marching triangles, two for each cell, so that a saddle has one reading.
    pub(super) fn contour(&self, level: f64) -> Vec<[At; 2]> {
        let rows = self.values.len().saturating_sub(1);
        let columns = self.values.first().map_or(0, Vec::len).saturating_sub(1);
        let corner = |i: usize, j: usize| {
            let value = self.values.get(j).and_then(|row| row.get(i)).copied();
            let at = (i as f64 / columns as f64, j as f64 / rows as f64);
            (at, value.unwrap_or(f64::NAN) - level)
        };
        let crossing = |[(p, a), (q, b)]: [(At, f64); 2]| {
            let share = a / (a - b);
            ((a < 0.0) != (b < 0.0) && share.is_finite())
                .then_some((p.0 + share * (q.0 - p.0), p.1 + share * (q.1 - p.1)))
        };
        let mut segments = Vec::new();
        for (j, i) in (0..rows).flat_map(|j| (0..columns).map(move |i| (j, i))) {
            let [a, b, c, d] =
                [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)].map(|(i, j)| corner(i, j));
            for [p, q, r] in [[a, b, c], [a, c, d]] {
                let ends: Vec<At> =
                    [[p, q], [q, r], [r, p]].into_iter().filter_map(crossing).collect();
                if let [from, to] = ends[..] {
                    segments.push([from, to]);
                }
            }
        }
        segments
    }

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

/// The row of each tick's label below an axis of `width` pixels: 0, or the next below if the labels
/// would overlap.
pub(super) fn tick_rows(ruler: &Ruler, width: f64) -> Vec<usize> {
    let mut ends: Vec<f64> = Vec::new();
    let row = |(at, text): &(f64, String)| {
        let (middle, half) = (at * width, 0.5 * text_width(text, SMALL));
        let start = middle - half - 3.0;
        let free = ends.iter().position(|end| *end < start).unwrap_or(ends.len());
        ends.resize(ends.len().max(free + 1), f64::NEG_INFINITY);
        ends[free] = middle + half;
        free
    };
    ruler.ticks.iter().map(row).collect()
}

/// The lines of a title above a frame of `width` pixels.
pub(super) fn title_lines(title: &str, width: f64) -> Vec<String> {
    // Bold letters are wider.
    wrapped(title, 1.15 * NORMAL, width)
}

/// The width of the label beside a frame of `height` pixels; it may extend beyond the frame.
pub(super) fn label_width(height: f64) -> f64 {
    height + 2.0 * NORMAL
}

/// The width of a ruler's widest tick label, in pixels.
pub(super) fn widest_tick(ruler: &Ruler) -> f64 {
    ruler.ticks.iter().map(|(_, text)| text_width(text, SMALL)).fold(0.0, f64::max)
}

fn rectangle(left: f64, top: f64, right: f64, bottom: f64) -> [At; 4] {
    [(left, top), (right, top), (right, bottom), (left, bottom)]
}
