//! `align`: matches the neurons of B to those of A and permutes B accordingly, without changing the
//! function it computes.

use super::artifact::{IMAGES, NET, read_labelled, read_net, write_json, write_net};
use super::compare;
use crate::engine::stage::{Arity, Context, Invocation, Slot, Stage};
use crate::study::bounded::Restarts;
use crate::study::curve::align::{AlignSettings, Cost, LayerMatching, Order, align};
use crate::study::data::Split;
use anyhow::{Result, anyhow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(super) struct AlignStage;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    #[serde(default)]
    cost: Cost,
    /// The order in which the cost `neurons` visits the hidden layers of a deep net.
    #[serde(default)]
    order: Order,
    /// The number of ascents with the order `random`, the best of which is kept. The first one is
    /// that of the order `ascending`.
    #[serde(default = "restarts")]
    restarts: Restarts,
}

fn restarts() -> Restarts {
    Restarts::try_from(4).expect("a default in bounds")
}

/// The costs of the matching, and the permutation of each hidden layer: neuron i of the output is
/// neuron `permutation[i]` of B.
const ALIGNMENT: &str = "alignment.json";

impl Stage for AlignStage {
    const NAME: &'static str = "align";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "a", arity: Arity::One, files: &[NET] },
        Slot { name: "b", arity: Arity::One, files: &[NET] },
        // Required for the cost `activations` only.
        Slot { name: "data", arity: Arity::Optional, files: IMAGES },
    ];
    const OUTPUTS: &'static [&'static str] = &[NET, ALIGNMENT];
    const ENDS: Option<[&'static str; 2]> = Some(["a", "b"]);
    type Params = Params;

    /// Parameters that the cost or the order does not use are not part of the key. Whether there
    /// are several hidden layers, without which neither acts, is known only when the inputs are.
    ///
    /// There is no [`Stage::label`], for the same reason: with one, every alignment would depend on
    /// the seed. Random orders depend on the parameters of the two nets instead.
    fn key_params(params: Params, _: &Invocation) -> Params {
        let order = if params.cost == Cost::Neurons { params.order } else { Order::default() };
        let draws = params.cost == Cost::Neurons && order == Order::Random;
        Params { order, restarts: if draws { params.restarts } else { restarts() }, ..params }
    }

    fn difference(file: &str, cached: &[u8], recomputed: &[u8]) -> String {
        compare::difference(file, cached, recomputed)
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let (a, _) = read_net(cx.input("a")?.path(NET)?)?;
        let (b, mut card) = read_net(cx.input("b")?.path(NET)?)?;
        let images = match cx.inputs("data").first() {
            Some(data) => Some(read_labelled(data, Split::Train)?.images),
            None => None,
        };
        let Params { cost, order, restarts } = params;
        let settings = AlignSettings { cost, order, restarts };
        let matched = align(&a, &b, settings, images.as_ref(), cx.threads());
        let matched = matched.map_err(|e| anyhow!("{e}"))?;
        let permuted = matched.permutations.apply(&b).map_err(|e| anyhow!("{e}"))?;
        card.aligned = Some(cost);
        write_net(&cx.output(NET), &permuted, &card, cx.recipe())?;
        let alignment = match (&matched.layers[..], matched.permutations.as_slice()) {
            ([layer], [permutation]) => json!({
                "cost": cost,
                "total_cost": layer.total_cost,
                "identity_cost": layer.identity_cost,
                "certified_gap": layer.certified_gap,
                "correlation": matched.correlation,
                "permutation": permutation,
            }),
            (layers, permutations) => {
                let [before, after] = matched.objective;
                let mut alignment = json!({
                    "cost": cost,
                    "objective": { "before": before, "after": after },
                    "correlation": matched.correlation,
                    "layers": layers.iter().map(costs).collect::<Vec<_>>(),
                    "permutations": permutations,
                });
                if !matched.restarts.is_empty() {
                    let sweeps = |objectives: &Vec<f64>| {
                        let count = objectives.len();
                        json!({ "sweeps": count, "objectives": objectives })
                    };
                    alignment["order"] = json!(order);
                    alignment["restarts"] = matched.restarts.iter().map(sweeps).collect();
                    alignment["best_restart"] = json!(matched.best);
                }
                alignment
            }
        };
        write_json(&cx.output(ALIGNMENT), &alignment)
    }
}

/// The costs of a hidden layer.
fn costs(layer: &LayerMatching) -> serde_json::Value {
    let LayerMatching { total_cost, identity_cost, certified_gap } = layer;
    json!({
        "total_cost": total_cost,
        "identity_cost": identity_cost,
        "certified_gap": certified_gap,
    })
}
