//! The formats of files in `extras`, and the checks that a browser and GitHub can show a file.

use super::super::sheet::Sheet;
use crate::report::document::Image;

/// The maximum size of a file, in bytes.
pub(super) const MAX_BYTES: usize = 2 << 20;
/// The maximum size of all files, in bytes.
pub(super) const MAX_TOTAL: usize = 8 << 20;
/// The maximum number of cells in a table.
pub(super) const MAX_CELLS: usize = 20_000;

/// The formats by extension.
const FORMATS: [(&str, Format); 11] = [
    ("md", Format::Markdown),
    ("markdown", Format::Markdown),
    ("csv", Format::Csv),
    ("html", Format::Html),
    ("htm", Format::Html),
    ("svg", Format::Svg),
    ("png", Format::Png),
    ("jpg", Format::Jpeg),
    ("jpeg", Format::Jpeg),
    ("gif", Format::Gif),
    ("webp", Format::Webp),
];

/// The extensions of other formats, and what to write instead.
const INSTEAD: [(&[&str], &str); 5] = [
    (&["bmp", "emf", "eps", "heic", "pdf", "ps", "tif", "tiff"], "write it as SVG or PNG"),
    (&["tsv", "xls", "xlsx", "ods", "parquet", "feather", "json", "jsonl"], "write it as CSV"),
    (&["txt", "rst", "tex", "docx", "odt", "log", "ipynb"], "write it as Markdown"),
    (&["npy", "npz", "pkl", "pt", "h5", "safetensors"], "write what to show of it as CSV or PNG"),
    (&["mp4", "webm", "mov", "avi"], "write it as GIF or WebP"),
];

/// A format that a report can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Markdown,
    Csv,
    Html,
    Svg,
    Png,
    Jpeg,
    Gif,
    Webp,
}

/// A file that a report can show.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Markdown(String),
    Table(Sheet),
    Html(String),
    Image {
        image: Image,
        /// The title in the file.
        title: Option<String>,
        /// The description in the file.
        description: Option<String>,
    },
}

/// Why a file cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// A sentence about "it".
    pub(super) reason: String,
    /// What to write instead.
    pub(super) hint: Option<String>,
}

impl Refusal {
    fn new(reason: impl Into<String>) -> Refusal {
        Refusal { reason: reason.into(), hint: None }
    }

    fn with_hint(reason: impl Into<String>, hint: &str) -> Refusal {
        Refusal { reason: reason.into(), hint: Some(hint.to_owned()) }
    }
}

/// A name's extension in lower case.
fn extension(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.rsplit_once('.').map_or("", |(_, extension)| extension).to_lowercase()
}

impl Format {
    fn of(name: &str) -> Result<Format, Refusal> {
        let extension = extension(name);
        if let Some((_, format)) = FORMATS.iter().find(|(known, _)| *known == extension) {
            return Ok(*format);
        }
        let instead = INSTEAD.iter().find(|(known, _)| known.contains(&extension.as_str()));
        let formats = "write it as Markdown, CSV, HTML, SVG, PNG, JPEG, GIF or WebP";
        let hint = instead.map_or(formats, |(_, hint)| hint);
        Err(match extension.as_str() {
            "" => Refusal::with_hint("its name has no extension", hint),
            extension => {
                let reason = format!("files of type `.{extension}` are not supported");
                Refusal::with_hint(reason, hint)
            }
        })
    }

    /// The media type of an image; `None` for other formats.
    fn media_type(self) -> Option<&'static str> {
        match self {
            Format::Svg => Some("image/svg+xml"),
            Format::Png => Some("image/png"),
            Format::Jpeg => Some("image/jpeg"),
            Format::Gif => Some("image/gif"),
            Format::Webp => Some("image/webp"),
            Format::Markdown | Format::Csv | Format::Html => None,
        }
    }
}

impl Content {
    /// The content of the file `name`.
    ///
    /// # Errors
    /// Why a report cannot show it.
    pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Content, Refusal> {
        let format = Format::of(name)?;
        let is_blank = bytes.iter().all(u8::is_ascii_whitespace);
        if is_blank {
            return Err(Refusal::new("it is empty"));
        }
        if bytes.len() > MAX_BYTES {
            let reason = format!(
                "it has {:.1} MiB, and a report shows at most {} MiB of a file",
                bytes.len() as f64 / f64::from(1 << 20),
                MAX_BYTES >> 20
            );
            return Err(Refusal::with_hint(reason, "write a smaller file"));
        }
        match format {
            Format::Markdown => Ok(Content::Markdown(text(bytes)?)),
            Format::Html => html(text(bytes)?).map(Content::Html),
            Format::Csv => table(bytes).map(Content::Table),
            Format::Svg => {
                let (title, description) = svg(&text(bytes)?)?;
                Ok(Content::Image { image: image(format, bytes), title, description })
            }
            _ => {
                format.check(bytes).map_err(Refusal::new)?;
                let image = image(format, bytes);
                Ok(Content::Image { image, title: None, description: None })
            }
        }
    }
}

fn image(format: Format, bytes: &[u8]) -> Image {
    Image::File { media_type: format.media_type().unwrap_or_default(), bytes: bytes.to_vec() }
}

fn text(bytes: &[u8]) -> Result<String, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| Refusal::new("it is not UTF-8"))?;
    if text.contains('\0') {
        return Err(Refusal::new("it contains NUL characters"));
    }
    Ok(text.trim_start_matches('\u{feff}').replace("\r\n", "\n"))
}

fn html(text: String) -> Result<String, Refusal> {
    let has_tag = text
        .match_indices('<')
        .any(|(at, _)| text[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '!'));
    match has_tag {
        true => Ok(text),
        false => Err(Refusal::with_hint("it contains no HTML element", "write it as Markdown")),
    }
}

fn table(bytes: &[u8]) -> Result<Sheet, Refusal> {
    let sheet = Sheet::parse(bytes)
        .map_err(|reason| Refusal::with_hint(reason, "write it as in RFC 4180"))?;
    let cells = sheet.columns.len() * (sheet.rows.len() + 1);
    if cells > MAX_CELLS {
        let reason = format!("it has {cells} cells, and a report shows at most {MAX_CELLS}");
        return Err(Refusal::with_hint(reason, "write a table with fewer rows"));
    }
    Ok(sheet)
}

/// The title and the description of an SVG.
fn svg(text: &str) -> Result<(Option<String>, Option<String>), Refusal> {
    let options =
        roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
    let document = roxmltree::Document::parse_with_options(text, options)
        .map_err(|e| Refusal::new(format!("it is not well-formed XML: {e}")))?;
    let root = document.root_element();
    match root.tag_name() {
        name if name.name() != "svg" => {
            return Err(Refusal::new(format!("its root is `{}`, not `svg`", name.name())));
        }
        name if name.namespace() != Some("http://www.w3.org/2000/svg") => {
            let reason = "its root lacks `xmlns=\"http://www.w3.org/2000/svg\"`";
            return Err(Refusal::new(reason));
        }
        _ => {}
    }
    let child = |name: &str| {
        let element = root.children().find(|child| child.tag_name().name() == name)?;
        let texts = element.descendants().filter(roxmltree::Node::is_text);
        let text: String = texts.filter_map(|node| node.text()).collect();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Some(text).filter(|text| !text.is_empty())
    };
    Ok((child("title"), child("desc")))
}

impl Format {
    /// Rejects images of another format, and truncated ones.
    fn check(self, bytes: &[u8]) -> Result<(), String> {
        let (begins, ends) = match self {
            Format::Png => {
                (bytes.starts_with(b"\x89PNG\r\n\x1a\n"), ends_near(bytes, b"IEND\xae\x42\x60\x82"))
            }
            Format::Jpeg => (bytes.starts_with(b"\xff\xd8\xff"), ends_near(bytes, b"\xff\xd9")),
            Format::Gif => (bytes.starts_with(b"GIF8"), ends_near(bytes, b"\x3b")),
            Format::Webp => (
                bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
                riff_length(bytes).is_some_and(|length| length <= bytes.len()),
            ),
            _ => (true, true),
        };
        match (begins, ends) {
            (false, _) => {
                Err(format!("it is not of type {}", self.media_type().unwrap_or_default()))
            }
            (true, false) => Err("it is truncated".into()),
            (true, true) => Ok(()),
        }
    }
}

/// Whether `end` is near the end of `bytes`: some programs write padding after it.
fn ends_near(bytes: &[u8], end: &[u8]) -> bool {
    let last = &bytes[bytes.len().saturating_sub(1024)..];
    last.windows(end.len()).any(|window| window == end)
}

/// The length of a RIFF file, in bytes, from its header.
fn riff_length(bytes: &[u8]) -> Option<usize> {
    let length: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(length)).ok()?.checked_add(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SVG: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\"/>";
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n....IEND\xae\x42\x60\x82";
    const JPEG: &[u8] = b"\xff\xd8\xff....\xff\xd9";
    const WEBP: &[u8] = b"RIFF\x04\0\0\0WEBP";

    fn refusal(name: &str, bytes: &[u8]) -> String {
        Content::read(name, bytes).unwrap_err().reason
    }

    #[test]
    fn files_of_every_format_are_shown_and_empty_wrong_or_truncated_ones_are_not() {
        let svg = format!("\u{feff}<?xml version=\"1.0\"?><!DOCTYPE svg><!-- x -->{SVG}\n");
        let shown: [(&str, &[u8]); 11] = [
            ("a.svg", svg.as_bytes()),
            ("a.PNG", PNG),
            ("a.jpg", JPEG),
            ("a.b.Jpeg", JPEG),
            ("a.gif", b"GIF89a;"),
            ("a.webp", WEBP),
            ("a.md", b"text"),
            ("a.markdown", b"text"),
            ("a.csv", b"a,b\n1,2\n"),
            ("b/a.html", b"<p>text"),
            ("a.htm", b"<!doctype html>"),
        ];
        for (name, bytes) in shown {
            assert!(Content::read(name, bytes).is_ok(), "{name}");
            assert_eq!(refusal(name, b""), "it is empty", "{name}");
            assert_eq!(refusal(name, b" \n"), "it is empty", "{name}");
            let is_text = name.ends_with("md") || name.ends_with("markdown");
            let is_csv = name.ends_with("csv");
            assert_eq!(Content::read(name, b"Traceback").is_ok(), is_text || is_csv, "{name}");
            let binary = Content::read(name, b"\0\x01\xff");
            assert!(binary.is_err(), "{name}");
            if Content::read(name, bytes).is_ok_and(|c| matches!(c, Content::Image { .. })) {
                assert!(Content::read(name, &bytes[..bytes.len() - 4]).is_err(), "{name}");
            }
        }
    }

    #[test]
    fn an_image_of_another_type_and_a_truncated_one_are_distinguished() {
        assert_eq!(refusal("a.png", JPEG), "it is not of type image/png");
        assert_eq!(refusal("a.png", &PNG[..10]), "it is truncated");
        assert_eq!(refusal("a.webp", &WEBP[..8]), "it is not of type image/webp");
        assert_eq!(refusal("a.webp", b"RIFF\x10\0\0\0WEBP"), "it is truncated");
        assert_eq!(refusal("a.svg", b"<html/>"), "its root is `html`, not `svg`");
        assert_eq!(
            refusal("a.svg", b"<svg/>"),
            "its root lacks `xmlns=\"http://www.w3.org/2000/svg\"`"
        );
        assert!(refusal("a.svg", b"<svg>").starts_with("it is not well-formed XML: "));
    }

    #[test]
    fn a_file_of_another_format_is_refused_with_the_format_to_write() {
        let case = |name: &str, reason: &str, hint: &str| {
            let refusal = Content::read(name, b"x").unwrap_err();
            assert_eq!((refusal.reason.as_str(), refusal.hint.as_deref()), (reason, Some(hint)));
        };
        let formats = "write it as Markdown, CSV, HTML, SVG, PNG, JPEG, GIF or WebP";
        case("a.PDF", "files of type `.pdf` are not supported", "write it as SVG or PNG");
        case("x/a.json", "files of type `.json` are not supported", "write it as CSV");
        case("a.txt", "files of type `.txt` are not supported", "write it as Markdown");
        case("a.xyz", "files of type `.xyz` are not supported", formats);
        case("a.d/b", "its name has no extension", formats);
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_with_the_limit() {
        let mut png = PNG.to_vec();
        png.resize(MAX_BYTES + 1, 0);
        assert_eq!(
            refusal("a.png", &png),
            "it has 2.0 MiB, and a report shows at most 2 MiB of a file"
        );
        let table = "1,2\n".repeat(MAX_CELLS / 2 + 1);
        assert_eq!(
            refusal("a.csv", table.as_bytes()),
            "it has 20002 cells, and a report shows at most 20000"
        );
    }

    #[test]
    fn an_svg_has_a_title_and_a_description() {
        let read = |inside: &str| {
            let text = format!("<svg xmlns=\"http://www.w3.org/2000/svg\">{inside}</svg>");
            match Content::read("a.svg", text.as_bytes()) {
                Ok(Content::Image { title, description, .. }) => (title, description),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            read("<title> x &lt;\n y </title><g><title>z</title></g><desc>d</desc>"),
            (Some("x < y".into()), Some("d".into()))
        );
        assert_eq!(read("<title></title><g><desc>d</desc></g>"), (None, None));
    }
}
