//! Which tensors are the layers of a net, in which order, and which way round.
//!
//! PyTorch stores the weights of a layer as [outputs, inputs] and calls them `weight`; Keras and
//! Flax store them as [inputs, outputs] and call them `kernel`. The shapes decide; a name decides
//! only where both ways fit.

use super::tensors::Tensor;
use crate::engine::stage::{Hinted, suggest};
use crate::stage::names::natural;
use crate::study::net::{Shape, Widths};
use std::collections::BTreeMap;

/// The layers of a net in a file, from the first to the last.
pub(super) struct Layers {
    pub(super) layers: Vec<Layer>,
    pub(super) shape: Shape,
    /// What was guessed, in sentences.
    pub(super) notes: Vec<String>,
    /// The names of the tensors that are not part of the net.
    pub(super) unused: Vec<String>,
}

/// A layer: indices of tensors.
#[derive(Clone, Copy)]
pub(super) struct Layer {
    pub(super) weights: usize,
    pub(super) bias: Option<usize>,
    /// Whether the weights are [inputs, outputs] in the file.
    pub(super) transposed: bool,
}

/// A layer whose place and direction are not known yet.
struct Group {
    /// The name of the layer, which its tensors have in common.
    name: String,
    weights: usize,
    bias: Option<usize>,
    /// Whether the name of the weights is one that stands for [inputs, outputs].
    is_kernel: bool,
}

/// The net's inputs and classes, and how messages call them.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) inputs: usize,
    pub(super) classes: usize,
}

/// The layers of the net in `tensors`: those that `named` names, or else those that the names and
/// shapes of the tensors imply.
pub(super) fn find(
    tensors: &[Tensor],
    named: &BTreeMap<String, String>,
    ends: Ends,
) -> Result<Layers, Hinted> {
    let mut notes = Vec::new();
    let groups = if named.is_empty() {
        let groups = grouped(tensors, ends)?;
        let (groups, how) = in_order(tensors, groups, ends)?;
        let names: Vec<String> = groups.iter().map(|group| format!("`{}`", group.name)).collect();
        notes.push(format!("the layers are {}, {how}", names.join(", ")));
        groups
    } else {
        by_name(tensors, named)?
    };
    let (layers, shape) = chained(tensors, &groups, ends, &mut notes)?;
    let is_used = |at: usize| layers.iter().any(|l| l.weights == at || l.bias == Some(at));
    let unused = (0..tensors.len()).filter(|&at| !is_used(at));
    let unused = unused.map(|at| tensors[at].name.clone()).collect();
    Ok(Layers { layers, shape, notes, unused })
}

/// The hint to name the layers, for a file with these tensors.
fn name_them(tensors: &[Tensor], ends: Ends) -> String {
    let matrices = || tensors.iter().filter(|tensor| tensor.shape.len() == 2);
    let first = matrices().find(|tensor| tensor.shape.contains(&ends.inputs));
    let weights = first.or_else(|| matrices().next()).map_or("fc1.weight", |t| &t.name);
    let more = match bias_of(tensors, weights) {
        Some(bias) => format!(", b1: {bias}, w2: ..., b2: ..."),
        None if tensors.iter().any(|tensor| tensor.shape.len() == 1) => {
            ", b1: ..., w2: ..., b2: ...".to_owned()
        }
        None => ", w2: ...".to_owned(),
    };
    format!("name the layers: `layers: {{ w1: {weights}{more} }}`")
}

/// The name of the tensor that is, by its name, the bias of the layer with these weights.
fn bias_of<'a>(tensors: &'a [Tensor], weights: &str) -> Option<&'a str> {
    let layer = parts(weights)?.layer;
    let is_it = |name: &&str| parts(name).is_some_and(|p| p.leaf == Leaf::Bias && p.layer == layer);
    tensors.iter().map(|tensor| tensor.name.as_str()).find(is_it)
}

/// The layers that the user names.
fn by_name(tensors: &[Tensor], named: &BTreeMap<String, String>) -> Result<Vec<Group>, Hinted> {
    let find = |tensor: &str| {
        let names = tensors.iter().map(|tensor| tensor.name.as_str());
        tensors.iter().position(|known| known.name == tensor).ok_or_else(|| {
            let hint = suggest(tensor, names);
            let hint = hint.unwrap_or_else(|| "the file has no tensors".to_owned());
            Hinted::new(format!("there is no tensor `{tensor}`"), hint)
        })
    };
    let layers = named.keys().filter(|key| key.starts_with('w')).count();
    let mut groups = Vec::new();
    for l in 1..=layers {
        let Some(weights) = named.get(&format!("w{l}")) else {
            let cause = format!("`layers` names {layers} weights, but not `w{l}`");
            return Err(Hinted::new(cause, "number the layers from 1"));
        };
        let bias = named.get(&format!("b{l}")).map(|bias| find(bias)).transpose()?;
        let is_kernel = parts(weights).is_some_and(|parts| parts.leaf == Leaf::Kernel);
        groups.push(Group { name: format!("w{l}"), weights: find(weights)?, bias, is_kernel });
    }
    if let Some(key) = named.keys().find(|key| {
        let l = key.strip_prefix('b').and_then(|l| l.parse::<usize>().ok());
        l.is_some_and(|l| l > layers)
    }) {
        let cause = format!("`layers` names the bias `{key}`, but no weights of that layer");
        return Err(Hinted::new(cause, format!("name `w{}` too", &key[1..])));
    }
    check_named_biases(tensors, named, &groups)?;
    for group in &groups {
        for at in [Some(group.weights), group.bias].into_iter().flatten() {
            tensors[at].check_type()?;
        }
    }
    Ok(groups)
}

/// Checks that `named` has a bias for every layer or for none, and that it leaves out no bias of
/// the file: the net would be another function without it.
fn check_named_biases(
    tensors: &[Tensor],
    named: &BTreeMap<String, String>,
    groups: &[Group],
) -> Result<(), Hinted> {
    let in_file = |group: &Group| {
        let bias = bias_of(tensors, &tensors[group.weights].name)?;
        (!named.values().any(|name| name == bias)).then_some(bias)
    };
    let numbered = || (1..).zip(groups);
    let missing: Vec<(usize, Option<&str>)> = numbered()
        .filter(|(_, group)| group.bias.is_none())
        .map(|(l, group)| (l, in_file(group)))
        .collect();
    let left_out = missing.iter().find_map(|&(_, bias)| bias);
    let present = numbered().find(|(_, group)| group.bias.is_some());
    let cause = match (present, missing.first(), left_out) {
        (Some((present, _)), Some((missing, bias)), _) => {
            let cause = format!("`layers` names `b{present}` but not `b{missing}`");
            if bias.is_none() {
                return Err(Hinted::new(cause, ALL_OR_NONE));
            }
            cause
        }
        (None, _, Some(bias)) => format!("the file has `{bias}`, which `layers` does not name"),
        _ => return Ok(()),
    };
    let additions = missing.iter().filter_map(|(l, bias)| Some(format!("b{l}: {}", (*bias)?)));
    let additions = additions.collect::<Vec<_>>().join(", ");
    Err(Hinted::new(cause, format!("add `{additions}`")))
}

/// The hint for a net with biases in some layers only.
const ALL_OR_NONE: &str =
    "a net has a bias in every layer or in none; save zeros for the missing one";

/// Whether `key` is a key of `layers`: `w1`, `b1`, `w2` and so on.
pub(super) fn is_key(key: &str) -> bool {
    let number = key.strip_prefix(['w', 'b']).unwrap_or_default();
    number.parse::<u8>().is_ok_and(|l| l > 0 && l.to_string() == number)
}

/// The last part of a tensor's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaf {
    /// [outputs, inputs]
    Weight,
    /// [inputs, outputs]
    Kernel,
    Bias,
}

/// A tensor's name: the layer, and what the tensor is in it.
struct Parts<'a> {
    layer: &'a str,
    leaf: Leaf,
}

/// Splits names such as `fc1.weight`, `dense/kernel:0`, `fc1_bias` and `w1`.
fn parts(name: &str) -> Option<Parts<'_>> {
    let leaf = |text: &str| match text.to_ascii_lowercase().as_str() {
        "weight" | "weights" | "w" => Some(Leaf::Weight),
        "kernel" => Some(Leaf::Kernel),
        "bias" | "biases" | "b" => Some(Leaf::Bias),
        _ => None,
    };
    let name = name.strip_suffix(":0").unwrap_or(name);
    let split = |separators: &[char]| {
        let (layer, last) = name.rsplit_once(separators)?;
        Some(Parts { layer, leaf: leaf(last)? })
    };
    let ours = || {
        let (first, number) = name.split_at_checked(1)?;
        is_key(&name.to_ascii_lowercase()).then_some(())?;
        Some(Parts { layer: number, leaf: leaf(first)? })
    };
    split(&['.', '/']).or_else(|| split(&['_'])).or_else(ours)
}

/// Parts of names that stand for a layer that normalises its inputs, or for its state.
const NORMALISES: [&str; 17] = [
    "batchnorm",
    "batch_norm",
    "batch_normalization",
    "batch_stats",
    "beta",
    "bn",
    "gamma",
    "groupnorm",
    "layer_norm",
    "layer_normalization",
    "layernorm",
    "ln",
    "moving_mean",
    "moving_variance",
    "norm",
    "num_batches_tracked",
    "running_mean",
];

/// Whether a part of the name says that the tensor belongs to a layer that normalises its inputs.
fn normalises(name: &str) -> bool {
    name.split(['.', '/', ':']).any(|part| {
        let part = part.to_ascii_lowercase();
        let plain = part.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_');
        plain == "running_var" || NORMALISES.contains(&plain)
    })
}

/// The tensors by layer.
fn grouped(tensors: &[Tensor], ends: Ends) -> Result<Vec<Group>, Hinted> {
    for tensor in tensors {
        let name = &tensor.name;
        let is_weight = parts(name).is_some_and(|parts| parts.leaf != Leaf::Bias);
        let why = match tensor.shape.len() {
            _ if normalises(name) => "belongs to a normalisation layer",
            1 if is_weight && tensor.shape == [1] => {
                "has one number: it belongs to a PReLU or a normalisation layer"
            }
            1 if is_weight => "has one dimension: it belongs to a normalisation layer",
            3..=5 => "is a convolution",
            _ => continue,
        };
        let cause = format!("{} {why}, which a feed-forward net does not have", tensor.title());
        let hint = "only nets of fully connected layers with relu between them can be imported";
        return Err(Hinted::new(cause, hint));
    }
    let mut found: BTreeMap<&str, (Option<usize>, Option<usize>, bool)> = BTreeMap::new();
    for (at, tensor) in tensors.iter().enumerate() {
        tensor.check_type()?;
        let expected = |leaf| if leaf == Leaf::Bias { 1 } else { 2 };
        let parts = parts(&tensor.name).filter(|p| tensor.shape.len() == expected(p.leaf));
        let Some(Parts { layer, leaf }) = parts else {
            let cause = format!("{} is neither weights nor biases of a layer", tensor.title());
            return Err(Hinted::new(cause, name_them(tensors, ends)));
        };
        let (weights, bias, is_kernel) = found.entry(layer).or_default();
        let place = if leaf == Leaf::Bias { bias } else { weights };
        if let Some(other) = place.replace(at) {
            let (a, b) = (&tensors[other].name, &tensor.name);
            let cause = format!("`{a}` and `{b}` are of the same layer `{layer}`");
            return Err(Hinted::new(cause, name_them(tensors, ends)));
        }
        *is_kernel |= leaf == Leaf::Kernel;
    }
    let mut groups = Vec::new();
    for (name, (weights, bias, is_kernel)) in found {
        let Some(weights) = weights else {
            let bias = bias.map_or("", |at| &tensors[at].name);
            let cause = format!("`{bias}` is the bias of a layer without weights");
            return Err(Hinted::new(cause, name_them(tensors, ends)));
        };
        groups.push(Group { name: name.to_owned(), weights, bias, is_kernel });
    }
    Ok(groups)
}

/// The name of a layer without its numbers: layers with the same one are ordered by their numbers.
/// Keras calls its layers `dense`, `dense_1`, `dense_2`.
fn pattern(name: &str) -> String {
    let mut pattern = String::new();
    for c in name.chars() {
        match c.is_ascii_digit() {
            true if pattern.ends_with('#') => {}
            true => pattern.push('#'),
            false => pattern.push(c),
        }
    }
    pattern.strip_suffix("_#").map(str::to_owned).unwrap_or(pattern)
}

/// The largest number of layers in a net.
const MOST_LAYERS: usize = 33;

/// The groups in the order of the layers, and how it was found.
fn in_order(
    tensors: &[Tensor],
    mut groups: Vec<Group>,
    ends: Ends,
) -> Result<(Vec<Group>, &'static str), Hinted> {
    groups.sort_by(|a, b| natural(&a.name, &b.name));
    if groups.len() > MOST_LAYERS {
        let cause = format!("it has {} layers; a net has at most {MOST_LAYERS}", groups.len());
        return Err(Hinted::new(cause, name_them(tensors, ends)));
    }
    let patterns: Vec<String> = groups.iter().map(|group| pattern(&group.name)).collect();
    if patterns.iter().all(|pattern| *pattern == patterns[0]) {
        return Ok((groups, "in the order of their names"));
    }
    let shapes = groups.iter().map(|group| {
        let shape = &tensors[group.weights].shape;
        [shape[0], shape[1]]
    });
    let search = Search { shapes: shapes.collect(), patterns, classes: ends.classes };
    let mut orders = Vec::new();
    let mut budget = SEARCH_STEPS;
    search.extend(&mut Vec::new(), ends.inputs, &mut orders, &mut budget);
    let names = || listed(groups.iter().map(|group| group.name.as_str()));
    match &orders[..] {
        _ if budget == 0 => {}
        [] => {
            let Ends { inputs, classes } = ends;
            let cause = format!(
                "the layers {} do not form a net with {inputs} inputs and {classes} classes, those \
                 of the data",
                names()
            );
            return Err(Hinted::new(cause, name_them(tensors, ends)));
        }
        [order] => {
            let mut groups: Vec<Option<Group>> = groups.into_iter().map(Some).collect();
            let groups = order.iter().filter_map(|&at| groups[at].take()).collect();
            return Ok((groups, "in the only order in which their shapes fit"));
        }
        _ => {}
    }
    let cause = format!("the order of the layers {} is ambiguous", names());
    Err(Hinted::new(cause, name_them(tensors, ends)))
}

/// Steps after which the search for an order gives up.
const SEARCH_STEPS: usize = 10_000;

/// The search for the orders in which the layers form a net.
struct Search {
    shapes: Vec<[usize; 2]>,
    /// Layers with equal patterns keep their order.
    patterns: Vec<String>,
    classes: usize,
}

impl Search {
    /// Adds to `orders` the orders that start with `order`, whose last layer has `width` outputs;
    /// at most two.
    fn extend(
        &self,
        order: &mut Vec<usize>,
        width: usize,
        orders: &mut Vec<Vec<usize>>,
        budget: &mut usize,
    ) {
        if *budget == 0 || orders.len() == 2 {
            return;
        }
        *budget -= 1;
        if order.len() == self.shapes.len() {
            if width == self.classes {
                orders.push(order.clone());
            }
            return;
        }
        for (at, &[rows, columns]) in self.shapes.iter().enumerate() {
            let is_earlier =
                |other: usize| self.patterns[other] == self.patterns[at] && !order.contains(&other);
            if order.contains(&at) || (0..at).any(is_earlier) {
                continue;
            }
            let next = match (rows == width, columns == width) {
                (true, _) => columns,
                (_, true) => rows,
                _ => continue,
            };
            order.push(at);
            self.extend(order, next, orders, budget);
            order.pop();
        }
    }
}

/// Checks that the layers fit together and to the data, and finds which way round they are.
fn chained(
    tensors: &[Tensor],
    groups: &[Group],
    ends: Ends,
    notes: &mut Vec<String>,
) -> Result<(Vec<Layer>, Shape), Hinted> {
    if groups.len() < 2 {
        let cause = match groups {
            [one] => format!("`{}` is the only layer", tensors[one.weights].name),
            _ => "it has no layers".to_owned(),
        };
        let cause = format!("{cause}; a net has at least one hidden layer and an output layer");
        return Err(Hinted::new(cause, "save all layers of the net"));
    }
    let mut outputs = ends.inputs;
    let mut layers = Vec::new();
    let mut widths = Vec::new();
    for (l, group) in groups.iter().enumerate() {
        let tensor = &tensors[group.weights];
        let &[rows, columns] = &tensor.shape[..] else {
            let cause = format!("{} has {} dimensions, not 2", tensor.title(), tensor.shape.len());
            return Err(Hinted::new(cause, "the weights of a layer are a matrix"));
        };
        let (transposed, next) = match (rows == outputs, columns == outputs) {
            (true, true) => (None, rows),
            (true, false) => (Some(true), columns),
            (false, true) => (Some(false), rows),
            (false, false) => {
                let title = tensor.title();
                let (cause, hint) = match l {
                    0 => (
                        format!("{title} does not fit the data, which have {outputs} inputs"),
                        "use the images that the net was trained on, in the same size",
                    ),
                    _ => (
                        format!(
                            "{title} does not fit {}, which has {outputs} outputs",
                            tensors[groups[l - 1].weights].title()
                        ),
                        "name the layers in their order: `layers: { w1: ..., w2: ... }`",
                    ),
                };
                return Err(Hinted::new(cause, hint));
            }
        };
        layers.push((
            transposed,
            Layer { weights: group.weights, bias: group.bias, transposed: false },
        ));
        outputs = next;
        widths.push(next);
    }
    if outputs != ends.classes {
        let last = tensors[groups[groups.len() - 1].weights].title();
        let cause =
            format!("{last} has {outputs} outputs, but the data have {} classes", ends.classes);
        return Err(Hinted::new(cause, "use the data that the net was trained on"));
    }
    widths.pop();
    let limits = "a net has 1 to 32 hidden layers of 1 to 8192 neurons";
    let is_width = |width: usize| Widths::try_from(&[width][..]).is_ok();
    if let Some((group, width)) = groups.iter().zip(&widths).find(|(_, width)| !is_width(**width)) {
        let title = tensors[group.weights].title();
        let cause =
            format!("{title} has {width} outputs, which is not a possible number of neurons");
        return Err(Hinted::new(cause, limits));
    }
    let widths = Widths::try_from(&widths[..]).map_err(|why| Hinted::new(why, limits))?;
    check_biases(tensors, groups, &widths, ends)?;
    // Nets of one program have all layers the same way round.
    let known: Vec<(bool, bool)> = layers
        .iter()
        .zip(groups)
        .filter_map(|((transposed, _), group)| Some(((*transposed)?, group.is_kernel)))
        .collect();
    let is_swapped = !known.is_empty() && known.iter().all(|(found, named)| found != named);
    let layers = layers.into_iter().zip(groups).map(|((transposed, layer), group)| {
        let tensor = &tensors[group.weights];
        let guess = group.is_kernel != is_swapped;
        let is_transposed = transposed.unwrap_or(guess);
        let order = if is_transposed { "[inputs, outputs]" } else { "[outputs, inputs]" };
        let title = tensor.title();
        if transposed.is_none() {
            let why = match (is_swapped, group.is_kernel) {
                (true, _) => "as in the file's other layers",
                (false, true) => "Keras's order for `kernel`",
                (false, false) => "PyTorch's order",
            };
            notes.push(format!("{title} fits both ways; {order} is assumed, {why}"));
        }
        if is_transposed {
            notes.push(format!("{title} is {order} and was transposed"));
        }
        Layer { transposed: is_transposed, ..layer }
    });
    let layers: Vec<Layer> = layers.collect();
    let biases = layers[0].bias.is_some();
    Ok((layers, Shape { inputs: ends.inputs, widths, classes: ends.classes, biases }))
}

/// Checks that all layers have a bias of the right size, or none has.
fn check_biases(
    tensors: &[Tensor],
    groups: &[Group],
    widths: &Widths,
    ends: Ends,
) -> Result<(), Hinted> {
    let with = groups.iter().find_map(|group| group.bias);
    let without = groups.iter().find(|group| group.bias.is_none());
    if let (Some(bias), Some(group)) = (with, without) {
        let cause = format!(
            "{} has no bias, but the file has `{}`",
            tensors[group.weights].title(),
            tensors[bias].name
        );
        return Err(Hinted::new(cause, ALL_OR_NONE));
    }
    for (group, outputs) in groups.iter().zip(widths.iter().chain([ends.classes])) {
        let Some(bias) = group.bias.map(|at| &tensors[at]) else { continue };
        if bias.shape != [outputs] {
            let cause = format!(
                "{} does not fit {}, which has {outputs} outputs",
                bias.title(),
                tensors[group.weights].title()
            );
            return Err(Hinted::new(
                cause,
                format!("a bias of this layer has the shape [{outputs}]"),
            ));
        }
    }
    Ok(())
}

/// The first few names, as text.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 8;
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "no tensors".to_owned(),
        n if n > MOST => format!("{} and {} more", names[..MOST].join(", "), n - MOST),
        _ => names.join(", "),
    }
}
