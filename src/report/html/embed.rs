//! Files that a page contains.

use super::escape;
use crate::report::document::EmbeddedFile;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::io::Write as _;

/// An element with a file, deflated and in base64. Browsers do not run a script of this type.
pub(super) fn file(file: &EmbeddedFile) -> String {
    let data = BASE64_STANDARD.encode(deflated(&file.bytes));
    let path = escape(&file.path);
    format!("<script type=\"application/x-deflate\" data-path=\"{path}\">{data}</script>\n")
}

/// The bytes as raw deflate.
fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::DeflateDecoder;
    use proptest::prelude::*;
    use std::io::Read as _;

    proptest! {
        #[test]
        fn an_embedded_file_is_restored(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let element = file(&EmbeddedFile { path: "a.csv".into(), bytes: bytes.clone() });
            let start = "<script type=\"application/x-deflate\" data-path=\"a.csv\">";
            let data = element.strip_prefix(start).unwrap().strip_suffix("</script>\n").unwrap();
            let mut restored = Vec::new();
            let deflated = BASE64_STANDARD.decode(data).unwrap();
            DeflateDecoder::new(&deflated[..]).read_to_end(&mut restored).unwrap();
            prop_assert_eq!(restored, bytes);
        }
    }

    #[test]
    fn the_bytes_of_an_embedded_file_are_pinned() {
        let text: String = (0..200).map(|i| format!("{i},{}\n", i * i)).collect();
        let digest = blake3::hash(&deflated(text.as_bytes())).to_hex();
        insta::assert_snapshot!(&digest[..16], @"");
    }
}
