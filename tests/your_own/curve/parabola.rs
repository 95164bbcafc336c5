//! The parabola (1 - t)² A + t² B + 2 t (1 - t) M, which bends towards the center M.

use super::Curve;

#[derive(Debug)]
pub(super) struct Parabola;

impl Curve for Parabola {
    fn name(&self) -> &'static str {
        "parabola"
    }

    fn title(&self) -> &'static str {
        "Parabola"
    }

    fn definition(&self) -> &'static str {
        "The parabola (1 - t)² A + t² B + 2 t (1 - t) M."
    }

    fn coefficients(&self, t: f64, _: f64) -> [f64; 3] {
        [(1.0 - t) * (1.0 - t), t * t, 2.0 * t * (1.0 - t)]
    }
}
