//! Markdown: [`to_markdown`] writes a whole document; the other functions write small elements.

mod source;
mod wide;
mod write;

pub use write::to_markdown;

/// Escapes `text` for Markdown, on one line; also valid in a table.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => escaped.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '&' | '~' | '#' => {
                escaped.extend(['\\', c])
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// The relative URL of the file at `path`, without characters that are special in Markdown or HTML.
pub fn url(path: &str) -> String {
    let mut url = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '/' | '-' | '_' | '.' | '=' | '@' | ',' => url.push(c),
            c if c.is_alphanumeric() => url.push(c),
            c => c
                .encode_utf8(&mut [0; 4])
                .bytes()
                .for_each(|byte| url.push_str(&format!("%{byte:02X}"))),
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use pulldown_cmark::{Event, Options, Parser};

    proptest! {
        #[test]
        fn escaped_text_is_rendered_unchanged(text in "[ -~]{0,20}") {
            let cell = format!("x{text}x");
            let table = format!("| {} |\n| --- |\n", escape(&cell));
            let read: String = Parser::new_ext(&table, Options::ENABLE_TABLES)
                .filter_map(|event| match event {
                    Event::Text(text) => Some(text.to_string()),
                    _ => None,
                })
                .collect();
            prop_assert_eq!(read, cell);
        }
    }
}
