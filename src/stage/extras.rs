//! Pictures of the user's own stages, for the report. One that a browser would not show is refused: a report with a hole in
//! it says less than an error.

use crate::engine::key::Digest;
use crate::engine::stage::Input;
use crate::fs;
use anyhow::{Context as _, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::collections::BTreeSet;

/// A picture that one of the user's own stages has drawn.
pub(super) struct Extra {
    /// A file name, of no other picture of the report.
    name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
}

/// What a picture's name ends with, in any case.
const PICTURES: [(&str, Picture); 6] = [
    ("svg", Picture::Svg),
    ("png", Picture::Png),
    ("jpg", Picture::Jpeg),
    ("jpeg", Picture::Jpeg),
    ("gif", Picture::Gif),
    ("webp", Picture::Webp),
];

/// What the names of pictures end with that browsers do not show.
const NOT_SHOWN: [&str; 8] = ["bmp", "emf", "eps", "heic", "pdf", "ps", "tif", "tiff"];

/// The kinds of pictures that browsers show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Picture {
    Svg,
    Png,
    Jpeg,
    Gif,
    Webp,
}

impl Picture {
    fn of(name: &str) -> Option<Picture> {
        PICTURES.iter().find(|(end, _)| *end == ending(name)).map(|(_, picture)| *picture)
    }

    fn media_type(self) -> &'static str {
        match self {
            Picture::Svg => "image/svg+xml",
            Picture::Png => "image/png",
            Picture::Jpeg => "image/jpeg",
            Picture::Gif => "image/gif",
            Picture::Webp => "image/webp",
        }
    }

    /// Refuses bytes that are no such picture, or not the whole of one.
    fn check(self, bytes: &[u8]) -> Result<(), String> {
        let (begins, ends) = match self {
            Picture::Svg => return check_svg(bytes),
            Picture::Png => {
                (bytes.starts_with(b"\x89PNG\r\n\x1a\n"), ends_near(bytes, b"IEND\xae\x42\x60\x82"))
            }
            Picture::Jpeg => (bytes.starts_with(b"\xff\xd8\xff"), ends_near(bytes, b"\xff\xd9")),
            Picture::Gif => (bytes.starts_with(b"GIF8"), ends_near(bytes, b"\x3b")),
            Picture::Webp => {
                (bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"), true)
            }
        };
        match (begins, ends) {
            _ if bytes.is_empty() => Err("it is empty".into()),
            (false, _) => Err(format!("it does not begin as one of {}", self.media_type())),
            (true, false) => Err("its end is missing".into()),
            (true, true) => Ok(()),
        }
    }
}

/// Whether `bytes` end with `end`, or with that and little else, as some programs write.
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

/// What follows the last dot of a name, in lower case.
fn ending(name: &str) -> String {
    name.rsplit_once('.').map_or("", |(_, end)| end).to_lowercase()
}

impl Extra {
    /// The pictures among the files of `inputs`, under names that are not in `taken`. Of each input there must be one.
    pub(super) fn read(inputs: &[Input], mut taken: BTreeSet<String>) -> Result<Vec<Extra>> {
        let mut extras = Vec::new();
        for input in inputs {
            let before = extras.len();
            for (file, content) in &input.artifact {
                let Some(digest) = content.digest() else { continue };
                let Some(picture) = Picture::of(file) else {
                    if NOT_SHOWN.contains(&ending(file).as_str()) {
                        bail!(
                            "the extra `{file}` is no picture that browsers show; write it as SVG or PNG"
                        );
                    }
                    continue;
                };
                let bytes = fs::read(input.path(file)?)?;
                picture
                    .check(&bytes)
                    .map_err(anyhow::Error::msg)
                    .with_context(|| format!("the extra `{file}` cannot be shown"))?;
                let plain = file.replace('/', "-");
                let (stem, end) = plain.rsplit_once('.').unwrap_or((&plain, ""));
                let numbered = (2..).map(|n| format!("{stem}-{n}.{end}"));
                let name = std::iter::once(plain.clone())
                    .chain(numbered)
                    .find(|name| !taken.contains(name));
                let name = name.unwrap_or_default();
                taken.insert(name.clone());
                extras.push(Extra { name, bytes, digest });
            }
            if extras.len() == before {
                let files: Vec<String> =
                    input.artifact.keys().take(5).map(|file| format!("`{file}`")).collect();
                bail!(
                    "an extra has no picture among its files ({}); names of pictures end with {}",
                    files.join(", "),
                    PICTURES.map(|(end, _)| format!("`.{end}`")).join(", ")
                );
            }
        }
        Ok(extras)
    }

    pub(super) fn path(&self) -> String {
        format!("figures/{}", self.name)
    }

    /// The title that an SVG gives itself; else the file's name.
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

    /// As an image, not as markup: whatever a stranger's SVG holds, nothing runs and nothing is fetched.
    pub(super) fn to_html(&self) -> String {
        let media_type = Picture::of(&self.name).map_or("", Picture::media_type);
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

    /// The pictures of one stage that wrote these files.
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
    fn a_picture_of_the_users_own_is_called_by_its_title_or_else_its_name() {
        let caption = |bytes: &str| {
            Extra { name: "a.svg".into(), bytes: bytes.into(), digest: Digest::of(b"") }.caption()
        };
        assert_eq!(caption("<svg><title> x &lt; y </title></svg>"), "x < y");
        assert_eq!(caption("<svg><title></title></svg>"), "a.svg");
        assert_eq!(caption("<title>"), "a.svg");
    }

    #[test]
    fn a_picture_that_cannot_be_shown_is_refused_and_one_that_can_is_not() {
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
            let refused = format!("{:#}", read(&[(name, b"")]).err().unwrap());
            assert!(
                refused.starts_with(&format!("the extra `{name}` cannot be shown: ")),
                "{refused}"
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
            assert!(
                refusal(name, "x").contains(&format!("`{name}` is no picture that browsers show"))
            );
        }
        assert!(
            refusal("numbers.csv", "1")
                .starts_with("an extra has no picture among its files (`numbers.csv`)")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_extras_name_reads_as_itself_in_markdown_and_html_and_finds_its_picture(
            stem in r#"[ -~äé\n\t]{1,12}"#,
        ) {
            let extras = read(&[(&format!("{stem}.svg"), SVG.as_bytes())]).unwrap();
            let extra = &extras[0];
            let text = markdown::figure(&markdown::escape(&extra.caption()), &extra.path());
            let picture = |url: &str| (url == markdown::url(&extra.path())).then(|| "<svg>there</svg>".to_owned());
            let page = html::page("t", &text, &picture);
            prop_assert!(page.contains("<svg>there</svg>"), "{text}");
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
