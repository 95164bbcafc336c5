//! `learn`: learns the bends of a curve between two nets.

use super::artifact::{BENDS, BendsCard, IMAGES, NET, digests_of_ends, read_net, write_bends};
use super::compare;
use super::quality::Splits;
use super::tables::HISTORY;
use super::train::{batch, check_batch, epochs, write_history};
use crate::engine::stage::pairing::Moves;
use crate::engine::stage::{Arity, Changes, Context, Slot, Stage};
use crate::study::bounded::{Epochs, ImageCount};
use crate::study::curve::learn::{LearnSettings, LearnedCurve, learn};
use crate::study::net::{EngineKind, FitSettings, Optimizer};
use anyhow::{Result, anyhow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) struct LearnStage;

/// The prior is that of the two nets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The learned curve: a quadratic Bezier curve, or a polygonal chain with 1 to 9 bends.
    curve: LearnedCurve,
    /// Whether biases have no prior.
    #[serde(default)]
    spare_biases: bool,
    #[serde(default = "epochs")]
    epochs: Epochs,
    #[serde(default = "batch")]
    batch: ImageCount,
    #[serde(default)]
    optimizer: Optimizer,
    #[serde(default)]
    engine: EngineKind,
}

impl Stage for LearnStage {
    const NAME: &'static str = "learn";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "a", arity: Arity::One, files: &[NET] },
        Slot { name: "b", arity: Arity::One, files: &[NET] },
        Slot { name: "data", arity: Arity::One, files: IMAGES },
    ];
    const OUTPUTS: &'static [&'static str] = &[BENDS, HISTORY.file];
    const SYNCHRONOUS_THREADS: bool = true;
    const ENDS: Option<[&'static str; 2]> = Some(["a", "b"]);
    type Params = Params;

    /// The hidden layers and the pair are added when the nets are known. Curves of one pair, and
    /// those with and without alignment, are compared with the same shuffles.
    fn label(_: &Params) -> Option<String> {
        Some("bends".to_owned())
    }

    fn difference(file: &str, cached: &[u8], recomputed: &[u8]) -> String {
        compare::difference(file, cached, recomputed)
    }

    fn changes(file: &str, before: &[u8], after: &[u8], known: &Moves) -> Option<Changes> {
        compare::changes(file, before, after, known)
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let (a, card_a) = read_net(cx.input("a")?.path(NET)?)?;
        let (b, card_b) = read_net(cx.input("b")?.path(NET)?)?;
        let pair = card_a.pair_with(&card_b)?;
        let splits = Splits::read(cx.input("data")?)?;
        let shape = a.shape();
        splits.check(shape)?;
        let Params { curve, spare_biases, epochs, batch, optimizer, engine } = params;
        let rows = splits.training.len().min(batch.get() as usize);
        check_batch(rows, shape.inputs, &shape.widths)?;
        let prior = card_a.prior;
        let fit = FitSettings { prior, spare_biases, epochs, batch, optimizer };
        let settings = LearnSettings { curve, fit, engine };
        let seed = cx.seed()?;
        let label = format!("{}/hidden={},pair={pair}", seed.label, card_a.hidden);
        let learned = learn(
            &settings,
            [&a, &b],
            [&seed.run, &label],
            &splits.training,
            &splits.validation,
            cx.threads(),
        );
        let learned = learned.map_err(|e| anyhow!("{e}"))?;
        let bends = learned.controls.bends();
        let card = BendsCard { curve, ends: digests_of_ends(cx)? };
        write_bends(&cx.output(BENDS), bends, &card, cx.recipe())?;
        write_history(&learned.history).write(&cx.output(HISTORY.file))
    }
}
