//! `import`: reads a net that another program has trained, from a safetensors file.
//!
//! The net must be a feed-forward net with relu between its layers, and must take images as
//! numbers in [0, 1], row by row. Neither can be seen in a file: `nets.csv` has the errors of the
//! imported net, which must be those that the other program reports.

mod layers;
mod tensors;

use self::layers::{Ends, Layers};
use self::tensors::Tensor;
use super::artifact::Csv;
use super::artifact::{IMAGES, NET, NetCard, card_of, write_json, write_net};
use super::names::{NetName, PAIR_SEPARATOR};
use super::quality::{Splits, write_quality};
use super::tables::{HISTORY, NETS};
use crate::engine::stage::pairing::Moves;
use crate::engine::stage::{Arity, Changes, Context, Declared, FILES, Hinted, Slot, Stage};
use crate::fs;
use crate::study::net::{Net, Prior, Shape};
use anyhow::{Context as _, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;

pub(super) struct ImportStage;

/// What was read, and what was guessed: an [`Account`].
const ACCOUNT: &str = "import.json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The safetensors file, relative to the project's folder. The net is called by this path
    /// without `.safetensors`.
    file: String,
    /// The tensors of each layer, such as `w1: fc1.weight` and `b1: fc1.bias`; guessed by default.
    #[serde(default)]
    layers: BTreeMap<String, String>,
    /// The prior in tables. It changes nothing else. By default, the prior of a net that this
    /// program has trained, or else none.
    #[serde(default)]
    prior: Option<Prior>,
}

/// The end of the names of files.
const SUFFIX: &str = ".safetensors";

impl Params {
    /// The name of the net.
    fn name(&self) -> &str {
        self.file.strip_suffix(SUFFIX).unwrap_or(&self.file)
    }
}

/// The shortest path to the same file.
fn normal_form(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

impl Stage for ImportStage {
    const NAME: &'static str = "import";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[Slot { name: "data", arity: Arity::One, files: IMAGES }];
    const OUTPUTS: &'static [&'static str] = &[NET, HISTORY.file, NETS.file, ACCOUNT];
    type Params = Params;

    fn check(params: &Params) -> Result<(), Hinted> {
        let file = &params.file;
        let name = params.name();
        let normal = normal_form(file);
        if name.is_empty() || name.ends_with('/') || normal.is_empty() {
            let cause = format!("`file: {file}` does not name a file");
            return Err(Hinted::new(cause, format!("write `file: nets/model{SUFFIX}`")));
        }
        if let Some(c) = name.chars().find(|c| *c == PAIR_SEPARATOR || c.is_control()) {
            let shown = c.escape_default();
            let cause = format!("the name of a net cannot contain `{shown}`");
            return Err(Hinted::new(cause, "rename the file"));
        }
        if name.contains(['*', '?']) {
            let cause = format!("`file: {file}` is a pattern, not the path of a file");
            let hint = "patterns are not expanded; list the files: `file: [a, b]`";
            return Err(Hinted::new(cause, hint));
        }
        // With two paths of the same file, a list could contain the same net twice.
        if normal != *file {
            let cause = format!("`file: {file}` is not the shortest path of that file");
            return Err(Hinted::new(cause, format!("write `file: {normal}`")));
        }
        for (key, tensor) in &params.layers {
            if !layers::is_key(key) {
                let hint = "write `layers: { w1: fc1.weight, b1: fc1.bias, w2: ... }`";
                let cause = format!("`{key}` in `layers` is not `w1`, `b1`, `w2` and so on");
                return Err(Hinted::new(cause, hint));
            }
            let others = params.layers.iter().filter(|(other, _)| *other != key);
            if let Some((other, _)) = others.into_iter().find(|(_, name)| *name == tensor) {
                let cause = format!("`{key}` and `{other}` in `layers` are both `{tensor}`");
                return Err(Hinted::new(cause, "name a different tensor for each"));
            }
        }
        Ok(())
    }

    fn files(params: &Params) -> Vec<Declared> {
        vec![Declared { path: params.file.clone(), by_path: false, ignore: None }]
    }

    fn difference(file: &str, cached: &[u8], recomputed: &[u8]) -> String {
        super::compare::difference(file, cached, recomputed)
    }

    fn changes(file: &str, before: &[u8], after: &[u8], known: &Moves) -> Option<Changes> {
        super::compare::changes(file, before, after, known)
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let file = &params.file;
        let sources = cx.input(FILES)?;
        let mut names = sources.artifact.keys();
        let (Some(source), None) = (names.next(), names.next()) else {
            let cause = format!("`{file}` is a folder");
            let hint = format!("write the path of a file, or a list of them: `file: [a{SUFFIX}]`");
            return Err(Hinted::new(cause, hint).into());
        };
        let bytes = fs::read(sources.path(source)?)?;
        let splits = Splits::read(cx.input("data")?)?;
        let ends =
            Ends { inputs: splits.training.images.columns(), classes: splits.training.classes };
        let (net, account) = read_net(file, &bytes, &params.layers, ends)?;
        let card = NetCard {
            hidden: net.shape().hidden(),
            prior: params.prior.or_else(|| Some(card_of(&bytes)?.prior)).unwrap_or_default(),
            shared_epochs: None,
            name: NetName::Net { net: params.name().to_owned() },
            aligned: None,
        };
        card.prior.check_layers(card.hidden.widths).map_err(|cause| {
            Hinted::new(cause, "write one number for all layers in `prior`, or one for each")
        })?;
        for note in &account.notes {
            // The log is for people: a full disk must not fail the import.
            let _ = writeln!(std::io::stderr(), "{file}: {note}");
        }
        write_json(&cx.output(ACCOUNT), &account)?;
        write_net(&cx.output(NET), &net, &card, cx.recipe())?;
        Csv::new(&HISTORY.names()).write(&cx.output(HISTORY.file))?;
        write_quality(&net, &card, None, &splits, &cx.output(NETS.file))
    }
}

/// What was read from a file.
#[derive(Debug, Serialize)]
struct Account {
    file: String,
    /// Such as `784-64-10 with biases`.
    net: String,
    /// The tensors of each layer.
    layers: Vec<LayerAccount>,
    /// What was guessed, transposed, converted or not used, in sentences.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LayerAccount {
    weights: TensorAccount,
    #[serde(skip_serializing_if = "Option::is_none")]
    bias: Option<TensorAccount>,
}

#[derive(Debug, Serialize)]
struct TensorAccount {
    tensor: String,
    /// As in the file.
    shape: Vec<usize>,
    dtype: String,
    transposed: bool,
}

impl TensorAccount {
    fn of(tensor: &Tensor, transposed: bool) -> TensorAccount {
        let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
        TensorAccount { tensor: name, shape, dtype: tensor.type_name(), transposed }
    }
}

/// The net in the file `file` with the contents `bytes`, for data with these inputs and classes.
fn read_net(
    file: &str,
    bytes: &[u8],
    named: &BTreeMap<String, String>,
    ends: Ends,
) -> Result<(Net, Account)> {
    let tensors = tensors::read(file, bytes)?;
    let located =
        |Hinted { cause, hint }| Hinted::new(short(&format!("`{file}`: {cause}")), short(&hint));
    let Layers { layers, shape, mut notes, unused } =
        layers::find(&tensors, named, ends).map_err(located)?;
    let mut params = Vec::with_capacity(shape.params());
    let mut accounts = Vec::new();
    for (l, layer) in layers.iter().enumerate() {
        let weights = &tensors[layer.weights];
        let values = weights.values().map_err(located)?;
        if layer.transposed {
            let (inputs, outputs) = (shape.fan_in(l), shape.fan_out(l));
            params.extend((0..outputs * inputs).map(|k| values[k % inputs * outputs + k / inputs]));
        } else {
            params.extend(values);
        }
        let bias = layer.bias.map(|at| &tensors[at]);
        if let Some(bias) = bias {
            params.extend(bias.values().map_err(located)?);
        }
        accounts.push(LayerAccount {
            weights: TensorAccount::of(weights, layer.transposed),
            bias: bias.map(|bias| TensorAccount::of(bias, false)),
        });
    }
    let used = layers.iter().flat_map(|layer| [Some(layer.weights), layer.bias]).flatten();
    for tensor in used.map(|at| &tensors[at]).filter(|tensor| tensor.type_name() != "f32") {
        notes.push(format!("`{}` was converted from {} to f32", tensor.name, tensor.type_name()));
    }
    notes.extend(unused.iter().map(|name| format!("`{name}` is not used")));
    let net = Net::from_params(shape, params).context("BUG: a shape has other parameters")?;
    let net_text = Shape::to_string(&shape);
    Ok((net, Account { file: file.to_owned(), net: net_text, layers: accounts, notes }))
}

/// `text` without control characters, and not longer than a few lines: the names in it come from a
/// file.
fn short(text: &str) -> String {
    const MOST: usize = 600;
    let mut shown: String = text
        .chars()
        .take(MOST)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().count() > MOST {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
