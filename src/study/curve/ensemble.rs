//! Ensembles from two nets: nets along the curve that joins them, and the midpoint of the curve.
//!
//! Anokhin and Yarotsky (arXiv 2008.00741) and Garipov et al. (arXiv 1802.10026) build ensembles of
//! nets on low-loss curves; they cost the training of the two ends. The midpoint of a straight line
//! after alignment is an average of weights, a model soup (M. Wortsman et al., *Model soups*, ICML
//! 2022): one net at inference. With weight adjustment, the midpoint is a point of a refitted
//! curve, no plain average.
//!
//! All kinds but single nets cost the training of two nets; a learned curve costs its own on top.

use super::refit::{RefitSettings, Targets, refit};
use super::{Path, grid};
use crate::kernel::sparse::Sparse;
use crate::study::net::{EnsembleQuality, Net, measure_ensembles};
use crate::study::registry::named_enum;
use std::collections::BTreeSet;
use std::num::NonZero;

named_enum! {
    "kind of ensemble"
    /// What is measured of two nets and the curve between them.
    pub enum EnsembleKind {
        /// Each of the two nets alone: the mean over both.
        Single = "single",
        /// The two nets together.
        Independent = "independent",
        /// Nets at equally spaced t on the curve, both ends included.
        Curve = "curve",
        /// The net at t = 1/2 alone.
        Soup = "soup",
    }
}

impl EnsembleKind {
    /// The number of nets at inference, with `members` on a curve.
    pub fn nets(self, members: u32) -> u32 {
        match self {
            EnsembleKind::Single | EnsembleKind::Soup => 1,
            EnsembleKind::Independent => 2,
            EnsembleKind::Curve => members,
        }
    }

    /// The number of nets that are trained for it.
    pub fn trained(self) -> u32 {
        if self == EnsembleKind::Single { 1 } else { 2 }
    }

    /// What it is, in a sentence of plain text without its subject.
    pub fn definition(self) -> &'static str {
        match self {
            EnsembleKind::Single => "one of the two nets: the mean over both",
            EnsembleKind::Independent => "the two nets, whose probabilities are averaged",
            EnsembleKind::Curve => {
                "nets at equally spaced t on the curve, both ends included, whose probabilities \
                 are averaged"
            }
            EnsembleKind::Soup => {
                "the net at t = 1/2 alone, on a straight line the mean of the weights"
            }
        }
    }
}

/// The nets of which the ensembles of a curve consist.
#[derive(Clone, Debug)]
pub struct CurveNets {
    nets: Vec<Net>,
    /// The indices of the members on the curve.
    members: Vec<usize>,
    /// The index of the net at t = 1/2.
    midpoint: usize,
}

impl CurveNets {
    /// `members` nets at equally spaced t on the curve of these `point`s, both ends included; two
    /// at least.
    pub fn along(point: impl Fn(f64) -> Net, members: u32) -> CurveNets {
        let ts = grid(2 * (members.max(2) - 1) + 1);
        CurveNets::chosen(1, members, |chosen| chosen.iter().map(|&i| point(ts[i])).collect())
    }

    /// As [`CurveNets::along`] on the curve that is refitted along `path`, see [`refit`].
    ///
    /// # Errors
    /// As [`refit`].
    ///
    /// # Panics
    /// As [`refit`].
    pub fn refitted(
        path: Path,
        targets: Targets,
        members: u32,
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Result<CurveNets, String> {
        let segments = if targets == Targets::Blend { 1 } else { path.a.layers() };
        // Every second point is that of a member, and all segments have the same number.
        let points = 2 * (members.max(2) - 1) + 1;
        let settings = RefitSettings { targets, points, refine: 0 };
        let refitted = refit(path, settings, images, labels, threads)?;
        Ok(CurveNets::chosen(segments, members, |chosen| {
            let nets = refitted.nets().enumerate();
            nets.filter(|(i, _)| chosen.contains(i)).map(|(_, net)| net).collect()
        }))
    }

    /// Takes members and midpoint from a grid of t of 2 (`members` - 1) intervals in each of
    /// `segments`: `nets` are those of the grid's points with these indices.
    fn chosen(
        segments: usize,
        members: u32,
        nets: impl FnOnce(&BTreeSet<usize>) -> Vec<Net>,
    ) -> CurveNets {
        let members = members.max(2) as usize;
        let on_grid: Vec<usize> = (0..members).map(|k| 2 * segments * k).collect();
        let middle = segments * (members - 1);
        let chosen: BTreeSet<usize> = on_grid.iter().copied().chain([middle]).collect();
        let position = |i: usize| chosen.range(..i).count();
        CurveNets {
            nets: nets(&chosen),
            members: on_grid.into_iter().map(position).collect(),
            midpoint: position(middle),
        }
    }

    /// The nets at the members' t, in their order.
    pub fn members(&self) -> impl Iterator<Item = &Net> {
        self.members.iter().map(|&i| &self.nets[i])
    }

    /// The net at t = 1/2.
    pub fn midpoint(&self) -> &Net {
        &self.nets[self.midpoint]
    }

    /// The quality of each kind of ensemble, in the order of [`EnsembleKind::ALL`], on `images`
    /// [n, inputs] with their `labels` `[n]`; the number of `threads` does not affect the bits.
    ///
    /// # Panics
    /// As [`measure_ensembles`].
    pub fn measure(
        &self,
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Vec<(EnsembleKind, EnsembleQuality)> {
        let (a, b) = (0, self.nets.len() - 1);
        let ensembles = [vec![a], vec![b], vec![a, b], self.members.clone(), vec![self.midpoint]];
        let found = measure_ensembles(&self.nets, &ensembles, images, labels, threads);
        let of = |kind| match kind {
            EnsembleKind::Single => found[0].mean(found[1]),
            EnsembleKind::Independent => found[2],
            EnsembleKind::Curve => found[3],
            EnsembleKind::Soup => found[4],
        };
        EnsembleKind::ALL.iter().map(|&kind| (kind, of(kind))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{images_of, net, shaped};
    use super::super::{CURVES, Center, curve};
    use super::*;
    use crate::kernel::test::bits;
    use crate::study::net::Shape;

    const THREADS: NonZero<usize> = NonZero::new(2).unwrap();

    fn is_same(a: &Net, b: &Net) -> bool {
        bits(a.params()) == bits(b.params())
    }

    #[test]
    fn members_are_equally_spaced_from_a_to_b_and_the_soup_is_the_midpoint() {
        let [a, b] = ["a", "b"].map(|end| net(4, end));
        for curve in CURVES {
            let path = Path::new(*curve, Center::default(), &a, &b).expect("equal shapes");
            for count in 2..7 {
                let nets = CurveNets::along(|t| path.point(t), count);
                assert!(is_same(nets.midpoint(), &path.point(0.5)));
                for (net, t) in nets.members().zip(grid(count)) {
                    assert!(is_same(net, &path.point(t)), "{curve:?} at {t} of {count}");
                }
                assert_eq!(nets.members().count(), count as usize);
            }
        }
    }

    #[test]
    fn two_members_on_any_curve_are_the_independent_ensemble_exactly() {
        let [a, b] = ["a", "b"].map(|end| net(4, end));
        let (images, labels) = images_of(700, 784, 10);
        for curve in CURVES {
            let path = Path::new(*curve, Center::default(), &a, &b).expect("equal shapes");
            let found = CurveNets::along(|t| path.point(t), 2).measure(&images, &labels, THREADS);
            assert_eq!(found[1].1, found[2].1, "{curve:?}");
            assert_eq!(found[1].0, EnsembleKind::Independent);
        }
    }

    #[test]
    fn members_of_a_refitted_curve_are_its_points_at_their_t() {
        let shape = Shape::of(20, &[6, 5], 3, true);
        let (images, labels) = images_of(300, 20, 3);
        for (shape, targets) in [
            (Shape::of(20, &[6], 3, false), Targets::A),
            (Shape::of(20, &[6], 3, true), Targets::Blend),
            (shape, Targets::A),
        ] {
            let [a, b] = ["a", "b"].map(|end| shaped(shape, end));
            let path = || {
                let linear = curve("linear").expect("known");
                Path::new(linear, Center::default(), &a, &b).expect("equal shapes")
            };
            for count in [2, 3, 4] {
                let nets =
                    CurveNets::refitted(path(), targets, count, &images, &labels, THREADS).unwrap();
                let ends: Vec<&Net> = nets.members().collect();
                assert_eq!(ends.len(), count as usize);
                assert!(is_same(ends[0], &a) && is_same(ends[ends.len() - 1], &b));
                let settings = RefitSettings { targets, points: 2 * count - 1, refine: 0 };
                let whole = refit(path(), settings, &images, &labels, THREADS).unwrap();
                let ts: Vec<f64> =
                    whole.measure(&images, &labels, THREADS).iter().map(|point| point.t).collect();
                let at = |t: f64| {
                    let i = ts.iter().position(|found| *found == t).expect("on the grid");
                    whole.nets().nth(i).expect("a net")
                };
                assert!(is_same(nets.midpoint(), &at(0.5)), "{shape} {count}");
                for (net, t) in nets.members().zip(grid(count)) {
                    assert!(is_same(net, &at(t)), "{shape} at {t} of {count}");
                }
            }
        }
    }

    #[test]
    fn a_single_net_is_the_mean_of_both_ends() {
        let [a, b] = ["a", "b"].map(|end| net(4, end));
        let (images, labels) = images_of(300, 784, 10);
        let linear = curve("linear").expect("known");
        let path = Path::new(linear, Center::default(), &a, &b).expect("equal shapes");
        let found = CurveNets::along(|t| path.point(t), 3).measure(&images, &labels, THREADS);
        let [a, b] = [&a, &b].map(|net| {
            let alone = std::slice::from_ref(net);
            measure_ensembles(alone, &[vec![0]], &images, &labels, THREADS)[0]
        });
        assert_eq!(found[0], (EnsembleKind::Single, a.mean(b)));
    }
}
