//! Converts Markdown to a self-contained HTML page, with inline figures and style sheet and without
//! scripts.
//!
//! Raw HTML in the Markdown is escaped. Links with schemes other than `http`, `https` and `mailto`
//! are removed.

use super::document::{Block, Document, FigureBlock, Image};
use super::markdown::{to_markdown, url};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html};

const STYLE: &str = include_str!("page.css");

/// The page of `markdown`; `images` returns the markup of the figure with a URL of the Markdown.
///
/// A paragraph that consists of an image becomes a figure, with the image's text as its caption. A
/// missing figure is replaced by a note.
pub fn page(title: &str, markdown: &str, images: &dyn Fn(&str) -> Option<String>) -> String {
    let mut body = String::new();
    html::push_html(&mut body, events(markdown, images).into_iter());
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
         </body>\n</html>\n"
    )
}

/// The report as a page. A first version: its Markdown, with the figures of the page.
pub fn to_html(document: &Document) -> String {
    fn figures<'d>(blocks: &'d [Block], found: &mut Vec<&'d FigureBlock>) {
        for block in blocks {
            match block {
                Block::Figure(figure) => found.push(figure),
                Block::Details { blocks, .. } => figures(blocks, found),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    figures(&document.blocks, &mut found);
    let image = |path: &str| {
        let figure = found.iter().find(|figure| url(&figure.path) == path)?;
        match &figure.image {
            Image::Markup(markup) => Some(markup.clone()),
            Image::File { .. } => None,
        }
    };
    page(&document.title, &to_markdown(document), &image)
}

/// Escapes `text` for HTML and XML, including attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The events of the Markdown, with figures, scrollable tables and safe links.
fn events<'a>(markdown: &'a str, images: &dyn Fn(&str) -> Option<String>) -> Vec<Event<'a>> {
    let raw: Vec<Event> =
        Parser::new_ext(markdown, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH).collect();
    let mut events = Vec::with_capacity(raw.len());
    let mut figures = 0;
    for (i, event) in raw.iter().enumerate() {
        let shown = match event {
            Event::Html(text) | Event::InlineHtml(text) => Event::Text(text.clone()),
            Event::Start(Tag::Table(_)) => {
                events.push(Event::Html("<div class=\"table\" tabindex=\"0\">".into()));
                event.clone()
            }
            Event::End(TagEnd::Table) => {
                events.push(event.clone());
                Event::Html("</div>\n".into())
            }
            Event::Start(Tag::Link { dest_url, .. }) if !is_safe(dest_url) => {
                Event::InlineHtml("<a>".into())
            }
            // HTML allows no figure in a paragraph, so the figure replaces the paragraph.
            Event::Start(Tag::Paragraph) if is_image_alone(&raw[i + 1..]) => continue,
            Event::End(TagEnd::Paragraph) if events.last().is_some_and(is_figure_end) => continue,
            Event::Start(Tag::Image { dest_url, .. }) => {
                figures += 1;
                let svg =
                    images(dest_url).map(|svg| with_unique_ids(&svg, &format!("figure{figures}-")));
                let missing = || {
                    format!("<p class=\"missing\">no figure <code>{}</code></p>", escape(dest_url))
                };
                let svg = svg.unwrap_or_else(missing);
                let drawing =
                    format!("<div class=\"drawing\" tabindex=\"0\">\n{}\n</div>", svg.trim_end());
                Event::Html(format!("<figure>\n{drawing}\n<figcaption>").into())
            }
            Event::End(TagEnd::Image) => Event::Html(FIGURE_END.into()),
            other => other.clone(),
        };
        events.push(shown);
    }
    events
}

const FIGURE_END: &str = "</figcaption>\n</figure>\n";

fn is_figure_end(event: &Event) -> bool {
    matches!(event, Event::Html(text) if text.as_ref() == FIGURE_END)
}

/// Whether the events after a paragraph's start are an image and the paragraph's end.
fn is_image_alone(following: &[Event]) -> bool {
    let end = following.iter().position(|event| matches!(event, Event::End(TagEnd::Image)));
    matches!(following.first(), Some(Event::Start(Tag::Image { .. })))
        && end.is_some_and(|end| {
            matches!(following.get(end + 1), Some(Event::End(TagEnd::Paragraph)))
        })
}

/// Whether a link is relative or has one of the permitted schemes.
fn is_safe(url: &str) -> bool {
    let scheme = url.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_none_or(|s| matches!(s, "http" | "https" | "mailto") || s.contains(['/', '#', '?']))
}

/// The SVG with `prefix` before each id and each reference to one, which makes ids unique on a
/// page.
fn with_unique_ids(svg: &str, prefix: &str) -> String {
    [" id=\"", "url(#", "href=\"#"]
        .iter()
        .fold(svg.to_owned(), |svg, at| svg.replace(at, &format!("{at}{prefix}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(markdown: &str, images: &dyn Fn(&str) -> Option<String>) -> String {
        let page = page("t", markdown, images);
        let (_, body) = page.split_once("<main>\n").unwrap();
        body.split_once("</main>").unwrap().0.to_owned()
    }

    fn a_figure(path: &str) -> Option<String> {
        (path == "a.svg")
            .then(|| "<svg><g id=\"g\"/><use href=\"#g\" fill=\"url(#g)\"/></svg>\n".to_owned())
    }

    #[test]
    fn a_page_has_text_tables_and_figures() {
        let markdown = "# Minima\n\nSome *text* and `code`.\n\n| h | error |\n| - | ----: |\n\
                        | 10 | 45.7 |\n\n![**E(t)** by method](a.svg)\n\nDone.\n";
        insta::assert_snapshot!(body(markdown, &a_figure), @r##"
        <h1>Minima</h1>
        <p>Some <em>text</em> and <code>code</code>.</p>
        <div class="table" tabindex="0"><table><thead><tr><th>h</th><th style="text-align: right">error</th></tr></thead><tbody>
        <tr><td>10</td><td style="text-align: right">45.7</td></tr>
        </tbody></table>
        </div>
        <figure>
        <div class="drawing" tabindex="0">
        <svg><g id="figure1-g"/><use href="#figure1-g" fill="url(#figure1-g)"/></svg>
        </div>
        <figcaption><strong>E(t)</strong> by method</figcaption>
        </figure>
        <p>Done.</p>
        "##);
    }

    #[test]
    fn a_page_is_self_contained() {
        let page = page("a <b> & \"c\"", "text\n", &a_figure);
        assert!(page.contains("<title>a &lt;b&gt; &amp; &quot;c&quot;</title>"));
        for outside in ["<script", "<link", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn raw_html_is_escaped() {
        let shown = body("<script>alert(1)</script>\n\na <b onclick=\"x\">c</b>\n", &a_figure);
        assert!(!shown.contains("<script") && !shown.contains("<b"), "{shown}");
        assert!(shown.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{shown}");
    }

    #[test]
    fn links_to_scripts_are_removed() {
        for url in [
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "&#106;avascript:alert(1)",
        ] {
            let shown = body(&format!("[x]({url})\n"), &a_figure);
            assert_eq!(shown, "<p><a>x</a></p>\n", "{url}");
        }
        for url in
            ["https://arxiv.org/abs/2008.00741", "#methods", "figures/a:b.svg", "mailto:a@b.c"]
        {
            assert_eq!(
                body(&format!("[x]({url})\n"), &a_figure),
                format!("<p><a href=\"{url}\">x</a></p>\n")
            );
        }
    }

    #[test]
    fn ids_are_unique_across_figures() {
        let shown = body("![one](a.svg)\n\n![two](a.svg)\n", &a_figure);
        for figure in ["figure1-g", "figure2-g"] {
            assert!(
                shown.contains(&format!(
                    "<g id=\"{figure}\"/><use href=\"#{figure}\" fill=\"url(#{figure})\"/>"
                )),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_missing_figure_is_replaced_by_a_note() {
        let shown = body("![caption](<b\".svg>)\n", &a_figure);
        assert!(shown.contains("no figure <code>b&quot;.svg</code>"), "{shown}");
        assert!(shown.contains("<figcaption>caption</figcaption>"));
    }
}
