//! The structured content of a report. [`markdown`](super::markdown) and [`html`](super::html)
//! write it as `report.md` and as a self-contained page.

use super::table::Align;

/// A report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Plain text.
    pub title: String,
    /// One sentence of plain text, for search engines and link previews.
    pub description: String,
    /// The content, in order.
    pub blocks: Vec<Block>,
    /// Files that the page contains, for downloads and for its scripts.
    pub files: Vec<EmbeddedFile>,
}

/// A part of a report.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A heading of level 2 to 4.
    Heading {
        /// 2 to 4.
        level: u8,
        /// The anchor: letters, digits and hyphens, unique in the document.
        id: String,
        /// Plain text.
        text: String,
    },
    /// Paragraphs and lists, as Markdown without headings and images.
    Text(String),
    /// Numbers that summarise the run, such as the number of nets: label and value, plain text.
    Facts(Vec<(String, String)>),
    /// The headings that follow, as links.
    Contents,
    /// Blocks that are folded until the reader opens them.
    Details {
        /// Plain text.
        summary: String,
        /// The folded content.
        blocks: Vec<Block>,
    },
    /// A figure.
    Figure(FigureBlock),
    /// A table.
    Table(TableBlock),
    /// The stages of a pipeline and what flows between them.
    Graph(GraphBlock),
    /// HTML of the user, shown in a sandboxed frame; Markdown links to the file.
    Html(HtmlBlock),
    /// A part of the page that scripts fill from an embedded table; Markdown omits it.
    Explorer(Explorer),
}

/// A figure with everything that a reader needs to check it.
#[derive(Clone, Debug, PartialEq)]
pub struct FigureBlock {
    /// The anchor.
    pub id: String,
    /// Plain text.
    pub title: String,
    /// What to see in the figure: one or two sentences of Markdown; may be empty.
    pub message: String,
    /// How the figure was made: Markdown.
    pub caption: String,
    /// The path of the file from the report's folder.
    pub path: String,
    /// The figure in the page.
    pub image: Image,
    /// Where the figure comes from.
    pub source: Source,
}

/// The content of a figure in the page.
#[derive(Clone, Debug, PartialEq)]
pub enum Image {
    /// Trusted markup, such as the panels of a figure of this program.
    Markup(String),
    /// The bytes of an image file of the user; scripts in it do not run.
    File {
        /// Such as `image/png`.
        media_type: &'static str,
        /// The file.
        bytes: Vec<u8>,
    },
}

/// HTML of the user.
#[derive(Clone, Debug, PartialEq)]
pub struct HtmlBlock {
    /// The anchor.
    pub id: String,
    /// Plain text.
    pub title: String,
    /// Markdown.
    pub caption: String,
    /// The path of the file from the report's folder.
    pub path: String,
    /// The fragment.
    pub html: String,
    /// Where it comes from.
    pub source: Source,
}

/// The stages of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphBlock {
    /// The anchor.
    pub id: String,
    /// Plain text.
    pub title: String,
    /// Markdown; may be empty.
    pub caption: String,
    /// The stages; inputs come before their users.
    pub stages: Vec<GraphStage>,
    /// From and to, by index; each arrow goes to a later stage.
    pub arrows: Vec<(usize, usize)>,
}

/// A stage in a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphStage {
    /// Plain text.
    pub name: String,
    /// The stage kind, which selects the colour.
    pub kind: String,
    /// The number of nodes.
    pub nodes: usize,
    /// The anchor of its result in the document.
    pub link: Option<String>,
}

/// A table with everything that a reader needs to check it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableBlock {
    /// The anchor.
    pub id: String,
    /// Plain text.
    pub title: String,
    /// Markdown; may be empty.
    pub caption: String,
    /// The headings. A table that reads well on GitHub has at most seven.
    pub columns: Vec<Column>,
    /// Missing cells are empty.
    pub rows: Vec<Vec<Cell>>,
    /// Where the numbers come from; `None` for a list of settings or terms.
    pub source: Option<Source>,
    /// The values that all its numbers are for, such as `("prior", "none")`: the page shows the
    /// table if the reader's choice includes them.
    pub facets: Vec<(String, String)>,
}

/// A column of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// Plain text.
    pub heading: String,
    /// The alignment of its cells.
    pub align: Align,
    /// The value that all its cells are for, such as `("hidden", "50")`: the page shows the column
    /// if the reader's choice includes it.
    pub facet: Option<(String, String)>,
    /// Whether its cells are values of a facet, such as `prior`, by which the page selects rows.
    pub facet_of_rows: Option<String>,
}

impl Column {
    /// A column without facets.
    pub fn new(heading: impl Into<String>, align: Align) -> Column {
        Column { heading: heading.into(), align, ..Column::default() }
    }

    /// A column whose cells are values of the facet `name`, which is its heading.
    pub fn of_facet(name: &str, align: Align) -> Column {
        Column { facet_of_rows: Some(name.to_owned()), ..Column::new(name, align) }
    }
}

/// A cell of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// Plain text.
    pub text: String,
    /// A second, smaller line of plain text; may be empty.
    pub note: String,
    /// The number by which the page sorts; `None` sorts by text.
    pub value: Option<f64>,
    /// The value of the facet in a column with [`Column::facet_of_rows`]; empty if it is the text.
    pub facet: String,
}

impl Cell {
    /// A cell that is sorted by its text.
    pub fn text(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), ..Cell::default() }
    }

    /// A cell that is sorted by `value`; empty, with an empty text, if there is none.
    pub fn number(value: Option<f64>, text: impl FnOnce(f64) -> String) -> Cell {
        Cell { value, ..Cell::text(value.map_or(String::new(), text)) }
    }
}

/// Where a figure or table comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// The file in the report's folder, for downloads; empty if the report has no copy.
    pub path: String,
    /// The digest of the file.
    pub digest: String,
    /// The command that computes it.
    pub command: String,
    /// The recipe behind it: name and value, plain text; such as the stage, its parameters and its
    /// inputs.
    pub recipe: Vec<(String, String)>,
}

/// A part of the page that shows single values on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explorer {
    /// The values of each pair behind the means: `tables/metrics.csv`.
    Pairs,
    /// The training curves of each net: `tables/histories.csv`.
    Training,
}

/// A file that the page contains, deflated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedFile {
    /// The path in the report's folder, such as `tables/summary.csv`.
    pub path: String,
    /// The content.
    pub bytes: Vec<u8>,
}
