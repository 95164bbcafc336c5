//! The common style of all figures: colours, markers, dashes and font sizes.

use super::canvas::{At, Canvas, DrawError, Font};
use super::figure::Mark;
use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
pub(super) const GREY: RGBColor = RGBColor(110, 110, 110);
pub(super) const GRID: RGBColor = RGBColor(230, 230, 230);
pub(super) const PAPER: RGBColor = RGBColor(255, 255, 255);
pub(super) const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(34, 34, 34),
];
pub(super) const DASHES: [&[f64]; 4] = [&[], &[6.0, 3.0], &[1.5, 2.5], &[7.0, 2.5, 1.5, 2.5]];
/// The dashes of reference lines, in their order in a panel.
pub(super) const REFERENCE_DASHES: [&[f64]; 3] = [&[4.0, 3.0], &[1.5, 2.5], &[8.0, 3.0]];
/// The corners of markers around the origin, with about the area of a disc of radius 1; a marker
/// without corners is the disc.
pub(super) const MARKERS: [&[At]; 7] = [
    &[],
    &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    &[(0.0, -1.25), (1.15, 0.85), (-1.15, 0.85)],
    &[(0.0, -1.3), (1.1, 0.0), (0.0, 1.3), (-1.1, 0.0)],
    &[(0.0, 1.25), (1.15, -0.85), (-1.15, -0.85)],
    &[(0.0, -1.25), (1.2, -0.3), (0.75, 1.05), (-0.75, 1.05), (-1.2, -0.3)],
    &[
        (-0.4, -1.2),
        (0.4, -1.2),
        (0.4, -0.4),
        (1.2, -0.4),
        (1.2, 0.4),
        (0.4, 0.4),
        (0.4, 1.2),
        (-0.4, 1.2),
        (-0.4, 0.4),
        (-1.2, 0.4),
        (-1.2, -0.4),
        (-0.4, -0.4),
    ],
];

/// Font sizes, in pixels.
pub(super) const SMALL: f64 = 11.0;
pub(super) const NORMAL: f64 = 12.0;
pub(super) const LARGE: f64 = 15.0;
/// Pixels around the whole figure, and between neighbours.
pub(super) const MARGIN: f64 = 12.0;
/// Pixels from an axis to its tick labels.
pub(super) const TICK: f64 = 6.0;
pub(super) fn font(size: f64, colour: RGBColor, align: HPos) -> Font {
    Font { size, colour, bold: false, align, upright: false }
}

impl Font {
    pub(super) fn bold(self) -> Font {
        Font { bold: true, ..self }
    }

    pub(super) fn upright(self) -> Font {
        Font { upright: true, ..self }
    }
}

pub(super) fn colour(style: usize) -> RGBColor {
    COLOURS[style % COLOURS.len()]
}

pub(super) fn dash(style: usize) -> &'static [f64] {
    DASHES[style / COLOURS.len() % DASHES.len()]
}

/// Draws a marker. It has a white rim to set it off from lines; a hollow one has a white inside,
/// and a dot has no rim.
pub(super) fn marker(
    canvas: &Canvas,
    center: At,
    style: usize,
    mark: Mark,
) -> Result<(), DrawError> {
    if mark == Mark::Dots {
        return canvas.disc(center, 1.3, colour(style));
    }
    let hollow = mark == Mark::Hollow;
    let radius = if hollow { 4.0 } else { 3.2 };
    let layers = if hollow {
        [(radius + 0.7, colour(style)), (radius - 0.8, PAPER)]
    } else {
        [(radius + 0.8, PAPER), (radius, colour(style))]
    };
    for (radius, colour) in layers {
        match MARKERS[(style + 3 * (style / COLOURS.len())) % MARKERS.len()] {
            [] => canvas.disc(center, radius, colour)?,
            corners => {
                let corners: Vec<At> = corners
                    .iter()
                    .map(|(x, y)| (center.0 + x * radius, center.1 + y * radius))
                    .collect();
                canvas.area(&corners, colour, 1.0)?;
            }
        }
    }
    Ok(())
}
