//! A curve between two particular nets, whether it has a closed form or control nets.

use super::{Controls, Path, Point};
use crate::kernel::sparse::Sparse;
use crate::study::net::Net;
use std::num::NonZero;

/// A curve between two particular nets.
#[derive(Clone, Debug)]
pub enum Joined<'a> {
    /// A closed-form curve.
    ClosedForm(Path<'a>),
    /// A curve that is given by control nets.
    Controls(Controls),
}

impl Joined<'_> {
    /// The nets at t = 0 and at t = 1.
    pub fn ends(&self) -> [&Net; 2] {
        match self {
            Joined::ClosedForm(path) => [path.a, path.b],
            Joined::Controls(controls) => {
                let nets = controls.nets();
                [&nets[0], &nets[nets.len() - 1]]
            }
        }
    }

    /// psi(t), see [`Path::point`] and [`Controls::point`].
    pub fn point(&self, t: f64) -> Net {
        match self {
            Joined::ClosedForm(path) => path.point(t),
            Joined::Controls(controls) => controls.point(t),
        }
    }

    /// Error and loss at each of `ts`, see [`Path::measure`] and [`Controls::measure`].
    ///
    /// # Panics
    /// As these.
    pub fn measure(
        &self,
        ts: &[f64],
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Vec<Point> {
        match self {
            Joined::ClosedForm(path) => path.measure(ts, images, labels, threads),
            Joined::Controls(controls) => controls.measure(ts, images, labels, threads),
        }
    }
}
