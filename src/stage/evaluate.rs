//! `evaluate`: joins two nets by a curve and measures error and loss along it, on each split.

use super::artifact::{Cell, Csv, IMAGES, NET, NetCard, read_examples, read_net};
use super::tables::{METRICS, POINTS, REFITS};
use crate::engine::stage::{Arity, Context, Slot, Stage};
use crate::kernel::sparse::Sparse;
use crate::study::bounded::{GridPoints, ImageCount};
use crate::study::curve::metrics::{Lengths, metrics};
use crate::study::curve::refit::{Fit, Settings, Targets, refit};
use crate::study::curve::{Center, Method, Path, Point, grid};
use crate::study::data::{PIXELS, Split};
use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};

pub(super) struct Evaluate;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// `linear`, `arc`, `linear+wa`, `arc+wa`.
    curve: Method,
    /// Points on the curve, both ends included; a refitted one has `wa_points`.
    #[serde(default = "points")]
    points: GridPoints,
    /// What the arc turns around.
    #[serde(default)]
    center: Center,
    /// Points per segment of a refitted curve.
    #[serde(default = "wa_points")]
    wa_points: GridPoints,
    /// Which logits W2 is refitted to.
    #[serde(default)]
    wa_targets: Targets,
    /// How many training images the refit sees, the first ones; all by default.
    #[serde(default)]
    wa_images: Option<ImageCount>,
}

fn points() -> GridPoints {
    GridPoints::try_from(61).expect("a default in bounds")
}

fn wa_points() -> GridPoints {
    GridPoints::try_from(21).expect("a default in bounds")
}

impl Stage for Evaluate {
    const NAME: &'static str = "evaluate";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "a", arity: Arity::One, files: &[NET] },
        Slot { name: "b", arity: Arity::One, files: &[NET] },
        Slot { name: "data", arity: Arity::One, files: IMAGES },
    ];
    const OUTPUTS: &'static [&'static str] = &[POINTS.file, METRICS.file, REFITS.file];
    type Params = Params;

    /// What a curve does not use does not ask another question.
    fn question(params: Params) -> Params {
        if params.curve.refitted {
            return Params { points: points(), ..params };
        }
        Params { wa_points: wa_points(), wa_targets: Targets::default(), wa_images: None, ..params }
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let (a, card) = read_net(cx.input("a")?.path(NET)?)?;
        let (b, end) = read_net(cx.input("b")?.path(NET)?)?;
        let data = cx.input("data")?;
        let mut splits = Vec::new();
        for split in [Split::Train, Split::Validation, Split::Test] {
            let examples = read_examples(data, split)?;
            if !examples.is_empty() {
                splits.push((split, Sparse::from_pixels(&examples.pixels, PIXELS), examples.labels));
            }
        }
        let path = Path::new(params.curve.curve, params.center, &a, &b).map_err(|e| anyhow!("{e}"))?;
        let along = |measure: &dyn Fn(&Sparse, &[u8]) -> Vec<Point>| -> Vec<(Split, Vec<Point>)> {
            splits.iter().map(|(split, images, labels)| (*split, measure(images, labels))).collect()
        };
        let measured = if params.curve.refitted {
            let mut seen = read_examples(data, Split::Train)?;
            seen.truncate(params.wa_images.map_or(seen.len(), |n| n.get() as usize));
            let settings = Settings { targets: params.wa_targets, points: params.wa_points.get() };
            let images = Sparse::from_pixels(&seen.pixels, PIXELS);
            let refitted = refit(path, settings, &images).map_err(|e| anyhow!("{e}"))?;
            Measured {
                points: along(&|images, labels| refitted.measure(images, labels)),
                lengths: Lengths::of(refitted.nets()),
                fits: refitted.fits().map(|fit| (seen.len(), fit)).collect(),
            }
        } else {
            let ts = grid(params.points.get());
            Measured {
                points: along(&|images, labels| path.measure(&ts, images, labels)),
                lengths: Lengths::of(ts.iter().map(|&t| path.point(t))),
                fits: Vec::new(),
            }
        };
        measured.write(&Name::of(&card, &end, params.curve), cx)
    }
}

/// The columns that say which curve a row belongs to.
struct Name {
    hidden: u32,
    prior: String,
    method: String,
    pair: u32,
}

impl Name {
    /// `linear`, `linear+wa`, `linear+ot`, `linear+ot+wa`: alignment comes before the refit. Matching by anything but whole
    /// neurons is named, as in `linear+ot:incoming`.
    fn of(a: &NetCard, b: &NetCard, curve: Method) -> Name {
        let aligned = match b.aligned.as_deref() {
            None => String::new(),
            Some("neurons") => "+ot".to_owned(),
            Some(cost) => format!("+ot:{cost}"),
        };
        let refitted = if curve.refitted { "+wa" } else { "" };
        let method = format!("{}{aligned}{refitted}", curve.curve.name());
        Name { hidden: a.hidden, prior: a.prior.clone(), method, pair: a.pair }
    }
}

struct Measured {
    points: Vec<(Split, Vec<Point>)>,
    lengths: Lengths,
    fits: Vec<(usize, Fit)>,
}

impl Measured {
    fn write(&self, name: &Name, cx: &Context) -> Result<()> {
        let Name { hidden, prior, method, pair } = name;
        let mut rows = Csv::new(&POINTS.names());
        let mut sums = Csv::new(&METRICS.names());
        for (split, points) in &self.points {
            let split = split.name();
            for Point { t, error, loss } in points {
                rows.row(&[hidden, prior, method, pair, &split, t, error, loss]);
            }
            let m = metrics(points, &self.lengths);
            let (first, last) = (points[0], points[points.len() - 1]);
            sums.row(&[
                hidden,
                prior,
                method,
                pair,
                &split,
                &m.max_error,
                &m.t_at_max,
                &m.excess_error,
                &m.mean_error,
                &m.mean_error_by_length,
                &Cell(m.length_over_chord),
                &m.barrier_loss,
                &m.barrier_error,
                &first.error,
                &last.error,
            ]);
        }
        let mut refits = Csv::new(&REFITS.names());
        for (images, Fit { s, rank, ridge, residual, residual_kept }) in &self.fits {
            refits.row(&[hidden, prior, method, pair, s, images, rank, ridge, residual, residual_kept]);
        }
        rows.write(&cx.output(POINTS.file))?;
        sums.write(&cx.output(METRICS.file))?;
        refits.write(&cx.output(REFITS.file))
    }
}
