//! The place in the report's page for what differs from run to run.
//!
//! The page has an empty element, so that its bytes are the same everywhere. Copies for people have
//! it filled; [`empty`] is the inverse of [`fill`].

/// The start of the element.
const START: &str = "<script type=\"application/json\" id=\"provenance\">";

/// The end of the element.
const END: &str = "</script>";

/// The empty element. A page contains it once.
pub const PLACE: &str = "<script type=\"application/json\" id=\"provenance\"></script>";

/// The page with `json` in the element; `None` if it does not have exactly one, empty element.
///
/// JSON has `<` in strings only, where this function escapes it, so that no text can end the
/// element.
pub fn fill(page: &str, json: &str) -> Option<String> {
    let (before, inside, after) = split(page)?;
    inside.is_empty().then(|| [before, START, &json.replace('<', "\\u003c"), END, after].concat())
}

/// The page with an empty element; `None` if it does not have exactly one element.
pub fn empty(page: &str) -> Option<String> {
    let (before, _, after) = split(page)?;
    Some([before, PLACE, after].concat())
}

/// The text before, inside and after the element.
fn split(page: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = page.split_once(START)?;
    let (inside, after) = rest.split_once(END)?;
    (!after.contains(START)).then_some((before, inside, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_place_is_an_element_without_content() {
        assert_eq!(PLACE, format!("{START}{END}"));
    }

    #[test]
    fn a_page_without_exactly_one_empty_element_is_not_filled() {
        for page in
            ["", "<p>text</p>", START, &format!("{PLACE}{PLACE}"), &format!("{START}1{END}")]
        {
            assert_eq!(fill(page, "{}"), None, "{page}");
        }
        assert_eq!(empty(&format!("{PLACE}{PLACE}")), None);
        assert_eq!(empty("<p>text</p>"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn emptying_a_filled_page_gives_the_page(
            before in any::<String>(), after in any::<String>(), text in any::<String>(),
            end in prop::sample::select(vec!["", "</script>", "<!--", "</SCRIPT >", START, PLACE]),
        ) {
            let page = format!("{before}{PLACE}{after}");
            let json = serde_json::json!({ "node": format!("{text}{end}") });
            let filled = fill(&page, &json.to_string()).unwrap();
            prop_assert_eq!(empty(&filled), Some(page.clone()));
            prop_assert_eq!(empty(&page), Some(page.clone()), "it is the same already");
            let (_, inside, _) = split(&filled).unwrap();
            prop_assert!(!inside.contains('<'));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(inside).unwrap(), json);
        }
    }
}
