//! Methods by name: curve, alignment, repair, and adjustment.

use super::align::Cost;
use super::learn::LearnedCurve;
use super::refit::Targets;
use super::{CURVES, Center, Curve, dropout_path};
use crate::study::registry::unknown;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The curve of that name.
pub fn curve(name: &str) -> Result<&'static dyn Curve, String> {
    let found = CURVES.iter().copied().find(|curve| curve.name() == name);
    found.ok_or_else(|| unknown("curve", name, CURVES.iter().map(|curve| curve.name())))
}

/// The curve of a [`Method`].
#[derive(Clone, Copy, Debug)]
pub enum CurveKind {
    /// A closed-form curve.
    ClosedForm(&'static dyn Curve),
    /// The dropout-stable path.
    DropoutPath,
    /// A curve whose bends were learned.
    Learned(LearnedCurve),
}

impl CurveKind {
    /// The name in parameters and tables, without a choice such as the number of bends.
    pub fn name(self) -> &'static str {
        match self {
            CurveKind::ClosedForm(curve) => curve.name(),
            CurveKind::DropoutPath => dropout_path::NAME,
            CurveKind::Learned(curve) => curve.family(),
        }
    }

    /// The name in figures and reports, without a choice.
    pub fn title(self) -> &'static str {
        match self {
            CurveKind::ClosedForm(curve) => curve.title(),
            CurveKind::DropoutPath => dropout_path::TITLE,
            CurveKind::Learned(curve) => curve.title(),
        }
    }

    /// Whether the curve depends on its center.
    pub fn uses_center(self) -> bool {
        matches!(self, CurveKind::ClosedForm(curve) if curve.uses_center())
    }

    /// What the curve is, in one sentence of plain text. A and B are the two nets.
    pub fn definition(self) -> &'static str {
        match self {
            CurveKind::ClosedForm(curve) => curve.definition(),
            CurveKind::DropoutPath => dropout_path::DEFINITION,
            CurveKind::Learned(curve) => curve.definition(),
        }
    }

    /// Whether its bends were learned.
    pub fn is_learned(self) -> bool {
        matches!(self, CurveKind::Learned(_))
    }
}

/// The name of the curve that is given by learned bends, as a parameter.
const LEARNED: &str = "learned";

/// The parameter `curve` of a measurement: a closed-form curve, and whether W2 is refitted along it
/// (weight adjustment, WA), written "arc" or "arc+wa"; or the dropout-stable path, written
/// "dropout-path"; or the curve of learned bends, written "learned".
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(into = "String")]
pub enum CurveSpec {
    /// A closed-form curve.
    ClosedForm {
        /// The curve of the parameters; with WA, that of W1.
        curve: &'static dyn Curve,
        /// Whether W2 is refitted by [`super::refit::refit`].
        refitted: bool,
    },
    /// The dropout-stable path.
    DropoutPath,
    /// The curve that the bends belong to.
    Learned,
}

impl CurveSpec {
    /// Each closed-form curve as it is, then each with WA, then the dropout-stable path, then the
    /// learned ones.
    pub fn all() -> impl Iterator<Item = CurveSpec> {
        let specs =
            |refitted| CURVES.iter().map(move |&curve| CurveSpec::ClosedForm { curve, refitted });
        let others = [CurveSpec::DropoutPath, CurveSpec::Learned];
        [false, true].into_iter().flat_map(specs).chain(others)
    }

    /// Whether W2 is refitted.
    pub fn is_refitted(self) -> bool {
        matches!(self, CurveSpec::ClosedForm { refitted: true, .. })
    }

    /// Whether the curve depends on its center.
    pub fn uses_center(self) -> bool {
        matches!(self, CurveSpec::ClosedForm { curve, .. } if curve.uses_center())
    }

    /// The two parts of its name.
    fn pieces(self) -> (&'static str, &'static str) {
        match self {
            CurveSpec::ClosedForm { curve, refitted } => {
                (curve.name(), if refitted { "+wa" } else { "" })
            }
            CurveSpec::DropoutPath => (dropout_path::NAME, ""),
            CurveSpec::Learned => (LEARNED, ""),
        }
    }
}

impl JsonSchema for CurveSpec {
    fn schema_name() -> Cow<'static, str> {
        "CurveSpec".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<String> = CurveSpec::all().map(String::from).collect();
        json_schema!({ "enum": names })
    }
}

impl PartialEq for CurveSpec {
    fn eq(&self, other: &CurveSpec) -> bool {
        self.pieces() == other.pieces()
    }
}

impl Eq for CurveSpec {}

impl fmt::Display for CurveSpec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (curve, adjustment) = self.pieces();
        write!(f, "{curve}{adjustment}")
    }
}

impl From<CurveSpec> for String {
    fn from(spec: CurveSpec) -> String {
        spec.to_string()
    }
}

impl FromStr for CurveSpec {
    type Err = String;

    fn from_str(name: &str) -> Result<CurveSpec, String> {
        let found = CurveSpec::all().find(|spec| spec.to_string() == name);
        found.ok_or_else(|| unknown("curve", name, CurveSpec::all()))
    }
}

impl<'de> Deserialize<'de> for CurveSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CurveSpec, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|_| {
            let known: Vec<String> = CurveSpec::all().map(|spec| format!("`{spec}`")).collect();
            let expected = format!("one of {}", known.join(", "));
            D::Error::invalid_value(Unexpected::Str(&name), &expected.as_str())
        })
    }
}

/// A method: everything that distinguishes curves between the same two nets.
///
/// Its name in tables consists of the parts that are used, each with its choice if that is not the
/// default: `linear`, `arc:zero`, `arc+ot`, `linear+ot:incoming+wa`, `linear+wa:blend`, `bezier`,
/// `chain:3+ot`, `linear+ot+repair`. Methods are ordered by name.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// The curve of the parameters; with WA, that of W1.
    pub curve: CurveKind,
    /// The center of the curve; the default for a curve that does not use it.
    pub center: Center,
    /// The cost by which the neurons of B were matched (`ot`).
    pub alignment: Option<Cost>,
    /// Whether hidden neurons are rescaled (`repair`); never on a dropout-stable path, or with WA.
    pub repair: bool,
    /// The logits that W2 is refitted to (`wa`); only on a closed-form curve.
    pub adjustment: Option<Targets>,
}

impl Method {
    /// Every method that has a name.
    pub fn all() -> impl Iterator<Item = Method> {
        let alignments = || Cost::ALL.iter().copied().map(Some).chain([None]);
        let adjusted = || Targets::ALL.iter().map(|&targets| (false, Some(targets)));
        let changes = move || adjusted().chain([(false, None), (true, None)]);
        let closed_form = CURVES.iter().flat_map(move |&curve| {
            let is_used =
                move |center: &&Center| curve.uses_center() || **center == Center::default();
            let centers = Center::ALL.iter().filter(is_used);
            centers.flat_map(move |&center| {
                alignments().flat_map(move |alignment| {
                    changes().map(move |(repair, adjustment)| Method {
                        curve: CurveKind::ClosedForm(curve),
                        center,
                        alignment,
                        repair,
                        adjustment,
                    })
                })
            })
        });
        let learned = LearnedCurve::all().flat_map(move |curve| {
            alignments().flat_map(move |alignment| {
                [false, true].map(|repair| Method {
                    curve: CurveKind::Learned(curve),
                    center: Center::default(),
                    alignment,
                    repair,
                    adjustment: None,
                })
            })
        });
        let dropout_path = alignments().map(|alignment| Method {
            curve: CurveKind::DropoutPath,
            center: Center::default(),
            alignment,
            repair: false,
            adjustment: None,
        });
        closed_form.chain(learned).chain(dropout_path)
    }

    /// The name in tables.
    pub fn name(self) -> String {
        self.to_string()
    }

    /// The name in figures and reports: `Linear + OT`, `Arc (zero) + OT (incoming) + WA`.
    pub fn title(self) -> String {
        let [(_, choice), changes @ ..] = self.parts();
        let curve = (self.curve.title().to_owned(), choice);
        let parts = std::iter::once(curve).chain(changes.map(upper));
        let used = parts.filter(|(part, _)| !part.is_empty());
        let title = |(part, choice): (String, &str)| match choice {
            "" => part,
            choice => format!("{part} ({choice})"),
        };
        used.map(title).collect::<Vec<_>>().join(" + ")
    }

    /// The title of its alignment, repair and adjustment, without that of the curve: `OT (incoming)
    /// + WA`.
    pub fn changes_title(self) -> String {
        let title = self.title();
        title.split_once(" + ").map_or(String::new(), |(_, changes)| changes.to_owned())
    }

    /// Whether its bends were learned.
    pub fn is_learned(self) -> bool {
        self.curve.is_learned()
    }

    /// The learned curve that others are compared with: the first of `methods` that joins the nets
    /// without alignment, or else the first one.
    pub fn bound(methods: &[Method]) -> Option<Method> {
        let learned = || methods.iter().copied().filter(|method| method.is_learned());
        learned().find(|method| method.is_base()).or_else(|| learned().next())
    }

    /// The same curve without alignment, repair and adjustment.
    pub fn base(self) -> Method {
        Method { alignment: None, repair: false, adjustment: None, ..self }
    }

    /// Whether there is no alignment, repair or adjustment.
    pub fn is_base(self) -> bool {
        self.alignment.is_none() && !self.repair && self.adjustment.is_none()
    }

    /// Curve, alignment, repair and adjustment, each with its choice; empty where the name omits
    /// it.
    fn parts(self) -> [(&'static str, &'static str); 4] {
        let Method { curve, center, alignment, repair, adjustment } = self;
        let choice = |is_default: bool, name| if is_default { "" } else { name };
        let cost = |cost: Cost| ("ot", choice(cost == Cost::default(), cost.name()));
        let targets =
            |targets: Targets| ("wa", choice(targets == Targets::default(), targets.name()));
        let of_curve = match curve {
            CurveKind::ClosedForm(_) => choice(center == Center::default(), center.name()),
            CurveKind::DropoutPath => "",
            CurveKind::Learned(curve) => curve.choice(),
        };
        [
            (curve.name(), of_curve),
            alignment.map_or(("", ""), cost),
            (if repair { "repair" } else { "" }, ""),
            adjustment.map_or(("", ""), targets),
        ]
    }

    /// The name, piece by piece.
    fn pieces(self) -> impl Iterator<Item = &'static str> {
        self.parts().into_iter().enumerate().flat_map(|(i, (part, choice))| {
            let plus = if i > 0 && !part.is_empty() { "+" } else { "" };
            [plus, part, if choice.is_empty() { "" } else { ":" }, choice]
        })
    }
}

fn upper((part, choice): (&str, &'static str)) -> (String, &'static str) {
    (part.to_uppercase(), choice)
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.pieces().try_for_each(|piece| f.write_str(piece))
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(name: &str) -> Result<Method, String> {
        let refusal = |cause: String| format!("`{name}` is not a method: {cause}");
        let mut parts = name.split('+');
        let first = parts.next().unwrap_or_default();
        let (mut alignment, mut repair, mut adjustment) = (None, false, None);
        for part in parts {
            match split_choice(part) {
                ("ot", cost) if alignment.is_none() && !repair && adjustment.is_none() => {
                    alignment = Some(or_default(cost).map_err(refusal)?);
                }
                ("repair", None) if !repair && adjustment.is_none() => repair = true,
                ("wa", targets) if !repair && adjustment.is_none() => {
                    adjustment = Some(or_default(targets).map_err(refusal)?);
                }
                _ => {
                    let cause = "is neither `ot` nor, after it, one of `repair` and `wa`";
                    return Err(refusal(format!("`{part}` {cause}")));
                }
            }
        }
        let (curve_name, choice) = split_choice(first);
        let is_learned = LearnedCurve::all().any(|curve| curve.family() == curve_name);
        let (curve, center) = if is_learned {
            if adjustment.is_some() {
                return Err(refusal("a learned curve has no `wa`".to_owned()));
            }
            (CurveKind::Learned(first.parse().map_err(refusal)?), Center::default())
        } else if first == dropout_path::NAME {
            if repair || adjustment.is_some() {
                return Err(refusal("a dropout-stable path has no `repair` or `wa`".to_owned()));
            }
            (CurveKind::DropoutPath, Center::default())
        } else {
            let curve = curve(curve_name).map_err(refusal)?;
            (CurveKind::ClosedForm(curve), or_default(choice).map_err(refusal)?)
        };
        let method = Method { curve, center, alignment, repair, adjustment };
        // One method has one name: defaults and unused centers are omitted.
        let is_used = curve.uses_center() || center == Center::default();
        if is_used && method.pieces().flat_map(str::bytes).eq(name.bytes()) {
            return Ok(method);
        }
        let cause = "defaults and unused centers are omitted";
        Err(refusal(cause.to_owned()))
    }
}

/// `("ot", Some("incoming"))` of `ot:incoming`.
fn split_choice(part: &str) -> (&str, Option<&str>) {
    part.split_once(':').map_or((part, None), |(part, choice)| (part, Some(choice)))
}

fn or_default<T: Default + FromStr>(name: Option<&str>) -> Result<T, T::Err> {
    name.map_or_else(|| Ok(T::default()), str::parse)
}

impl PartialEq for Method {
    fn eq(&self, other: &Method) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Method {}

impl PartialOrd for Method {
    fn partial_cmp(&self, other: &Method) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Method {
    fn cmp(&self, other: &Method) -> Ordering {
        let bytes = |method: &Method| method.pieces().flat_map(str::bytes);
        bytes(self).cmp(bytes(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_curve_has_its_own_name_and_title() {
        let unique = |of: fn(&dyn Curve) -> &'static str| {
            CURVES.iter().map(|&curve| of(curve)).collect::<BTreeSet<_>>().len()
        };
        assert_eq!([unique(|c| c.name()), unique(|c| c.title())], [CURVES.len(); 2]);
        for known in CURVES {
            assert_eq!(curve(known.name()).map(|found| found.name()), Ok(known.name()));
            assert!(!known.name().contains([':', '+']), "`{}` separates parts", known.name());
        }
        let error = curve("spiral").expect_err("unknown");
        assert_eq!(error, "unknown curve `spiral`; known: `linear`, `arc`, `rho-arc`");
    }

    #[test]
    fn every_curve_parameter_parses_back_from_its_name() {
        let written: Vec<String> = CurveSpec::all().map(String::from).collect();
        let expected = [
            "linear",
            "arc",
            "rho-arc",
            "linear+wa",
            "arc+wa",
            "rho-arc+wa",
            "dropout-path",
            "learned",
        ];
        assert_eq!(written, expected);
        for name in written {
            let spec: CurveSpec = serde_json::from_value(name.clone().into()).expect("known");
            assert_eq!(serde_json::to_value(spec).expect("a string"), name);
        }
        let error = "wa".parse::<CurveSpec>().expect_err("unknown");
        let known = "`linear`, `arc`, `rho-arc`, `linear+wa`, `arc+wa`, `rho-arc+wa`, \
                     `dropout-path`, `learned`";
        assert_eq!(error, format!("unknown curve `wa`; known: {known}"));
    }

    #[test]
    fn every_method_parses_back_from_its_name_and_has_its_own_title() {
        let all: Vec<Method> = Method::all().collect();
        let titles: BTreeSet<String> = all.iter().map(|method| method.title()).collect();
        assert_eq!(titles.len(), all.len());
        for method in &all {
            assert_eq!(method.name().parse(), Ok(*method));
            assert_eq!(method.is_base(), !method.name().contains('+'));
        }
    }

    #[test]
    fn methods_are_ordered_by_name() {
        let mut methods: Vec<Method> = Method::all().collect();
        methods.sort_unstable();
        assert!(methods.is_sorted_by_key(|method| method.name()));
    }

    #[test]
    fn the_titles_of_methods() {
        let title = |name: &str| name.parse::<Method>().expect("known").title();
        assert_eq!(title("linear+ot"), "Linear + OT");
        assert_eq!(title("arc+ot+wa"), "Arc + OT + WA");
        assert_eq!(title("linear+ot:incoming+wa"), "Linear + OT (incoming) + WA");
        assert_eq!(title("rho-arc+ot"), "Rho-arc + OT");
        assert_eq!(title("linear+ot+repair"), "Linear + OT + REPAIR");
        assert_eq!(title("dropout-path+ot"), "Dropout path + OT");
        assert_eq!(title("arc:zero+wa:blend"), "Arc (zero) + WA (blend)");
        assert_eq!(title("bezier"), "Bezier");
        assert_eq!(title("chain:3+ot"), "Chain (3) + OT");
    }

    #[test]
    fn a_name_with_unknown_repeated_or_superfluous_parts_is_refused() {
        let cause = |name: &str| name.parse::<Method>().expect_err("refused");
        assert_eq!(
            cause("arc+ot:rows"),
            "`arc+ot:rows` is not a method: unknown cost `rows`; known: `neurons`, `incoming`, \
             `activations`"
        );
        for name in ["", "spiral", "arc+", "arc+wa+ot", "arc+ot+ot", "arc+sgd", "arc:wa"] {
            cause(name);
        }
        for name in ["repair+ot", "repair+repair", "repair:a", "repair+wa", "wa+repair"] {
            cause(&format!("arc+{name}"));
        }
        for name in ["dropout-path:zero", "dropout-path+wa", "dropout-path+ot+repair"] {
            cause(name);
        }
        assert_eq!(
            cause("bezier+ot+wa"),
            "`bezier+ot+wa` is not a method: a learned curve has no `wa`"
        );
        for name in ["chain", "chain:0", "chain:x", "bezier:1"] {
            assert!(cause(name).contains("unknown learned curve"), "{name}");
        }
        for name in ["arc:neurons", "arc+ot:neurons", "linear+wa:a", "linear:zero"] {
            assert!(cause(name).contains("defaults and unused centers are omitted"), "{name}");
        }
    }
}
