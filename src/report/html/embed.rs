//! The files that the page contains, and its own style sheet and scripts.

use super::escape;
use crate::report::document::EmbeddedFile;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::io::Write as _;

/// In the order of the cascade.
pub(super) const STYLES: &[&str] =
    &[include_str!("../page.css"), include_str!("../page/scripted.css")];

/// They share one module, in this order.
pub(super) const SCRIPTS: &[&str] = &[
    include_str!("../page/base.js"),
    include_str!("../page/choice.js"),
    include_str!("../page/tables.js"),
    include_str!("../page/charts.js"),
    include_str!("../page/explorers.js"),
    include_str!("../page/provenance.js"),
    include_str!("../page/main.js"),
];

/// What the page may do. It has no access to any network: a link is followed only on a click.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
     script-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'";

/// The file as an element that browsers ignore and scripts read.
pub(super) fn element(file: &EmbeddedFile) -> String {
    format!(
        "<script type=\"application/x-deflate\" data-path=\"{}\">{}</script>\n",
        escape(&file.path),
        packed(&file.bytes)
    )
}

/// The bytes as the scripts of the page read them: base64 of raw deflate.
pub fn packed(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(deflated(bytes))
}

/// Raw deflate. Cargo.lock pins the compressor, so that the bytes are the same everywhere.
fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("BUG: writing to memory failed")
}

/// The URL of a file within the page.
pub fn data_url(media_type: &str, bytes: &[u8]) -> String {
    format!("data:{media_type};base64,{}", BASE64_STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn text() -> Vec<u8> {
        let line = |i: u32| format!("{},none,linear,{}\n", i % 7, f64::from(i * i % 1013) / 9.0);
        (0..500).map(line).collect::<String>().into_bytes()
    }

    #[test]
    fn an_embedded_file_is_inflated_to_its_bytes() {
        let element = element(&EmbeddedFile { path: "a\"b.csv".into(), bytes: text() });
        assert!(element.contains(" data-path=\"a&quot;b.csv\""), "{element}");
        let (_, rest) = element.split_once("csv\">").unwrap();
        let packed = BASE64_STANDARD.decode(rest.split_once("</script>").unwrap().0).unwrap();
        let mut bytes = Vec::new();
        flate2::read::DeflateDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, text());
    }

    #[test]
    fn the_deflated_bytes_are_those_of_the_pinned_compressor() {
        let digest = blake3::hash(&deflated(&text())).to_hex();
        assert_eq!(&digest[..16], "140fd2fc764356f8");
    }
}
