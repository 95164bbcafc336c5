//! The arc M + [sin((1-t) phi) (A - M) + sin(t phi) (B - M)] / sin(phi) with cos(phi) = rho (ours).
//!
//! For neurons drawn with mean M, whose correlation between the two nets is rho, the curve keeps
//! their mean and their covariance at every t. With rho = 0 the curve is the arc; as rho goes to 1,
//! it approaches the line.

use super::Curve;
use super::linear::Linear;

/// If rho is closer than this to 1 or -1, the curve is the line, since sin(phi) is a divisor. At -1
/// the two nets are opposite and span no plane. Nets of one neuron are always opposite if M is
/// their mean.
const NO_ANGLE: f64 = 1e-6;

/// M + [sin((1-t) phi) (A - M) + sin(t phi) (B - M)] / sin(phi); [`Linear`] where phi is 0 or pi.
#[derive(Debug)]
pub(super) struct RhoArc;

impl Curve for RhoArc {
    fn name(&self) -> &'static str {
        "rho-arc"
    }

    fn title(&self) -> &'static str {
        "Rho-arc"
    }

    fn definition(&self) -> &'static str {
        "Our variant of the arc, which turns by the angle phi between A - M and B - M instead of \
         pi/2: M + [sin((1 - t) phi) (A - M) + sin(t phi) (B - M)] / sin(phi), with cos(phi) = rho."
    }

    fn coefficients(&self, t: f64, rho: f64) -> [f64; 3] {
        if 1.0 - rho.abs() < NO_ANGLE {
            return Linear.coefficients(t, rho);
        }
        let phi = libm::acos(rho);
        let [alpha, beta] = [1.0 - t, t].map(|t| libm::sin(t * phi) / libm::sin(phi));
        [alpha, beta, 1.0 - alpha - beta]
    }
}

#[cfg(test)]
mod tests {
    use super::super::arc::Arc;
    use super::super::fixture::net;
    use super::super::{Center, Path, grid};
    use super::*;
    use crate::study::net::Net;
    use crate::study::net::Shape;

    const INPUTS: usize = 784;

    #[test]
    fn without_correlation_the_rho_arc_is_the_arc_bit_for_bit() {
        for t in grid(61) {
            assert_eq!(RhoArc.coefficients(t, 0.0), Arc.coefficients(t, 0.0), "{t}");
        }
    }

    #[test]
    fn the_rho_arc_becomes_the_line_as_the_correlation_goes_to_one() {
        for t in grid(61) {
            let line = Linear.coefficients(t, 0.0);
            let off = |rho| {
                let terms = RhoArc.coefficients(t, rho).into_iter().zip(line);
                terms.map(|(x, line)| (x - line).abs()).fold(0.0, f64::max)
            };
            assert!(off(0.999) < 1e-3 && off(1.0 - 2e-6) < 1e-6, "{t}");
            for rho in [1.0 - 1e-7, 1.0, 1.0 + 1e-15, -1.0, -1.0 + 1e-7] {
                assert_eq!(RhoArc.coefficients(t, rho), line, "{t} {rho}");
            }
        }
    }

    /// `rho` a + sqrt(1 - rho²) noise, parameter by parameter.
    fn correlated(rho: f32, a: &Net, noise: &Net) -> Net {
        let mut b = Net::zeros(Shape::talk(a.width(0)));
        let parameters = a.params().iter().zip(noise.params());
        let mix = parameters.map(|(&a, &noise)| rho * a + (1.0 - rho * rho).sqrt() * noise);
        b.params_mut().iter_mut().zip(mix).for_each(|(b, mix)| *b = mix);
        b
    }

    #[test]
    fn the_rho_arc_keeps_the_covariance_of_correlated_neurons_unlike_arc_and_line() {
        let (a, noise) = (net(400, "a"), net(400, "noise"));
        let spread = |net: &Net| net.weights(0).iter().map(|&w| f64::from(w).powi(2)).sum::<f64>();
        for rho in [-0.5, 0.3, 0.8] {
            let b = correlated(rho, &a, &noise);
            let rho = f64::from(rho);
            let found = |curve: &'static dyn Curve, t| {
                let path = Path::new(curve, Center::Neurons, &a, &b).expect("equal widths");
                assert!(
                    (path.correlation() - rho).abs() < 0.02,
                    "{}, not {rho}",
                    path.correlation()
                );
                spread(&path.point(t)) / spread(&a)
            };
            for t in [0.2, 0.5, 0.9] {
                assert!((found(&RhoArc, t) - 1.0).abs() < 0.02, "rho = {rho}, t = {t}");
            }
            assert!((found(&Arc, 0.5) - (1.0 + rho)).abs() < 0.02, "rho = {rho}");
            assert!((found(&Linear, 0.5) - (1.0 + rho) / 2.0).abs() < 0.02, "rho = {rho}");
        }
    }

    #[test]
    fn nets_without_an_angle_between_them_are_joined_too() {
        let (a, b) = (net(1, "a"), net(1, "b"));
        let mut opposite = a.clone();
        opposite.params_mut().iter_mut().for_each(|w| *w = -*w);
        let zero = Net::zeros(Shape::talk(1));
        let cases = [
            (Center::Neurons, &a, &b, -1.0),
            (Center::Zero, &a, &opposite, -1.0),
            (Center::Zero, &a, &a, 1.0),
            (Center::Zero, &zero, &b, 0.0),
            (Center::Neurons, &zero, &zero, 0.0),
        ];
        for (center, a, b, rho) in cases {
            let path = Path::new(&RhoArc, center, a, b).expect("equal widths");
            assert!((path.correlation() - rho).abs() < 1e-6, "{}, not {rho}", path.correlation());
            for t in grid(5) {
                assert!(
                    path.point(t).params().iter().all(|w| w.is_finite()),
                    "rho = {rho}, t = {t}"
                );
            }
        }
    }

    #[test]
    fn the_correlation_is_one_number_over_whole_neurons() {
        // About the origin: incoming weights 3 and 4 of one neuron, an outgoing weight of 12 of the
        // other.
        let (mut a, mut b) = (Net::zeros(Shape::talk(2)), Net::zeros(Shape::talk(2)));
        a.weights_mut(0)[0] = 3.0;
        b.weights_mut(0)[0] = 4.0;
        a.weights_mut(0)[INPUTS + 7] = 4.0;
        b.weights_mut(1)[1] = 3.0;
        let path = Path::new(&RhoArc, Center::Zero, &a, &b).expect("equal widths");
        assert_eq!(path.correlation(), 12.0 / 25.0);
    }
}
