//! CITATION.cff is valid and agrees with Cargo.toml.

use serde::Deserialize;
use std::path::Path;

/// The fields of the Citation File Format 1.2.0 that the file uses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Citation {
    cff_version: String,
    message: String,
    title: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "abstract")]
    summary: String,
    version: String,
    license: Vec<String>,
    authors: Vec<Entity>,
    keywords: Vec<String>,
    references: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entity {
    name: String,
}

#[test]
fn the_citation_has_the_version_license_and_title_of_the_package() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("CITATION.cff");
    let text = std::fs::read_to_string(path).unwrap();
    let citation: Citation = serde_yaml::from_str(&text).unwrap();
    assert_eq!((citation.cff_version.as_str(), citation.kind.as_str()), ("1.2.0", "software"));
    assert_eq!(citation.title, env!("CARGO_PKG_NAME"));
    assert_eq!(citation.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(citation.license.join(" OR "), env!("CARGO_PKG_LICENSE"));
    assert_eq!(citation.summary, env!("CARGO_PKG_DESCRIPTION"));
    assert!(!citation.message.is_empty() && !citation.keywords.is_empty());
    assert_eq!(citation.authors.len(), 1);
    let license =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("LICENSE-MIT"));
    let authors = citation.authors[0].name.to_lowercase();
    assert!(license.unwrap().contains(&authors), "the license names the same authors");
    for reference in &citation.references {
        for field in ["type", "title", "authors"] {
            assert!(!reference[field].is_null(), "{field} in {reference}");
        }
    }
}
