//! Markdown as HTML. Raw HTML in it is escaped, and links with schemes other than `http`, `https`
//! and `mailto` are removed.

use super::escape;
use crate::report::outline::Outline;
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// Markdown as blocks. A heading in it gets a level below `level`.
pub(super) fn blocks(markdown: &str, level: u8, outline: &Outline) -> String {
    let mut text = String::new();
    html::push_html(&mut text, events(markdown, level, outline).into_iter());
    text
}

/// The events of the Markdown, with scrollable tables and safe links, and without images.
fn events<'a>(markdown: &'a str, level: u8, outline: &Outline) -> Vec<Event<'a>> {
    let mut events = Vec::new();
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    for event in Parser::new_ext(markdown, options) {
        let shown = match event {
            Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
            Event::Start(Tag::Table(alignment)) => {
                let region = "<div class=\"scroll\" tabindex=\"0\" role=\"group\" \
                              aria-label=\"Table\">";
                events.push(Event::Html(region.into()));
                Event::Start(Tag::Table(alignment))
            }
            Event::End(TagEnd::Table) => {
                events.push(Event::End(TagEnd::Table));
                Event::Html("</div>\n".into())
            }
            Event::Start(Tag::CodeBlock(_)) => Event::Html("<pre tabindex=\"0\"><code>".into()),
            Event::End(TagEnd::CodeBlock) => Event::Html("</code></pre>\n".into()),
            Event::Start(Tag::Heading { level: own, .. }) => Event::Start(Tag::Heading {
                level: below(level, own),
                id: None,
                classes: Vec::new(),
                attrs: Vec::new(),
            }),
            Event::End(TagEnd::Heading(own)) => Event::End(TagEnd::Heading(below(level, own))),
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                let start = match is_safe(&dest_url) {
                    true => {
                        let url = outline.link(&dest_url).unwrap_or_else(|| dest_url.to_string());
                        format!("<a href=\"{}\">", escape(&encoded(&url)))
                    }
                    false => "<a>".to_owned(),
                };
                Event::InlineHtml(start.into())
            }
            Event::End(TagEnd::Link | TagEnd::Image) => Event::InlineHtml("</a>".into()),
            Event::Text(text) if text.contains(forbidden) => {
                Event::Text(text.replace(forbidden, "\u{fffd}").into())
            }
            Event::Code(text) if text.contains(forbidden) => {
                Event::Code(text.replace(forbidden, "\u{fffd}").into())
            }
            other => other,
        };
        events.push(shown);
    }
    events
}

/// Whether neither HTML nor XML permits the character.
fn forbidden(c: char) -> bool {
    matches!(c, '\u{fffe}' | '\u{ffff}') || (c.is_control() && !matches!(c, '\t' | '\n' | '\r'))
}

/// The level of a heading in a text below a heading of `level`.
fn below(level: u8, own: HeadingLevel) -> HeadingLevel {
    match (level + 1).max(own as u8) {
        ..=3 => HeadingLevel::H3,
        4 => HeadingLevel::H4,
        5 => HeadingLevel::H5,
        _ => HeadingLevel::H6,
    }
}

/// Whether a link is relative or has one of the permitted schemes.
fn is_safe(url: &str) -> bool {
    let scheme = url.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_none_or(|s| matches!(s, "http" | "https" | "mailto") || s.contains(['/', '#', '?']))
}

/// The URL without the characters that a URL must not have.
fn encoded(url: &str) -> String {
    let mut text = String::new();
    for c in url.chars() {
        match c {
            ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => {
                text += &format!("%{:02X}", c as u32);
            }
            c if c.is_control() => text += &format!("%{:02X}", (c as u32).min(0x7f)),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(markdown: &str) -> String {
        blocks(markdown, 2, &Outline::default())
    }

    #[test]
    fn text_has_lists_tables_and_code() {
        let markdown = "Some *text* and `a < b`.\n\n- one\n- two\n\n| h | error |\n| - | ----: |\n\
                        | 10 | 45.7 |\n\n```bibtex\n@software{<x>}\n```\n\n# Own heading\n";
        insta::assert_snapshot!(html(markdown), @r#"
        <p>Some <em>text</em> and <code>a &lt; b</code>.</p>
        <ul>
        <li>one</li>
        <li>two</li>
        </ul>
        <div class="scroll" tabindex="0" role="group" aria-label="Table"><table><thead><tr><th>h</th><th style="text-align: right">error</th></tr></thead><tbody>
        <tr><td>10</td><td style="text-align: right">45.7</td></tr>
        </tbody></table>
        </div>
        <pre tabindex="0"><code>@software{&lt;x&gt;}
        </code></pre>
        <h3>Own heading</h3>
        "#);
    }

    #[test]
    fn raw_html_is_escaped() {
        let shown = html("<script>alert(1)</script>\n\na <b onclick=\"x\">c</b>\n");
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
            assert_eq!(html(&format!("[x]({url})\n")), "<p><a>x</a></p>\n", "{url}");
            assert_eq!(html(&format!("![x]({url})\n")), "<p><a>x</a></p>\n", "{url}");
        }
        for url in
            ["https://arxiv.org/abs/2008.00741", "#methods", "figures/a:b.svg", "mailto:a@b.c"]
        {
            let link = format!("<p><a href=\"{url}\">x</a></p>\n");
            assert_eq!(html(&format!("[x]({url})\n")), link);
        }
        assert_eq!(html("[x](<a b\".c>)\n"), "<p><a href=\"a%20b%22.c\">x</a></p>\n");
    }
}
