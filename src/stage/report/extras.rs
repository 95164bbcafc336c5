//! Images of the user's own stages, for the report. An image that browsers cannot show is an error.

use crate::engine::key::Digest;
use crate::engine::stage::{Hinted, Input};
use crate::fs;
use anyhow::{Context as _, Result};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::collections::BTreeSet;

/// An image of one of the user's own stages.
pub(super) struct Extra {
    /// A file name that is unique in the report.
    name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
}

/// The formats by extension.
const FORMATS: [(&str, Format); 6] = [
    ("svg", Format::Svg),
    ("png", Format::Png),
    ("jpg", Format::Jpeg),
    ("jpeg", Format::Jpeg),
    ("gif", Format::Gif),
    ("webp", Format::Webp),
];

/// The extensions of image formats that browsers do not support.
const UNSUPPORTED: [&str; 8] = ["bmp", "emf", "eps", "heic", "pdf", "ps", "tif", "tiff"];

/// An image format that browsers support.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Svg,
    Png,
    Jpeg,
    Gif,
    Webp,
}

impl Format {
    fn of(name: &str) -> Option<Format> {
        FORMATS.iter().find(|(known, _)| *known == extension(name)).map(|(_, format)| *format)
    }

    fn media_type(self) -> &'static str {
        match self {
            Format::Svg => "image/svg+xml",
            Format::Png => "image/png",
            Format::Jpeg => "image/jpeg",
            Format::Gif => "image/gif",
            Format::Webp => "image/webp",
        }
    }

    /// Rejects bytes of another format and truncated files.
    fn check(self, bytes: &[u8]) -> Result<(), String> {
        let (begins, ends) = match self {
            Format::Svg => return check_svg(bytes),
            Format::Png => {
                (bytes.starts_with(b"\x89PNG\r\n\x1a\n"), ends_near(bytes, b"IEND\xae\x42\x60\x82"))
            }
            Format::Jpeg => (bytes.starts_with(b"\xff\xd8\xff"), ends_near(bytes, b"\xff\xd9")),
            Format::Gif => (bytes.starts_with(b"GIF8"), ends_near(bytes, b"\x3b")),
            Format::Webp => (bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"), true),
        };
        match (begins, ends) {
            _ if bytes.is_empty() => Err("it is empty".into()),
            (false, _) => Err(format!("it is not of type {}", self.media_type())),
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

fn check_svg(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let options =
        roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
    let document =
        roxmltree::Document::parse_with_options(text.trim_start_matches('\u{feff}'), options)
            .map_err(|e| format!("it is not well-formed XML: {e}"))?;
    match document.root_element().tag_name() {
        name if name.name() != "svg" => Err(format!("its root is `{}`, not `svg`", name.name())),
        name if name.namespace() != Some("http://www.w3.org/2000/svg") => {
            Err("its root lacks `xmlns=\"http://www.w3.org/2000/svg\"`".into())
        }
        _ => Ok(()),
    }
}

/// A name's extension in lower case.
fn extension(name: &str) -> String {
    name.rsplit_once('.').map_or("", |(_, extension)| extension).to_lowercase()
}

impl Extra {
    /// The images among the files of `inputs`, at least one in each, under names that are not in
    /// `used`.
    pub(super) fn read(inputs: &[Input], mut used: BTreeSet<String>) -> Result<Vec<Extra>> {
        let mut extras = Vec::new();
        for input in inputs {
            let before = extras.len();
            for (file, content) in &input.artifact {
                let Some(digest) = content.digest() else { continue };
                let Some(format) = Format::of(file) else {
                    if UNSUPPORTED.contains(&extension(file).as_str()) {
                        let cause = format!("browsers cannot show the image `{file}` in `extras`");
                        return Err(Hinted::new(cause, "write it as SVG or PNG").into());
                    }
                    continue;
                };
                let bytes = fs::read(input.path(file)?)?;
                format
                    .check(&bytes)
                    .map_err(anyhow::Error::msg)
                    .with_context(|| format!("invalid image `{file}` in `extras`"))?;
                let plain = file.replace('/', "-");
                let (stem, end) = plain.rsplit_once('.').unwrap_or((&plain, ""));
                let numbered = (2..).map(|n| format!("{stem}-{n}.{end}"));
                let name = std::iter::once(plain.clone())
                    .chain(numbered)
                    .find(|name| !used.contains(name));
                let name = name.unwrap_or_default();
                used.insert(name.clone());
                extras.push(Extra { name, bytes, digest });
            }
            if extras.len() == before {
                let files: Vec<String> =
                    input.artifact.keys().take(5).map(|file| format!("`{file}`")).collect();
                let extensions = FORMATS.map(|(extension, _)| format!("`.{extension}`"));
                return Err(Hinted::new(
                    format!("an input in `extras` has no image ({})", files.join(", ")),
                    format!("write a file with the extension {}", extensions.join(", ")),
                )
                .into());
            }
        }
        Ok(extras)
    }

    pub(super) fn path(&self) -> String {
        format!("figures/{}", self.name)
    }

    /// The title of an SVG, or the file's name.
    pub(super) fn caption(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
        let plain = |title: &str| {
            title.trim().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        };
        title
            .map(|(title, _)| plain(title))
            .filter(|title| !title.is_empty())
            .unwrap_or_else(|| self.name.clone())
    }

    /// An `img` element with the image as a data URL: browsers run no scripts in an SVG that is an
    /// image, and fetch nothing for it.
    pub(super) fn to_html(&self) -> String {
        let media_type = Format::of(&self.name).map_or("", Format::media_type);
        let data = BASE64_STANDARD.encode(&self.bytes);
        format!(
            "<img alt=\"\" style=\"display: block; max-width: 100%; margin: 0 auto\" \
             src=\"data:{media_type};base64,{data}\">"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::key::Artifact;
    use crate::report::{html, markdown};
    use proptest::prelude::*;

    const SVG: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\"/>";

    /// The images of a stage with these outputs.
    fn read(files: &[(&str, &[u8])]) -> Result<Vec<Extra>> {
        let folder = tempfile::tempdir().unwrap();
        let path = |k: usize| folder.path().join(k.to_string());
        files.iter().enumerate().for_each(|(k, (_, bytes))| fs::write(&path(k), bytes).unwrap());
        let artifact: Artifact = files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), Digest::of(bytes).into()))
            .collect();
        let paths =
            files.iter().enumerate().map(|(k, (name, _))| ((*name).to_owned(), path(k))).collect();
        Extra::read(&[Input::new(artifact, paths)], BTreeSet::new())
    }

    #[test]
    fn the_caption_is_the_title_of_the_svg_or_the_file_name() {
        let caption = |bytes: &str| {
            Extra { name: "a.svg".into(), bytes: bytes.into(), digest: Digest::of(b"") }.caption()
        };
        assert_eq!(caption("<svg><title> x &lt; y </title></svg>"), "x < y");
        assert_eq!(caption("<svg><title></title></svg>"), "a.svg");
        assert_eq!(caption("<title>"), "a.svg");
    }

    #[test]
    fn an_image_that_browsers_cannot_show_is_an_error() {
        let png = b"\x89PNG\r\n\x1a\n....IEND\xae\x42\x60\x82";
        let jpeg = b"\xff\xd8\xff....\xff\xd9";
        let svg = format!("\u{feff}<?xml version=\"1.0\"?><!DOCTYPE svg><!-- x -->{SVG}\n");
        let shown: [(&str, &[u8]); 6] = [
            ("a.svg", svg.as_bytes()),
            ("a.PNG", png),
            ("a.jpg", jpeg),
            ("a.b.Jpeg", jpeg),
            ("a.gif", b"GIF89a;"),
            ("a.webp", b"RIFF....WEBP"),
        ];
        for (name, bytes) in shown {
            assert_eq!(read(&[(name, bytes), ("numbers.csv", b"1")]).unwrap().len(), 1, "{name}");
            let error = format!("{:#}", read(&[(name, b"")]).err().unwrap());
            assert_eq!(
                error.split_once(": ").unwrap().0,
                format!("invalid image `{name}` in `extras`")
            );
            let (other, cut) =
                (read(&[(name, b"Traceback")]), read(&[(name, &bytes[..bytes.len() - 4])]));
            assert!(
                other.is_err() && cut.is_err() || name == "a.gif" || name == "a.webp",
                "{name}"
            );
        }
        let refusal = |name: &str, bytes: &str| {
            format!("{:#}", read(&[(name, bytes.as_bytes())]).err().unwrap())
        };
        assert!(refusal("a.svg", "<html/>").ends_with("its root is `html`, not `svg`"));
        assert!(
            refusal("a.svg", "<svg/>")
                .ends_with("its root lacks `xmlns=\"http://www.w3.org/2000/svg\"`")
        );
        assert!(refusal("a.svg", "<svg>").contains("it is not well-formed XML"));
        for name in ["a.pdf", "a.EPS", "b/a.tiff"] {
            assert_eq!(
                refusal(name, "x"),
                format!("browsers cannot show the image `{name}` in `extras`")
            );
        }
        assert_eq!(
            refusal("numbers.csv", "1"),
            "an input in `extras` has no image (`numbers.csv`)"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_file_name_is_escaped_in_markdown_and_html(
            stem in r#"[ -~äé\n\t]{1,12}"#,
        ) {
            let extras = read(&[(&format!("{stem}.svg"), SVG.as_bytes())]).unwrap();
            let extra = &extras[0];
            let text = markdown::figure(&markdown::escape(&extra.caption()), &extra.path());
            let image = |url: &str| {
                (url == markdown::url(&extra.path())).then(|| "<svg>found</svg>".to_owned())
            };
            let page = html::page("t", &text, &image);
            prop_assert!(page.contains("<svg>found</svg>"), "{text}");
            prop_assert!(!page.contains("no figure"));
            let (_, body) = page.split_once("<figcaption>").unwrap();
            let (caption, _) = body.split_once("</figcaption>").unwrap();
            let read: String = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")]
                .iter()
                .fold(caption.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain));
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(words(&read), words(&extra.caption()));
            prop_assert!(!caption.contains('<'));
        }
    }
}
