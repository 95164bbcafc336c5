//! `nets.csv`: what a net is, how it was trained, and its error and loss on each split.

use super::artifact::{Csv, NetCard, OrEmpty, read_labelled, words};
use super::names::NetName;
use super::tables::{ENDS, NETS, SHARED_ENDS};
use crate::engine::stage::Input;
use crate::study::bounded::ImageCount;
use crate::study::data::{Labelled, Split};
use crate::study::net::{Health, Net, Quality, Shape, TrainSettings, evaluate, examine};
use anyhow::{Result, bail};
use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write as _;
use std::path::Path;

/// The splits of the data.
pub(super) struct Splits {
    pub(super) training: Labelled,
    pub(super) validation: Labelled,
    pub(super) testing: Labelled,
}

impl Splits {
    pub(super) fn read(data: &Input) -> Result<Splits> {
        Ok(Splits {
            training: read_labelled(data, Split::Train)?,
            validation: read_labelled(data, Split::Validation)?,
            testing: read_labelled(data, Split::Test)?,
        })
    }

    /// Each split with its name.
    pub(super) fn each(&self) -> [(Split, &Labelled); 3] {
        [
            (Split::Train, &self.training),
            (Split::Validation, &self.validation),
            (Split::Test, &self.testing),
        ]
    }

    /// The first `count` training images; all by default.
    pub(super) fn training_head(&self, count: Option<ImageCount>) -> Cow<'_, Labelled> {
        let all = Cow::Borrowed(&self.training);
        count.map_or(all, |count| Cow::Owned(self.training.head(count.get() as usize)))
    }

    /// Calls `measure` on each split that has images: of the training split on the first
    /// `train_images`, or all; of the others on all.
    pub(super) fn measure<T>(
        &self,
        train_images: Option<ImageCount>,
        measure: impl Fn(&Labelled) -> T,
    ) -> Vec<(Split, T)> {
        let training = self.training_head(train_images);
        let measured = self
            .each()
            .map(|(split, data)| (split, if split == Split::Train { &*training } else { data }));
        let present = measured.into_iter().filter(|(_, data)| !data.is_empty());
        present.map(|(split, data)| (split, measure(data))).collect()
    }

    /// Refuses images of another size than the inputs of nets of `shape`, and labels that are none
    /// of their classes.
    pub(super) fn check(&self, shape: Shape) -> Result<()> {
        self.each().into_iter().try_for_each(|(split, data)| check_images(split, data, shape))
    }
}

pub(super) fn check_images(split: Split, data: &Labelled, shape: Shape) -> Result<()> {
    let inputs = data.images.columns();
    if !data.is_empty() && inputs != shape.inputs {
        bail!("`{split}`: images of {inputs} numbers do not fit nets of shape `{shape}`");
    }
    match data.labels.iter().max() {
        Some(&label) if usize::from(label) >= shape.classes => {
            bail!("`{split}`: the label {label} is not a class of nets of shape `{shape}`")
        }
        _ => Ok(()),
    }
}

/// How a net was trained, with the seed of the run; `None` if that is unknown.
pub(super) type Training<'a> = Option<(&'a TrainSettings, &'a str)>;

/// Measures `net` and writes the table of this net to `path`. The table has the norms of the first
/// and the last layer; those of a deeper net are also in the log, layer by layer.
///
/// # Errors
/// If its loss on a split is not finite.
pub(super) fn write_quality(
    net: &Net,
    card: &NetCard,
    trained: Training,
    splits: &Splits,
    path: &Path,
) -> Result<()> {
    let Splits { training, validation, testing } = splits;
    let quality =
        |data: &Labelled| (!data.is_empty()).then(|| evaluate(net, &data.images, &data.labels));
    let (on_train, health) = examine(net, &training.images, &training.labels);
    let on_train = (!training.is_empty()).then_some(on_train);
    if net.layers() > 2 {
        log_layers(net, &health);
    }
    let (on_validation, on_test) = (quality(validation), quality(testing));
    let measured =
        [(Split::Train, on_train), (Split::Validation, on_validation), (Split::Test, on_test)];
    for (split, quality) in measured {
        if quality.is_some_and(|quality| !quality.loss.is_finite()) {
            bail!("the loss of the net on the `{}` split is not finite", split.name());
        }
    }
    let error = |quality: Option<Quality>| OrEmpty(quality.map(|q| q.error));
    let loss = |quality: Option<Quality>| OrEmpty(quality.map(|q| q.loss));
    let (table, name): (_, &[&dyn Display]) = match (&card.name, &card.shared_epochs) {
        (NetName::End { pair, end }, Some(epochs)) => (&SHARED_ENDS, &[epochs, pair, end]),
        (NetName::End { pair, end }, None) => (&ENDS, &[pair, end]),
        (NetName::Net { net }, _) => (&NETS, &[net]),
    };
    let settings = trained.map(|(settings, _)| settings);
    let text = |text: Option<Result<String>>| text.transpose().map(OrEmpty);
    let keys: [&dyn Display; 2] = [&card.hidden, &card.prior];
    let (first, last) = (health.norms[0], health.norms[health.norms.len() - 1]);
    let rest: &[&dyn Display] = &[
        &OrEmpty(trained.map(|(_, seed)| seed)),
        &OrEmpty(settings.map(|settings| settings.epochs.get())),
        &OrEmpty(settings.map(|settings| settings.batch.get())),
        &text(settings.map(|settings| words(&settings.optimizer)))?,
        &text(settings.map(|settings| words(&settings.init)))?,
        &text(settings.map(|settings| words(&settings.engine)))?,
        &OrEmpty(settings.map(|_| training.len())),
        &error(on_train),
        &loss(on_train),
        &error(on_validation),
        &loss(on_validation),
        &error(on_test),
        &loss(on_test),
        &first,
        &last,
        &health.active_neurons.iter().sum::<usize>(),
    ];
    let mut csv = Csv::new(&table.names());
    csv.row(&[&keys, name, rest].concat());
    csv.write(path)
}

/// Prints the norm of each layer's weights, and how many of its neurons fire on a training image.
fn log_layers(net: &Net, health: &Health) {
    for (l, norm) in health.norms.iter().enumerate() {
        let fire = health.active_neurons.get(l);
        let fire = fire.map(|fire| format!(", {fire} of {} neurons fire", net.width(l)));
        // The log is for people: a full disk must not fail the training.
        let _ = writeln!(
            std::io::stderr(),
            "layer {}: norm {norm:.4}{}",
            l + 1,
            fire.unwrap_or_default()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sparse::Sparse;

    fn data(inputs: usize, labels: Vec<u16>) -> Labelled {
        Labelled {
            images: Sparse::from_pixels(&vec![1; inputs * labels.len()], inputs),
            labels,
            classes: 10,
        }
    }

    #[test]
    fn images_and_labels_that_do_not_fit_the_nets_are_refused() {
        let shape = Shape::of(64, &[5, 4], 3, true);
        let refusal = |data: Labelled| {
            check_images(Split::Test, &data, shape).expect_err("refused").to_string()
        };
        assert!(check_images(Split::Test, &data(64, vec![0, 2]), shape).is_ok());
        assert!(check_images(Split::Test, &data(784, vec![]), shape).is_ok(), "an empty split");
        let shape_text = "nets of shape `64-5x4-3 with biases`";
        assert_eq!(
            refusal(data(784, vec![0])),
            format!("`test`: images of 784 numbers do not fit {shape_text}")
        );
        assert_eq!(
            refusal(data(64, vec![0, 3])),
            format!("`test`: the label 3 is not a class of {shape_text}")
        );
    }

    #[test]
    fn only_the_training_split_is_cut_and_an_empty_split_is_not_measured() {
        let splits = Splits {
            training: data(4, vec![0, 1, 2]),
            validation: data(4, vec![]),
            testing: data(4, vec![0, 1]),
        };
        let count = |n: Option<u32>| {
            let n = n.map(|n| ImageCount::try_from(n).unwrap());
            splits.measure(n, Labelled::len)
        };
        assert_eq!(count(None), [(Split::Train, 3), (Split::Test, 2)]);
        assert_eq!(count(Some(1)), [(Split::Train, 1), (Split::Test, 2)]);
    }
}
