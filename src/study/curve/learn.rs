//! Learned curves: the bends between two nets are trained so that the loss is low all along the
//! curve (Garipov et al., Loss surfaces, mode connectivity, and fast ensembling of DNNs, NeurIPS
//! 2018, arXiv 1802.10026, section 3; SCIENCE: "Learned curves").
//!
//! A and B are fixed. The bends start on the chord, and minimise the expectation, over t uniform in
//! [0, 1], of the objective of a training at psi(t): the cross-entropy, with dropout if that is the
//! prior, and (1/N)(-log p(psi(t))). Each batch has a t of its own. The gradient of bend k is its
//! coefficient c_k(t) times the gradient of the objective at psi(t). Optimiser, schedule and
//! shuffles are those of a training of a net.
//!
//! The prior acts at psi(t), not on the bends: a bend between two nets of a prior need not itself
//! have it. The normal prior adds w / (N variance) to the gradient at psi(t), and the Laplace prior
//! its subgradient sign(w) / (N scale), with sign(0) = 0. There is no proximal step as in the
//! training of a net: its threshold would act on the bends, whose zeros are no zeros of psi(t).

use super::Basis;
use super::controls::Controls;
use super::path::{are_finite, same_shape};
use crate::kernel::aligned::Aligned;
use crate::kernel::combine::combine;
use crate::kernel::update::{Moments, Weights, apply_bend};
use crate::study::data::Labelled;
use crate::study::net::{
    Batch, BatchStats, Engine, EngineKind, EpochRecord, FitSettings, Learner, Net, Run, Step, fit,
};
use crate::study::registry::unknown;
use crate::study::rng;
use rand_chacha::ChaCha8Rng;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::num::NonZero;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// A kind of learned curve: the parameter `curve` of a stage, written "bezier" or "chain:3".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum LearnedCurve {
    /// A quadratic Bezier curve, with one bend.
    Bezier,
    /// A polygonal chain.
    Chain(Bends),
}

/// The number of bends of a chain, from 1 to 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bends(u8);

impl Bends {
    /// The names of the numbers.
    const NAMES: [&str; 9] = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];

    /// Every number.
    fn all() -> impl Iterator<Item = Bends> {
        (1..=9).map(Bends)
    }
}

impl LearnedCurve {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = LearnedCurve> {
        [LearnedCurve::Bezier].into_iter().chain(Bends::all().map(LearnedCurve::Chain))
    }

    /// One curve of each name without the number of bends.
    pub fn families() -> [LearnedCurve; 2] {
        [LearnedCurve::Bezier, LearnedCurve::Chain(Bends(1))]
    }

    /// The name without the number of bends.
    pub fn family(self) -> &'static str {
        match self {
            LearnedCurve::Bezier => "bezier",
            LearnedCurve::Chain(_) => "chain",
        }
    }

    /// The number of bends in the name of a chain; empty for a Bezier curve.
    pub(super) fn choice(self) -> &'static str {
        match self {
            LearnedCurve::Bezier => "",
            LearnedCurve::Chain(Bends(n)) => Bends::NAMES[usize::from(n) - 1],
        }
    }

    /// The name in figures and reports, without the number of bends.
    pub fn title(self) -> &'static str {
        match self {
            LearnedCurve::Bezier => "Bezier",
            LearnedCurve::Chain(_) => "Chain",
        }
    }

    /// What the curve is, in one sentence of plain text. A and B are the two nets.
    pub fn definition(self) -> &'static str {
        match self {
            LearnedCurve::Bezier => {
                "A learned curve: (1 - t)^2 A + 2 t (1 - t) C + t^2 B, with the bend C trained for \
                 a low expected loss at t uniform in [0, 1] (Garipov et al., 2018)."
            }
            LearnedCurve::Chain(_) => {
                "A learned curve: straight lines from A over k bends to B, each for 1/(k + 1) of \
                 t, with the bends trained for a low expected loss at t uniform in [0, 1] (Garipov \
                 et al., 2018); k is in parentheses."
            }
        }
    }

    /// Its basis.
    pub fn basis(self) -> Basis {
        match self {
            LearnedCurve::Bezier => Basis::Bezier,
            LearnedCurve::Chain(_) => Basis::Chain,
        }
    }

    /// The number of bends.
    pub fn bends(self) -> usize {
        match self {
            LearnedCurve::Bezier => 1,
            LearnedCurve::Chain(Bends(n)) => usize::from(n),
        }
    }
}

impl fmt::Display for LearnedCurve {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let separator = if self.choice().is_empty() { "" } else { ":" };
        write!(f, "{}{separator}{}", self.family(), self.choice())
    }
}

impl From<LearnedCurve> for String {
    fn from(curve: LearnedCurve) -> String {
        curve.to_string()
    }
}

impl FromStr for LearnedCurve {
    type Err = String;

    fn from_str(name: &str) -> Result<LearnedCurve, String> {
        let found = LearnedCurve::all().find(|curve| curve.to_string() == name);
        found.ok_or_else(|| unknown("learned curve", name, LearnedCurve::all()))
    }
}

impl JsonSchema for LearnedCurve {
    fn schema_name() -> Cow<'static, str> {
        "LearnedCurve".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<String> = LearnedCurve::all().map(String::from).collect();
        json_schema!({ "enum": names })
    }
}

impl<'de> Deserialize<'de> for LearnedCurve {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LearnedCurve, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|_| {
            let known: Vec<String> = LearnedCurve::all().map(|c| format!("`{c}`")).collect();
            let expected = format!("one of {}", known.join(", "));
            D::Error::invalid_value(Unexpected::Str(&name), &expected.as_str())
        })
    }
}

/// How bends are learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearnSettings {
    /// The curve.
    pub curve: LearnedCurve,
    /// The training of the bends.
    pub fit: FitSettings,
    /// The engine that computes the gradients.
    pub engine: EngineKind,
}

/// A learned curve and its history.
#[derive(Clone, Debug)]
pub struct Learned {
    /// The curve after the last epoch.
    pub controls: Controls,
    /// One record for each epoch. Error and loss on the training images are those at the t of each
    /// batch, and those on the validation images are those at t = 1/2.
    pub history: Vec<EpochRecord>,
}

/// Learns the bends of a curve between two nets on `train`; `validation` is only measured. All
/// randomness is derived from the seed and the label; the number of `threads` does not affect the
/// bits.
///
/// # Errors
/// If the nets differ in shape, a parameter is not finite, or as [`fit`].
///
/// # Panics
/// If the images do not fit the nets, or a label is not one of the nets' classes.
pub fn learn(
    settings: &LearnSettings,
    [a, b]: [&Net; 2],
    [seed, label]: [&str; 2],
    train: &Labelled,
    validation: &Labelled,
    threads: NonZero<usize>,
) -> Result<Learned, String> {
    same_shape(a, b)?;
    are_finite(a, b).map_err(|e| format!("cannot join two nets: {e}"))?;
    let chord = Controls::new(Basis::Chain, vec![a.clone(), b.clone()])?;
    let segments = settings.curve.bends() + 1;
    let start = |k: usize| chord.point(k as f64 / segments as f64);
    let start = Controls::new(settings.curve.basis(), (0..=segments).map(start).collect())?;
    let mut curve = CurveLearner::new(&start, settings.engine, threads);
    let widths = a.shape().widths;
    let streams = (seed, label.into());
    let history = fit(&mut curve, &settings.fit, widths, streams, train, validation)
        .map_err(|e| e.to_string())?;
    let bends = curve.bends();
    let nets = [vec![a.clone()], bends, vec![b.clone()]].concat();
    Ok(Learned { controls: Controls::new(settings.curve.basis(), nets)?, history })
}

/// A curve in training.
///
/// A step visits each run of parameters once: it moves the bends, and with them forms psi at the t
/// of the next batch, while the run is in the processor's cache.
struct CurveLearner {
    basis: Basis,
    /// Computes gradients; its net is psi(t).
    engine: Box<dyn Engine>,
    /// The coefficients of that psi(t); none before the first batch.
    coefficients: Option<Vec<f32>>,
    /// The engine's runs.
    runs: Vec<RunShape>,
    /// The control nets, packed.
    controls: Vec<Aligned>,
    /// The optimiser's state of each bend.
    moments: Vec<Moments>,
}

/// A run without its parameters.
#[derive(Clone, Copy)]
struct RunShape {
    length: usize,
    layer: usize,
    are_biases: bool,
}

/// A run of the parameters of every control net.
struct ControlRun<'a> {
    shape: RunShape,
    ends: [&'a [f32]; 2],
    bends: Vec<Weights<'a>>,
}

impl ControlRun<'_> {
    /// Sets `point` to the sum of the control nets with the coefficients `c`.
    fn combine(&self, c: &[f32], point: &mut [f32]) {
        let [a, b] = self.ends;
        let nets = [a].into_iter().chain(self.bends.iter().map(Weights::values)).chain([b]);
        let terms: Vec<(f32, &[f32])> =
            c.iter().copied().zip(nets).filter(|(c, _)| *c != 0.0).collect();
        combine(&terms, point);
    }
}

impl CurveLearner {
    fn new(start: &Controls, engine: EngineKind, threads: NonZero<usize>) -> CurveLearner {
        let packed = |net: &Net| {
            let numbers = engine.start(net, threads).packed();
            let mut packed = Aligned::zeros(numbers.len());
            packed.copy_from_slice(&numbers);
            packed
        };
        let controls: Vec<Aligned> = start.nets().iter().map(packed).collect();
        let engine = engine.start(&start.nets()[0], threads);
        CurveLearner {
            basis: start.basis(),
            runs: engine
                .runs()
                .iter()
                .map(|&Run { data, layer, are_biases }| RunShape {
                    length: data.len(),
                    layer,
                    are_biases,
                })
                .collect(),
            engine,
            coefficients: None,
            moments: start.bends().iter().map(|_| Moments::zeros(controls[0].len())).collect(),
            controls,
        }
    }

    /// The bends.
    fn bends(&self) -> Vec<Net> {
        let bends = &self.controls[1..self.controls.len() - 1];
        bends.iter().map(|bend| self.engine.unpack(bend)).collect()
    }

    /// The coefficient of each control net.
    fn coefficients(&self, t: f64) -> Vec<f32> {
        let c = self.basis.coefficients(self.controls.len(), t);
        c.into_iter().map(|c| c as f32).collect()
    }
}

/// The runs of the control nets, in the engine's order.
fn control_runs<'a>(
    runs: &[RunShape],
    controls: &'a mut [Aligned],
    moments: &'a mut [Moments],
) -> Vec<ControlRun<'a>> {
    let [a, bends @ .., b] = controls else { panic!("BUG: a curve has two ends") };
    let mut start = 0;
    let run = |&shape: &RunShape| {
        let range = start..start + shape.length;
        start = range.end;
        ControlRun { shape, ends: [&a[range.clone()], &b[range]], bends: Vec::new() }
    };
    let mut all: Vec<ControlRun> = runs.iter().map(run).collect();
    for (bend, moments) in bends.iter_mut().zip(moments) {
        let mut rest = moments.weights(bend);
        for run in &mut all {
            let (weights, others) = rest.split_at(run.shape.length);
            run.bends.push(weights);
            rest = others;
        }
    }
    all
}

impl Learner for CurveLearner {
    fn step(&mut self, batch: &Batch, step: &Step, own: &mut ChaCha8Rng) -> BatchStats {
        let known = self.coefficients.take();
        let is_first = known.is_none();
        let here = known.unwrap_or_else(|| self.coefficients(rng::uniform(own)));
        let next = self.coefficients(rng::uniform(own));
        let update = step.plain_update();
        let controls = control_runs(&self.runs, &mut self.controls, &mut self.moments);
        if is_first {
            let points = self.engine.runs_mut();
            controls.iter().zip(points).for_each(|(run, point)| run.combine(&here, point));
        }
        let controls: Vec<Mutex<ControlRun>> = controls.into_iter().map(Mutex::new).collect();
        let stats = self.engine.visit_gradient(batch, &|run, point, gradient| {
            // Each run is visited once: the lock is always free.
            let mut run = controls[run].lock().unwrap_or_else(PoisonError::into_inner);
            let RunShape { layer, are_biases, .. } = run.shape;
            let penalty = step.penalties(layer)[usize::from(are_biases)];
            for (&c, bend) in here[1..].iter().zip(&mut run.bends) {
                apply_bend(update, c, penalty, gradient, point, bend);
            }
            run.combine(&next, point);
        });
        self.coefficients = Some(next);
        stats
    }

    fn representative(&self) -> Option<Net> {
        let is_finite = self.controls.iter().all(|net| net.iter().all(|w| w.is_finite()));
        let middle = || {
            let c = self.coefficients(0.5);
            let terms: Vec<(f32, &[f32])> =
                c.into_iter().zip(&self.controls).map(|(c, net)| (c, &net[..])).collect();
            let mut packed = Aligned::zeros(self.controls[0].len());
            combine(&terms, &mut packed);
            self.engine.unpack(&packed)
        };
        is_finite.then(middle)
    }
}

#[cfg(test)]
mod tests;
