//! `report`: what was run and what came out, as Markdown and as one HTML page, with figures and tables beside.
//!
//! Every number in the text comes from an input artifact whose digest is printed with it.

use super::artifact::{DATA_CARD, DataCard, MNIST, read_json};
use super::conclusions::{Conclusion, Findings, Pairs};
use super::plot::{CARD, FigureCard, SVG, by_strength};
use super::tables::{CURVES, ENDPOINTS, METRICS, Mean, NETS, POINTS, REFITS, SUMMARY, means, numbers, texts, wholes};
use super::talk::{Published, ordered, published, title};
use super::{KINDS, OF_THE_STUDY};
use crate::engine::key::Digest;
use crate::engine::stage::{ALL, Arity, Context, Input, Invocation, Slot, Stage};
use crate::fs;
use crate::report::html;
use crate::report::markdown::{escape, figure};
use crate::report::table::{Align, Table};
use anyhow::{Context as _, Result};
use base64::prelude::{BASE64_STANDARD, Engine as _};
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
        let overrides = self.overrides.iter().map(|set| format!(" -S '{}'", set.replace('\'', "'\\''")));
        let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
        format!("repro {verb}{} {rest}", profile.chain(overrides).collect::<String>())
    }
}

const MARKDOWN: &str = "report.md";
const HTML: &str = "report.html";
const TABLES: &[&str] = &[POINTS.file, METRICS.file, REFITS.file, NETS.file, CURVES.file, SUMMARY.file, ENDPOINTS.file];

/// The tables that people may want beside the report; the long ones stay in the cache.
const LAID_OUT: &[&str] = &[METRICS.file, REFITS.file, NETS.file, SUMMARY.file, ENDPOINTS.file];

impl Stage for Report {
    const NAME: &'static str = "report";
    const VERSION: u32 = 3;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "data", arity: Arity::One, files: &[DATA_CARD] },
        Slot { name: "tables", arity: Arity::One, files: TABLES },
        Slot { name: "figures", arity: Arity::Many, files: &[SVG, CARD] },
        // Whatever the user's own stages have drawn.
        Slot { name: "extras", arity: Arity::Any, files: ALL },
    ];
    const OUTPUTS: &'static [&'static str] = &[MARKDOWN, HTML, "figures/", "tables/"];
    const DELIVERS: bool = true;
    const TELLS_ROOT: bool = true;
    type Params = Params;

    fn check(params: &Params) -> Result<(), String> {
        let Params { about: _, profile, overrides, versions, root } = params;
        let free = profile.is_none() && overrides.is_empty() && versions.is_empty() && root.is_none();
        let refusal = "`profile`, `overrides`, `versions` and `root` are filled in by the run; leave them out";
        if free { Ok(()) } else { Err(refusal.to_owned()) }
    }

    fn question(params: Params, invocation: &Invocation) -> Params {
        let program = ("repro".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let kinds = KINDS[..OF_THE_STUDY].iter().map(|kind| (kind.name().to_owned(), kind.version().to_string()));
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
            fs::write(&cx.output(&format!("tables/{table}")), fs::read(inputs.tables.path(table)?)?)?;
        }
        let markdown = inputs.markdown(&params)?;
        let extra = |path: &str| inputs.extras.iter().find(|extra| extra.path() == path).map(Extra::to_html);
        let image = |path: &str| {
            inputs.figures.iter().find(|f| f.path() == path).map(|f| f.svg.clone()).or_else(|| extra(path))
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

/// A picture that one of the user's own stages has drawn.
struct Extra {
    /// A file name, of no other picture of the report.
    name: String,
    bytes: Vec<u8>,
    digest: Digest,
}

/// The pictures that a browser shows, by the ends of their names.
const PICTURES: [(&str, &str); 3] = [(".svg", "image/svg+xml"), (".png", "image/png"), (".jpg", "image/jpeg")];

impl Extra {
    /// The pictures among the files of `inputs`, under names that are not in `taken`.
    fn read(inputs: &[Input], mut taken: BTreeSet<String>) -> Result<Vec<Extra>> {
        let mut extras = Vec::new();
        for input in inputs {
            for (file, &digest) in &input.artifact {
                let Some((end, _)) = PICTURES.iter().find(|(end, _)| file.ends_with(end)) else { continue };
                let plain = file.replace('/', "-");
                let stem = plain.strip_suffix(end).unwrap_or(&plain);
                let numbered = (2..).map(|n| format!("{stem}-{n}{end}"));
                let name = std::iter::once(plain.clone()).chain(numbered).find(|name| !taken.contains(name));
                let name = name.unwrap_or(plain);
                taken.insert(name.clone());
                extras.push(Extra { name, bytes: fs::read(input.path(file)?)?, digest });
            }
        }
        Ok(extras)
    }

    fn path(&self) -> String {
        format!("figures/{}", self.name)
    }

    /// The title that an SVG gives itself; else the file's name.
    fn caption(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
        let plain = |title: &str| title.trim().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        title.map(|(title, _)| plain(title)).filter(|title| !title.is_empty()).unwrap_or_else(|| self.name.clone())
    }

    /// As an image, not as markup: whatever a stranger's SVG holds, nothing runs and nothing is fetched.
    fn to_html(&self) -> String {
        let kind = PICTURES.iter().find(|(end, _)| self.name.ends_with(end)).map_or("", |(_, kind)| kind);
        let data = BASE64_STANDARD.encode(&self.bytes);
        format!(
            "<img alt=\"\" style=\"display: block; max-width: 100%; margin: 0 auto\" src=\"data:{kind};base64,{data}\">"
        )
    }
}

struct Inputs<'a> {
    data: DataCard,
    tables: &'a Input,
    figures: Vec<Shown>,
    extras: Vec<Extra>,
    nets: DataFrame,
    endpoints: DataFrame,
    cells: BTreeMap<(i64, String, String, String), Mean>,
    findings: Findings,
    seed: String,
}

impl<'a> Inputs<'a> {
    fn read(cx: &'a Context) -> Result<Inputs<'a>> {
        let data: DataCard = read_json(cx.input("data")?.path(DATA_CARD)?)?;
        let tables = cx.input("tables")?;
        let mut figures = Vec::new();
        for input in cx.inputs("figures") {
            let digest = *input.artifact.get(SVG).context("BUG: a figure without its picture")?;
            figures.push(Shown { card: read_json(input.path(CARD)?)?, svg: fs::read_text(input.path(SVG)?)?, digest });
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
            seed: seed.clone(),
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
        self.write_endpoints(&mut text, params)?;
        self.write_talk_tables(&mut text, params)?;
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
            writeln!(text, "Artifact `{}`, made by a stage of this pipeline's own.\n", extra.digest)?;
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
        let digest = self.tables.artifact.get(table).with_context(|| format!("BUG: no table `{table}`"))?;
        let command = params.command("run aggregate");
        Ok(format!("From artifact `{digest}` (`tables/{table}`), made alone by `{command}`."))
    }

    /// First of all: whether this is MNIST.
    fn write_data_notice(&self, text: &mut String) -> Result<()> {
        let DataCard { dataset, train, validation, test } = &self.data;
        if self.is_mnist() {
            writeln!(text, "Data: `mnist`, {train} training, {validation} validation and {test} test images.\n")?;
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
                if params.overrides.is_empty() { "nothing".into() } else { params.overrides.join("; ") },
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
             Intervals are 95 % percentile bootstrap intervals of the mean over pairs; with few pairs they are too narrow: of \
             two pairs such an interval covers the true mean about 48 % of the time, of three 66 %, of five 84 % (simulated \
             for normal data).\n"
        )?;
        Ok(())
    }

    fn write_endpoints(&self, text: &mut String, params: &Params) -> Result<()> {
        let frame = &self.endpoints;
        let (hidden, prior) = (wholes(frame, "hidden")?, texts(frame, "prior")?);
        let (quantity, values) = (texts(frame, "quantity")?, means(frame)?);
        let cells: BTreeMap<(i64, &str, &str), &Mean> =
            (0..values.len()).map(|i| ((hidden[i], prior[i].as_str(), quantity[i].as_str()), &values[i])).collect();
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
        let mut columns = vec![("hidden".to_owned(), Align::Right), ("prior".to_owned(), Align::Left)];
        columns.extend(quantities.iter().map(|(_, name, _)| ((*name).to_owned(), Align::Right)));
        let mut rows = Vec::new();
        for prior in by_strength(prior.iter().cloned()) {
            for hidden in hidden.iter().copied().collect::<BTreeSet<_>>() {
                let cell = |&(quantity, _, digits): &(&str, &str, usize)| {
                    cells.get(&(hidden, prior.as_str(), quantity)).map_or(String::new(), |m| show(m, digits))
                };
                rows.push([hidden.to_string(), prior.clone()].into_iter().chain(quantities.iter().map(cell)).collect());
            }
        }
        writeln!(text, "## The ends of the curves\n\n{}", Table { columns, rows }.to_markdown())?;
        writeln!(
            text,
            "Mean over both ends of all pairs ± half the width of its 95 % interval. A test error of 2 % on {} images has a standard error of \
             {:.2} points by itself. {}\n",
            self.data.test,
            crate::study::stats::binomial_standard_error(2.0, self.data.test),
            self.source(ENDPOINTS.file, params)?
        )?;
        Ok(())
    }

    /// The talk's two tables, and one more for each further prior.
    fn write_talk_tables(&self, text: &mut String, params: &Params) -> Result<()> {
        let published = published();
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
                    let ours = self.cells.get(&(*hidden, prior.clone(), method.clone(), "max_error".into()));
                    let theirs = published
                        .iter()
                        .find(|cell| cell.prior == prior && cell.method == method && cell.hidden == *hidden);
                    ours.map_or(String::new(), |ours| beside(ours, theirs, self.is_mnist()))
                };
                [title(method)].into_iter().chain(widths.iter().map(cell)).collect()
            };
            let rows = methods.iter().map(row).collect();
            writeln!(text, "{}", Table { columns, rows }.to_markdown())?;
        }
        writeln!(
            text,
            "Each cell: our mean over pairs ± half the width of its 95 % interval, of which `tables/{}` has both ends; with one \
             pair there is none. {}\n",
            SUMMARY.file,
            self.source(SUMMARY.file, params)?
        )?;
        if self.is_mnist() {
            writeln!(
                text,
                "Behind the bar, where the talk has it, its number and a mark: `=` it lies within our interval, `~` outside but \
                 within {AGREES:.0} % of it, `!` further off. The talk does not say over how many pairs it averaged.\n"
            )?;
        }
        Ok(())
    }

    fn write_conclusions(&self, text: &mut String) -> Result<()> {
        writeln!(text, "## The talk's conclusions, held against these numbers\n")?;
        for (i, Conclusion { claim, verdict, evidence }) in self.findings.conclusions().into_iter().enumerate() {
            writeln!(text, "{}. *{claim}*\n   **{}**\n", i + 1, escape(&verdict))?;
            for line in evidence {
                writeln!(text, "   - {}", escape(&line))?;
            }
            writeln!(text)?;
        }
        writeln!(
            text,
            "Each comparison takes the pairs of the same number on both sides, which share init and shuffles unless they differ \
             in width. It counts for a side if the mean difference over pairs is \
             larger than two standard errors of a difference of two test errors, and its bootstrap interval excludes 0; \
             otherwise it is open. One pair decides nothing.\n"
        )?;
        Ok(())
    }

    fn write_provenance(&self, text: &mut String, params: &Params) -> Result<()> {
        writeln!(text, "## Where the numbers come from\n")?;
        let columns = vec![("table".to_owned(), Align::Left), ("BLAKE3 of the artifact".to_owned(), Align::Left)];
        let rows = self.tables.artifact.iter().map(|(file, digest)| vec![file.clone(), digest.to_string()]).collect();
        writeln!(text, "{}", Table { columns, rows }.to_markdown())?;
        writeln!(
            text,
            "All tables are made by `{}` and copied out by `{}`; `{}` tells a node's recipe, key and digests.\n",
            params.command("run aggregate"),
            params.command("export aggregate DIR"),
            params.command("show STAGE")
        )?;
        if let Some(root) = params.root {
            writeln!(text, "Root of all outputs that this report hangs on: `{root}`. {}\n", params.check())?;
        }
        let versions: Vec<String> = params.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        writeln!(text, "Versions: {}.", versions.join(", "))?;
        Ok(())
    }
}

/// The metrics on the test split, pair by pair.
fn pairs(metrics: &DataFrame) -> Result<Pairs> {
    let (hidden, prior, method) = (wholes(metrics, "hidden")?, texts(metrics, "prior")?, texts(metrics, "method")?);
    let (pair, split) = (wholes(metrics, "pair")?, texts(metrics, "split")?);
    let mut pairs = Pairs::new();
    for metric in ["mean_error", "max_error", "excess_error"] {
        for (i, value) in numbers(metrics, metric)?.into_iter().enumerate().filter(|(i, _)| split[*i] == "test") {
            let key = (hidden[i], prior[i].clone(), method[i].clone(), metric.to_owned());
            pairs.entry(key).or_default().insert(pair[i], value);
        }
    }
    Ok(pairs)
}

fn cells(summary: &DataFrame) -> Result<BTreeMap<(i64, String, String, String), Mean>> {
    let (hidden, prior, method) = (wholes(summary, "hidden")?, texts(summary, "prior")?, texts(summary, "method")?);
    let (split, metric, values) = (texts(summary, "split")?, texts(summary, "metric")?, means(summary)?);
    let key = |i: usize| (hidden[i], prior[i].clone(), method[i].clone(), metric[i].clone());
    Ok((0..values.len()).filter(|&i| split[i] == "test").map(|i| (key(i), values[i].clone())).collect())
}

/// Within this share, in %, of the published number, ours agrees with it.
const AGREES: f64 = 25.0;

fn beside(ours: &Mean, theirs: Option<&Published>, is_mnist: bool) -> String {
    let Some(theirs) = theirs.filter(|_| is_mnist) else { return show(ours, 2) };
    let off = 100.0 * (ours.mean - theirs.max_error).abs() / theirs.max_error;
    let inside = ours.interval.is_some_and(|(low, high)| (low..=high).contains(&theirs.max_error));
    let mark = if inside {
        "="
    } else if off <= AGREES {
        "~"
    } else {
        "!"
    };
    format!("{} / {} {mark}", show(ours, 2), theirs.max_error)
}

/// The mean, and half the width of its interval.
fn show(mean: &Mean, digits: usize) -> String {
    let Mean { mean, interval, .. } = mean;
    interval.map_or_else(
        || format!("{mean:.digits$}"),
        |(low, high)| format!("{mean:.digits$} ± {:.digits$}", (high - low) / 2.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_marked_by_how_it_stands_to_the_published_number() {
        let theirs = Published { prior: "none", method: "linear", hidden: 50, max_error: 20.0 };
        let case = |mean: f64, interval, expected: &str| {
            assert_eq!(beside(&Mean { count: 2, mean, interval }, Some(&theirs), true), expected);
        };
        case(21.0, Some((19.0, 23.0)), "21.00 ± 2.00 / 20 =");
        case(21.0, Some((20.5, 23.0)), "21.00 ± 1.25 / 20 ~");
        case(26.0, None, "26.00 / 20 !");
        case(24.0, None, "24.00 / 20 ~");
    }

    #[test]
    fn generated_data_are_never_held_against_mnist() {
        let theirs = Published { prior: "none", method: "linear", hidden: 50, max_error: 20.0 };
        let ours = Mean { count: 1, mean: 20.0, interval: None };
        assert_eq!(beside(&ours, Some(&theirs), false), "20.00");
    }

    #[test]
    fn a_command_repeats_profile_and_overrides() {
        let params: Params = serde_json::from_str("{}").unwrap();
        let overrides = vec!["nets.prior=['none']".to_owned()];
        let invocation = Invocation { profile: Some("quick".into()), overrides };
        assert_eq!(
            Report::question(params, &invocation).command("run aggregate"),
            r"repro run --profile quick -S 'nets.prior=['\''none'\'']' aggregate"
        );
    }

    #[test]
    fn a_picture_of_the_users_own_is_called_by_its_title_or_else_its_name() {
        let caption =
            |bytes: &str| Extra { name: "a.svg".into(), bytes: bytes.into(), digest: Digest::of(b"") }.caption();
        assert_eq!(caption("<svg><title> x &lt; y </title></svg>"), "x < y");
        assert_eq!(caption("<svg><title></title></svg>"), "a.svg");
        assert_eq!(caption("<title>"), "a.svg");
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
        let versions = Report::question(params, &Invocation::default()).versions;
        assert!(KINDS.iter().filter(|kind| versions.contains_key(kind.name())).count() == OF_THE_STUDY);
        assert_eq!(versions.len(), OF_THE_STUDY + 1);
        assert_eq!(versions["repro"], env!("CARGO_PKG_VERSION"));
    }
}
