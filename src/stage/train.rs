//! `train`: trains one net, an endpoint of curves.

use super::artifact::{Csv, IMAGES, NET, NetCard, OrEmpty, write_net};
use super::compare;
use super::names::{End, NetName};
use super::quality::{Splits, write_quality};
use super::tables::{HISTORY, NETS};
use crate::engine::stage::pairing::Moves;
use crate::engine::stage::{Arity, Changes, Context, Hinted, Slot, Stage};
use crate::study::bounded::{Epochs, ImageCount};
use crate::study::net::{
    EngineKind, EpochRecord, Init, Labels, Optimizer, Prior, TrainSettings, Trunk, Widths, train,
};
use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) struct TrainStage;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// Neurons of the hidden layers: `50`, or one number for each layer, such as `512x256`.
    hidden: Widths,
    /// Whether every layer has biases, the output layer included.
    #[serde(default)]
    bias: bool,
    #[serde(default)]
    prior: Prior,
    /// Whether biases have no prior.
    #[serde(default)]
    spare_biases: bool,
    /// The number of the net. It only selects the random streams. Every two nets can be joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    net: Option<u32>,
    /// The pair that the net belongs to, in place of `net`. It only selects the random streams.
    #[serde(default = "first_pair")]
    pair: u32,
    /// The end of that pair.
    #[serde(default)]
    end: End,
    /// The first epochs that the two ends of the pair share: until then, they are one training. 0
    /// shares the initial weights alone. By default, the ends have nothing random in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared_epochs: Option<Epochs>,
    #[serde(default = "epochs")]
    epochs: Epochs,
    #[serde(default = "batch")]
    batch: ImageCount,
    #[serde(default)]
    optimizer: Optimizer,
    #[serde(default)]
    init: Init,
    #[serde(default)]
    engine: EngineKind,
}

fn first_pair() -> u32 {
    1
}

pub(super) fn epochs() -> Epochs {
    talk().epochs
}

pub(super) fn batch() -> ImageCount {
    talk().batch
}

fn talk() -> TrainSettings {
    TrainSettings::new("1".parse().expect("widths in bounds"))
}

impl Params {
    fn name(&self) -> NetName {
        match self.net {
            Some(net) => NetName::Net { net: net.to_string() },
            None => NetName::End { pair: self.pair, end: self.end },
        }
    }
}

impl Stage for TrainStage {
    const NAME: &'static str = "train";
    const VERSION: u32 = 2;
    const SLOTS: &'static [Slot] = &[Slot { name: "data", arity: Arity::One, files: IMAGES }];
    const OUTPUTS: &'static [&'static str] = &[NET, HISTORY.file, NETS.file];
    const SYNCHRONOUS_THREADS: bool = true;
    type Params = Params;

    /// Version 2 gave the Laplace prior its full strength; other nets kept their bytes.
    fn version(params: &Params) -> u32 {
        if matches!(params.prior, Prior::Laplace { .. }) { 2 } else { 1 }
    }

    fn check(params: &Params) -> Result<(), Hinted> {
        if params.net.is_some() && (params.pair, params.end) != (first_pair(), End::default()) {
            return Err(Hinted::new(
                "`net` names a net in place of `pair` and `end`",
                "remove `pair` and `end`",
            ));
        }
        check_shared_epochs(params)?;
        let hint = "write one number for all layers, or one for each of them";
        params.prior.check_layers(params.hidden).map_err(|cause| Hinted::new(cause, hint))
    }

    /// Priors, biases, optimizers and engines are compared with the same init and shuffles. So are
    /// numbers of shared epochs; the trunk has a label of its own.
    fn label(params: &Params) -> Option<String> {
        let Params { hidden, net, pair, end, .. } = params;
        Some(match net {
            Some(net) => format!("hidden={hidden},net={net}"),
            None => format!("hidden={hidden},pair={pair},end={end}"),
        })
    }

    fn difference(file: &str, cached: &[u8], recomputed: &[u8]) -> String {
        compare::difference(file, cached, recomputed)
    }

    fn changes(file: &str, before: &[u8], after: &[u8], known: &Moves) -> Option<Changes> {
        compare::changes(file, before, after, known)
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let name = params.name();
        let trunk = format!("hidden={},pair={}", params.hidden, params.pair);
        let shared_epochs = params.shared_epochs.map(Epochs::get);
        let Params { hidden, bias, prior, spare_biases, epochs, batch, optimizer, init, .. } =
            params;
        let settings = TrainSettings {
            widths: hidden,
            biases: bias,
            prior,
            spare_biases,
            epochs,
            batch,
            optimizer,
            init,
            engine: params.engine,
        };
        let data = cx.input("data")?;
        let splits = Splits::read(data)?;
        let rows = splits.training.len().min(batch.get() as usize);
        check_batch(rows, splits.training.images.columns(), &hidden)?;
        let seed = cx.seed()?;
        let labels = Labels {
            own: &seed.label,
            trunk: shared_epochs.map(|epochs| Trunk { label: &trunk, epochs }),
        };
        let trained = train(
            &settings,
            &seed.run,
            labels,
            &splits.training,
            &splits.validation,
            cx.threads(),
        )?;
        let hidden = trained.net.shape().hidden();
        let card = NetCard { hidden, prior, shared_epochs, name, aligned: None };
        write_net(&cx.output(NET), &trained.net, &card, cx.recipe())?;
        write_history(&trained.history).write(&cx.output(HISTORY.file))?;

        let trained_by = Some((&settings, seed.run.as_str()));
        write_quality(&trained.net, &card, trained_by, &splits, &cx.output(NETS.file))
    }
}

pub(super) fn write_history(history: &[EpochRecord]) -> Csv {
    let mut csv = Csv::new(&HISTORY.names());
    for EpochRecord { epoch, rate, train, validation } in history {
        let error = OrEmpty(validation.map(|v| v.error));
        let loss = OrEmpty(validation.map(|v| v.loss));
        csv.row(&[epoch, rate, &train.error, &train.loss, &error, &loss]);
    }
    csv
}

/// Refuses shared epochs that there are not, or of a net that has no other end.
fn check_shared_epochs(params: &Params) -> Result<(), Hinted> {
    let Some(shared) = params.shared_epochs else { return Ok(()) };
    let epochs = params.epochs;
    if params.net.is_some() {
        let hint = "name the nets by `pair: N` and `end: [a, b]` in place of `net`";
        return Err(Hinted::new("`shared_epochs` is for the two ends of a pair", hint));
    }
    if shared > epochs {
        let cause =
            format!("`shared_epochs` is {}, but `epochs` is {}", shared.get(), epochs.get());
        return Err(Hinted::new(cause, format!("write a number from 0 to {}", epochs.get())));
    }
    Ok(())
}

/// Refuses a batch of `rows` images that the kernels' 32-bit indices cannot address.
pub(super) fn check_batch(rows: usize, inputs: usize, hidden: &Widths) -> Result<(), Hinted> {
    /// Entries per row beyond the images of a batch.
    const PADDING: u64 = 64;
    let widest = hidden.iter().chain([inputs]).max().unwrap_or_default();
    let entries = (rows as u64 + PADDING).saturating_mul(widest as u64 + PADDING);
    if entries <= u64::from(u32::MAX) {
        return Ok(());
    }
    let cause = format!("a batch of {rows} images with {widest} numbers each is too large");
    Err(Hinted::new(cause, "choose a smaller `batch`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_beyond_32_bit_indices_is_refused() {
        let check = |rows, inputs| check_batch(rows, inputs, &"512x8192".parse().unwrap());
        assert_eq!(check(128, 1 << 20), Ok(()));
        assert_eq!(check(60_000, 784), Ok(()));
        let refused = check(1_000_000, 784).unwrap_err();
        let cause = "a batch of 1000000 images with 8192 numbers each is too large";
        assert_eq!(refused.cause, cause);
        assert!(check(5_000, 1 << 20).is_err());
    }

    fn params(json: &str) -> Params {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_shared_start_is_for_pairs_and_not_longer_than_the_training() {
        let check = |json| TrainStage::check(&params(json)).map_err(|e| e.cause);
        assert_eq!(check(r#"{"hidden": 5, "pair": 2, "shared_epochs": 30}"#), Ok(()));
        let refused = check(r#"{"hidden": 5, "shared_epochs": 3, "epochs": 2}"#);
        assert_eq!(refused, Err("`shared_epochs` is 3, but `epochs` is 2".to_owned()));
        let refused = check(r#"{"hidden": 5, "shared_epochs": 3, "net": 2}"#);
        assert_eq!(refused, Err("`shared_epochs` is for the two ends of a pair".to_owned()));
    }

    #[test]
    fn a_prior_by_layer_must_have_a_number_for_each_layer() {
        let check = |json: &str| TrainStage::check(&params(json)).map_err(|e| e.cause);
        let prior = r#""prior": {"normal": {"variance": "0.01x0.1"}}"#;
        assert_eq!(check(&format!(r#"{{"hidden": 5, {prior}}}"#)), Ok(()));
        let refused = check(&format!(r#"{{"hidden": "5x5", {prior}}}"#)).unwrap_err();
        let cause = "the prior `normal 0.01x0.1` is for 2 layers, but a net with the hidden layers \
                     `5x5` has 3";
        assert_eq!(refused, cause);
    }

    #[test]
    fn the_fix_of_the_laplace_prior_changed_the_version_of_its_nets_alone() {
        let version = |prior: &str| {
            TrainStage::version(
                &serde_json::from_str(&format!(r#"{{"hidden": 5, "prior": {prior}}}"#)).unwrap(),
            )
        };
        let others =
            [r#""none""#, r#"{"normal": {"variance": 0.1}}"#, r#"{"dropout": 0.5}"#].map(version);
        assert_eq!(
            (others, version(r#"{"laplace": {"scale": 0.1}}"#)),
            ([1; 3], TrainStage::VERSION)
        );
    }
}
