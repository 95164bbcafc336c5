//! Figures, tables and pages: values in, text out, without I/O. Independent of the study.
//!
//! [`figure`] defines figures, and [`layout`] arranges them; `panel` and `legend` draw the parts in
//! the `style` of all figures, with scales from [`axis`], on a `canvas`, the only user of plotters.
//! [`graph`] draws boxes and arrows. [`prose`] splits the Markdown of users. [`table`] and [`markdown`] write Markdown, and [`html`]
//! converts Markdown to a self-contained page.

pub mod axis;
mod canvas;
pub mod document;
pub mod figure;
pub mod graph;
pub mod html;
pub mod layout;
mod legend;
pub mod markdown;
mod panel;
pub mod prose;
mod style;
pub mod table;
