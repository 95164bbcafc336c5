//! `report`: the results of a run, as Markdown and as a single HTML page.
//!
//! Every number in the text comes from an input artifact whose digest is printed with it.

mod bound;
mod cite;
mod conclusions;
mod contrasts;
mod critical_width;
mod document;
mod endpoints;
mod ensembles;
mod extras;
mod full_tables;
mod glossary;
mod measured;
mod prior_action;
mod provenance;
mod provenance_json;
mod questions;
mod recipe;
mod references;
mod sentences;
mod settings;
mod shared_start;
mod sheet;
mod template;
mod verdict;

use self::conclusions::{Conclusions, Tests};
use self::ensembles::MeasuredEnsembles;
use self::extras::Extras;
use self::measured::{Measured, test_errors};
use self::recipe::{node_of, recipe, stage_and_values};
use self::template::Template;
use super::KINDS;
use super::aggregate::AggregateStage;
use super::artifact::{DATA_CARD, DataCard, MNIST_FILES, is_mnist, read_json};
use super::plot::{CARD, CHART, FRAGMENT, FigureCard, SVG, Subject};
use super::rows::{SharedStarts, pair_metrics, shared_starts, summaries};
use super::tables::{
    ENDPOINTS, ENSEMBLES, HISTORIES, METRICS, NETS, REFITS, SHARED_START, SUMMARY,
};
use super::talk;
use super::texts::Texts;
use crate::engine::key::{Artifact, Content, Digest};
use crate::engine::stage::{
    ALL, Arity, Context, Declared, Hinted, Input, Invocation, Provenance, Slot, Stage, Upstream,
};
use crate::fs;
use crate::report::document::{Block, EmbeddedFile, FigureBlock, Image, Source};
use crate::report::html::to_html;
use crate::report::markdown::{escape, to_markdown};
use crate::report::provenance as place;
use anyhow::{Context as _, Result};
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(super) struct ReportStage;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// A sentence below the title; omitted in runs with overrides, which may contradict it.
    #[serde(default)]
    about: String,
    /// A Markdown file of the project with placeholders, which replaces the report's own text. Its
    /// content is part of the key, but not its path.
    #[serde(default)]
    template: Option<String>,
    /// Titles and captions of `extras`, by stage (`draw`), node (`draw@method=arc`) or file
    /// (`draw/figure.svg`).
    #[serde(default)]
    captions: BTreeMap<String, Caption>,
    /// The files of a stage or node in `extras` to show, as names or patterns; by default, all. The
    /// report lists the names of the others.
    #[serde(default)]
    show: BTreeMap<String, Texts>,
    /// The profile's name. This and the following fields are set by the run, so that they are part
    /// of the key.
    #[serde(default)]
    #[schemars(skip)]
    profile: Option<String>,
    /// The values of `-S`.
    #[serde(default)]
    #[schemars(skip)]
    overrides: Vec<String>,
    /// The versions of the program and of the stage kinds that every study has.
    #[serde(default)]
    #[schemars(skip)]
    versions: BTreeMap<String, String>,
    /// The root of all outputs that the report depends on.
    #[serde(default)]
    #[schemars(skip)]
    root: Option<Digest>,
    /// The stages that the report depends on, and the nodes in its slots.
    #[serde(default)]
    #[schemars(skip)]
    upstream: Option<Upstream>,
}

/// The title and caption of a file in `extras`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Caption {
    /// Plain text; by default, the title that the file contains, or its name.
    #[serde(default)]
    title: Option<String>,
    /// Markdown, without headings and images.
    #[serde(default)]
    caption: Option<String>,
}

impl Params {
    /// A command of this program with the run's profile and overrides.
    fn command(&self, command: &str) -> String {
        let profile = self.profile.iter().map(|profile| format!(" --profile {profile}"));
        let overrides =
            self.overrides.iter().map(|set| format!(" -S '{}'", set.replace('\'', "'\\''")));
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let options = profile.chain(overrides).collect::<String>();
        format!("repro {verb}{options} {rest}").trim_end().to_owned()
    }
}

/// Kinds that a study may do without. The recipes of a report that uses them state their versions;
/// the list of versions omits them, so that a new kind leaves the other reports as they are.
const OPTIONAL_KINDS: [&str; 3] = ["ensemble", "learn", "plane"];

const MARKDOWN: &str = "report.md";
const HTML: &str = "report.html";
const TABLES: &[&str] = AggregateStage::OUTPUTS;

/// The tables that are copied to the report. The others are long.
const EXPORTED: &[&str] =
    &[METRICS.file, REFITS.file, NETS.file, HISTORIES.file, SUMMARY.file, ENDPOINTS.file];

impl Stage for ReportStage {
    const NAME: &'static str = "report";
    const VERSION: u32 = 8;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "data", arity: Arity::One, files: MNIST_FILES },
        Slot { name: "tables", arity: Arity::One, files: TABLES },
        Slot { name: "figures", arity: Arity::Many, files: &[SVG, CARD, FRAGMENT, CHART] },
        Slot { name: "ensembles", arity: Arity::Any, files: &[ENSEMBLES.file] },
        // The means of nets with a shared start.
        Slot { name: "shared", arity: Arity::Optional, files: &[SHARED_START.file] },
        // Files of the user's own stages.
        Slot { name: "extras", arity: Arity::Any, files: ALL },
    ];
    const OUTPUTS: &'static [&'static str] = &[MARKDOWN, HTML, "figures/", "tables/", "extras/"];
    const LISTS: &'static [&'static str] = &["show"];
    const EXPORTS: bool = true;
    const EMBEDS_ROOT: bool = true;
    const ANNOTATED: &'static [&'static str] = &[HTML];
    type Params = Params;

    fn check(params: &Params) -> Result<(), Hinted> {
        if params.template.as_ref().is_some_and(String::is_empty) {
            return Err(Hinted::new("`template` is empty", "write `template: FILE.md`"));
        }
        let Params { profile, overrides, versions, root, upstream, .. } = params;
        let is_set = profile.is_some()
            || !overrides.is_empty()
            || !versions.is_empty()
            || root.is_some()
            || upstream.is_some();
        if !is_set {
            return Ok(());
        }
        let cause = "`profile`, `overrides`, `versions`, `root` and `upstream` are set by the run";
        Err(Hinted::new(cause, "remove them"))
    }

    fn files(params: &Params) -> Vec<Declared> {
        let declared =
            |path: &String| Declared { path: path.clone(), by_path: false, ignore: None };
        params.template.iter().map(declared).collect()
    }

    fn key_params(params: Params, invocation: &Invocation) -> Params {
        let program = ("repro".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let kinds = KINDS
            .iter()
            .filter(|kind| !kind.is_general_purpose() && !OPTIONAL_KINDS.contains(&kind.name()))
            .map(|kind| (kind.name().to_owned(), kind.version().to_string()));
        let Invocation { profile, overrides } = invocation.clone();
        let versions = kinds.chain([program]).collect();
        Params { profile, overrides, versions, template: None, ..params }
    }

    fn annotate(_: &str, page: &[u8], provenance: &Provenance) -> Option<Vec<u8>> {
        let page = str::from_utf8(page).ok()?;
        place::fill(page, &provenance_json::to_json(provenance)).map(String::into_bytes)
    }

    fn plain(_: &str, page: &[u8]) -> Option<Vec<u8>> {
        place::empty(str::from_utf8(page).ok()?).map(String::into_bytes)
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let report = Report::read(&params, cx)?;
        for folder in ["figures", "tables", "extras"] {
            fs::create_dir_all(&cx.output(folder))?;
        }
        for figure in &report.figures {
            fs::write(&cx.output(&figure.path()), &figure.svg)?;
        }
        report.extras.write(cx)?;
        for table in EXPORTED {
            fs::write(
                &cx.output(&format!("tables/{table}")),
                fs::read(report.tables.path(table)?)?,
            )?;
        }
        if let Some(ensembles) = &report.ensembles {
            fs::write(&cx.output(&MeasuredEnsembles::path()), &ensembles.csv)?;
        }
        if let Some(shared) = report.shared {
            let bytes = fs::read(shared.path(SHARED_START.file)?)?;
            fs::write(&cx.output(&format!("tables/{}", SHARED_START.file)), bytes)?;
        }
        let mut document = report.document()?;
        if let Some(template) = Template::read(cx)? {
            document = template.apply(document, &report)?;
        }
        fs::write(&cx.output(HTML), to_html(&document))?;
        fs::write(&cx.output(MARKDOWN), to_markdown(&document))
    }
}

/// A figure of the stage `plot`.
struct ReportFigure {
    card: FigureCard,
    svg: String,
    /// The figure as part of a page.
    fragment: String,
    /// The data of the figure, for the page's scripts.
    chart: String,
    /// That of the SVG.
    digest: Digest,
    artifact: Artifact,
}

impl ReportFigure {
    fn read(input: &Input) -> Result<ReportFigure> {
        let digest = input.artifact.get(SVG).and_then(Content::digest);
        Ok(ReportFigure {
            card: read_json(input.path(CARD)?)?,
            svg: fs::read_text(input.path(SVG)?)?,
            fragment: fs::read_text(input.path(FRAGMENT)?)?,
            chart: fs::read_text(input.path(CHART)?)?,
            digest: digest.context("BUG: a figure without SVG")?,
            artifact: input.artifact.clone(),
        })
    }

    fn path(&self) -> String {
        format!("figures/{}.svg", self.card.name)
    }

    /// The anchor.
    fn id(&self) -> String {
        format!("figure-{}", self.card.name)
    }
}

/// The contents of the report.
struct Report<'a> {
    params: &'a Params,
    tables: &'a Input,
    /// The tables of nets with a shared start, if there are any.
    shared: Option<&'a Input>,
    shared_starts: SharedStarts,
    /// In the order of the report.
    figures: Vec<ReportFigure>,
    extras: Extras,
    nets: DataFrame,
    endpoints: DataFrame,
    histories: DataFrame,
    measured: Measured,
    conclusions: Conclusions,
    /// `None` if the run has none.
    ensembles: Option<MeasuredEnsembles>,
}

impl<'a> Report<'a> {
    fn read(params: &'a Params, cx: &'a Context) -> Result<Report<'a>> {
        let data: DataCard = read_json(cx.input("data")?.path(DATA_CARD)?)?;
        let tables = cx.input("tables")?;
        let mut figures: Vec<ReportFigure> =
            cx.inputs("figures").iter().map(ReportFigure::read).collect::<Result<_>>()?;
        figures.sort_by(|a, b| a.card.cmp(&b.card));
        let extras = Extras::read(cx.inputs("extras"), params)?;
        let metrics = METRICS.read(tables.path(METRICS.file)?)?;
        let tests = Tests { pairs: pair_metrics(&metrics)?, images: data.test };
        let conclusions = tests.conclusions()?;
        let nets = NETS.read(tables.path(NETS.file)?)?;
        let endpoints = ENDPOINTS.read(tables.path(ENDPOINTS.file)?)?;
        let measured = Measured {
            nets: nets.height(),
            imported: nets.column("epochs")?.null_count(),
            ends: test_errors(&endpoints)?,
            summaries: summaries(&SUMMARY.read(tables.path(SUMMARY.file)?)?)?,
            published: talk::published(is_mnist(cx.input("data")?, &data)),
            tests,
            data,
        };
        let shared = cx.inputs("shared").first();
        let shared_starts = match shared {
            Some(input) => shared_starts(&SHARED_START.read(input.path(SHARED_START.file)?)?)?,
            None => SharedStarts::new(),
        };
        Ok(Report {
            params,
            tables,
            shared,
            shared_starts,
            figures,
            extras,
            nets,
            endpoints,
            histories: HISTORIES.read(tables.path(HISTORIES.file)?)?,
            measured,
            conclusions,
            ensembles: MeasuredEnsembles::read(cx.inputs("ensembles"))?,
        })
    }

    /// The figure of the first screen: the overview, or else the first figure on widths, or else
    /// the first one.
    fn overview(&self) -> Option<&ReportFigure> {
        let about = |subject| self.figures.iter().find(|figure| figure.card.subject() == subject);
        about(None).or_else(|| about(Some(Subject::Widths))).or(self.figures.first())
    }

    /// The figures of a subject, without that of the first screen.
    fn figures_on(&self, subject: Subject) -> Vec<Block> {
        let first = self.overview().map(|figure| &figure.card.name);
        let of_subject = self.figures.iter().filter(|figure| {
            figure.card.subject() == Some(subject) && Some(&figure.card.name) != first
        });
        of_subject.map(|figure| Block::Figure(self.figure_block(figure))).collect()
    }

    fn figure_block(&self, figure: &ReportFigure) -> FigureBlock {
        let card = &figure.card;
        let target = self.node(figure).map_or(format!("plot@figure={}", card.name), str::to_owned);
        FigureBlock {
            id: figure.id(),
            title: card.title.clone(),
            message: escape(&card.message),
            caption: card.caption.clone(),
            path: figure.path(),
            image: Image::Markup(figure.fragment.clone()),
            source: Source {
                path: figure.path(),
                digest: figure.digest.to_string(),
                command: self.params.command(&format!("run {target}")),
                recipe: self.recipe(&target),
            },
        }
    }

    /// The source of a table of the stage `aggregate`.
    fn source(&self, table: &str) -> Result<Source> {
        let digest =
            self.tables.artifact.get(table).with_context(|| format!("BUG: no table `{table}`"))?;
        let target = self.node_of_tables().unwrap_or(AggregateStage::NAME);
        let path = format!("tables/{table}");
        Ok(Source {
            path: if EXPORTED.contains(&table) { path } else { String::new() },
            digest: digest.to_string(),
            command: self.params.command(&format!("run {target}")),
            recipe: self.recipe(target),
        })
    }

    /// The source of the means of nets with a shared start.
    fn shared_source(&self) -> Result<Option<Source>> {
        let Some(shared) = self.shared else { return Ok(None) };
        let digest = shared.artifact.get(SHARED_START.file).context("BUG: no means")?;
        let upstream = self.params.upstream.as_ref();
        let node = upstream.and_then(|upstream| node_of(upstream, "shared", &shared.artifact));
        let target = node.unwrap_or(AggregateStage::NAME);
        Ok(Some(Source {
            path: format!("tables/{}", SHARED_START.file),
            digest: digest.to_string(),
            command: self.params.command(&format!("run {target}")),
            recipe: self.recipe(target),
        }))
    }

    /// The node that computed a figure.
    fn node(&self, figure: &ReportFigure) -> Option<&str> {
        node_of(self.params.upstream.as_ref()?, "figures", &figure.artifact)
    }

    /// The node that computed the tables.
    fn node_of_tables(&self) -> Option<&str> {
        node_of(self.params.upstream.as_ref()?, "tables", &self.tables.artifact)
    }

    /// The recipe of a node.
    fn recipe(&self, node: &str) -> Vec<(String, String)> {
        let (stage, values) = stage_and_values(node);
        let upstream = self.params.upstream.as_ref();
        upstream.map_or(Vec::new(), |upstream| recipe(upstream, stage, &values))
    }

    /// The files that the page contains for downloads and for its scripts.
    fn files(&self) -> Result<Vec<EmbeddedFile>> {
        let mut files = Vec::new();
        // The page shows nothing of the refits, and with many curves they are long.
        for table in EXPORTED.iter().filter(|table| **table != REFITS.file) {
            let bytes = fs::read(self.tables.path(table)?)?;
            files.push(EmbeddedFile { path: format!("tables/{table}"), bytes });
        }
        if let Some(MeasuredEnsembles { csv, .. }) = &self.ensembles {
            files.push(EmbeddedFile { path: MeasuredEnsembles::path(), bytes: csv.clone() });
        }
        if let Some(shared) = self.shared {
            let bytes = fs::read(shared.path(SHARED_START.file)?)?;
            files.push(EmbeddedFile { path: format!("tables/{}", SHARED_START.file), bytes });
        }
        for figure in &self.figures {
            let chart = format!("figures/{}.json", figure.card.name);
            for (path, text) in [(figure.path(), &figure.svg), (chart, &figure.chart)] {
                files.push(EmbeddedFile { path, bytes: text.clone().into_bytes() });
            }
        }
        files.extend(self.extras.embedded());
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_repeats_profile_and_overrides() {
        let params: Params = serde_json::from_str("{}").unwrap();
        let overrides = vec!["nets.prior=['none']".to_owned()];
        let invocation = Invocation { profile: Some("quick".into()), overrides };
        assert_eq!(
            ReportStage::key_params(params, &invocation).command("run aggregate"),
            r"repro run --profile quick -S 'nets.prior=['\''none'\'']' aggregate"
        );
    }

    #[test]
    fn parameters_that_the_run_sets_must_be_left_out() {
        let check = |json| ReportStage::check(&serde_json::from_str(json).unwrap());
        assert_eq!(check(r#"{"about": "x"}"#), Ok(()));
        assert!(check(r#"{"profile": "quick"}"#).is_err());
    }

    #[test]
    fn the_versions_of_the_studys_kinds_are_part_of_the_key() {
        let params: Params = serde_json::from_str("{}").unwrap();
        let versions = ReportStage::key_params(params, &Invocation::default()).versions;
        for kind in KINDS {
            let is_listed = !kind.is_general_purpose() && !OPTIONAL_KINDS.contains(&kind.name());
            assert_eq!(versions.contains_key(kind.name()), is_listed);
        }
        assert_eq!(versions["repro"], env!("CARGO_PKG_VERSION"));
    }
}
