//! The formats of artifacts: images as IDX, nets as safetensors with metadata, tables as CSV.
//!
//! Other tools can open all of them. Equal content gives equal bytes.

use super::names::{NetName, PairName};
use crate::engine::key::{Content, Recipe};
use crate::engine::stage::{Context, Hinted, Input};
use crate::fs;
use crate::kernel::sparse::Sparse;
use crate::study::curve::align::Cost;
use crate::study::curve::learn::LearnedCurve;
use crate::study::data::idx::{self, ImagesHeader, Pixel};
use crate::study::data::{Dataset, Examples, ImageShape, Labelled, Split};
use crate::study::net::{CLASSES, Hidden, Net, Prior, Shape, Widths};
use anyhow::{Context as _, Result, anyhow, bail};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt::Display;
use std::io::Read as _;
use std::path::Path;

/// The splits of a dataset, as IDX files [n, height, width x channels] and `[n]`.
///
/// Their names are those of MNIST's files, and so are their types, for which tools know them: bytes
/// for pixels, and bytes for labels of ten classes. Float images are files of f32 under the same
/// names, and labels of any other number of classes are 16-bit numbers. The number of classes is
/// one more than the largest label of all splits, so that a stage can read it from these files.
pub(super) const IMAGES: &[&str] = &[
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "validation-images-idx3-ubyte",
    "validation-labels-idx1-ubyte",
    "test-images-idx3-ubyte",
    "test-labels-idx1-ubyte",
];

/// The file of a [`DataCard`].
pub(super) const DATA_CARD: &str = "data.json";

/// A net: the f32 tensors `w1`, `b1`, `w2`, `b2` and so on, weights [fan-out, fan-in] and biases
/// `[fan-out]`, the biases only if it has them; with its [`NetCard`] and recipe under the metadata
/// key [`METADATA`].
pub(super) const NET: &str = "net.safetensors";

/// The bends of a learned curve: the tensors of each as in a [`NET`], named `bend1.w1` and so on,
/// with their [`BendsCard`] and recipe under the metadata key [`METADATA`].
pub(super) const BENDS: &str = "bends.safetensors";

const METADATA: &str = "repro";

/// A dataset's metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DataCard {
    pub(super) dataset: DataName,
    /// Images in the training split.
    pub(super) train: usize,
    /// Images in the validation split.
    pub(super) validation: usize,
    /// Images in the test split.
    pub(super) test: usize,
    /// The shape of an image and the number of classes, written where they are not MNIST's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) images: ImageFormat,
}

/// What a net's input and output layers depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImageFormat {
    pub(super) height: usize,
    pub(super) width: usize,
    /// Numbers per pixel.
    pub(super) channels: usize,
    pub(super) classes: usize,
}

/// MNIST's.
impl Default for ImageFormat {
    fn default() -> ImageFormat {
        ImageFormat::of(ImageShape::default(), CLASSES)
    }
}

impl ImageFormat {
    pub(super) fn of(shape: ImageShape, classes: usize) -> ImageFormat {
        let ImageShape { height, width, channels } = shape;
        ImageFormat { height, width, channels, classes }
    }
}

/// `28 x 28 pixels, 10 classes`.
impl Display for ImageFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let ImageFormat { height, width, channels, classes } = *self;
        write!(f, "{} pixels, {classes} classes", ImageShape { height, width, channels })
    }
}

fn is_default(format: &ImageFormat) -> bool {
    *format == ImageFormat::default()
}

/// The name of a dataset in the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum DataName {
    /// A dataset of `fetch`, or the same images from another source.
    Known(Dataset),
    /// A name that the user gave.
    Own(String),
}

impl DataName {
    /// Whether the images are generated from the seed.
    pub(super) fn is_generated(&self) -> bool {
        matches!(self, DataName::Known(dataset) if dataset.is_generated())
    }
}

impl Display for DataName {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            DataName::Known(dataset) => f.pad(dataset.name()),
            DataName::Own(name) => f.pad(name),
        }
    }
}

/// BLAKE3 of MNIST's test images and labels, the last two of [`IMAGES`].
const MNIST_TEST: [&str; 2] = [
    "f8d502322cd9f186e155a74a3dff598ed56c1a7b5a5c8d312749ac47c4a2bec7",
    "6d43ea317fa8f5851bb85404bb7358defd48b0294cf31f60cdcde8106fe2c3ad",
];

/// The files that [`is_mnist`] needs in the slot of the data.
pub(super) const MNIST_FILES: &[&str] = &[DATA_CARD, IMAGES[4], IMAGES[5]];

/// Whether results on the data in `data`, a slot with [`MNIST_FILES`], can be compared with results
/// on MNIST.
///
/// The card says that the images are MNIST, which `fetch` and `images` write after they have
/// checked the digests of the four files; and the digests of the test split are MNIST's, unless the
/// card says that only some of the test images were taken.
pub(super) fn is_mnist(data: &Input, card: &DataCard) -> bool {
    let has = |file: &str, digest: &str| {
        let content = data.artifact.get(file).and_then(Content::digest);
        content.is_some_and(|content| content.to_string() == digest)
    };
    card.dataset == DataName::Known(Dataset::Mnist)
        && is_default(&card.images)
        && (card.test < MNIST_TEST_IMAGES
            || IMAGES[4..].iter().zip(MNIST_TEST).all(|(file, digest)| has(file, digest)))
}

/// The number of MNIST's test images.
const MNIST_TEST_IMAGES: usize = 10_000;

/// A net's metadata: its key in the tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NetCard {
    pub(super) hidden: Hidden,
    #[serde(with = "label")]
    pub(super) prior: Prior,
    /// The first epochs that it shares with the other end of its pair, if it has a shared start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shared_epochs: Option<u32>,
    #[serde(flatten)]
    pub(super) name: NetName,
    /// The cost by which its neurons were matched, if they were permuted.
    pub(super) aligned: Option<Cost>,
}

impl NetCard {
    /// The name of the pair of this net and `other`, between which a curve is drawn.
    ///
    /// # Errors
    /// If the nets differ in their hidden layers or prior, or do not make a pair.
    pub(super) fn pair_with(&self, other: &NetCard) -> Result<PairName, Hinted> {
        let key = |card: &NetCard| (card.hidden, card.prior, card.shared_epochs);
        if key(self) != key(other) {
            let name = |card: &NetCard| {
                let NetCard { hidden, prior, shared_epochs, .. } = card;
                let shared = shared_epochs.map(|epochs| format!(", shared_epochs={epochs}"));
                format!("`hidden={hidden}, prior={prior}{}`", shared.unwrap_or_default())
            };
            let (a, b) = (name(self), name(other));
            let cause = format!("a net of {a} cannot be joined to one of {b}");
            let hint = "join nets that differ in nothing but their name, for example with `where: \
                        { keep: [...] }`, or in stages of their own";
            return Err(Hinted::new(cause, hint));
        }
        PairName::of(&self.name, &other.name).map_err(|cause| {
            let hint = "give the ends different nets: `a: { stage: nets, rename: { net: a } }`, \
                        the same for `b`, and `where: a < b`";
            Hinted::new(cause, hint)
        })
    }
}

/// The metadata of bends: their curve, and the nets that they were learned between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BendsCard {
    pub(super) curve: LearnedCurve,
    /// BLAKE3 of the files of A and B.
    pub(super) ends: [String; 2],
}

/// The digests of the nets in the slots `a` and `b`, as in a [`BendsCard`].
pub(super) fn digests_of_ends(cx: &Context) -> Result<[String; 2]> {
    let digest = |slot| {
        let digest = cx.input(slot)?.artifact.get(NET).and_then(Content::digest);
        Ok::<_, anyhow::Error>(digest.context("BUG: a net has no digest")?.to_string())
    };
    Ok([digest("a")?, digest("b")?])
}

/// A prior as its label.
mod label {
    use crate::study::net::Prior;
    use serde::de::{Deserialize as _, Deserializer, Error as _};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(
        prior: &Prior,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(prior)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Prior, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The names of a split's two files: images, labels.
fn files(split: Split) -> (&'static str, &'static str) {
    match split {
        Split::Train => (IMAGES[0], IMAGES[1]),
        Split::Validation => (IMAGES[2], IMAGES[3]),
        Split::Test => (IMAGES[4], IMAGES[5]),
    }
}

/// Writes the files of a split of a dataset with `classes` classes.
pub(super) fn write_examples<T: Pixel>(
    cx: &Context,
    split: Split,
    examples: &Examples<T>,
    classes: usize,
) -> Result<()> {
    let (images, labels) = files(split);
    fs::write(&cx.output(images), idx::write_images(&examples.pixels, examples.shape))?;
    fs::write(&cx.output(labels), idx::write_labels(&examples.labels, classes))
}

/// Bytes per read; they stay in the processor's cache until they are made sparse.
const CHUNK: usize = 200_704;

/// The images and labels of a split; the number of classes is that of all splits in `input`.
pub(super) fn read_labelled(input: &Input, split: Split) -> Result<Labelled> {
    let (images, labels) = files(split);
    let mut labelled =
        Labelled { images: read_images(images, input.path(images)?)?, labels: vec![], classes: 0 };
    for other in Split::ALL {
        let name = files(*other).1;
        let (read, classes) = idx::read_labels(name, &fs::read(input.path(name)?)?)?;
        labelled.classes = labelled.classes.max(classes);
        if *other == split {
            labelled.labels = read;
        }
    }
    idx::check_pair((images, labelled.images.rows()), (labels, labelled.len()))?;
    Ok(labelled)
}

/// The images of the file `name` at `path`, [n, inputs], made sparse in chunks: page faults of a
/// buffer for the whole file would take longer than reading it.
fn read_images(name: &str, path: &Path) -> Result<Sparse> {
    let cannot = || format!("cannot read `{}`", path.display());
    let mut file = fs::open(path)?;
    let length = file.metadata().with_context(cannot)?.len();
    let mut header = Vec::new();
    file.by_ref().take(idx::IMAGES_HEADER as u64).read_to_end(&mut header).with_context(cannot)?;
    let ImagesHeader { floats, count, rows, columns } = idx::images_header(name, &header, length)?;
    let inputs = rows * columns;
    if count as u64 * inputs as u64 > u64::from(u32::MAX) {
        bail!("`{name}` has {count} images of {inputs} numbers, more than 2^32 - 1 in all");
    }
    let element = if floats { size_of::<f32>() } else { 1 };
    let mut images = Sparse::with_columns(inputs);
    let chunk = (CHUNK / (inputs * element)).max(1);
    let mut bytes = vec![0; chunk.min(count) * inputs * element];
    let mut numbers = Vec::new();
    let mut first = 0;
    while first < count {
        let now = chunk.min(count - first);
        let bytes = &mut bytes[..now * inputs * element];
        file.read_exact(bytes).with_context(cannot)?;
        if floats {
            let (words, _) = bytes.as_chunks::<4>();
            numbers.clear();
            numbers.extend(words.iter().map(|word| f32::from_be_bytes(*word)));
            if let Some(at) = numbers.iter().position(|x| !(0.0..=1.0).contains(x)) {
                let (image, x) = (first + at / inputs, numbers[at]);
                bail!("`{name}` has the number {x} in image {image}, not one in [0, 1]");
            }
            images.append_values(&numbers);
        } else {
            images.append(bytes);
        }
        first += now;
    }
    Ok(images)
}

#[derive(Serialize, Deserialize)]
struct NetMetadata {
    net: NetCard,
    recipe: Recipe,
}

pub(super) fn write_net(path: &Path, net: &Net, card: &NetCard, recipe: &Recipe) -> Result<()> {
    let metadata = NetMetadata { net: card.clone(), recipe: recipe.clone() };
    write_tensors(path, &tensors("", net), &metadata)
}

/// The name, the dimensions and the bytes of a tensor.
type TensorBytes = (String, Vec<usize>, Vec<u8>);

/// The tensors of `net`, with this prefix in their names.
fn tensors(prefix: &str, net: &Net) -> Vec<TensorBytes> {
    let bytes = |layer: &[f32]| layer.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let shape = net.shape();
    let mut tensors = Vec::new();
    for l in 0..net.layers() {
        let dimensions = vec![shape.fan_out(l), shape.fan_in(l)];
        tensors.push((format!("{prefix}w{}", l + 1), dimensions, bytes(net.weights(l))));
        if shape.biases {
            let name = format!("{prefix}b{}", l + 1);
            tensors.push((name, vec![shape.fan_out(l)], bytes(net.biases(l))));
        }
    }
    tensors
}

fn write_tensors(path: &Path, tensors: &[TensorBytes], metadata: &impl Serialize) -> Result<()> {
    let views = tensors.iter().map(|(name, dimensions, bytes)| {
        Ok((name, TensorView::new(Dtype::F32, dimensions.clone(), bytes)?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    // A single key: safetensors writes several in unspecified order.
    let metadata = HashMap::from([(METADATA.to_owned(), serde_json::to_string(metadata)?)]);
    fs::write(path, serialize(views, Some(metadata))?)
}

#[derive(Serialize, Deserialize)]
struct BendsMetadata {
    bends: BendsCard,
    recipe: Recipe,
}

/// Writes the bends of a learned curve.
pub(super) fn write_bends(
    path: &Path,
    bends: &[Net],
    card: &BendsCard,
    recipe: &Recipe,
) -> Result<()> {
    let named = bends.iter().zip(1..).map(|(net, k)| tensors(&format!("bend{k}."), net));
    let metadata = BendsMetadata { bends: card.clone(), recipe: recipe.clone() };
    write_tensors(path, &named.flatten().collect::<Vec<_>>(), &metadata)
}

/// Reads the bends of a learned curve between nets of this `shape`.
pub(super) fn read_bends(path: &Path, shape: Shape) -> Result<(Vec<Net>, BendsCard)> {
    let cannot = || format!("`{}` does not hold bends", path.display());
    parse_bends(&fs::read(path)?, shape).with_context(cannot)
}

fn parse_bends(bytes: &[u8], shape: Shape) -> Result<(Vec<Net>, BendsCard)> {
    let card = serde_json::from_str::<BendsMetadata>(&metadata_of(bytes)?)?.bends;
    let tensors = SafeTensors::deserialize(bytes)?;
    let bends = (1..=card.curve.bends()).map(|k| net_of(&tensors, &format!("bend{k}."), shape));
    Ok((bends.collect::<Result<_>>()?, card))
}

pub(super) fn read_net(path: &Path) -> Result<(Net, NetCard)> {
    parse_net(&fs::read(path)?).with_context(|| format!("`{}` is not a net", path.display()))
}

/// The card of a net in the bytes of its file; `None` if another program wrote it.
pub(super) fn card_of(bytes: &[u8]) -> Option<NetCard> {
    parse_card(bytes).ok()
}

fn parse_card(bytes: &[u8]) -> Result<NetCard> {
    Ok(serde_json::from_str::<NetMetadata>(&metadata_of(bytes)?)?.net)
}

/// Our metadata of a safetensors file.
fn metadata_of(bytes: &[u8]) -> Result<String> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let metadata = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA));
    metadata.cloned().with_context(|| format!("it has no metadata `{METADATA}`"))
}

/// Parses a net, possibly written by another program.
fn parse_net(bytes: &[u8]) -> Result<(Net, NetCard)> {
    let card = parse_card(bytes)?;
    let tensors = SafeTensors::deserialize(bytes)?;
    let shape = shape_of(&tensors)?;
    if shape.hidden() != card.hidden {
        bail!("its tensors are those of `{}`, not of `{}`", shape.hidden(), card.hidden);
    }
    card.prior.check_layers(shape.widths).map_err(|e| anyhow!("{e}"))?;
    Ok((net_of(&tensors, "", shape)?, card))
}

/// The net of this `shape` whose tensors have this prefix in their names.
fn net_of(tensors: &SafeTensors, prefix: &str, shape: Shape) -> Result<Net> {
    let mut params = Vec::new();
    for l in 0..shape.layers() {
        let (weights, biases) = (format!("{prefix}w{}", l + 1), format!("{prefix}b{}", l + 1));
        params.extend(parameters(tensors, &weights, &[shape.fan_out(l), shape.fan_in(l)])?);
        if shape.biases {
            params.extend(parameters(tensors, &biases, &[shape.fan_out(l)])?);
        }
    }
    Net::from_params(shape, params).context("BUG: a shape has other parameters")
}

/// The shape that the dimensions of `w1`, `w2` and so on imply.
fn shape_of(tensors: &SafeTensors) -> Result<Shape> {
    let mut fan_outs = Vec::new();
    let mut inputs = 0;
    for l in 1.. {
        let name = format!("w{l}");
        if l > 2 && !tensors.names().contains(&name.as_str()) {
            break;
        }
        let tensor = tensors.tensor(&name)?;
        let &[fan_out, fan_in] = tensor.shape() else {
            bail!("`{name}` has {} dimensions, not 2", tensor.shape().len());
        };
        if l == 1 {
            inputs = fan_in;
        }
        fan_outs.push(fan_out);
    }
    let classes = fan_outs.pop().unwrap_or_default();
    let widths = Widths::try_from(&fan_outs[..]).map_err(|e| anyhow!("{e}"))?;
    if inputs == 0 || classes == 0 {
        bail!("it has no inputs or no outputs");
    }
    Ok(Shape { inputs, widths, classes, biases: tensors.names().contains(&"b1") })
}

fn parameters(tensors: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let tensor = tensors.tensor(name)?;
    if tensor.dtype() != Dtype::F32 {
        bail!("`{name}` is not f32");
    }
    if tensor.shape() != shape {
        bail!("`{name}` has the shape {:?}, not {shape:?}", tensor.shape());
    }
    let (weights, _) = tensor.data().as_chunks::<4>();
    let weights: Vec<f32> = weights.iter().map(|w| f32::from_le_bytes(*w)).collect();
    if let Some(at) = weights.iter().position(|w| !w.is_finite()) {
        let columns = shape.get(1).copied().unwrap_or(1);
        let position = match shape {
            [_] => at.to_string(),
            _ => format!("{}, {}", at / columns, at % columns),
        };
        bail!("`{name}[{position}]` is {}, not a finite number", weights[at]);
    }
    Ok(weights)
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    fs::write(path, serde_json::to_string_pretty(value)? + "\n")
}

pub(super) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let bytes = fs::read(path)?;
    serde_json::from_slice(&bytes).with_context(|| format!("cannot parse `{}`", path.display()))
}

/// A parameter as words, such as `sgd momentum 0.9 rate 0.01`.
pub(super) fn words(parameter: &impl Serialize) -> Result<String> {
    fn flatten(value: &serde_json::Value, words: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => map.iter().for_each(|(name, value)| {
                words.push(name.clone());
                flatten(value, words);
            }),
            serde_json::Value::String(text) => words.push(text.clone()),
            other => words.push(other.to_string()),
        }
    }
    let mut words = Vec::new();
    flatten(&serde_json::to_value(parameter)?, &mut words);
    Ok(words.join(" "))
}

/// A CSV file in memory. Numbers are written with the fewest digits that restore their bits.
pub(super) struct Csv(String);

impl Csv {
    pub(super) fn new(columns: &[&str]) -> Csv {
        let mut csv = Csv(String::new());
        csv.row(&columns.iter().map(|c| c as &dyn Display).collect::<Vec<_>>());
        csv
    }

    pub(super) fn row(&mut self, cells: &[&dyn Display]) {
        for (i, cell) in cells.iter().enumerate() {
            let text = cell.to_string();
            self.0.push_str(if i == 0 { "" } else { "," });
            if text.contains([',', '"', '\n']) {
                self.0.push_str(&format!("\"{}\"", text.replace('"', "\"\"")));
            } else {
                self.0.push_str(&text);
            }
        }
        self.0.push('\n');
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, &self.0)
    }
}

/// A value that may be missing, displayed as an empty cell.
pub(super) struct OrEmpty<T>(pub(super) Option<T>);

impl<T: Display> Display for OrEmpty<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.0.as_ref().map_or(Ok(()), |x| x.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::names::End;
    use crate::study::data::PIXELS;
    use crate::study::net::{INPUTS, Init, Optimizer};
    use proptest::prelude::*;
    use proptest::sample::Index;

    fn recipe() -> Recipe {
        Recipe {
            kind: "train".into(),
            version: 1,
            params: Default::default(),
            inputs: Default::default(),
            seed: None,
        }
    }

    /// A dataset with these files as its training split; the other splits have no images.
    fn input(dir: &Path, images: &[u8], labels: &[u8]) -> Input {
        let (none, no_labels) = (byte_images(&[]), idx::write_labels(&[], 10));
        let contents = [images, labels, &none, &no_labels, &none, &no_labels];
        let paths = IMAGES.iter().zip(contents).map(|(&name, bytes)| {
            fs::write(&dir.join(name), bytes).unwrap();
            (name.to_owned(), dir.join(name))
        });
        Input::new(Default::default(), paths.collect())
    }

    fn byte_images(pixels: &[u8]) -> Vec<u8> {
        idx::write_images(pixels, ImageShape::default())
    }

    #[test]
    fn reading_in_chunks_gives_all_images() {
        let dir = tempfile::tempdir().unwrap();
        let per_read = CHUNK / PIXELS;
        for n in [0, 1, per_read, 2 * per_read + 3] {
            let pixels =
                (0..n * PIXELS).map(|i| if i % 5 < 3 { 0 } else { (i * i % 251) as u8 }).collect();
            let labels = (0..n).map(|i| (i % 10) as u16).collect();
            let examples = Examples { pixels, labels, shape: ImageShape::default() };
            let (images, labels) =
                (byte_images(&examples.pixels), idx::write_labels(&examples.labels, 10));
            let read = read_labelled(&input(dir.path(), &images, &labels), Split::Train).unwrap();
            assert_eq!(read, Labelled::from(&examples), "{n} images");
        }
    }

    #[test]
    fn data_are_mnist_by_the_digests_of_the_test_split() {
        let card = |test: usize| DataCard {
            dataset: DataName::Known(Dataset::Mnist),
            train: 60_000,
            validation: 0,
            test,
            images: ImageFormat::default(),
        };
        let input = |digests: [&str; 2]| {
            let content = |digest: &str| digest.parse::<Content>().unwrap();
            let files = IMAGES[4..].iter().zip(digests);
            let artifact = files.map(|(file, digest)| ((*file).to_owned(), content(digest)));
            Input::new(artifact.collect(), Default::default())
        };
        let [images, labels] = MNIST_TEST;
        assert!(is_mnist(&input([images, labels]), &card(10_000)));
        assert!(!is_mnist(&input([labels, labels]), &card(10_000)));
        assert!(!is_mnist(&input([images, images]), &card(10_000)));
        assert!(!is_mnist(&Input::new(Default::default(), Default::default()), &card(10_000)));
        assert!(is_mnist(&input([labels, images]), &card(9_999)), "a part of them, by the card");
        for dataset in [DataName::Known(Dataset::Digits), DataName::Own("mine".into())] {
            assert!(!is_mnist(&input([images, labels]), &DataCard { dataset, ..card(10_000) }));
        }
    }

    #[test]
    fn the_card_of_mnist_has_no_format_and_other_cards_do() {
        let images = ImageFormat::default();
        let dataset = DataName::Known(Dataset::Mnist);
        let card = DataCard { dataset, train: 3, validation: 2, test: 1, images };
        let json = r#"{"dataset":"mnist","train":3,"validation":2,"test":1}"#;
        assert_eq!(serde_json::to_string(&card).unwrap(), json);
        assert_eq!(serde_json::from_str::<DataCard>(json).unwrap(), card);
        let images = ImageFormat { height: 8, width: 9, channels: 3, classes: 100 };
        let card = DataCard { dataset: DataName::Own("a b".into()), images, ..card };
        let json = serde_json::to_string(&card).unwrap();
        let format = r#""images":{"height":8,"width":9,"channels":3,"classes":100}"#;
        assert!(json.starts_with(r#"{"dataset":"a b","#) && json.contains(format), "{json}");
        assert_eq!(serde_json::from_str::<DataCard>(&json).unwrap(), card);
    }

    #[test]
    fn floats_are_read_bit_for_bit_and_only_from_0_to_1() {
        let dir = tempfile::tempdir().unwrap();
        let shape = ImageShape { height: 2, width: 3, channels: 1 };
        let numbers: Vec<f32> = (0..60_000).map(|i| (i % 7) as f32 / 7.0).collect();
        let labels = idx::write_labels(&vec![0; 10_000], 11);
        let write =
            |numbers: &[f32]| input(dir.path(), &idx::write_images(numbers, shape), &labels);
        let read = read_labelled(&write(&numbers), Split::Train).unwrap();
        assert_eq!((read.images.rows(), read.images.columns()), (10_000, 6));
        for i in [0, 1, 9_999] {
            let row = numbers[6 * i..6 * i + 6].iter().copied().enumerate();
            assert!(read.images.row(i).eq(row.filter(|(_, x)| *x != 0.0)), "{i}");
        }
        for x in [f32::NAN, -0.5, 1.5, f32::INFINITY] {
            let numbers = [&numbers[..59_995], &[x], &numbers[59_996..]].concat();
            let error = read_labelled(&write(&numbers), Split::Train).unwrap_err().to_string();
            let file = IMAGES[0];
            let expected = format!("`{file}` has the number {x} in image 9999, not one in [0, 1]");
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn images_that_contradict_their_header_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (images, labels) = (byte_images(&[9; 2 * PIXELS]), idx::write_labels(&[1, 2], 10));
        let refusal = |images: &[u8], labels: &[u8]| {
            read_labelled(&input(dir.path(), images, labels), Split::Train).unwrap_err().to_string()
        };
        let [file, others] = [IMAGES[0], IMAGES[1]];
        assert_eq!(
            refusal(&images[..9], &labels),
            format!("`{file}` has 9 bytes but its header specifies 16")
        );
        assert_eq!(
            refusal(&images[..99], &labels),
            format!("`{file}` has 99 bytes but its header specifies 1584")
        );
        assert_eq!(
            refusal(&[&images[..], &[0]].concat(), &labels),
            format!("`{file}` has 1585 bytes but its header specifies 1584")
        );
        assert_eq!(
            refusal(&labels, &labels),
            format!("`{file}` starts with `0x0801`, not with `0x0803` or `0x0d03`")
        );
        assert_eq!(
            refusal(&images, &idx::write_labels(&[1], 10)),
            format!("`{file}` holds 2 images, but `{others}` holds 1 labels")
        );
    }

    #[test]
    fn reading_a_written_net_restores_it_and_equal_nets_give_equal_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let mut net = Net::zeros(Shape::talk(3));
        net.params_mut().iter_mut().enumerate().for_each(|(i, w)| *w = i as f32 * 0.1);
        let card = card(3);
        let paths = [dir.path().join("one"), dir.path().join("two")];
        paths.iter().for_each(|path| write_net(path, &net, &card, &recipe()).unwrap());
        assert_eq!(read_net(&paths[0]).unwrap(), (net, card));
        assert_eq!(fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap());
    }

    #[test]
    fn reading_written_bends_restores_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bends");
        let shape = Shape::of(4, &[3, 2], 5, true);
        let bend = |k: usize| {
            let mut net = Net::zeros(shape);
            net.params_mut().iter_mut().enumerate().for_each(|(i, w)| *w = (i + k) as f32 * 0.1);
            net
        };
        let ends = ["a", "b"].map(str::to_owned);
        let card = BendsCard { curve: "chain:2".parse().unwrap(), ends };
        let bends = [bend(1), bend(2)];
        write_bends(&path, &bends, &card, &recipe()).unwrap();
        assert_eq!(read_bends(&path, shape).unwrap(), (bends.to_vec(), card));
        let other = Shape::of(4, &[2, 2], 5, true);
        let error = format!("{:#}", read_bends(&path, other).unwrap_err());
        assert!(error.contains("`bend1.w1` has the shape [3, 4], not [2, 4]"), "{error}");
        let net = dir.path().join("net");
        write_net(&net, &Net::zeros(Shape::talk(3)), &self::card(3), &recipe()).unwrap();
        let error = format!("{:#}", read_bends(&net, shape).unwrap_err());
        assert!(error.contains("does not hold bends"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_a_net_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("net");
        for bytes in [&b""[..], b"not a net", &[0xff; 64], b"\x02\0\0\0\0\0\0\0{}"] {
            fs::write(&path, bytes).unwrap();
            let error = format!("{:#}", read_net(&path).unwrap_err());
            assert!(error.contains("is not a net"), "{error}");
        }
    }

    fn card(hidden: u32) -> NetCard {
        let hidden = hidden.to_string().parse().unwrap();
        let name = NetName::End { pair: 1, end: End::A };
        NetCard { hidden, prior: Prior::None, shared_epochs: None, name, aligned: None }
    }

    #[test]
    fn a_card_has_the_names_of_the_tables() {
        let aligned = Some(Cost::Incoming);
        let prior = "normal 0.01".parse().unwrap();
        let name = NetName::End { pair: 1, end: End::B };
        let card = NetCard { prior, name, aligned, ..card(3) };
        let json = r#"{"hidden":3,"prior":"normal 0.01","pair":1,"end":"b","aligned":"incoming"}"#;
        assert_eq!(serde_json::to_string(&card).unwrap(), json);
        assert_eq!(serde_json::from_str::<NetCard>(json).unwrap(), card);
    }

    /// The bytes of a net with two neurons, and the offset of its weights.
    fn net() -> (Vec<u8>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("net");
        write_net(&path, &Net::zeros(Shape::talk(2)), &card(2), &recipe()).unwrap();
        let bytes = fs::read(&path).unwrap();
        let weights = bytes.len() - 4 * 2 * (INPUTS + CLASSES);
        (bytes, weights)
    }

    /// The same net with a changed header.
    fn with_header(change: impl Fn(&str) -> String) -> Vec<u8> {
        let (bytes, weights) = net();
        let header = change(std::str::from_utf8(&bytes[8..weights]).unwrap());
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[weights..]].concat()
    }

    #[test]
    fn a_net_with_a_wrong_header_is_an_error() {
        let refused = |from: &str, to: &str| {
            let bytes = with_header(|header| {
                assert!(header.contains(from), "{from}: {header}");
                header.replace(from, to)
            });
            format!("{:#}", parse_net(&bytes).unwrap_err())
        };
        assert_eq!(refused("[2,784]", "[784,2]"), "its tensors are those of `784`, not of `2`");
        assert_eq!(refused("[10,2]", "[2,10]"), "`w2` has the shape [2, 10], not [2, 2]");
        assert_eq!(refused("[10,2]", "[20]"), "`w2` has 1 dimensions, not 2");
        assert_eq!(refused("F32", "I32"), "`w1` is not f32");
        assert_eq!(refused("repro", "other"), "it has no metadata `repro`");
        assert_eq!(refused("\"w2\"", "\"w3\""), "tensor `w2` not found");
        assert_eq!(refused("[2,784]", "[4,784]"), "invalid shape, data type, or offset for tensor");
        assert_eq!(
            refused("[2,784]", "[9223372036854775807,784]"),
            "overflow computing buffer size from shape and/or element type"
        );
        assert!(refused("[2,784]", "[-2,784]").starts_with("invalid JSON in header: "));
    }

    proptest! {
        #[test]
        fn a_weight_that_is_not_finite_is_an_error_with_its_index(
            at in 0..2 * (INPUTS + CLASSES),
            weight in prop::sample::select(vec![f32::NAN, f32::INFINITY, -f32::INFINITY]),
        ) {
            let (mut bytes, weights) = net();
            bytes[weights + 4 * at..][..4].copy_from_slice(&weight.to_le_bytes());
            let (name, columns, at) = match at < 2 * INPUTS {
                true => ("w1", INPUTS, at),
                false => ("w2", 2, at - 2 * INPUTS),
            };
            let (row, column) = (at / columns, at % columns);
            let expected = format!("`{name}[{row}, {column}]` is {weight}, not a finite number");
            prop_assert_eq!(parse_net(&bytes).unwrap_err().to_string(), expected);
        }

        #[test]
        fn a_damaged_net_gives_a_short_error_or_is_no_larger_than_its_file(
            flips in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
            numbers in prop::collection::vec((any::<Index>(), any::<u64>()), 0..3),
            length in prop::option::of(prop_oneof![any::<u64>(), 0u64..1000]),
            keep in any::<Index>(),
        ) {
            // Replaces numbers of the header, then bytes, most of them in the header; then
            // truncates.
            let mut bytes = with_header(|header| {
                let mut header = header.to_owned();
                for (at, number) in &numbers {
                    let digits = header.match_indices(|c: char| c.is_ascii_digit());
                    let digits: Vec<usize> = digits.map(|(at, _)| at).collect();
                    let at = digits[at.index(digits.len())];
                    header.replace_range(at..=at, &number.to_string());
                }
                header
            });
            if let Some(length) = length {
                bytes[..8].copy_from_slice(&length.to_le_bytes());
            }
            for (at, with) in &flips {
                let at = at.index(bytes.len().min(600));
                bytes[at] = *with;
            }
            bytes.truncate(keep.index(bytes.len() * 4).max(8));
            match parse_net(&bytes) {
                Ok((net, _)) => prop_assert!(4 * net.params().len() <= bytes.len()),
                Err(error) => prop_assert!(format!("{error:#}").len() < 1000, "{error:#}"),
            }
        }
    }

    #[test]
    fn parameters_are_written_as_words() {
        assert_eq!(words(&Optimizer::default()).unwrap(), "sgd momentum 0.9 rate 0.01");
        assert_eq!(words(&Init::default()).unwrap(), "uniform");
    }

    #[test]
    fn cells_with_separators_are_quoted() {
        let mut csv = Csv::new(&["a", "b"]);
        csv.row(&[&0.1, &"x, \"y\""]);
        csv.row(&[&OrEmpty(None::<f64>), &OrEmpty(Some(2))]);
        assert_eq!(csv.0, "a,b\n0.1,\"x, \"\"y\"\"\"\n,2\n");
    }
}
