//! Lists of named choices. One line in a list gives a choice its name in parameters and tables, its
//! parser, and its place in the property tests.

/// Defines an enum of named choices from one list: `ALL` in the order of the list, `name`,
/// `Display`, `FromStr`, serde and JSON schema, all with the names given.
macro_rules! named_enum {
    (
        $what:literal
        $(#[$meta:meta])*
        pub enum $Enum:ident { $($(#[$variant_meta:meta])* $Variant:ident = $name:literal,)+ }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        pub enum $Enum {
            $($(#[$variant_meta])* #[serde(rename = $name)] $Variant,)+
        }

        impl $Enum {
            /// Every choice, in the order of tables and figures.
            pub const ALL: &'static [$Enum] = &[$($Enum::$Variant),+];

            /// The name in parameters and tables.
            pub const fn name(self) -> &'static str {
                match self { $($Enum::$Variant => $name),+ }
            }
        }

        impl std::fmt::Display for $Enum {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $Enum {
            type Err = String;

            fn from_str(name: &str) -> Result<$Enum, String> {
                let found = $Enum::ALL.iter().copied().find(|choice| choice.name() == name);
                found.ok_or_else(|| {
                    $crate::study::registry::unknown($what, name, $Enum::ALL)
                })
            }
        }
    };
}

pub(super) use named_enum;

/// The message for a name that is not in the list of `known` ones.
pub(super) fn unknown(
    what: &str,
    name: &str,
    known: impl IntoIterator<Item = impl std::fmt::Display>,
) -> String {
    let known: Vec<String> = known.into_iter().map(|known| format!("`{known}`")).collect();
    format!("unknown {what} `{name}`; known: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use crate::study::curve::{Center, align::Cost, ensemble::EnsembleKind, refit::Targets};
    use crate::study::data::{Dataset, Split};
    use crate::study::net::{EngineKind, PriorKind};
    use crate::study::stats::Average;
    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use std::fmt::{Debug, Display};
    use std::str::FromStr;

    fn check<T>(all: &[T])
    where
        T: Copy + Debug + Display + PartialEq + FromStr + Serialize + DeserializeOwned,
    {
        let names: Vec<String> = all.iter().map(T::to_string).collect();
        for (i, (choice, name)) in all.iter().zip(&names).enumerate() {
            assert_eq!(name.parse().ok(), Some(*choice));
            assert_eq!(serde_json::to_value(choice).ok(), Some(name.as_str().into()));
            assert_eq!(serde_json::from_value(name.as_str().into()).ok(), Some(*choice));
            assert!(!names[..i].contains(name), "`{name}` occurs twice");
        }
        assert_eq!("no such name".parse::<T>().ok(), None);
    }

    #[test]
    fn every_name_is_unique_and_parses_back_to_its_choice() {
        check(Center::ALL);
        check(Cost::ALL);
        check(EnsembleKind::ALL);
        check(Targets::ALL);
        check(Dataset::ALL);
        check(Split::ALL);
        check(EngineKind::ALL);
        check(PriorKind::ALL);
        check(Average::ALL);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let message =
            "unknown dataset `mnits`; known: `mnist`, `fashion-mnist`, `kmnist`, `digits`";
        assert_eq!("mnits".parse::<Dataset>(), Err(message.to_owned()));
    }
}
