//! The resources of a job, and the field `resources` of a stage. None of them is part of a key.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::num::NonZero;
use std::time::Duration;

/// The time, threads and memory of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Resources {
    /// The time after which the job is killed.
    pub time_limit: Option<Duration>,
    /// The number of retries of a failed job.
    pub retries: u32,
    /// Threads to reserve; `None` for a share that the pool chooses.
    pub threads: Option<NonZero<usize>>,
    /// Memory to reserve, in bytes.
    pub memory: u64,
}

impl Resources {
    /// Combines the resources of two nodes that share a job: the longer time limit (`None` is the
    /// longest) and the larger of each number.
    #[must_use]
    pub fn loosest(self, other: Resources) -> Resources {
        let limits = self.time_limit.zip(other.time_limit);
        Resources {
            time_limit: limits.map(|(one, another)| one.max(another)),
            retries: self.retries.max(other.retries),
            threads: self.threads.max(other.threads),
            memory: self.memory.max(other.memory),
        }
    }
}

/// The name of the field of [`ResourceFields`].
pub const RESOURCES: &str = "resources";

/// The field `resources`, which every stage can have.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ResourceFields {
    /// The time after which a job is killed: seconds, or a duration such as `10m`.
    time_limit: Option<TimeLimit>,
    /// How often a failed job is run again.
    retries: Option<u32>,
    /// The number of threads to reserve.
    threads: Option<NonZero<usize>>,
    /// The memory to reserve, such as `512MiB`. It is not enforced as a limit.
    memory: Option<Memory>,
}

impl ResourceFields {
    /// Replaces the values in `resources` for which a field is set.
    pub fn apply(&self, resources: Resources) -> Resources {
        Resources {
            time_limit: self.time_limit.map(|limit| limit.0).or(resources.time_limit),
            retries: self.retries.unwrap_or(resources.retries),
            threads: self.threads.or(resources.threads),
            memory: self.memory.map_or(resources.memory, |memory| memory.0),
        }
    }
}

/// A time limit: `600`, `0.5`, `10m`, `1h30m`. A number without a unit is in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeLimit(pub Duration);

impl TimeLimit {
    fn parse(text: &str) -> Option<TimeLimit> {
        let limit = match text.parse() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            Err(_) => humantime::parse_duration(text).ok(),
        };
        limit.filter(|limit| !limit.is_zero()).map(TimeLimit)
    }
}

/// A size of memory in bytes: `512MiB`, `2GB`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory(pub u64);

impl Memory {
    fn parse(text: &str) -> Option<Memory> {
        const UNITS: [(&str, u64); 10] = [
            ("", 1),
            ("B", 1),
            ("kB", 1000),
            ("KB", 1000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
        ];
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let (_, bytes) = UNITS.into_iter().find(|(name, _)| *name == unit.trim())?;
        number.parse::<u64>().ok()?.checked_mul(bytes).filter(|bytes| *bytes > 0).map(Memory)
    }
}

/// Implements the common traits of the types, which are read from the text of a scalar.
macro_rules! from_scalar {
    ($name:ident, $expected:literal, $write:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let text = String::deserialize(deserializer)?;
                $name::parse(&text)
                    .ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), &$expected))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let write: fn(&$name) -> String = $write;
                serializer.serialize_str(&write(self))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": ["string", "number"] })
            }
        }
    };
}

from_scalar!(
    TimeLimit,
    "seconds or a duration above zero such as `90s`, `10m` or `1h30m`",
    |limit| { limit.0.as_secs_f64().to_string() }
);
from_scalar!(Memory, "a size such as `512MiB` or `2GiB`", |memory| memory.0.to_string());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::located::{ValueError, YamlNode, read};
    use proptest::prelude::*;

    prop_compose! {
        fn resources()(
            limit in proptest::option::of(0..5_u64),
            retries in 0..5_u32,
            threads in 0..5_usize,
            memory in 0..5_u64,
        ) -> Resources {
            let time_limit = limit.map(Duration::from_secs);
            Resources { time_limit, retries, threads: NonZero::new(threads), memory }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn combined_resources_do_not_depend_on_the_order(
            a in resources(), b in resources(), c in resources(),
        ) {
            prop_assert_eq!(a.loosest(b), b.loosest(a));
            prop_assert_eq!(a.loosest(b).loosest(c), a.loosest(b.loosest(c)));
            prop_assert_eq!(a.loosest(a), a);
            let both = a.loosest(b);
            let is_longer = |limit| a.time_limit.is_some_and(|a| a <= limit);
            prop_assert!(both.time_limit.is_none_or(is_longer));
            prop_assert!(both.retries >= a.retries && both.memory >= a.memory);
        }
    }

    fn fields(yaml: &str) -> Result<ResourceFields, ValueError> {
        read(&YamlNode::parse(yaml).unwrap())
    }

    #[test]
    fn given_fields_replace_the_resources_of_the_kind() {
        let kind = Resources { retries: 3, memory: 7, ..Resources::default() };
        let given = fields("{ time-limit: 10m, threads: 2, memory: 2KiB }").unwrap();
        let expected = Resources {
            time_limit: Some(Duration::from_secs(600)),
            retries: 3,
            threads: NonZero::new(2),
            memory: 2048,
        };
        assert_eq!(given.apply(kind), expected);
        assert_eq!(ResourceFields::default().apply(kind), kind);
    }

    #[test]
    fn a_time_limit_may_have_units() {
        let seconds = |text| TimeLimit::parse(text).map(|limit| limit.0.as_secs_f64());
        let read = ["600", "0.5", "90s", "10m", "2h", "1h30m", "1h 30m"].map(seconds);
        assert_eq!(read, [600.0, 0.5, 90.0, 600.0, 7200.0, 5400.0, 5400.0].map(Some));
        for wrong in ["", "0", "-1", "0s", "10 parsecs", "m", "1e300", "NaN", "inf"] {
            assert_eq!(TimeLimit::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_memory_size_may_have_units() {
        let bytes = |text| Memory::parse(text).map(|memory| memory.0);
        let read = ["1", "3 kB", "2KiB", "512 MB"].map(bytes);
        assert_eq!(read, [Some(1), Some(3000), Some(2048), Some(512_000_000)]);
        for wrong in ["", "MiB", "0", "1.5GiB", "-1", "1XB", "99999999999999TiB"] {
            assert_eq!(Memory::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_invalid_value_is_an_error_with_its_path_and_a_hint() {
        let error = fields("{ time-limit: soon }").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`time-limit`: expected seconds or a duration above zero such as `90s`, `10m` or \
             `1h30m`, found `soon`"
        );
        assert!(error.hint.is_some());
        let unknown = fields("{ time_limit: 1 }").unwrap_err();
        assert_eq!(unknown.hint.as_deref(), Some("did you mean `time-limit`?"));
    }
}
