//! `report`: what was run and what came out, as Markdown and as one HTML page, with figures and tables beside.
//!
//! Every number in the text comes from an input artifact whose digest is printed with it.

use super::artifact::{DATA_CARD, DataCard, MNIST, read_json};
use super::conclusions::{COMPARED, Conclusion, Findings, Pairs};
use super::extras::Extra;
use super::figures::by_strength;
use super::plot::{CARD, FigureCard, SVG};
use super::sections::{self, Key};
use super::tables::{
    CURVES, ENDPOINTS, HISTORIES, METRICS, Mean, NETS, POINTS, REFITS, SUMMARY, intervals, means,
    numbers, texts, wholes,
};
use super::talk::{Published, ordered, published, title};
use super::{KINDS, OF_THE_STUDY};
use crate::engine::key::{Content, Digest};
use crate::engine::stage::{ALL, Arity, Context, Input, Invocation, Slot, Stage};
use crate::fs;
use crate::report::html;
use crate::report::markdown::{escape, figure, url};
use crate::report::table::{Align, Table};
use crate::study::stats::{
    Average, FEWEST, Interval, binomial_standard_error, noise_of_difference,
};
use anyhow::{Context as _, Result};
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

pub(super) struct Report;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// One sentence under the title; left out where overrides may have made it untrue.
    #[serde(default)]
    about: String,
    /// The profile's name. This and what follows is filled in when the question is asked, so that the report follows it.
    #[serde(default)]
    #[schemars(skip)]
    profile: Option<String>,
    /// What was set by `-S`.
    #[serde(default)]
    #[schemars(skip)]
    overrides: Vec<String>,
    /// Of the program and of every stage kind of the study.
    #[serde(default)]
    #[schemars(skip)]
    versions: BTreeMap<String, String>,
    /// Stands for all outputs that this hangs on; filled in once these are known.
    #[serde(default)]
    #[schemars(skip)]
    root: Option<Digest>,
}

impl Params {
    /// How a stranger checks the root.
    fn check(&self) -> String {
        if self.overrides.is_empty() {
            let (lock, run) = (self.command("lock"), self.command("run --locked"));
            let (lock, run) = (lock.trim_end(), run.trim_end());
            format!(
                "Where all else in the profile leads to its report, this is the profile's root in the lock: `{lock}` writes it \
                 there with the digest of each output, unless data could not be had, and `{run}` computes them all and refuses \
                 the first that differs."
            )
        } else {
            "Whoever runs the same has the same.".to_owned()
        }
    }

    /// A command of this program, with the same profile and overrides.
    fn command(&self, what: &str) -> String {
        let profile = self.profile.iter().map(|profile| format!(" --profile {profile}"));
        let overrides =
            self.overrides.iter().map(|set| format!(" -S '{}'", set.replace('\'', "'\\''")));
        let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
        format!("repro {verb}{} {rest}", profile.chain(overrides).collect::<String>())
    }
}

const MARKDOWN: &str = "report.md";
const HTML: &str = "report.html";
const TABLES: &[&str] = &[
    POINTS.file,
    METRICS.file,
    REFITS.file,
    NETS.file,
    HISTORIES.file,
    CURVES.file,
    SUMMARY.file,
    ENDPOINTS.file,
];

/// The tables that people may want beside the report; the long ones stay in the cache.
const LAID_OUT: &[&str] =
    &[METRICS.file, REFITS.file, NETS.file, HISTORIES.file, SUMMARY.file, ENDPOINTS.file];

impl Stage for Report {
    const NAME: &'static str = "report";
    const VERSION: u32 = 4;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "data", arity: Arity::One, files: &[DATA_CARD] },
        Slot { name: "tables", arity: Arity::One, files: TABLES },
        Slot { name: "figures", arity: Arity::Many, files: &[SVG, CARD] },
        // Whatever the user's own stages have drawn.
        Slot { name: "extras", arity: Arity::Any, files: ALL },
    ];
    const OUTPUTS: &'static [&'static str] = &[MARKDOWN, HTML, "figures/", "tables/"];
    const EXPORTS: bool = true;
    const EMBEDS_ROOT: bool = true;
    type Params = Params;

    fn check(params: &Params) -> Result<(), String> {
        let Params { about: _, profile, overrides, versions, root } = params;
        let free =
            profile.is_none() && overrides.is_empty() && versions.is_empty() && root.is_none();
        let refusal = "`profile`, `overrides`, `versions` and `root` are filled in by the run; leave them out";
        if free { Ok(()) } else { Err(refusal.to_owned()) }
    }

    fn key_params(params: Params, invocation: &Invocation) -> Params {
        let program = ("repro".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let kinds = KINDS[..OF_THE_STUDY]
            .iter()
            .map(|kind| (kind.name().to_owned(), kind.version().to_string()));
        let Invocation { profile, overrides } = invocation.clone();
        Params { profile, overrides, versions: kinds.chain([program]).collect(), ..params }
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let inputs = Inputs::read(cx)?;
        for folder in ["figures", "tables"] {
            fs::create_dir_all(&cx.output(folder))?;
        }
        for shown in &inputs.figures {
            fs::write(&cx.output(&shown.path()), &shown.svg)?;
        }
        for extra in &inputs.extras {
            fs::write(&cx.output(&extra.path()), &extra.bytes)?;
        }
        for table in LAID_OUT {
            fs::write(
                &cx.output(&format!("tables/{table}")),
                fs::read(inputs.tables.path(table)?)?,
            )?;
        }
        let markdown = inputs.markdown(&params)?;
        let extra = |path: &str| {
            inputs.extras.iter().find(|extra| url(&extra.path()) == path).map(Extra::to_html)
        };
        let image = |path: &str| {
            inputs
                .figures
                .iter()
                .find(|f| url(&f.path()) == path)
                .map(|f| f.svg.clone())
                .or_else(|| extra(path))
        };
        fs::write(&cx.output(HTML), html::page(&inputs.title(), &markdown, &image))?;
        fs::write(&cx.output(MARKDOWN), markdown)
    }
}

/// A figure with what is known of it.
struct Shown {
    card: FigureCard,
    svg: String,
    digest: Digest,
}

impl Shown {
    fn path(&self) -> String {
        format!("figures/{}.svg", self.card.name)
    }
}

struct Inputs<'a> {
    data: DataCard,
    tables: &'a Input,
    figures: Vec<Shown>,
    extras: Vec<Extra>,
    nets: DataFrame,
    endpoints: DataFrame,
    cells: Cells,
    findings: Findings,
    seed: String,
}

impl<'a> Inputs<'a> {
    fn read(cx: &'a Context) -> Result<Inputs<'a>> {
        let data: DataCard = read_json(cx.input("data")?.path(DATA_CARD)?)?;
        let tables = cx.input("tables")?;
        let mut figures = Vec::new();
        for input in cx.inputs("figures") {
            let digest = input
                .artifact
                .get(SVG)
                .and_then(Content::digest)
                .context("BUG: a figure without its picture")?;
            figures.push(Shown {
                card: read_json(input.path(CARD)?)?,
                svg: fs::read_text(input.path(SVG)?)?,
                digest,
            });
        }
        figures.sort_by(|a, b| a.card.cmp(&b.card));
        let taken = figures.iter().map(|shown| format!("{}.svg", shown.card.name)).collect();
        let extras = Extra::read(cx.inputs("extras"), taken)?;
        let nets = NETS.read(tables.path(NETS.file)?)?;
        let endpoints = ENDPOINTS.read(tables.path(ENDPOINTS.file)?)?;
        let summary = SUMMARY.read(tables.path(SUMMARY.file)?)?;
        let seed = texts(&nets, "seed")?.into_iter().next().unwrap_or_default();
        let findings = Findings {
            pairs: pairs(&METRICS.read(tables.path(METRICS.file)?)?)?,
            images: data.test,
        };
        let cells = cells(&summary)?;
        Ok(Inputs { data, tables, figures, extras, nets, endpoints, cells, findings, seed })
    }

    fn title(&self) -> String {
        format!("How connected are the minima? ({})", self.data.dataset)
    }

    fn markdown(&self, params: &Params) -> Result<String> {
        let mut text = String::new();
        writeln!(text, "# How connected are the minima of neural networks?\n")?;
        self.write_data_notice(&mut text)?;
        if params.overrides.is_empty() && !params.about.is_empty() {
            writeln!(text, "{}\n", escape(&params.about))?;
        }
        self.write_setting(&mut text, params)?;
        self.write_training(&mut text, params)?;
        self.write_endpoints(&mut text, params)?;
        self.write_talk_tables(&mut text, params)?;
        self.write_barriers(&mut text, params)?;
        writeln!(text, "## Figures\n")?;
        for shown in &self.figures {
            writeln!(text, "### {}\n", escape(&shown.card.title))?;
            writeln!(text, "{}\n", figure(&shown.card.caption, &shown.path()).trim_end())?;
            let command = params.command(&format!("run plot@figure={}", shown.card.name));
            writeln!(text, "Artifact `{}`, made alone by `{command}`.\n", shown.digest)?;
        }
        if !self.extras.is_empty() {
            writeln!(text, "## Further figures\n")?;
        }
        for extra in &self.extras {
            writeln!(text, "{}\n", figure(&escape(&extra.caption()), &extra.path()).trim_end())?;
            writeln!(
                text,
                "Artifact `{}`, made by a stage of this pipeline's own.\n",
                extra.digest
            )?;
        }
        self.write_conclusions(&mut text)?;
        self.write_provenance(&mut text, params)?;
        Ok(text)
    }

    fn is_mnist(&self) -> bool {
        self.data.dataset == MNIST
    }

    /// Where a table comes from, and what makes it alone.
    fn source(&self, table: &str, params: &Params) -> Result<String> {
        let digest =
            self.tables.artifact.get(table).with_context(|| format!("BUG: no table `{table}`"))?;
        let command = params.command("run aggregate");
        Ok(format!("From artifact `{digest}` (`tables/{table}`), made alone by `{command}`."))
    }

    /// First of all: whether this is MNIST.
    fn write_data_notice(&self, text: &mut String) -> Result<()> {
        let DataCard { dataset, train, validation, test } = &self.data;
        if self.is_mnist() {
            writeln!(
                text,
                "Data: `mnist`, {train} training, {validation} validation and {test} test images.\n"
            )?;
        } else {
            writeln!(
                text,
                "**Data: `{dataset}`, a generated stand-in, not MNIST** ({train} training, {validation} validation, {test} \
                 test images). The talk's published numbers are for MNIST and are left out here. If MNIST was asked for, it \
                 could not be had: set `REPRO_DATA` to a folder with its four files, or go online, and run again.\n"
            )?;
        }
        Ok(())
    }

    fn write_setting(&self, text: &mut String, params: &Params) -> Result<()> {
        let list = |column: &str| -> Result<String> {
            let values: BTreeSet<i64> = wholes(&self.nets, column)?.into_iter().collect();
            Ok(values.iter().map(i64::to_string).collect::<Vec<_>>().join(", "))
        };
        let words = |column: &str| -> Result<String> {
            let values: BTreeSet<String> = texts(&self.nets, column)?.into_iter().collect();
            Ok(values.into_iter().collect::<Vec<_>>().join("; "))
        };
        let methods = ordered(self.cells.keys().map(|(_, _, method, _)| method.clone()));
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let rows = vec![
            row("profile", params.profile.clone().unwrap_or_else(|| "none".to_owned())),
            row(
                "set for this run",
                if params.overrides.is_empty() {
                    "nothing".into()
                } else {
                    params.overrides.join("; ")
                },
            ),
            row("seed", self.seed.clone()),
            row("hidden neurons", list("hidden")?),
            row("priors", by_strength(texts(&self.nets, "prior")?).join(", ")),
            row("pairs", list("pair")?),
            row("methods", methods.iter().map(|m| title(m)).collect::<Vec<_>>().join(", ")),
            row("epochs", list("epochs")?),
            row("batch", list("batch")?),
            row("optimiser", words("optimizer")?),
            row("init", words("init")?),
            row("training engine", words("engine")?),
            row("training images", list("images")?),
        ];
        let columns = vec![("setting".to_owned(), Align::Left), ("value".to_owned(), Align::Left)];
        writeln!(text, "## What was run\n\n{}", Table { columns, rows }.to_markdown())?;
        writeln!(
            text,
            "Nets f(x) = W2 relu(W1 x) without biases; the two ends of a pair differ in init, shuffles and dropout masks. \
             Where the sources leave a choice open, a method's plain name means this, and any other choice stands in its \
             name: `arc` turns around the mean of all 2h neurons, one mean row for W1 and one mean column for W2 (else \
             `arc:zero`, `arc:outputs`); `rho-arc`, ours, turns around the same center by the angle between the two nets as \
             seen from there (`rho` in `tables/metrics.csv` is its cosine); `+ot` matches whole \
             neurons, incoming row and outgoing column (else `+ot:incoming`, `+ot:activations`), and the curve ends at the \
             permuted net, the same function; `+wa` refits W2 to A's own logits (else `+wa:blend`) by normal equations with a \
             relative ridge of 1e-8 or the next power of ten that suffices (`tables/refits.csv` has the number of training \
             images, rank, ridge and residual of each), then takes W2 straight to B's, where the authors' Arc + WA turns about \
             the mean of the 20 output rows; its points lie closer beside its largest training error. \
             The normalised error is (E(t) - E_end) / (E_lin_max - E_end). \
             {}\n",
            intervals_in_words()
        )?;
        Ok(())
    }

    fn write_training(&self, text: &mut String, params: &Params) -> Result<()> {
        let histories = HISTORIES.read(self.tables.path(HISTORIES.file)?)?;
        writeln!(text, "## Training\n\n{}", sections::training(&histories)?)?;
        writeln!(
            text,
            "Ranges are over nets. The train error is that of each batch as training meets it, dropped units included; the \
             validation loss, where the data have that split, is taken after the epoch. {}\n",
            self.source(HISTORIES.file, params)?
        )?;
        Ok(())
    }

    fn write_endpoints(&self, text: &mut String, params: &Params) -> Result<()> {
        let frame = &self.endpoints;
        let (hidden, prior) = (wholes(frame, "hidden")?, texts(frame, "prior")?);
        let (quantity, values) = (texts(frame, "quantity")?, means(frame)?);
        let cells: BTreeMap<(i64, &str, &str), &Mean> = (0..values.len())
            .map(|i| ((hidden[i], prior[i].as_str(), quantity[i].as_str()), &values[i]))
            .collect();
        let quantities: Vec<(&str, &str, usize)> = [
            ("test_error", "test error, %", 2),
            ("validation_error", "validation error, %", 2),
            ("train_error", "train error, %", 2),
            ("train_loss", "train loss, nats", 4),
            ("norm_w1", "norm of W1", 2),
            ("norm_w2", "norm of W2", 2),
            ("active_neurons", "active neurons", 1),
        ]
        .into_iter()
        .filter(|(quantity, ..)| cells.keys().any(|(_, _, q)| q == quantity))
        .collect();
        let mut columns =
            vec![("hidden".to_owned(), Align::Right), ("prior".to_owned(), Align::Left)];
        columns.extend(quantities.iter().map(|(_, name, _)| ((*name).to_owned(), Align::Right)));
        let mut rows = Vec::new();
        for prior in by_strength(prior.iter().cloned()) {
            for hidden in hidden.iter().copied().collect::<BTreeSet<_>>() {
                let cell = |&(quantity, _, digits): &(&str, &str, usize)| {
                    cells
                        .get(&(hidden, prior.as_str(), quantity))
                        .map_or(String::new(), |m| show(m, digits))
                };
                rows.push(
                    [hidden.to_string(), prior.clone()]
                        .into_iter()
                        .chain(quantities.iter().map(cell))
                        .collect(),
                );
            }
        }
        writeln!(text, "## The ends of the curves\n\n{}", Table { columns, rows }.to_markdown())?;
        writeln!(
            text,
            "Mean over both ends of all pairs, each a net of its own, ± half the width of its 95 % interval. A test error of \
             2 % on {} images has a standard error of {:.2} points by itself. {}\n",
            self.data.test,
            binomial_standard_error(2.0, self.data.test),
            self.source(ENDPOINTS.file, params)?
        )?;
        Ok(())
    }

    /// The talk's two tables, and one more for each further prior.
    fn write_talk_tables(&self, text: &mut String, params: &Params) -> Result<()> {
        let published = if self.is_mnist() { published() } else { Vec::new() };
        let theirs = |hidden: i64, prior: &str, method: &str| {
            published
                .iter()
                .find(|cell| (cell.hidden, cell.prior, cell.method) == (hidden, prior, method))
        };
        let keys = self.cells.keys();
        let widths: BTreeSet<i64> = keys.clone().map(|(hidden, ..)| *hidden).collect();
        let methods = ordered(keys.clone().map(|(_, _, method, _)| method.clone()));
        writeln!(text, "## Largest test error on the curve, %\n")?;
        for prior in by_strength(keys.map(|(_, prior, ..)| prior.clone())) {
            writeln!(text, "### Prior: {}\n", escape(&prior))?;
            let mut columns = vec![("method".to_owned(), Align::Left)];
            columns.extend(widths.iter().map(|h| (format!("h = {h}"), Align::Left)));
            let row = |method: &String| {
                let cell = |hidden: &i64| {
                    let ours =
                        self.cells.get(&(*hidden, prior.clone(), method.clone(), MAX.to_owned()));
                    ours.map_or(String::new(), |ours| {
                        beside(ours, theirs(*hidden, &prior, method), self.data.test)
                    })
                };
                [title(method)].into_iter().chain(widths.iter().map(cell)).collect()
            };
            let rows = methods.iter().map(row).collect();
            writeln!(text, "{}", Table { columns, rows }.to_markdown())?;
        }
        writeln!(
            text,
            "Each cell: our mean over pairs ± half the width of its 95 % interval, of which `tables/{}` has both ends; of one or \
             two pairs, which have no interval, the values themselves. {}\n",
            SUMMARY.file,
            self.source(SUMMARY.file, params)?
        )?;
        if self.is_mnist() {
            writeln!(
                text,
                "Behind the bar, where the talk has it, its number and a mark: {INSIDE} it lies in the 95 % prediction interval for \
                 one pair of new nets (`pair_low` to `pair_high`), {NEAR} outside, but no further from our mean than two standard \
                 errors of a difference of two test errors, {OUTSIDE} further off; without a mark there are too few pairs to \
                 predict. The talk does not say over how many pairs it averaged.{}\n",
                self.agreement(&published)
            )?;
        }
        Ok(())
    }

    fn write_barriers(&self, text: &mut String, params: &Params) -> Result<()> {
        writeln!(
            text,
            "## Barriers\n\n{}",
            sections::barriers(&self.cells, |cell| &cell.mean)?.trim_end()
        )?;
        writeln!(
            text,
            "\nEach cell: the barrier of the test loss in nats / of the test error in points, mean over pairs (geometric \
             where `average` says so in `tables/{0}`): the most that \
             the loss L(t) on the curve exceeds (1 - t) L\\_A + t L\\_B, the straight line between the losses of its ends; for \
             the error likewise. `tables/{0}` has their intervals and the other splits. {1}\n",
            SUMMARY.file,
            self.source(SUMMARY.file, params)?
        )?;
        Ok(())
    }

    /// How many published numbers lie in our prediction intervals, and how wide these are.
    fn agreement(&self, published: &[Published]) -> String {
        let predicted = published.iter().filter_map(|theirs| {
            let Published { prior, method, hidden, max_error } = theirs;
            let ours = self.cells.get(&(
                *hidden,
                (*prior).to_owned(),
                (*method).to_owned(),
                MAX.to_owned(),
            ))?;
            Some((*max_error, ours.mean.mean, ours.prediction?))
        });
        let predicted: Vec<(f64, f64, Interval)> = predicted.collect();
        let mut widths: Vec<f64> =
            predicted.iter().map(|(_, mean, interval)| interval.half_width() / mean).collect();
        widths.sort_by(f64::total_cmp);
        let Some(median) = median(&widths) else { return String::new() };
        let inside =
            predicted.iter().filter(|(theirs, _, interval)| interval.contains(*theirs)).count();
        let wide = widths.iter().filter(|width| **width > 0.5).count();
        format!(
            " Of {} such numbers {inside} lie in their interval, and {:.0} are expected to; half the width of an interval is \
             {:.0} % of our mean in the median and more than 50 % of it for {wide}.",
            predicted.len(),
            0.95 * predicted.len() as f64,
            100.0 * median
        )
    }

    fn write_conclusions(&self, text: &mut String) -> Result<()> {
        writeln!(text, "## The talk's conclusions, held against these numbers\n")?;
        for (i, Conclusion { claim, verdict, evidence }) in
            self.findings.conclusions()?.into_iter().enumerate()
        {
            writeln!(text, "{}. *{claim}*\n   **{}**\n", i + 1, escape(&verdict))?;
            for line in evidence {
                writeln!(text, "   - {}", escape(&line))?;
            }
            writeln!(text)?;
        }
        writeln!(
            text,
            "A contrast says how many times as large a number is after a change as before it, with its 95 % interval: the ratio \
             of each pair to the pair of the same number, which shares init and shuffles, averaged on a log scale over what else \
             these share (priors, or methods), over pairs and over widths, each width counting the same. From width to width no \
             nets are shared: there the geometric mean over pairs of the widest nets is divided by that of the narrowest (Welch's \
             test), and a prior with an excess of 0 or less is left out of both. Degrees of freedom are Satterthwaite's, and p is \
             adjusted by Holm's method for the contrasts of its claim. A contrast is lower or higher if p is below 0.05 and the \
             difference in points, averaged in the same way, is larger than two standard errors of a difference of two test \
             errors; else it is open. The excess is that of the largest error on the curve over the worse end. The mean error \
             is taken by arc length: over t, the second segment of WA, in which the error hardly changes, would make up half of \
             it.\n"
        )?;
        Ok(())
    }

    fn write_provenance(&self, text: &mut String, params: &Params) -> Result<()> {
        writeln!(text, "## Where the numbers come from\n")?;
        let columns = vec![
            ("table".to_owned(), Align::Left),
            ("BLAKE3 of the artifact".to_owned(), Align::Left),
        ];
        let row = |(file, content): (&String, &Content)| vec![file.clone(), content.to_string()];
        let rows = self.tables.artifact.iter().map(row).collect();
        writeln!(text, "{}", Table { columns, rows }.to_markdown())?;
        writeln!(
            text,
            "All tables are made by `{}` and copied out by `{}`; `{}` tells a node's recipe, key and digests.\n",
            params.command("run aggregate"),
            params.command("export aggregate DIR"),
            params.command("show STAGE")
        )?;
        if let Some(root) = params.root {
            writeln!(
                text,
                "Root of all outputs that this report hangs on: `{root}`. {}\n",
                params.check()
            )?;
        }
        let versions: Vec<String> =
            params.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        writeln!(text, "Versions: {}.", versions.join(", "))?;
        Ok(())
    }
}

/// The metrics on the test split, pair by pair.
fn pairs(metrics: &DataFrame) -> Result<Pairs> {
    let (hidden, prior, method) =
        (wholes(metrics, "hidden")?, texts(metrics, "prior")?, texts(metrics, "method")?);
    let (pair, split) = (wholes(metrics, "pair")?, texts(metrics, "split")?);
    let mut pairs = Pairs::new();
    for metric in COMPARED {
        let measured = |(i, value): &(usize, f64)| split[*i] == "test" && !value.is_nan();
        for (i, value) in numbers(metrics, metric)?.into_iter().enumerate().filter(measured) {
            let key = (hidden[i], prior[i].clone(), method[i].clone(), metric.to_owned());
            pairs.entry(key).or_default().insert(pair[i], value);
        }
    }
    Ok(pairs)
}

/// A mean over pairs, and where a pair of new nets would fall.
struct Cell {
    mean: Mean,
    prediction: Option<Interval>,
}

/// Cells by width, prior, method and metric.
type Cells = BTreeMap<Key, Cell>;

fn cells(summary: &DataFrame) -> Result<Cells> {
    let (hidden, prior, method) =
        (wholes(summary, "hidden")?, texts(summary, "prior")?, texts(summary, "method")?);
    let (split, metric) = (texts(summary, "split")?, texts(summary, "metric")?);
    let (means, predictions) = (means(summary)?, intervals(summary, ["pair_low", "pair_high"])?);
    let key = |i: usize| (hidden[i], prior[i].clone(), method[i].clone(), metric[i].clone());
    let cell = |i: usize| Cell { mean: means[i].clone(), prediction: predictions[i] };
    Ok((0..means.len()).filter(|&i| split[i] == "test").map(|i| (key(i), cell(i))).collect())
}

/// The metric of the talk's tables.
const MAX: &str = "max_error";

/// The marks of a published number: in our prediction interval; outside, but inside the noise of the test set; further off.
const INSIDE: &str = "=";
const NEAR: &str = "≈";
const OUTSIDE: &str = "≠";

/// A cell of ours and, behind a bar, the talk's; both are measured on `images` test images.
fn beside(ours: &Cell, theirs: Option<&Published>, images: usize) -> String {
    let Cell { mean, prediction } = ours;
    let Some(theirs) = theirs.map(|cell| cell.max_error) else { return show(mean, 2) };
    let mark = match prediction {
        None => "",
        Some(interval) if interval.contains(theirs) => INSIDE,
        Some(_) if (mean.mean - theirs).abs() <= noise_of_difference(mean.mean, theirs, images) => {
            NEAR
        }
        Some(_) => OUTSIDE,
    };
    format!("{} / {theirs} {mark}", show(mean, 2)).trim_end().to_owned()
}

/// A mean in a table: ± half the width of its interval; a geometric one with its interval; the values themselves where they
/// are too few for one.
fn show(mean: &Mean, digits: usize) -> String {
    let Mean { count, average, mean, interval, range: (least, most) } = mean;
    match (interval, average) {
        (Some(interval), Average::Arithmetic) => {
            format!("{mean:.digits$} ± {:.digits$}", interval.half_width())
        }
        (Some(Interval { low, high }), Average::Geometric) => {
            format!("{mean:.digits$} ({low:.digits$} to {high:.digits$}, geometric)")
        }
        (None, _) if *count == 1 => format!("{mean:.digits$}"),
        (None, _) if *count == 2 => format!("{least:.digits$}; {most:.digits$}"),
        (None, _) => format!("{least:.digits$} to {most:.digits$}"),
    }
}

/// What the intervals of the report are.
fn intervals_in_words() -> String {
    format!(
        "Intervals hold the true mean over pairs 95 % of the time (simulated: 90 to 99.5 %, for normal and for skewed effects): \
         Student's t with one degree of freedom less than there are pairs, which share no nets, or than there are nets in the \
         table of the ends; from {FEWEST} on. Of fewer the values stand alone. Where the largest value over pairs is more than 4 times the smallest, and none is 0 or less, \
         the mean is the geometric one, is named so, and has the interval of the logarithms; one line of a figure has one kind \
         of mean."
    )
}

/// The middle of `sorted`, or halfway between the two in the middle.
fn median(sorted: &[f64]) -> Option<f64> {
    let (below, above) =
        (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some(below + (above - below) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(count: usize, mean: f64, interval: Option<(f64, f64)>) -> Mean {
        let interval = interval.map(|(low, high)| Interval { low, high });
        Mean {
            count,
            average: Average::Arithmetic,
            mean,
            interval,
            range: (mean - 1.0, mean + 1.0),
        }
    }

    #[test]
    fn a_cell_is_marked_by_where_the_published_number_lies() {
        let theirs = Published { prior: "none", method: "linear", hidden: 50, max_error: 20.0 };
        let case = |center: f64, prediction: Option<(f64, f64)>, expected: &str| {
            let mean = mean(3, center, Some((center - 1.0, center + 1.0)));
            let ours =
                Cell { mean, prediction: prediction.map(|(low, high)| Interval { low, high }) };
            assert_eq!(beside(&ours, Some(&theirs), 10_000), expected);
        };
        case(22.0, Some((19.0, 25.0)), "22.00 ± 1.00 / 20 =");
        case(21.0, Some((20.1, 21.9)), "21.00 ± 1.00 / 20 ≈");
        case(22.0, Some((20.1, 23.9)), "22.00 ± 1.00 / 20 ≠");
        case(22.0, None, "22.00 ± 1.00 / 20");
        let alone = Cell { mean: mean(2, 22.0, None), prediction: None };
        assert_eq!(beside(&alone, Some(&theirs), 10_000), "21.00; 23.00 / 20");
        assert_eq!(beside(&alone, None, 10_000), "21.00; 23.00");
    }

    #[test]
    fn a_mean_without_an_interval_shows_its_values_and_a_geometric_one_its_name() {
        assert_eq!(show(&mean(1, 2.0, None), 1), "2.0");
        assert_eq!(show(&mean(2, 2.0, None), 1), "1.0; 3.0");
        assert_eq!(show(&mean(3, 2.0, None), 1), "1.0 to 3.0");
        let geometric = Mean { average: Average::Geometric, ..mean(3, 2.0, Some((0.5, 8.0))) };
        assert_eq!(show(&geometric, 1), "2.0 (0.5 to 8.0, geometric)");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(
            [&[][..], &[3.0], &[1.0, 3.0], &[1.0, 3.0, 9.0]].map(median),
            [None, Some(3.0), Some(2.0), Some(3.0)]
        );
    }

    #[test]
    fn a_command_repeats_profile_and_overrides() {
        let params: Params = serde_json::from_str("{}").unwrap();
        let overrides = vec!["nets.prior=['none']".to_owned()];
        let invocation = Invocation { profile: Some("quick".into()), overrides };
        assert_eq!(
            Report::key_params(params, &invocation).command("run aggregate"),
            r"repro run --profile quick -S 'nets.prior=['\''none'\'']' aggregate"
        );
    }

    #[test]
    fn what_the_run_fills_in_cannot_be_set() {
        let params = |json| Report::check(&serde_json::from_str(json).unwrap());
        assert!(params(r#"{"about": "x"}"#).is_ok());
        assert!(params(r#"{"profile": "quick"}"#).is_err());
    }

    #[test]
    fn the_versions_of_the_studys_kinds_are_part_of_the_question() {
        let params: Params = serde_json::from_str("{}").unwrap();
        let versions = Report::key_params(params, &Invocation::default()).versions;
        assert!(
            KINDS.iter().filter(|kind| versions.contains_key(kind.name())).count() == OF_THE_STUDY
        );
        assert_eq!(versions.len(), OF_THE_STUDY + 1);
        assert_eq!(versions["repro"], env!("CARGO_PKG_VERSION"));
    }
}
