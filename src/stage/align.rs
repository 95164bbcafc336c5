//! `align`: matches the neurons of B to those of A and permutes B accordingly, without changing the
//! function it computes.

use super::artifact::{IMAGES, NET, read_labelled, read_net, write_json, write_net};
use super::compare;
use crate::engine::stage::{Arity, Context, Slot, Stage};
use crate::study::curve::align::{Cost, align};
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
}

/// The costs of the matching, and the permutation: neuron i of the output is neuron
/// `permutation[i]` of B.
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
    type Params = Params;

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
        let matched = align(&a, &b, params.cost, images.as_ref()).map_err(|e| anyhow!("{e}"))?;
        let permuted = matched.permutation.apply(&b).map_err(|e| anyhow!("{e}"))?;
        card.aligned = Some(params.cost);
        write_net(&cx.output(NET), &permuted, &card, cx.recipe())?;
        let alignment = json!({
            "cost": params.cost,
            "total_cost": matched.total_cost,
            "identity_cost": matched.identity_cost,
            "certified_gap": matched.certified_gap,
            "correlation": matched.correlation,
            "permutation": matched.permutation.as_slice(),
        });
        write_json(&cx.output(ALIGNMENT), &alignment)
    }
}
