//! `images`: labelled images of the project's own, from IDX files or one `.npz`.
//!
//! The key holds the names and bytes of the files, but not their folder, unless only the folder
//! tells the files of `train` and `test` apart ([`is_by_path`]). `source.rs` finds which file is
//! which.

mod source;

use self::source::{Role, Source, hinted, is_npz};
use crate::engine::stage::{Context, Declared, FILES, Hinted, Invocation, Slot, Stage};
use crate::stage::artifact::{
    DATA_CARD, DataCard, DataName, IMAGES, ImageFormat, write_examples, write_json,
};
use crate::stage::texts::Texts;
use crate::study::data::array::{Images, Pixels, Title};
use crate::study::data::idx::{self, Pixel};
use crate::study::data::published::is_mnist;
use crate::study::data::{Dataset, Examples, ImageShape, Split};
use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) struct ImagesStage;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The training images and their labels: a folder of IDX files, an `.npz` with `x_train` and
    /// `y_train`, or a list of two files. Their folder is part of the key only if `test` is
    /// given too, and one of the two is a folder, or two files have the same name.
    train: Texts,
    /// The test images and their labels, in the same way; by default, where `train` says.
    #[serde(default)]
    test: Option<Texts>,
    /// The number of training images to hold out for validation, drawn by seed.
    #[serde(default)]
    validation: u32,
    /// The name of the dataset in the report.
    #[serde(default = "default_name")]
    name: String,
}

fn default_name() -> String {
    "images".to_owned()
}

/// The longest name of a dataset.
const LONGEST_NAME: usize = 64;

impl Stage for ImagesStage {
    const NAME: &'static str = "images";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[];
    const OUTPUTS: &'static [&'static str] =
        &[DATA_CARD, IMAGES[0], IMAGES[1], IMAGES[2], IMAGES[3], IMAGES[4], IMAGES[5]];
    const LISTS: &'static [&'static str] = &["train", "test"];
    type Params = Params;

    fn check(params: &Params) -> Result<(), Hinted> {
        let given = [("train", Some(&params.train)), ("test", params.test.as_ref())];
        for (field, texts) in given.into_iter().filter_map(|(field, texts)| Some((field, texts?))) {
            let texts = texts.all();
            if texts.is_empty() || texts.len() > 2 || texts.iter().any(|text| text.0.is_empty()) {
                let hint = "write a folder, an `.npz`, or `[IMAGES, LABELS]`";
                return Err(Hinted::new(format!("`{field}` does not name one or two files"), hint));
            }
        }
        if params.test.is_none() && params.train.all().len() == 2 {
            let cause = "`train` lists two files, and `test` is missing";
            return Err(Hinted::new(cause, "write `test: [IMAGES, LABELS]`"));
        }
        let name = &params.name;
        let is_known = Dataset::ALL.iter().any(|dataset| dataset.name() == name);
        if is_known {
            let cause = format!("`{name}` is a dataset of `fetch`");
            return Err(Hinted::new(cause, "choose another name for these images"));
        }
        let fits = |c: char| c.is_alphanumeric() || "-_.+ ".contains(c);
        if name.is_empty() || name.chars().count() > LONGEST_NAME || !name.chars().all(fits) {
            let hint =
                format!("use up to {LONGEST_NAME} letters, digits, `-`, `_`, `.` and spaces");
            return Err(Hinted::new("the name of the dataset is not valid", hint));
        }
        Ok(())
    }

    /// Only a validation split depends on the seed.
    fn label(params: &Params) -> Option<String> {
        (params.validation > 0).then(|| "data".to_owned())
    }

    fn files(params: &Params) -> Vec<Declared> {
        let by_path = is_by_path(params);
        let all = paths(params);
        // A path below another one has the same name there.
        let is_below = |path: &str| by_path && all.iter().any(|folder| has_below(folder, path));
        let declared = all.iter().filter(|path| !is_below(path));
        declared.map(|path| Declared { path: path.to_string(), by_path, ignore: None }).collect()
    }

    /// Paths are those by which the input names files: their last components, or the whole.
    fn key_params(mut params: Params, _: &Invocation) -> Params {
        let by_path = is_by_path(&params);
        for texts in [Some(&mut params.train), params.test.as_mut()].into_iter().flatten() {
            let all = match texts {
                Texts::One(text) => std::slice::from_mut(text),
                Texts::Many(texts) => texts,
            };
            for text in all {
                let path = trimmed(&text.0);
                text.0 = if by_path { path } else { last(path) }.to_owned();
            }
        }
        params
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let files = cx.input(FILES)?;
        let train = params.train.all();
        let test = params.test.as_ref().map_or(train, Texts::all);
        let read = |role, paths, others| read(&Source::new(files, role, paths, others));
        let (train, test) = (read(Role::Train, train, test)?, read(Role::Test, test, train)?);
        check_same(&train, &test)?;
        let shape = train.images.shape;
        match (train.images.pixels, test.images.pixels) {
            (Pixels::Bytes(a), Pixels::Bytes(b)) => {
                let (train, test) = (
                    Examples { pixels: a, labels: train.labels, shape },
                    Examples { pixels: b, labels: test.labels, shape },
                );
                let dataset = if holds_mnist(&train, &test) {
                    DataName::Known(Dataset::Mnist)
                } else {
                    DataName::Own(params.name.clone())
                };
                write(&params, cx, dataset, &train, &test)
            }
            (Pixels::Floats(a), Pixels::Floats(b)) => {
                let (train, test) = (
                    Examples { pixels: a, labels: train.labels, shape },
                    Examples { pixels: b, labels: test.labels, shape },
                );
                write(&params, cx, DataName::Own(params.name.clone()), &train, &test)
            }
            _ => {
                let cause = format!(
                    "of {} and {}, one is uint8 and the other floats",
                    train.title, test.title
                );
                Err(Hinted::new(cause, "save both in the same type").into())
            }
        }
    }
}

/// The path without the slashes at its end.
fn trimmed(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// The last component of a path.
fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether `path` is below `folder`.
fn has_below(folder: &str, path: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|below| below.starts_with('/'))
}

/// The paths in the fields, each once, in order.
fn paths(params: &Params) -> Vec<&str> {
    let mut paths = Vec::new();
    for text in [Some(&params.train), params.test.as_ref()].into_iter().flatten() {
        for path in text.all().iter().map(|path| trimmed(&path.0)) {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    paths
}

/// Whether the input names files by their whole paths, because shorter names do not tell which
/// field a file belongs to: each field has its own files, and one names a folder, or two files have
/// the same name.
fn is_by_path(params: &Params) -> bool {
    let Some(test) = &params.test else { return false };
    let is_folder = |texts: &Texts| matches!(texts.all(), [one] if !is_npz(&one.0));
    let mut names: Vec<&str> = paths(params).into_iter().map(last).collect();
    let n = names.len();
    names.sort_unstable();
    names.dedup();
    is_folder(&params.train) || is_folder(test) || names.len() < n
}

/// Images with their labels.
struct Labelled {
    title: Title,
    images: Images,
    labels: Vec<u16>,
}

/// Whether these are all images of MNIST, in its order.
fn holds_mnist(train: &Examples, test: &Examples) -> bool {
    let sizes = published_sizes();
    if (train.len(), test.len()) != sizes || train.shape != ImageShape::default() {
        return false;
    }
    let labels =
        [train, test].map(|set| idx::write_labels(&set.labels, crate::study::net::CLASSES));
    let images = [train, test].map(|set| idx::write_images(&set.pixels, set.shape));
    is_mnist([&images[0], &labels[0], &images[1], &labels[1]])
}

/// The numbers of training and test images of MNIST.
fn published_sizes() -> (usize, usize) {
    (60_000, 10_000)
}

fn write<T: Pixel>(
    params: &Params,
    cx: &Context,
    dataset: DataName,
    train: &Examples<T>,
    test: &Examples<T>,
) -> Result<()> {
    let held_out = params.validation as usize;
    if held_out >= train.len() {
        let cause =
            format!("holding out {held_out} of {} training images leaves none", train.len());
        return Err(Hinted::new(cause, "hold out fewer").into());
    }
    let classes = train.labels.iter().chain(&test.labels).max().map_or(0, |x| usize::from(*x) + 1);
    if classes < 2 {
        let cause = "all labels are 0: there is nothing to tell apart";
        return Err(
            Hinted::new(cause, "expected labels from 0 to the number of classes - 1").into()
        );
    }
    let seed = cx.recipe().seed.as_ref().map_or("", |seed| &seed.run);
    let (training, validation) = train.split_off(held_out, seed);
    let parts = [(Split::Train, &training), (Split::Validation, &validation), (Split::Test, test)];
    for (split, examples) in parts {
        write_examples(cx, split, examples, classes)?;
    }
    let card = DataCard {
        dataset,
        train: training.len(),
        validation: validation.len(),
        test: test.len(),
        images: ImageFormat::of(train.shape, classes),
    };
    write_json(&cx.output(DATA_CARD), &card)
}

/// Refuses sets whose images differ in shape, or in the order of their numbers.
fn check_same(train: &Labelled, test: &Labelled) -> Result<()> {
    let (a, b) = (&train.title, &test.title);
    let (train, test) = (&train.images, &test.images);
    if train.shape != test.shape {
        let cause =
            format!("{b} has images of {}, but {a} has images of {}", test.shape, train.shape);
        return Err(Hinted::new(cause, "save all images in the same size").into());
    }
    if train.shape.channels > 1 && train.channels != test.channels {
        let cause = format!(
            "{a} has the shape {:?}, but {b} has the shape {:?}: their channels are in different \
             places",
            train.dimensions, test.dimensions
        );
        let hint = "save both in the same order; in Python, of [n, channels, height, width]: \
                    `x.transpose(0, 2, 3, 1)`";
        return Err(Hinted::new(cause, hint).into());
    }
    Ok(())
}

/// The images and labels of a set.
fn read(source: &Source) -> Result<Labelled> {
    let (images, labels) = source.arrays()?;
    let labels_title = labels.title.clone();
    let labels = labels.labels().map_err(hinted)?;
    let title = images.title.clone();
    let images = images.into_images().map_err(hinted)?;
    let n = images.dimensions[0];
    if n != labels.len() {
        let cause =
            format!("{title} has {n} images, but {labels_title} has {} labels", labels.len());
        return Err(Hinted::new(cause, "expected one label per image").into());
    }
    Ok(Labelled { title, images, labels })
}

#[cfg(test)]
mod tests;
