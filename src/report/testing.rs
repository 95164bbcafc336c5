//! A small document with every kind of block, for the tests of its writers.

use super::document::*;
use super::table::Align;

/// A document with every kind of block.
pub(super) fn document() -> Document {
    with_text("normal 0.01")
}

/// The document with `text` wherever plain text is permitted.
pub(super) fn with_text(text: &str) -> Document {
    let plain = text.to_owned();
    let heading = |level, id: &str| Block::Heading { level, id: id.into(), text: plain.clone() };
    let source = Source {
        path: "a.csv".into(),
        digest: "0123456789abcdef0123456789abcdef".into(),
        command: format!("repro run -S '{text}' tables"),
        recipe: vec![("tables".into(), plain.clone()), (plain.clone(), "fetch, version 1".into())],
    };
    let figure = |id: &str, image| {
        Block::Figure(FigureBlock {
            id: id.into(),
            title: plain.clone(),
            message: "The error *falls*.\n".into(),
            caption: "Mean over 3 pairs; see [the table](#summary).\n".into(),
            path: format!("figures/{id}.svg"),
            image,
            source: source.clone(),
        })
    };
    let chart = "<div class=\"chart\" data-chart=\"overview\"></div>\n".to_owned();
    let image = Image::File { media_type: "image/png", bytes: vec![1, 2, 3] };
    let cell = |text: &str| Cell { text: text.into(), ..Cell::default() };
    let column = |facet: Option<(String, String)>| Column {
        heading: plain.clone(),
        align: Align::Right,
        facet,
        facet_of_rows: None,
    };
    let number =
        Cell { note: plain.clone(), value: Some(45.7), facet: String::new(), text: "45.7".into() };
    let name = Column { facet_of_rows: Some("prior".into()), ..Column::default() };
    let mut columns = vec![name];
    columns.extend((0..8).map(|i| column((i == 0).then(|| ("hidden".into(), plain.clone())))));
    let table = |id: &str| {
        Block::Table(TableBlock {
            id: id.into(),
            title: plain.clone(),
            caption: String::new(),
            columns: columns.clone(),
            rows: vec![vec![cell(text), number.clone()]],
            source: Some(source.clone()),
            facets: vec![("method".into(), plain.clone())],
        })
    };
    let stage = |link: &str| GraphStage {
        name: plain.clone(),
        kind: plain.clone(),
        nodes: 2,
        link: Some(link.into()),
    };
    let graph = GraphBlock {
        id: "stages".into(),
        title: plain.clone(),
        caption: String::new(),
        stages: vec![stage("summary"), stage("absent")],
        arrows: vec![(0, 1)],
    };
    let html = HtmlBlock {
        id: "extra".into(),
        title: plain.clone(),
        caption: "Of the user.\n".into(),
        path: "extras/a.html".into(),
        html: format!("<p>{text}</p>"),
        source: Source::default(),
    };
    Document {
        title: plain.clone(),
        description: plain.clone(),
        blocks: vec![
            heading(2, "verdict"),
            Block::Text("Errors **fall**; [more](#provenance).\n".into()),
            figure("overview", Image::Markup(chart)),
            Block::Facts(vec![("nets".into(), plain.clone())]),
            heading(2, "contents"),
            Block::Contents,
            heading(2, "tables"),
            heading(4, "full"),
            table("summary"),
            Block::Explorer(Explorer::Pairs),
            Block::Details { summary: plain.clone(), blocks: vec![table("summary")] },
            heading(2, "provenance"),
            Block::Graph(graph),
            Block::Html(html),
            figure("photo", image),
        ],
        files: vec![EmbeddedFile { path: "a.csv".into(), bytes: b"h\n10\n".to_vec() }],
    }
}
