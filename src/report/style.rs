//! The common style of all figures: colours of both themes, markers, dashes and font sizes.
//!
//! The colours of series are those of Okabe and Ito (*Color universal design*, 2008), which
//! colour-blind readers can distinguish, made darker for a light background and lighter for a dark
//! one where their contrast to it was below 3:1. In the simulation of Machado, Oliveira and
//! Fernandes (2009), any two of a theme stay at least 18 apart (CIE 1976) for each kind of colour
//! blindness.

use super::canvas::{Align, At, Canvas, Detail, DrawError, Font};
use super::figure::Mark;

/// Red, green and blue.
type Rgb = (u8, u8, u8);

/// A colour of the theme: its index in [`PALETTE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Colour(usize);

/// Class, light theme, dark theme.
const PALETTE: [(&str, Rgb, Rgb); 19] = [
    ("c0", (0, 80, 143), (47, 123, 224)),
    ("c1", (160, 58, 0), (222, 106, 30)),
    ("c2", (0, 158, 104), (10, 168, 108)),
    ("c3", (209, 95, 156), (204, 122, 174)),
    ("c4", (184, 132, 8), (255, 194, 51)),
    ("c5", (30, 130, 240), (92, 207, 255)),
    ("c6", (34, 34, 34), (240, 242, 245)),
    ("ck", (100, 100, 100), (154, 165, 177)),
    ("cg", (230, 230, 230), (46, 53, 61)),
    ("cp", (255, 255, 255), (21, 25, 30)),
    // ColorBrewer's YlGnBu, whose steps differ in lightness; the largest values are the farthest
    // from the background.
    ("f0", (255, 255, 217), (8, 29, 88)),
    ("f1", (237, 248, 177), (37, 52, 148)),
    ("f2", (199, 233, 180), (34, 94, 168)),
    ("f3", (127, 205, 187), (29, 145, 192)),
    ("f4", (65, 182, 196), (65, 182, 196)),
    ("f5", (29, 145, 192), (127, 205, 187)),
    ("f6", (34, 94, 168), (199, 233, 180)),
    ("f7", (37, 52, 148), (237, 248, 177)),
    ("f8", (8, 29, 88), (255, 255, 217)),
];
/// The number of colours of series: the first of the palette.
pub(super) const COLOURS: usize = 7;
pub(super) const INK: Colour = Colour(6);
pub(super) const GREY: Colour = Colour(7);
pub(super) const GRID: Colour = Colour(8);
/// The background.
pub(super) const PAPER: Colour = Colour(9);
/// The number of steps of a field's colours.
pub(super) const STEPS: usize = 9;

impl Colour {
    /// The colour of a step of a field, from 0.
    pub(super) fn step(step: usize) -> Colour {
        Colour(PALETTE.len() - STEPS + step.min(STEPS - 1))
    }

    /// The class in [`css`].
    pub(super) fn class(self) -> &'static str {
        PALETTE[self.0].0
    }

    /// The colour in the light theme.
    pub(super) fn rgb(self) -> Rgb {
        PALETTE[self.0].1
    }

    /// The colour that is `rgb` in the light theme; ink if there is none.
    pub(super) fn of(rgb: Rgb) -> Colour {
        PALETTE.iter().position(|(_, light, _)| *light == rgb).map_or(INK, Colour)
    }
}

/// The rules for shapes: lines, areas and text.
const SHAPES: &str = ".chart .l{fill:none;stroke:currentColor;stroke-linejoin:round}\
                      .chart .a,.chart text{fill:currentColor}";

/// How panels, legend and symbols of a fragment are arranged. Panels are side by side as far as
/// each of them stays readable.
const ARRANGEMENT: &str = "\
.chart{container-type:inline-size;font-family:system-ui,sans-serif}
.chart .legend{display:flex;flex-wrap:wrap;gap:.15rem 1.1rem;list-style:none;margin:0 0 .6rem;\
padding:0;max-width:none;font-size:.85rem}
.chart .legend li{display:inline-flex;align-items:center;gap:.4rem;margin:0}
.chart .symbol{width:28px;height:14px;flex:none}
.chart .panels{display:grid;gap:.9rem;grid-template-columns:minmax(0,28rem);\
justify-content:start}
.chart .panel{display:block;width:100%;height:auto}
.chart .panels[data-columns=\"1\"]{grid-template-columns:minmax(0,36rem)}
@container (min-width:38rem){.chart .panels:not([data-columns=\"1\"])\
{grid-template-columns:repeat(2,minmax(0,26rem))}}
@container (min-width:56rem){.chart .panels[data-columns=\"3\"]\
{grid-template-columns:repeat(3,minmax(0,24rem))}}
@container (min-width:76rem){.chart .panels[data-columns=\"4\"]\
{grid-template-columns:repeat(4,minmax(0,24rem))}}
";

/// The style sheet of a page with figures. Their colours follow the property `color-scheme`.
pub fn css() -> String {
    let colours = PALETTE.map(|(class, light, dark)| {
        let (light, dark) = (hex(light), hex(dark));
        format!(".chart .{class}{{color:{light};color:light-dark({light},{dark})}}\n")
    });
    format!("{ARRANGEMENT}{SHAPES}\n{}", colours.concat())
}

/// The style sheet of a single SVG. Its colours follow the reader's preference.
pub(super) fn svg_css() -> String {
    let rules = |colour: fn(&(&str, Rgb, Rgb)) -> Rgb| {
        let rule = |entry: &(&str, Rgb, Rgb)| {
            format!(".chart .{}{{color:{}}}", entry.0, hex(colour(entry)))
        };
        PALETTE.iter().map(rule).collect::<String>()
    };
    let (light, dark) = (rules(|entry| entry.1), rules(|entry| entry.2));
    format!("{SHAPES}{light}@media (prefers-color-scheme:dark){{{dark}}}")
}

fn hex((r, g, b): Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

const DASHES: [&[f64]; 4] = [&[], &[6.0, 3.0], &[1.5, 2.5], &[7.0, 2.5, 1.5, 2.5]];
/// The dashes of reference lines, in their order in a panel.
pub(super) const REFERENCE_DASHES: [&[f64]; 3] = [&[4.0, 3.0], &[1.5, 2.5], &[8.0, 3.0]];
/// The corners of markers around the origin, with about the area of a disc of radius 1; a marker
/// without corners is the disc.
const MARKERS: [&[At]; 7] = [
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
/// The height of a line of text of a title or label, in pixels.
pub(super) const LINE: f64 = 15.0;
/// The width of the line of a series, in pixels.
pub(super) const STROKE: f64 = 1.7;

pub(super) fn font(size: f64, colour: Colour, align: Align) -> Font {
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

pub(super) fn colour(style: usize) -> Colour {
    Colour(style % COLOURS)
}

pub(super) fn dash(style: usize) -> &'static [f64] {
    DASHES[style / COLOURS % DASHES.len()]
}

/// The index of a style's marker.
fn shape(style: usize) -> usize {
    (style + 3 * (style / COLOURS)) % MARKERS.len()
}

/// Draws the markers of a series. Each has a rim in the colour of the background to set it off from
/// lines; a hollow one is filled with that colour, and a dot has no rim.
pub(super) fn markers(
    canvas: &Canvas,
    centers: &[At],
    style: usize,
    mark: Mark,
) -> Result<(), DrawError> {
    if canvas.detail == Detail::Reduced && centers.len() > 1 && mark != Mark::Dots {
        let name = format!("m{style}-{}", mark as usize);
        return canvas.stamps(&name, centers, |center| markers(canvas, &[center], style, mark));
    }
    let each = |radius: f64, colour: Colour| {
        centers.iter().try_for_each(|&center| match MARKERS[shape(style)] {
            [] => canvas.disc(center, radius, colour),
            corners => {
                let corner = |&(x, y): &At| (center.0 + x * radius, center.1 + y * radius);
                canvas.area(&corners.iter().map(corner).collect::<Vec<At>>(), colour, 1.0)
            }
        })
    };
    match mark {
        Mark::Dots => {
            centers.iter().try_for_each(|&center| canvas.disc(center, 1.3, colour(style)))
        }
        Mark::Hollow => {
            each(4.7, colour(style))?;
            each(3.2, PAPER)
        }
        Mark::Line => Ok(()),
        Mark::Curve | Mark::Points | Mark::Markers => {
            each(4.0, PAPER)?;
            each(3.2, colour(style))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The relative luminance of WCAG 2.
    fn luminance((r, g, b): Rgb) -> f64 {
        let linear = |channel: u8| {
            let x = f64::from(channel) / 255.0;
            if x <= 0.04045 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
    }

    fn contrast(a: Rgb, b: Rgb) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn lines_have_a_contrast_of_3_and_text_of_4_5_in_both_themes() {
        let themes: [fn(usize) -> Rgb; 2] = [|i| PALETTE[i].1, |i| PALETTE[i].2];
        for theme in themes {
            let paper = theme(PAPER.0);
            for series in (0..COLOURS).map(colour) {
                assert!(contrast(theme(series.0), paper) >= 3.0, "{}", series.class());
            }
            for text in [INK, GREY] {
                assert!(contrast(theme(text.0), paper) >= 4.5, "{}", text.class());
            }
        }
    }

    #[test]
    fn the_colours_of_a_theme_differ() {
        for i in 0..PALETTE.len() {
            assert_eq!(Colour::of(PALETTE[i].1), Colour(i));
            assert!(PALETTE[..i].iter().all(|(class, ..)| *class != PALETTE[i].0));
        }
        assert_eq!((Colour::step(0).class(), Colour::step(20).class()), ("f0", "f8"));
    }

    #[test]
    fn the_first_21_styles_differ_without_colour() {
        let looks: Vec<_> = (0..21).map(|style| (shape(style), dash(style))).collect();
        assert!((0..21).all(|i| !looks[..i].contains(&looks[i])));
    }

    #[test]
    fn a_page_and_a_single_drawing_have_every_colour_of_both_themes() {
        let (page, svg) = (css(), svg_css());
        for (class, light, dark) in PALETTE {
            let (light, dark) = (hex(light), hex(dark));
            assert!(page.contains(&format!(".{class}{{color:{light};")), "{class}");
            assert!(page.contains(&format!("light-dark({light},{dark})")), "{class}");
            assert!(svg.contains(&format!(".{class}{{color:{light}}}")), "{class}");
            let dark = svg.split_once("dark){").map(|(_, rules)| rules.contains(&dark));
            assert_eq!(dark, Some(true), "{class}");
        }
    }
}
