//! The text of the report, as Markdown.

use super::conclusions::Conclusion;
use super::sections::{self, INSIDE, NEAR, OUTSIDE};
use super::{Inputs, Params};
use crate::engine::key::Content;
use crate::report::markdown::{escape, figure};
use crate::report::table::{Align, Table};
use crate::stage::rows::parsed;
use crate::stage::tables::{ENDPOINTS, HISTORIES, METRICS, REFITS, SUMMARY, texts, wholes};
use crate::stage::talk;
use crate::study::curve::align::Cost;
use crate::study::curve::refit::Targets;
use crate::study::curve::{Center, Method};
use crate::study::net::Prior;
use crate::study::stats::{FEWEST, binomial_standard_error};
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};

impl Inputs<'_> {
    pub(super) fn title(&self) -> String {
        format!("How connected are the minima? ({})", self.data.dataset)
    }

    pub(super) fn markdown(&self, params: &Params) -> Result<String> {
        let mut text = String::new();
        writeln!(text, "# How connected are the minima of neural networks?\n")?;
        self.write_data(&mut text)?;
        if params.overrides.is_empty() && !params.about.is_empty() {
            writeln!(text, "{}\n", escape(&params.about))?;
        }
        self.write_setup(&mut text, params)?;
        self.write_training(&mut text, params)?;
        self.write_endpoints(&mut text, params)?;
        self.write_max_errors(&mut text, params)?;
        self.write_barriers(&mut text, params)?;
        self.write_figures(&mut text, params)?;
        self.write_conclusions(&mut text)?;
        self.write_provenance(&mut text, params)?;
        Ok(text)
    }

    /// The source of a table's numbers.
    fn source(&self, table: &str, params: &Params) -> Result<String> {
        let digest =
            self.tables.artifact.get(table).with_context(|| format!("BUG: no table `{table}`"))?;
        let command = params.command("run aggregate");
        Ok(format!("Source: `tables/{table}`, artifact `{digest}`, computed by `{command}`."))
    }

    fn write_data(&self, text: &mut String) -> Result<()> {
        let data = &self.data;
        let (dataset, train, validation, test) =
            (data.dataset, data.train, data.validation, data.test);
        let images = format!("{train} training, {validation} validation and {test} test images");
        if dataset.is_generated() {
            writeln!(
                text,
                "**Data: `{dataset}`, generated images, not MNIST** ({images}). The talk's \
                 published numbers are for MNIST and are omitted here. If the pipeline requests \
                 MNIST, the dataset was unavailable: set `REPRO_DATA` to a folder with the four \
                 files of MNIST, or connect to the network, and run again.\n"
            )?;
        } else {
            writeln!(text, "Data: `{dataset}`, {images}.\n")?;
        }
        Ok(())
    }

    fn write_setup(&self, text: &mut String, params: &Params) -> Result<()> {
        let numbers = |column: &str| -> Result<String> {
            let values: BTreeSet<i64> = wholes(&self.nets, column)?.into_iter().collect();
            Ok(list(&values, ", "))
        };
        let words = |column: &str| -> Result<String> {
            let values: BTreeSet<String> = texts(&self.nets, column)?.into_iter().collect();
            Ok(list(&values, "; "))
        };
        let priors: BTreeSet<Prior> = parsed(&self.nets, "prior")?.into_iter().collect();
        let methods = talk::in_order(self.summaries.keys().map(|(group, _)| group.method));
        let titles: Vec<String> = methods.into_iter().map(Method::title).collect();
        let none = || "none".to_owned();
        let overrides = match params.overrides.is_empty() {
            true => none(),
            false => params.overrides.join("; "),
        };
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let rows = vec![
            row("profile", params.profile.clone().unwrap_or_else(none)),
            row("overrides", overrides),
            row("seed", words("seed")?),
            row("hidden neurons", numbers("hidden")?),
            row("priors", list(&priors, ", ")),
            row("pairs", numbers("pair")?),
            row("methods", titles.join(", ")),
            row("epochs", numbers("epochs")?),
            row("batch size", numbers("batch")?),
            row("optimizer", words("optimizer")?),
            row("init", words("init")?),
            row("training engine", words("engine")?),
            row("training images", numbers("images")?),
        ];
        let columns = vec![("setting".to_owned(), Align::Left), ("value".to_owned(), Align::Left)];
        writeln!(text, "## Setup\n\n{}", Table { columns, rows }.to_markdown())?;
        writeln!(
            text,
            "Nets are f(x) = W2 relu(W1 x), without biases. The two ends of a pair differ in \
             init, shuffles and dropout masks. Where the sources leave a choice open, a method \
             uses the following; any other choice is part of its name:\n\n\
             - `arc` rotates about the mean of all 2h neurons, with one mean row for W1 and one \
             mean column for W2 (alternatives: {}).\n\
             - `rho-arc`, our variant, rotates about the same center by the angle between the two \
             nets as seen from it, whose cosine is `rho` in `tables/{}`.\n\
             - `+ot` matches whole neurons, incoming row and outgoing column (alternatives: {}). \
             The curve ends at the permuted net, which computes the same function.\n\
             - `+wa` refits W2 to the logits of A (alternative: {}), by normal equations with a \
             relative ridge of 1e-8 or the next sufficient power of ten. `tables/{}` lists the \
             number of training images, the rank, the ridge and the residual of each fit. W2 \
             then moves along a straight line to that of B, whereas the authors' Arc + WA rotates \
             about the mean of the 20 output rows. The points of the curve are denser around its \
             largest training error.\n\n\
             The normalised error is (E(t) - E\\_end) / (E\\_lin\\_max - E\\_end), where E\\_end \
             is the mean error of the two ends and E\\_lin\\_max the largest error on the straight \
             line of the same pair.\n\n{}\n",
            alternatives("arc", Center::ALL),
            METRICS.file,
            alternatives("+ot", Cost::ALL),
            alternatives("+wa", Targets::ALL),
            REFITS.file,
            interval_definition()
        )?;
        Ok(())
    }

    fn write_training(&self, text: &mut String, params: &Params) -> Result<()> {
        writeln!(text, "## Training\n\n{}", sections::training(&self.histories)?)?;
        writeln!(
            text,
            "Ranges are over nets. The training error is the running average over the batches of \
             the epoch, with dropout active. The validation loss, if there is a validation split, \
             is measured after each epoch. {}\n",
            self.source(HISTORIES.file, params)?
        )?;
        Ok(())
    }

    fn write_endpoints(&self, text: &mut String, params: &Params) -> Result<()> {
        writeln!(text, "## Endpoints\n\n{}", sections::endpoints(&self.endpoints)?)?;
        writeln!(
            text,
            "Mean over the individual nets at both ends of all pairs, ± half the width of its \
             95 % interval. A test error of 2 % on {} images has a standard error of {:.2} points. \
             {}\n",
            self.data.test,
            binomial_standard_error(2.0, self.data.test),
            self.source(ENDPOINTS.file, params)?
        )?;
        Ok(())
    }

    /// The talk's tables, and one table for each further prior.
    fn write_max_errors(&self, text: &mut String, params: &Params) -> Result<()> {
        let published = talk::published(self.data.dataset);
        let tables = sections::max_errors(&self.summaries, &published, self.data.test);
        writeln!(text, "## Largest test error on the curve, %\n\n{}", tables.trim_end())?;
        writeln!(
            text,
            "\nEach cell is our mean over pairs ± half the width of its 95 % interval; \
             `tables/{}` has both ends of the interval. With one or two pairs there is no \
             interval, and the values are listed. {}\n",
            SUMMARY.file,
            self.source(SUMMARY.file, params)?
        )?;
        if !published.is_empty() {
            writeln!(
                text,
                "After the slash is the number published in the talk, if any, with a mark: \
                 {INSIDE} within the 95 % prediction interval for a pair of new nets (`pair_low` \
                 to `pair_high`), {NEAR} outside, but within two standard errors of the difference \
                 of two test errors, {OUTSIDE} otherwise. The number has no mark if there are too \
                 few pairs for a prediction interval. The talk does not state how many pairs it \
                 averaged over. {}\n",
                sections::agreement(&self.summaries, &published)
            )?;
        }
        Ok(())
    }

    fn write_barriers(&self, text: &mut String, params: &Params) -> Result<()> {
        writeln!(text, "## Barriers\n\n{}", sections::barriers(&self.summaries).trim_end())?;
        writeln!(
            text,
            "\nEach cell is the barrier of the test loss in nats / of the test error in percentage \
             points, as the mean over pairs; the column `average` of `tables/{0}` names the \
             kind of mean. The barrier of the loss is the largest excess of the loss L(t) on \
             the curve over (1 - t) L\\_A + t L\\_B, the straight line between the losses of its \
             ends; the barrier of the error is defined likewise. `tables/{0}` has the intervals, \
             and the other splits. {1}\n",
            SUMMARY.file,
            self.source(SUMMARY.file, params)?
        )?;
        Ok(())
    }

    fn write_figures(&self, text: &mut String, params: &Params) -> Result<()> {
        writeln!(text, "## Figures\n")?;
        for drawn in &self.figures {
            writeln!(text, "### {}\n", escape(&drawn.card.title))?;
            writeln!(text, "{}\n", figure(&drawn.card.caption, &drawn.path()).trim_end())?;
            let command = params.command(&format!("run plot@figure={}", drawn.card.name));
            writeln!(text, "Source: artifact `{}`, computed by `{command}`.\n", drawn.digest)?;
        }
        if !self.extras.is_empty() {
            writeln!(text, "## Further figures\n")?;
        }
        for extra in &self.extras {
            writeln!(text, "{}\n", figure(&escape(&extra.caption()), &extra.path()).trim_end())?;
            writeln!(
                text,
                "Source: artifact `{}`, computed by a custom stage of this pipeline.\n",
                extra.digest
            )?;
        }
        Ok(())
    }

    fn write_conclusions(&self, text: &mut String) -> Result<()> {
        writeln!(text, "## The talk's conclusions, tested with these numbers\n")?;
        let conclusions = self.findings.conclusions()?;
        for (i, Conclusion { claim, verdict, evidence }) in conclusions.into_iter().enumerate() {
            writeln!(text, "{}. *{claim}*\n   **{}**\n", i + 1, escape(&verdict))?;
            for line in evidence {
                writeln!(text, "   - {}", escape(&line))?;
            }
            writeln!(text)?;
        }
        writeln!(
            text,
            "A contrast is the ratio of a metric after a change to the metric before it, with its \
             95 % interval. Ratios are taken between pairs with the same number, which share init \
             and shuffles, and are averaged on a log scale: within a pair over priors or methods, \
             then over pairs, then over widths with equal weights. Nets of different widths are \
             independent: their contrast is the ratio of the geometric means over pairs at the \
             widest and the narrowest width (Welch's test), and a prior with an excess of 0 or \
             less is excluded at both. Degrees of freedom are Satterthwaite's, and p is adjusted \
             by Holm's method for the contrasts of the claim. A contrast is lower or higher if p \
             is below 0.05 and the difference in points, averaged in the same way, exceeds two \
             standard errors of the difference of two test errors; otherwise it is \
             inconclusive.\n\n\
             The excess error is the largest error on the curve minus the error of the worse end. \
             The mean error is taken by arc length; over t, the second segment of WA, on which the \
             error hardly changes, would contribute half of it.\n"
        )?;
        Ok(())
    }

    fn write_provenance(&self, text: &mut String, params: &Params) -> Result<()> {
        writeln!(text, "## Provenance\n")?;
        let columns = vec![
            ("table".to_owned(), Align::Left),
            ("BLAKE3 digest of the artifact".to_owned(), Align::Left),
        ];
        let row = |(file, content): (&String, &Content)| vec![file.clone(), content.to_string()];
        let rows = self.tables.artifact.iter().map(row).collect();
        writeln!(text, "{}", Table { columns, rows }.to_markdown())?;
        writeln!(
            text,
            "`{}` computes the tables, and `{}` exports them. `{}` prints the recipe, the key and \
             the digests of a stage.\n",
            params.command("run aggregate"),
            params.command("export aggregate DIR"),
            params.command("show STAGE")
        )?;
        if let Some(root) = params.root {
            writeln!(
                text,
                "Root of all outputs that this report depends on: `{root}`. {}\n",
                root_check(params)
            )?;
        }
        let versions: Vec<String> =
            params.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        writeln!(text, "Versions: {}.", versions.join(", "))?;
        Ok(())
    }
}

/// How a reader can check the root.
fn root_check(params: &Params) -> String {
    if !params.overrides.is_empty() {
        return "A run with the same overrides has the same root.".to_owned();
    }
    format!(
        "If the report depends on all other stages of the profile, this is the profile's root in \
         the lock file: `{}` writes it with the digest of every output, unless a dataset was \
         unavailable, and `{}` recomputes the outputs and fails at the first one that differs.",
        params.command("lock"),
        params.command("run --locked")
    )
}

/// The definition of the report's intervals.
fn interval_definition() -> String {
    format!(
        "Intervals are 95 % confidence intervals of the mean over pairs, or over nets in the table \
         of endpoints, by Student's t with one degree of freedom less than there are values; pairs \
         share no nets. In simulations with normal and skewed effects, 90 to 99.5 % of such \
         intervals contain the true mean. They require at least {FEWEST} values; with fewer, the \
         values are listed. Where the largest value over pairs is more than 4 times the smallest \
         and all are positive, the mean is geometric, is labelled as such, and has the interval of \
         the logarithms. All points of a line in a figure have the same kind of mean."
    )
}

/// The names of `part` with each choice that is not the default, as in `arc:zero`.
fn alternatives<T: Display + Default + PartialEq>(part: &str, choices: &[T]) -> String {
    let others = choices.iter().filter(|choice| **choice != T::default());
    list(others.map(|choice| format!("`{part}:{choice}`")).collect::<Vec<_>>().iter(), ", ")
}

fn list<T: Display>(values: impl IntoIterator<Item = T>, separator: &str) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(separator)
}
