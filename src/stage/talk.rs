//! The talk's published tables: the largest test error on a curve, in %.

/// `prior,method,hidden,max_error_percent`, as published.
const TABLES: &str = include_str!("talk_tables.csv");

/// A cell of the talk's tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Published {
    pub(super) prior: &'static str,
    pub(super) method: &'static str,
    pub(super) hidden: i64,
    /// In %.
    pub(super) max_error: f64,
}

/// All cells, in the talk's order.
pub(super) fn published() -> Vec<Published> {
    let cell = |line: &'static str| {
        let mut fields = line.split(',');
        Some(Published {
            prior: fields.next()?,
            method: fields.next()?,
            hidden: fields.next()?.parse().ok()?,
            max_error: fields.next()?.parse().ok()?,
        })
    };
    TABLES.lines().skip(1).filter_map(cell).collect()
}

/// The talk's six methods, in its order.
pub(super) const METHODS: [&str; 6] =
    ["linear", "arc", "linear+wa", "arc+wa", "linear+ot", "arc+ot"];

/// The six and whatever else a run has measured, the six first.
pub(super) fn ordered(methods: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut rest: Vec<String> = methods.into_iter().collect();
    rest.sort_unstable();
    rest.dedup();
    rest.sort_by_key(|m| METHODS.iter().position(|known| known == m).unwrap_or(METHODS.len()));
    rest
}

/// A method as people write it: `Linear + OT`, or `Linear + OT (incoming)` where a choice is not the
/// default.
pub(super) fn title(method: &str) -> String {
    let name = |name: &str| match name {
        "wa" | "ot" => name.to_uppercase(),
        _ => {
            let (first, rest) = name.split_at(name.len().min(1));
            first.to_uppercase() + rest
        }
    };
    let part = |part: &str| match part.split_once(':') {
        Some((part, choice)) => format!("{} ({choice})", name(part)),
        None => name(part),
    };
    method.split('+').map(part).collect::<Vec<_>>().join(" + ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::curve::Method;

    #[test]
    fn the_published_tables_are_whole() {
        let cells = published();
        assert_eq!(cells.len(), 2 * 6 * 6);
        assert_eq!(
            cells[0],
            Published { prior: "none", method: "linear", hidden: 10, max_error: 45.74 }
        );
        assert!(cells.iter().all(|cell| METHODS.contains(&cell.method)));
    }

    #[test]
    fn the_talks_methods_are_methods_of_the_study() {
        for method in METHODS {
            assert!(method.parse::<Method>().is_ok(), "{method}");
        }
    }

    #[test]
    fn methods_read_as_people_write_them() {
        assert_eq!(METHODS.map(title)[4], "Linear + OT");
        assert_eq!(title("arc+ot+wa"), "Arc + OT + WA");
        assert_eq!(title("linear+ot:incoming+wa"), "Linear + OT (incoming) + WA");
        assert_eq!(title("rho-arc+ot"), "Rho-arc + OT");
        let mixed = ["other", "arc", "linear"].map(str::to_owned);
        assert_eq!(ordered(mixed), ["linear", "arc", "other"]);
    }
}
