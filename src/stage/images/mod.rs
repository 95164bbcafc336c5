//! `images`: labelled images of the project's own, from IDX files or one `.npz`.
//!
//! The key holds the names and bytes of the files, but not their folder. Which file is which is
//! found by its name, in the ways in which people name the files of MNIST and of datasets like it,
//! or, for two files that are listed, by their contents.

use crate::engine::stage::{
    Context, Declared, FILES, Hinted, Input, Invocation, Slot, Stage, suggest,
};
use crate::fs;
use crate::stage::artifact::{
    DATA_CARD, DataCard, DataName, IMAGES, ImageFormat, write_examples, write_json,
};
use crate::stage::texts::Texts;
use crate::study::data::array::{Array, ArrayError, Pixels, read_idx};
use crate::study::data::idx::{self, Pixel};
use crate::study::data::npz::Npz;
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
    /// `y_train`, or a list of two files. Their folder is not part of the key.
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
        let mut declared: Vec<Declared> = Vec::new();
        for text in [Some(&params.train), params.test.as_ref()].into_iter().flatten() {
            for path in text.all() {
                let path = Declared { path: path.0.clone(), by_path: false, ignore: None };
                if !declared.contains(&path) {
                    declared.push(path);
                }
            }
        }
        declared
    }

    /// Paths are reduced to their last components, which name the files in the input.
    fn key_params(mut params: Params, _: &Invocation) -> Params {
        for texts in [Some(&mut params.train), params.test.as_mut()].into_iter().flatten() {
            let all = match texts {
                Texts::One(text) => std::slice::from_mut(text),
                Texts::Many(texts) => texts,
            };
            for text in all {
                let path = text.0.trim_end_matches('/');
                text.0 = path.rsplit('/').next().unwrap_or(path).to_owned();
            }
        }
        params
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let files = cx.input(FILES)?;
        let is_apart = params.test.is_some();
        let train = read(files, &params.train, Role::Train, is_apart)?;
        let from = params.test.as_ref().unwrap_or(&params.train);
        let test = read(files, from, Role::Test, is_apart)?;
        check_same(&train, &test)?;
        match (train.pixels, test.pixels) {
            (Pixels::Bytes(a), Pixels::Bytes(b)) => {
                let (train, test) = (
                    Examples { pixels: a, labels: train.labels, shape: train.shape },
                    Examples { pixels: b, labels: test.labels, shape: test.shape },
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
                    Examples { pixels: a, labels: train.labels, shape: train.shape },
                    Examples { pixels: b, labels: test.labels, shape: test.shape },
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

/// The two sets that a dataset comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Train,
    Test,
}

impl Role {
    fn field(self) -> &'static str {
        match self {
            Role::Train => "train",
            Role::Test => "test",
        }
    }

    /// Whether the name of a file says that it is of this set.
    fn is_in(self, name: &str) -> bool {
        let is_test = name.contains("t10k") || name.contains("test");
        match self {
            Role::Train => name.contains("train") && !is_test,
            Role::Test => is_test,
        }
    }
}

/// Images with their labels.
struct Labelled {
    title: String,
    pixels: Pixels,
    shape: ImageShape,
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

fn check_same(train: &Labelled, test: &Labelled) -> Result<()> {
    if train.shape == test.shape {
        return Ok(());
    }
    let (a, b) = (&train.title, &test.title);
    let cause = format!("{b} has images of {}, but {a} has images of {}", test.shape, train.shape);
    Err(Hinted::new(cause, "save all images in the same size").into())
}

fn hinted(ArrayError { cause, hint }: ArrayError) -> Hinted {
    Hinted::new(cause, hint)
}

/// The images and labels of a set. `from` are the last components of the paths; `is_apart` is
/// whether the other set has paths of its own.
fn read(files: &Input, from: &Texts, role: Role, is_apart: bool) -> Result<Labelled> {
    let (images, labels) = match from.all() {
        [images, labels] => {
            let [a, b] = [images, labels].map(|file| read_file(files, &file.0, role));
            let (a, b) = (a?, b?);
            if a.is_flat() { (b, a) } else { (a, b) }
        }
        [one] if is_npz(&one.0) && files.artifact.contains_key(&one.0) => {
            read_npz(files, &one.0, role, is_apart)?
        }
        _ => read_folder(files, role)?,
    };
    let labels_title = labels.title.clone();
    let labels = labels.labels().map_err(hinted)?;
    let title = images.title.clone();
    let (n, pixels, shape) = images.into_images().map_err(hinted)?;
    if n != labels.len() {
        let cause =
            format!("{title} has {n} images, but {labels_title} has {} labels", labels.len());
        return Err(Hinted::new(cause, "expected one label per image").into());
    }
    Ok(Labelled { title, pixels, shape, labels })
}

fn is_npz(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".npz")
}

/// The array in one of two files: an IDX file, or an `.npz` of one array.
fn read_file(files: &Input, name: &str, role: Role) -> Result<Array> {
    if !files.artifact.contains_key(name) {
        let cause = format!("`{name}` in `{}` is a folder", role.field());
        return Err(Hinted::new(cause, "list two files, or one folder that has both").into());
    }
    let bytes = fs::read(files.path(name)?)?;
    if !is_npz(name) {
        return Ok(read_idx(name, &bytes).map_err(hinted)?);
    }
    let mut archive = Npz::open(name, &bytes).map_err(hinted)?;
    match &archive.names()[..] {
        [one] => Ok(archive.array(one).map_err(hinted)?),
        names => {
            let cause = format!("`{name}` has {}, not one array", listed(names));
            Err(Hinted::new(cause, format!("write `{}: {name}`", role.field())).into())
        }
    }
}

/// Names of the arrays of images and of labels.
const ARRAYS: [(&str, &str); 4] = [("x_", "y_"), ("X_", "y_"), ("X_", "Y_"), ("x", "y")];

/// The images and labels of a set in an `.npz`; `x` and `y` if the archive is of this set alone.
fn read_npz(files: &Input, name: &str, role: Role, is_apart: bool) -> Result<(Array, Array)> {
    let bytes = fs::read(files.path(name)?)?;
    let mut archive = Npz::open(name, &bytes).map_err(hinted)?;
    let names = archive.names();
    let pairs = ARRAYS.map(|(x, y)| match x.ends_with('_') {
        true => [x, y].map(|start| format!("{start}{}", role.field())),
        false => [x.to_owned(), y.to_owned()],
    });
    let has = |pair: &&[String; 2]| {
        (is_apart || pair[0].len() > 1) && pair.iter().all(|name| names.contains(name))
    };
    let Some([x, y]) = pairs.iter().find(has) else {
        let missing = pairs[0].iter().find(|name| !names.contains(name));
        let missing = missing.unwrap_or(&pairs[0][0]);
        let cause = format!("`{name}` has no array `{missing}`; it has {}", listed(&names));
        let near = suggest(missing, names.iter().map(String::as_str));
        let hint = near
            .unwrap_or_else(|| "expected `x_train`, `y_train`, `x_test` and `y_test`".to_owned());
        return Err(Hinted::new(cause, hint).into());
    };
    let (x, y) = (archive.array(x).map_err(hinted)?, archive.array(y).map_err(hinted)?);
    Ok((x, y))
}

/// The IDX files of a set in a folder, or the `.npz` in it.
fn read_folder(files: &Input, role: Role) -> Result<(Array, Array)> {
    let names: Vec<&str> = files.artifact.keys().map(String::as_str).collect();
    let archives: Vec<&str> = names.iter().copied().filter(|name| is_npz(name)).collect();
    if let [one] = archives[..] {
        return read_npz(files, one, role, false);
    }
    let images = find(&names, role, "images", &["images", "image", "imgs"])?;
    let labels = find(&names, role, "labels", &["labels", "label"])?;
    let read = |name: &str| -> Result<Array> {
        Ok(read_idx(name, &fs::read(files.path(name)?)?).map_err(hinted)?)
    };
    Ok((read(images)?, read(labels)?))
}

/// The file of `names` that has the images or the labels of a set.
fn find<'a>(names: &[&'a str], role: Role, what: &str, words: &[&str]) -> Result<&'a str> {
    let base = |name: &str| name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let is_it = |name: &&&str| {
        let base = base(name);
        !name.ends_with('/') && role.is_in(&base) && words.iter().any(|word| base.contains(word))
    };
    let found: Vec<&'a str> = names.iter().filter(is_it).copied().collect();
    // torchvision keeps the gzipped files beside the unpacked ones.
    let unpacked = |name: &&&str| {
        let plain = name.strip_suffix(".gz");
        plain.is_none_or(|plain| !found.contains(&plain))
    };
    let kept: Vec<&'a str> = found.iter().filter(unpacked).copied().collect();
    let field = role.field();
    match kept[..] {
        [one] => Ok(one),
        [] => {
            let cause = format!("there is no file of {what} for `{field}` among {}", listed(names));
            let usual = if role == Role::Train { "train" } else { "t10k" };
            let hint = format!(
                "expected a name such as `{usual}-{what}-idx{}-ubyte.gz`; or list the files: \
                 `{field}: [IMAGES, LABELS]`",
                if what == "images" { 3 } else { 1 }
            );
            Err(Hinted::new(cause, hint).into())
        }
        _ => {
            let cause = format!("several files have {what} for `{field}`: {}", listed(&kept));
            Err(Hinted::new(cause, format!("list two files: `{field}: [IMAGES, LABELS]`")).into())
        }
    }
}

/// The first few names, as text.
fn listed(names: &[impl AsRef<str>]) -> String {
    const MOST: usize = 8;
    let shown = names.iter().take(MOST).map(|name| {
        let name: String = name.as_ref().chars().take(80).flat_map(char::escape_debug).collect();
        format!("`{name}`")
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "no arrays".to_owned(),
        n if n > MOST => format!("{shown} and {} more", n - MOST),
        _ => shown,
    }
}

#[cfg(test)]
mod tests;
