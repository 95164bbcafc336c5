//! Converts the Markdown of texts and captions to HTML.
//!
//! Raw HTML in the Markdown is escaped. Links with schemes other than `http`, `https` and `mailto`
//! are removed. An image is replaced by its text.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html};

/// Paragraphs and lists as HTML.
pub(super) fn prose(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let events = Parser::new_ext(markdown, options).flat_map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => vec![Event::Text(text)],
        Event::Start(Tag::Table(_)) => vec![
            Event::Html(
                "<div class=\"scroll\" tabindex=\"0\" role=\"group\" \
                         aria-label=\"Table\">"
                    .into(),
            ),
            event,
        ],
        Event::End(TagEnd::Table) => vec![event, Event::Html("</div>\n".into())],
        Event::Start(Tag::Link { ref dest_url, .. }) if !is_safe(dest_url) => {
            vec![Event::InlineHtml("<a>".into())]
        }
        Event::Start(Tag::Image { .. }) | Event::End(TagEnd::Image) => Vec::new(),
        other => vec![other],
    });
    let mut text = String::new();
    html::push_html(&mut text, events);
    text
}

/// Whether a link is relative or has one of the permitted schemes.
fn is_safe(url: &str) -> bool {
    let scheme = url.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_none_or(|s| matches!(s, "http" | "https" | "mailto") || s.contains(['/', '#', '?']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_paragraphs_lists_tables_and_code() {
        let markdown = "Some *text* and `code`.\n\n- one\n- two\n\n\
                        | h | error |\n| - | ----: |\n| 10 | 45.7 |\n";
        insta::assert_snapshot!(prose(markdown), @r#"
        <p>Some <em>text</em> and <code>code</code>.</p>
        <ul>
        <li>one</li>
        <li>two</li>
        </ul>
        <div class="scroll" tabindex="0" role="group" aria-label="Table"><table><thead><tr><th>h</th><th style="text-align: right">error</th></tr></thead><tbody>
        <tr><td>10</td><td style="text-align: right">45.7</td></tr>
        </tbody></table>
        </div>
        "#);
    }

    #[test]
    fn raw_html_is_escaped() {
        let shown = prose("<script>alert(1)</script>\n\na <b onclick=\"x\">c</b>\n");
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
            assert_eq!(prose(&format!("[x]({url})\n")), "<p><a>x</a></p>\n", "{url}");
        }
        for url in
            ["https://arxiv.org/abs/2008.00741", "#methods", "figures/a:b.svg", "mailto:a@b.c"]
        {
            let shown = prose(&format!("[x]({url})\n"));
            assert_eq!(shown, format!("<p><a href=\"{url}\">x</a></p>\n"));
        }
    }

    #[test]
    fn an_image_is_replaced_by_its_text() {
        assert_eq!(prose("a ![b](http://c/d.png) e\n"), "<p>a b e</p>\n");
    }
}
