//! Training: epochs, shuffles, dropout and the history (SCIENCE: "Model, data, training").
//!
//! Every random stream is named by the net's label and the epoch, so that a net depends on its own
//! recipe only. Nets with a shared start follow the label of their trunk first (SCIENCE: "Shared
//! start"). This file does not depend on the engine that computes the gradients, and [`fit`] not on
//! what the steps move: a net, or the bends of a curve.

use super::engine::{Batch, BatchStats, Engine, Updates};
use super::engine_kind::EngineKind;
use super::init::Init;
use super::optimizer::{Optimizer, lr_factor};
use super::prior::Prior;
use super::{Net, Quality, Shape, Widths, evaluate};
use crate::kernel::update::{Penalty, Update};
use crate::study::bounded::{Epochs, ImageCount};
use crate::study::data::Labelled;
use crate::study::rng;
use rand_chacha::ChaCha8Rng;
use std::fmt;
use std::num::NonZero;

/// The settings of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainSettings {
    /// Neurons of the hidden layers.
    pub widths: Widths,
    /// Whether every layer has biases.
    pub biases: bool,
    /// Prior on the parameters.
    pub prior: Prior,
    /// Whether biases have no prior.
    pub spare_biases: bool,
    /// Passes over the training images.
    pub epochs: Epochs,
    /// Images per step; the last step of an epoch may have fewer.
    pub batch: ImageCount,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// The initialisation.
    pub init: Init,
    /// The engine that computes the gradients.
    pub engine: EngineKind,
}

impl TrainSettings {
    /// The talk's settings for an endpoint with these hidden layers.
    pub fn new(widths: Widths) -> Self {
        TrainSettings {
            widths,
            biases: false,
            prior: Prior::default(),
            spare_biases: false,
            epochs: Epochs::try_from(30).expect("a default in bounds"),
            batch: ImageCount::try_from(128).expect("a default in bounds"),
            optimizer: Optimizer::default(),
            init: Init::default(),
            engine: EngineKind::default(),
        }
    }

    /// The settings that do not depend on the net.
    pub fn fit(&self) -> FitSettings {
        FitSettings {
            prior: self.prior,
            spare_biases: self.spare_biases,
            epochs: self.epochs,
            batch: self.batch,
            optimizer: self.optimizer,
        }
    }

    /// The shape of a net for `data`, which has its inputs and classes.
    pub fn shape(&self, data: &Labelled) -> Shape {
        Shape {
            inputs: data.images.columns(),
            widths: self.widths,
            classes: data.classes,
            biases: self.biases,
        }
    }
}

/// The settings of [`fit`]; see [`TrainSettings`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitSettings {
    /// Prior on the parameters.
    pub prior: Prior,
    /// Whether biases have no prior.
    pub spare_biases: bool,
    /// Passes over the training images.
    pub epochs: Epochs,
    /// Images per step; the last step of an epoch may have fewer.
    pub batch: ImageCount,
    /// The optimiser.
    pub optimizer: Optimizer,
}

impl FitSettings {
    /// The prior on the weights of layer `l`, counted from 0, and the one on its biases.
    fn priors(&self, l: usize) -> [Prior; 2] {
        let prior = self.prior.of_layer(l);
        [prior, if self.spare_biases { Prior::None } else { prior }]
    }

    /// Fails if the prior's coefficient in the gradient is not finite in one of the `layers`.
    fn check_prior(&self, layers: usize, images: usize) -> Result<(), TrainError> {
        let is_finite = |l: usize| {
            let prior = self.prior.of_layer(l);
            [prior.decay(images), prior.shrink(images)].iter().all(|c| (*c as f32).is_finite())
        };
        match (0..layers).find(|&l| !is_finite(l)) {
            Some(l) => Err(TrainError::StrongPrior { layer: l + 1 }),
            None => Ok(()),
        }
    }
}

/// What a training moves.
pub trait Learner {
    /// Moves the parameters by the gradient of a batch. `own` is the learner's own random stream of
    /// the epoch. The statistics are those before the step.
    fn step(&mut self, batch: &Batch, step: &Step, own: &mut ChaCha8Rng) -> BatchStats;

    /// The net that is measured on the validation images after an epoch; `None` if a parameter is
    /// not finite.
    fn representative(&self) -> Option<Net>;
}

/// A step of a training, as far as it does not depend on the batch.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    settings: &'a FitSettings,
    /// Counted from 1.
    number: u64,
    /// The learning rate, including the factor of the schedule.
    rate: f64,
    /// Training images in all.
    images: usize,
}

impl<'a> Step<'a> {
    /// The step `number` (from 1) at the learning rate `rate`, of a training on `images` images.
    pub fn new(settings: &'a FitSettings, number: u64, rate: f64, images: usize) -> Step<'a> {
        Step { settings, number, rate, images }
    }

    /// How the step moves the parameters of each layer of a net with `layers` layers, the prior's
    /// effect included.
    ///
    /// # Panics
    /// If the prior is for fewer layers.
    pub fn updates(&self, layers: usize) -> Vec<Updates> {
        let of_layer = |l: usize| {
            let [weights, biases] = self.settings.priors(l).map(|prior| self.update(prior));
            Updates { weights, biases }
        };
        (0..layers).map(of_layer).collect()
    }

    /// How the step moves parameters by their gradient alone.
    pub fn plain_update(&self) -> Update {
        self.update(Prior::None)
    }

    /// What the prior adds to the gradient of the weights of layer `l`, counted from 0, and to that
    /// of its biases.
    ///
    /// # Panics
    /// If the prior is for fewer layers.
    pub fn penalties(&self, l: usize) -> [Penalty; 2] {
        self.settings.priors(l).map(|prior| Penalty {
            decay: prior.decay(self.images) as f32,
            slope: prior.shrink(self.images) as f32,
        })
    }

    fn update(&self, prior: Prior) -> Update {
        self.settings.optimizer.update(self.number, self.rate, prior, self.images)
    }
}

/// A net and its history.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The net after the last epoch.
    pub net: Net,
    /// One record for each epoch.
    pub history: Vec<EpochRecord>,
}

/// The record of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: u32,
    /// The learning rate, including the factor of the schedule.
    pub rate: f64,
    /// On the training images as each batch is processed, with dropout, before its step.
    pub train: Quality,
    /// On the validation images, after the epoch; `None` without any.
    pub validation: Option<Quality>,
}

/// The reason why training failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainError {
    /// There are no training images.
    NoImages,
    /// The coefficient of the prior in the gradient of this layer is not a finite f32.
    StrongPrior {
        /// Counted from 1.
        layer: usize,
    },
    /// A loss or a weight became infinite or NaN in this epoch.
    Diverged {
        /// Counted from 1.
        epoch: u32,
    },
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            TrainError::NoImages => write!(f, "no training images are left"),
            TrainError::StrongPrior { layer } => {
                write!(
                    f,
                    "the prior is too strong in layer {layer}: its coefficient in the gradient is \
                     not finite; choose a larger variance or scale"
                )
            }
            TrainError::Diverged { epoch } => {
                write!(
                    f,
                    "training diverged in epoch {epoch}: a loss or a weight is not finite; \
                     try a smaller `rate`"
                )
            }
        }
    }
}

impl std::error::Error for TrainError {}

/// The labels of a net's random streams: init, shuffles and dropout masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels<'a> {
    /// The net's own.
    pub own: &'a str,
    /// The trunk that the net follows at first, if it does.
    pub trunk: Option<Trunk<'a>>,
}

/// The first epochs of several nets: they are one training until their labels differ. Velocity,
/// moments and schedule continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trunk<'a> {
    /// The label of the trunk's random streams.
    pub label: &'a str,
    /// The number of shared epochs; with 0, the nets share their init alone.
    pub epochs: u32,
}

impl<'a> Labels<'a> {
    fn of_init(self) -> &'a str {
        self.trunk.map_or(self.own, |trunk| trunk.label)
    }

    /// The label in `epoch`, counted from 1.
    fn of_epoch(self, epoch: u32) -> &'a str {
        let trunk = self.trunk.filter(|trunk| epoch <= trunk.epochs);
        trunk.map_or(self.own, |trunk| trunk.label)
    }
}

/// The labels of a net without a trunk.
impl<'a> From<&'a str> for Labels<'a> {
    fn from(own: &'a str) -> Labels<'a> {
        Labels { own, trunk: None }
    }
}

/// Trains a net on `train`; `validation` is only measured. All randomness is derived from `seed`
/// and the net's `labels`; the number of `threads` does not affect the bits.
///
/// # Panics
/// If the prior has numbers for another number of layers ([`Prior::layers`]).
pub fn train<'a>(
    settings: &TrainSettings,
    seed: &str,
    labels: impl Into<Labels<'a>>,
    train: &Labelled,
    validation: &Labelled,
    threads: NonZero<usize>,
) -> Result<Trained, TrainError> {
    let shape = settings.shape(train);
    let labels: Labels = labels.into();
    let net = settings.init.draw(shape, seed, &format!("{}/init", labels.of_init()));
    let engine = settings.engine.start(&net, threads);
    let mut learner = NetLearner { engine, layers: shape.layers() };
    let history =
        fit(&mut learner, &settings.fit(), shape.widths, (seed, labels), train, validation)?;
    let net = if history.is_empty() { net } else { learner.engine.net() };
    Ok(Trained { net, history })
}

/// A net in training.
struct NetLearner {
    engine: Box<dyn Engine>,
    layers: usize,
}

impl Learner for NetLearner {
    fn step(&mut self, batch: &Batch, step: &Step, _: &mut ChaCha8Rng) -> BatchStats {
        self.engine.step(batch, &step.updates(self.layers))
    }

    fn representative(&self) -> Option<Net> {
        let net = self.engine.net();
        net.params().iter().all(|w| w.is_finite()).then_some(net)
    }
}

/// Trains a `learner` of nets with hidden layers of these `widths` on `train`; `validation` is only
/// measured. Returns one record for each epoch. All randomness is derived from the seed and the
/// labels.
///
/// # Errors
/// If there are no training images, the prior's coefficient is not a finite f32, or the training
/// diverges.
pub fn fit(
    learner: &mut impl Learner,
    settings: &FitSettings,
    widths: Widths,
    (seed, labels): (&str, Labels),
    train: &Labelled,
    validation: &Labelled,
) -> Result<Vec<EpochRecord>, TrainError> {
    let epochs = settings.epochs.get();
    if epochs > 0 {
        if train.is_empty() {
            return Err(TrainError::NoImages);
        }
        settings.check_prior(widths.depth() + 1, train.len())?;
    }
    let mut history = Vec::new();
    let mut number = 0;
    for epoch in 1..=epochs {
        let label = labels.of_epoch(epoch);
        let rate = settings.optimizer.rate() * lr_factor(epoch, epochs);
        let order = shuffled(seed, label, epoch, train.len());
        let mut dropout = rng::stream(seed, &format!("{label}/dropout/{epoch}"));
        let mut own = rng::stream(seed, &format!("{label}/own/{epoch}"));
        let mut sum = BatchStats::default();
        for chosen in order.chunks(settings.batch.get() as usize) {
            number += 1;
            let masks = settings.prior.dropout_masks(chosen.len(), widths, &mut dropout);
            let batch =
                Batch { images: &train.images, labels: &train.labels, chosen, masks: &masks };
            let step = Step::new(settings, number, rate, train.len());
            let stats = learner.step(&batch, &step, &mut own);
            if !stats.loss.is_finite() {
                return Err(TrainError::Diverged { epoch });
            }
            sum = BatchStats { loss: sum.loss + stats.loss, wrong: sum.wrong + stats.wrong };
        }
        let Some(net) = learner.representative() else {
            return Err(TrainError::Diverged { epoch });
        };
        history.push(EpochRecord {
            epoch,
            rate,
            train: Quality::of_sums(sum.loss, sum.wrong, train.len()),
            validation: (!validation.is_empty())
                .then(|| evaluate(&net, &validation.images, &validation.labels)),
        });
    }
    Ok(history)
}

/// The order of the images in an epoch.
fn shuffled(seed: &str, label: &str, epoch: u32, images: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..images as u32).collect();
    rng::shuffle(&mut rng::stream(seed, &format!("{label}/shuffle/{epoch}")), &mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::super::test::{self, BLANK};
    use super::*;
    use crate::kernel::test::{bits, on_every_isa};
    use crate::study::data::Examples;
    use crate::study::net::{Adam, INPUTS, PriorKind, Sgd};

    fn examples(n: usize, seed: &str) -> Labelled {
        Labelled::from(&test::examples(n, seed))
    }

    fn none() -> Labelled {
        Labelled::from(&Examples::default())
    }

    fn widths(hidden: usize) -> Widths {
        Widths::try_from(&[hidden][..]).unwrap()
    }

    fn settings(hidden: usize, epochs: u32) -> TrainSettings {
        let batch = 32.try_into().unwrap();
        TrainSettings {
            epochs: epochs.try_into().unwrap(),
            batch,
            ..TrainSettings::new(widths(hidden))
        }
    }

    /// The same training with other hidden layers, with biases.
    fn deep(settings: TrainSettings, widths: &str) -> TrainSettings {
        TrainSettings { widths: widths.parse().unwrap(), biases: true, ..settings }
    }

    const ONE: NonZero<usize> = NonZero::<usize>::MIN;

    fn sgd(rate: f64) -> Optimizer {
        Optimizer::Sgd(Sgd { rate: rate.try_into().unwrap(), ..Sgd::default() })
    }

    /// One prior of each kind.
    fn priors() -> impl Iterator<Item = Prior> {
        PriorKind::ALL.iter().map(|kind| kind.example())
    }

    #[test]
    fn every_optimizer_learns_separable_digits_under_every_prior() {
        let (data, unseen) = (examples(1000, "train"), examples(500, "validation"));
        for optimizer in [sgd(0.05), Optimizer::Adam(Adam::default())] {
            for prior in priors() {
                let settings = TrainSettings { optimizer, prior, ..settings(24, 10) };
                let trained = train(&settings, "0", "net", &data, &unseen, ONE).unwrap();
                let last = trained.history.last().unwrap();
                assert_eq!((last.epoch, trained.history.len()), (10, 10));
                let quality = last.validation.unwrap();
                assert!(quality.error < 2.0, "{prior}, {optimizer:?}: {quality:?}");
                assert!(last.train.loss < trained.history[0].train.loss);
                assert!(
                    (last.rate - 0.01 * optimizer.rate()).abs() < 1e-15,
                    "the schedule is applied"
                );
            }
        }
    }

    #[test]
    fn training_has_the_same_bits_on_every_isa() {
        let (data, unseen) = (examples(70, "train"), examples(9, "validation"));
        for optimizer in [sgd(0.05), Optimizer::Adam(Adam::default())] {
            for prior in priors() {
                let plain = TrainSettings { optimizer, prior, ..settings(20, 3) };
                for settings in [plain, deep(plain, "20"), deep(plain, "70x12x9")] {
                    let run =
                        || bits_of(&train(&settings, "0", "net", &data, &unseen, ONE).unwrap());
                    let reference = run();
                    on_every_isa(|isa| assert_eq!(run(), reference, "{settings:?}, {isa:?}"));
                }
            }
        }
    }

    #[test]
    fn training_has_the_same_bits_on_any_number_of_threads() {
        let (data, unseen) = (examples(70, "train"), none());
        for prior in priors() {
            let plain = TrainSettings { prior, ..settings(300, 2) };
            for settings in [plain, deep(plain, "200x40")] {
                let run = |threads: usize| {
                    bits_of(
                        &train(&settings, "0", "net", &data, &unseen, threads.try_into().unwrap())
                            .unwrap(),
                    )
                };
                let reference = run(1);
                assert!([2, 3, 40].into_iter().all(|threads| run(threads) == reference), "{prior}");
            }
        }
    }

    /// The bits of the net and of its history.
    fn bits_of(trained: &Trained) -> (Vec<u32>, String) {
        (bits(trained.net.params()), format!("{:?}", trained.history))
    }

    #[test]
    fn zero_epochs_leave_the_net_as_initialised() {
        let settings = settings(9, 0);
        let trained = train(&settings, "0", "net", &none(), &none(), ONE).unwrap();
        assert_eq!(trained.net, settings.init.draw(Shape::talk(9), "0", "net/init"));
        assert_eq!(trained.history, []);
    }

    #[test]
    fn ends_and_epochs_have_their_own_init_and_shuffles() {
        let init = |label| train(&settings(9, 0), "0", label, &none(), &none(), ONE).unwrap().net;
        assert_ne!(init("pair=1,end=a"), init("pair=1,end=b"));
        let order = |label, epoch| shuffled("0", label, epoch, 1000);
        assert_ne!(order("pair=1,end=a", 1), order("pair=1,end=b", 1));
        assert_ne!(order("pair=1,end=a", 1), order("pair=1,end=a", 2));
        assert_eq!(order("pair=1,end=a", 2), order("pair=1,end=a", 2));
    }

    /// Settings of two optimizers, and of one and three hidden layers, with a prior that draws and
    /// one that thresholds.
    fn varied(epochs: u32) -> impl Iterator<Item = TrainSettings> {
        let optimizers = [sgd(0.05), Optimizer::Adam(Adam::default())];
        let priors = [PriorKind::Dropout, PriorKind::Laplace].map(PriorKind::example);
        optimizers.into_iter().flat_map(move |optimizer| {
            priors.into_iter().flat_map(move |prior| {
                let plain = TrainSettings { optimizer, prior, ..settings(20, epochs) };
                [plain, deep(plain, "20x12x9")]
            })
        })
    }

    /// A net that follows the trunk `trunk` for some epochs.
    fn branch(own: &str, epochs: u32) -> Labels<'_> {
        Labels { own, trunk: Some(Trunk { label: "trunk", epochs }) }
    }

    #[test]
    fn a_trunk_continued_under_its_own_label_is_the_uninterrupted_training() {
        let (data, unseen) = (examples(70, "train"), examples(9, "validation"));
        for settings in varied(4) {
            let run = |labels: Labels| {
                bits_of(&train(&settings, "0", labels, &data, &unseen, ONE).unwrap())
            };
            let uninterrupted = run("trunk".into());
            for epochs in 0..=4 {
                assert_eq!(run(branch("trunk", epochs)), uninterrupted, "{settings:?}, {epochs}");
            }
        }
    }

    #[test]
    fn two_nets_of_a_trunk_are_equal_until_their_labels_differ() {
        let data = examples(70, "train");
        for settings in varied(4) {
            let run = |labels: Labels| train(&settings, "0", labels, &data, &none(), ONE).unwrap();
            let trunk = run("trunk".into());
            for epochs in 0..4 {
                let [a, b] = ["a", "b"].map(|own| run(branch(own, epochs)));
                let shared = epochs as usize;
                let case = format!("{settings:?}, {epochs}");
                for end in [&a, &b] {
                    assert_eq!(end.history[..shared], trunk.history[..shared], "{case}");
                    assert_ne!(end.history[shared], trunk.history[shared], "{case}");
                }
                assert_ne!(a.history[shared], b.history[shared], "{case}");
                assert_ne!(a.net, b.net, "{case}");
            }
            let ends = ["a", "b"].map(|own| bits_of(&run(branch(own, 4))));
            assert_eq!(ends, [bits_of(&trunk), bits_of(&trunk)]);
        }
        let untrained = settings(9, 0);
        let init =
            |labels: Labels| train(&untrained, "0", labels, &none(), &none(), ONE).unwrap().net;
        assert_eq!(init(branch("a", 0)), init("trunk".into()), "0 epochs share the init");
        assert_ne!(init(branch("a", 0)), init("a".into()));
    }

    #[test]
    fn a_prior_with_a_number_for_each_layer_acts_on_each_as_the_prior_with_that_number() {
        let data = examples(30, "train");
        for (kind, numbers) in [("normal", ["0.01", "0.2", "3"]), ("laplace", ["0.5", "2", "9"])] {
            for (widths, optimizer) in
                [("20", sgd(0.5)), ("20x12", Optimizer::Adam(Adam::default()))]
            {
                let depth = widths.split('x').count();
                let after_a_step = |number: &str| {
                    let prior = format!("{kind} {number}").parse().unwrap();
                    let plain = TrainSettings { prior, optimizer, ..settings(20, 1) };
                    let settings = if depth == 1 { plain } else { deep(plain, widths) };
                    train(&settings, "0", "net", &data, &none(), ONE).unwrap().net
                };
                let each = after_a_step(&numbers[..=depth].join("x"));
                for (l, number) in numbers[..=depth].iter().enumerate() {
                    let one = after_a_step(number);
                    let case = format!("{kind}, {widths}, layer {l}");
                    assert_eq!(bits(each.weights(l)), bits(one.weights(l)), "{case}");
                    assert_eq!(bits(each.biases(l)), bits(one.biases(l)), "{case}");
                    let other = after_a_step(numbers[(l + 1) % (depth + 1)]);
                    assert_ne!(bits(each.weights(l)), bits(other.weights(l)), "{case}");
                }
            }
        }
    }

    #[test]
    fn validation_does_not_affect_training() {
        let (data, settings) = (examples(50, "train"), settings(5, 2));
        let without = train(&settings, "0", "net", &data, &none(), ONE).unwrap();
        assert!(without.history.iter().all(|record| record.validation.is_none()));
        assert_eq!(
            train(&settings, "0", "net", &data, &examples(20, "validation"), ONE).unwrap().net,
            without.net
        );
    }

    #[test]
    fn a_diverged_training_is_an_error_with_its_epoch() {
        let settings = TrainSettings { optimizer: sgd(1e12), ..settings(9, 3) };
        let error =
            train(&settings, "0", "net", &examples(100, "train"), &none(), ONE).unwrap_err();
        assert_eq!(error, TrainError::Diverged { epoch: 1 });
        let message =
            "training diverged in epoch 1: a loss or a weight is not finite; try a smaller `rate`";
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn a_prior_whose_coefficient_is_not_finite_is_refused_with_its_layer() {
        let tiny = 1e-60;
        for (prior, layer) in [(format!("normal {tiny}"), 1), (format!("laplace 0.1x{tiny}"), 2)] {
            let settings = TrainSettings { prior: prior.parse().unwrap(), ..settings(9, 1) };
            let error =
                train(&settings, "0", "net", &examples(100, "train"), &none(), ONE).unwrap_err();
            assert_eq!(error, TrainError::StrongPrior { layer });
        }
    }

    #[test]
    fn training_on_no_images_is_refused() {
        let error = train(&settings(9, 1), "0", "net", &none(), &none(), ONE).unwrap_err();
        assert_eq!(error, TrainError::NoImages);
    }

    #[test]
    fn a_weight_without_data_decays_by_the_formula_of_the_normal_prior() {
        let data = examples(320, "train");
        for prior in ["normal 0.03125", "normal 0.03125x4"] {
            check_decay(&data, prior.parse().unwrap());
        }
    }

    /// Checks the weights of the first layer on a pixel that is always blank.
    fn check_decay(data: &Labelled, prior: Prior) {
        let settings = TrainSettings { prior, ..settings(6, 20) };
        let trained = train(&settings, "0", "net", data, &none(), ONE).unwrap();
        let init = settings.init.draw(Shape::talk(6), "0", "net/init");
        // Ten batches per epoch.
        let rates: f64 = trained.history.iter().map(|record| record.rate * 10.0).sum();
        let exponent = prior.decay(data.len()) * rates / (1.0 - 0.9);
        assert!(exponent > 1.0, "the prior must be strong enough: {exponent}");
        for at in (0..6).map(|j| j * INPUTS + BLANK) {
            let shrunk = f64::from(trained.net.params()[at] / init.params()[at]).ln();
            assert!((shrunk / -exponent - 1.0).abs() < 0.03, "{shrunk} is not {}", -exponent);
        }
    }

    #[test]
    fn spared_biases_do_not_decay() {
        let data = examples(64, "train");
        let prior = Prior::Normal { variance: (1.0 / 4096.0).try_into().unwrap() };
        let plain = TrainSettings { prior, ..settings(6, 5) };
        let optimizer = Optimizer::Sgd(Sgd { rate: 1e-6.try_into().unwrap(), ..Sgd::default() });
        for widths in ["6", "6x5"] {
            let [with, spared] = [false, true].map(|spare_biases| {
                let settings = TrainSettings { spare_biases, optimizer, ..deep(plain, widths) };
                train(&settings, "0", "net", &data, &none(), ONE).unwrap().net
            });
            let none = TrainSettings { prior: Prior::None, optimizer, ..deep(plain, widths) };
            let free = train(&none, "0", "net", &data, &self::none(), ONE).unwrap().net;
            let norm = |net: &Net, l: usize| {
                let sum = net.biases(l).iter().map(|&b| f64::from(b).powi(2)).sum::<f64>();
                sum.sqrt()
            };
            for l in 0..free.layers() {
                let change = |net: &Net| norm(net, l) / norm(&free, l) - 1.0;
                assert!(change(&with) < -1e-4, "{widths}, layer {l}: {}", change(&with));
                assert!(change(&spared).abs() < 1e-6, "{widths}, layer {l}: {}", change(&spared));
            }
        }
    }

    #[test]
    fn a_weight_without_data_shrinks_to_zero_by_the_formula_of_the_laplace_prior() {
        let data = examples(320, "train");
        let (scale, momentum) = (5.0, 0.9);
        let prior = Prior::Laplace { scale: scale.try_into().unwrap() };
        let settings = TrainSettings { prior, ..settings(6, 20) };
        let trained = train(&settings, "0", "net", &data, &none(), ONE).unwrap();
        let init = settings.init.draw(Shape::talk(6), "0", "net/init");
        // Ten batches per epoch.
        let rates: f64 = trained.history.iter().map(|record| record.rate * 10.0).sum();
        let loss = rates / ((1.0 - momentum) * data.len() as f64 * scale);
        let blank = (0..6).flat_map(|j| (BLANK..INPUTS).map(move |pixel| j * INPUTS + pixel));
        let (mut zeros, mut moved) = (0, 0);
        for at in blank {
            let (before, after) =
                (f64::from(init.params()[at]), f64::from(trained.net.params()[at]));
            let expected = (before.abs() - loss).max(0.0).copysign(before);
            assert!(
                (after - expected).abs() < 1e-3 * loss,
                "{before} became {after}, not {expected}"
            );
            *(if after == 0.0 { &mut zeros } else { &mut moved }) += 1;
        }
        assert!(zeros > 50 && moved > 50, "{zeros} zeros, {moved} others");
    }

    /// At the end of a training the gradient of the data balances the slope of the prior.
    #[test]
    fn a_long_training_ends_at_a_stationary_point_of_its_objective() {
        let data = examples(320, "train");
        let all: Vec<u32> = (0..data.len() as u32).collect();
        let adam = Optimizer::Adam(Adam::default());
        for (optimizer, prior) in [
            (sgd(0.05), "laplace 5"),
            (sgd(0.05), "normal 1"),
            (adam, "laplace 5"),
            (sgd(0.05), "laplace 5x1"),
            (sgd(0.05), "normal 1x0.1"),
        ] {
            let prior: Prior = prior.parse().unwrap();
            let settings = TrainSettings { optimizer, prior, ..settings(8, 300) };
            let net = train(&settings, "0", "net", &data, &none(), ONE).unwrap().net;
            let batch =
                Batch { images: &data.images, labels: &data.labels, chosen: &all, masks: &[] };
            let gradient = EngineKind::Kernel.start(&net, ONE).gradient(&batch).0;
            // The layers with the same prior, which balance together.
            let parts = match prior.layers() {
                None => vec![(prior, net.params(), gradient.params())],
                Some(count) => (0..count)
                    .map(|l| (prior.of_layer(l), net.weights(l), gradient.weights(l)))
                    .collect(),
            };
            for (of_part, part, gradient) in parts {
                let weights = part.iter().zip(gradient).filter(|(w, _)| **w != 0.0);
                let weights: Vec<[f64; 2]> =
                    weights.map(|(&w, &g)| [w, g].map(f64::from)).collect();
                let sum = |of: fn(&[f64; 2]) -> f64| weights.iter().map(of).sum::<f64>();
                // The mean of -g sign(w) is 1 / (N b); of -g w, mean w² / (N variance).
                let (found, expected) = match of_part.kind() {
                    PriorKind::Laplace => {
                        let pull = sum(|[w, g]| -g * w.signum());
                        (pull / weights.len() as f64, of_part.shrink(data.len()))
                    }
                    _ => (sum(|[w, g]| -g * w), sum(|[w, _]| w * w) * of_part.decay(data.len())),
                };
                let zeros = 1.0 - weights.len() as f64 / part.len() as f64;
                assert!(
                    (found / expected - 1.0).abs() < 0.1,
                    "{prior}, {of_part}, {optimizer:?}: {found} for {expected}"
                );
                assert!(
                    of_part.kind() == PriorKind::Normal
                        || prior.layers().is_some()
                        || (0.1..0.99).contains(&zeros),
                    "{zeros} are zero"
                );
            }
        }
    }

    /// The built-in dataset is about as hard as MNIST.
    #[test]
    fn a_hundred_hidden_neurons_reach_two_to_four_percent_on_the_generated_digits() {
        let (training, testing) = crate::study::data::digits::digits("0", 60_000, 10_000);
        let (training, testing) = (Labelled::from(&training), Labelled::from(&testing));
        let mut settings = TrainSettings::new(widths(100));
        settings.epochs = Epochs::try_from(12).unwrap();
        let trained = train(&settings, "0", "digits", &training, &none(), ONE).unwrap();
        let error = evaluate(&trained.net, &testing.images, &testing.labels).error;
        assert!((2.0..4.0).contains(&error), "{error} %");
    }
}
