//! Numbers, times and foreign text in messages.

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

/// `1 node`, `2 nodes`.
pub fn count(nodes: usize) -> String {
    format!("{nodes} node{}", if nodes == 1 { "" } else { "s" })
}

/// `0.04s`, `12.3s`, `4m05s`, `2h03m`.
pub fn seconds(x: f64) -> String {
    match x {
        x if x < 1.0 => format!("{x:.2}s"),
        x if x < 60.0 => format!("{x:.1}s"),
        x if x < 3600.0 => format!("{}m{:02}s", (x / 60.0) as u64, (x % 60.0) as u64),
        x => format!("{}h{:02}m", (x / 3600.0) as u64, (x % 3600.0 / 60.0) as u64),
    }
}

/// `17 B`, `4.0 KiB`, `12.3 MiB`.
pub fn bytes(x: u64) -> String {
    if x < 1024 {
        return format!("{x} B");
    }
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = x as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", units[unit])
}

/// The last second of the year 9999.
const LAST: u64 = 253_402_300_799;

/// Seconds since 1970 as a date and time: `2026-11-28T07:00:00Z`.
pub fn utc(seconds: u64) -> String {
    match seconds {
        0..=LAST => {
            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
        }
        _ => "?".to_owned(),
    }
}

/// Shortens a text to a number of characters, and appends the number of omitted characters.
pub fn shorten(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        Some((at, _)) => {
            format!("{}... ({} more characters)", &text[..at], text[at..].chars().count()).into()
        }
        None => text.into(),
    }
}

/// Escapes characters that a terminal interprets: control characters, except those in `kept`, and
/// Unicode direction marks.
pub fn escape_control<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    const MARKS: [char; 12] = [
        '\u{061c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}',
        '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
    ];
    let is_escaped = |c: char| (c.is_control() || MARKS.contains(&c)) && !kept.contains(&c);
    if !text.contains(is_escaped) {
        return text.into();
    }
    let mut written = String::new();
    for c in text.chars() {
        if is_escaped(c) { written.extend(c.escape_default()) } else { written.push(c) }
    }
    written.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_a_terminal_interprets_are_escaped() {
        assert_eq!(
            escape_control("a\tb\n\u{1b}[2J\u{202e}c\r", &['\n']),
            "a\\tb\n\\u{1b}[2J\\u{202e}c\\r"
        );
        assert!(matches!(escape_control("Überblick, 概観: `a`\n", &['\n']), Cow::Borrowed(_)));
    }

    #[test]
    fn durations_have_the_units_of_their_size() {
        assert_eq!([0.04, 12.34, 245.0, 7385.0].map(seconds), ["0.04s", "12.3s", "4m05s", "2h03m"]);
    }

    #[test]
    fn one_node_is_singular() {
        assert_eq!([0, 1, 2].map(count), ["0 nodes", "1 node", "2 nodes"]);
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let read = [0, 1023, 1024, 1536, 5 << 20, 3 << 30].map(bytes);
        assert_eq!(read, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "3.0 GiB"]);
    }
}
