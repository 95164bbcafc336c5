//! The look of a report: values in, text out. No file is read or written here, and nothing is known of the study.
//!
//! [`figure`] says what a figure is, [`layout`] lays it out; `panel` and `legend` draw its parts in the one look of
//! `style`, on rulers from [`axis`], through `canvas`, which is where plotters makes the SVG. [`table`] and [`markdown`] write
//! Markdown; [`html`] turns Markdown into one self-contained page.

pub mod axis;
mod canvas;
pub mod figure;
pub mod graph;
pub mod html;
pub mod layout;
mod legend;
pub mod markdown;
mod panel;
mod style;
pub mod table;
