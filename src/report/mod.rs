//! Figures, tables and pages: values in, text out, without I/O. Independent of the study.
//!
//! [`figure`] defines figures; [`layout`] arranges one as a single SVG, and [`fragment`] as part of
//! a page. `panel` and `legend` draw the parts in the [`style`] of all figures, with scales from
//! [`axis`], on a `canvas`, which with its backend `svg` is the only user of plotters.
//! [`graph`] draws boxes and arrows. A [`document`] is the content of a report; [`markdown`] writes
//! it as Markdown and [`html`] as a self-contained page, both with the anchors and numbers of
//! `outline`. [`table`] writes Markdown tables, and [`prose`] splits the Markdown of users.
//! [`change`] rounds numbers that changed.

pub mod axis;
mod canvas;
pub mod change;
pub mod document;
pub mod figure;
pub mod fragment;
pub mod graph;
pub mod html;
pub mod layout;
mod legend;
pub mod markdown;
mod outline;
mod panel;
pub mod prose;
pub mod provenance;
pub mod style;
mod svg;
pub mod table;
#[cfg(test)]
mod testing;
