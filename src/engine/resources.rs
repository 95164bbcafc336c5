//! The resources of a job, the field `resources` of a stage, and the section `executors`. None of
//! them is part of a key.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::num::NonZero;
use std::time::Duration;

/// The time, threads, memory and devices of a job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// The time after which the job is killed.
    pub time_limit: Option<Duration>,
    /// The number of retries of a failed job.
    pub retries: u32,
    /// Threads to reserve; `None` for a share that the pool chooses.
    pub threads: Option<NonZero<usize>>,
    /// Memory to reserve, in bytes.
    pub memory: u64,
    /// GPUs to reserve on a cluster.
    pub gpus: u32,
    /// Other options of `sbatch`. Of two options with one name, `sbatch` uses the last.
    pub sbatch: Vec<String>,
}

impl Resources {
    /// Combines the resources of two nodes that share a job: the longer time limit (`None` is the
    /// longest), the larger of each number, and the options of both.
    #[must_use]
    pub fn loosest(self, other: Resources) -> Resources {
        let limits = self.time_limit.zip(other.time_limit);
        let mut sbatch = self.sbatch;
        for option in other.sbatch {
            if !sbatch.contains(&option) {
                sbatch.push(option);
            }
        }
        Resources {
            time_limit: limits.map(|(one, another)| one.max(another)),
            retries: self.retries.max(other.retries),
            threads: self.threads.max(other.threads),
            memory: self.memory.max(other.memory),
            gpus: self.gpus.max(other.gpus),
            sbatch,
        }
    }

    /// Replaces what is not set by `defaults`. The options of `sbatch` follow those of `defaults`.
    #[must_use]
    pub fn or(self, defaults: &Resources) -> Resources {
        Resources {
            time_limit: self.time_limit.or(defaults.time_limit),
            retries: self.retries.max(defaults.retries),
            threads: self.threads.or(defaults.threads),
            memory: if self.memory > 0 { self.memory } else { defaults.memory },
            gpus: if self.gpus > 0 { self.gpus } else { defaults.gpus },
            sbatch: defaults.sbatch.iter().cloned().chain(self.sbatch).collect(),
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
    /// The number of GPUs to reserve on a cluster.
    gpus: Option<u32>,
    /// Other options of `sbatch`, such as `[--partition=long, --account=vision]`.
    sbatch: Option<Vec<SbatchOption>>,
}

impl ResourceFields {
    /// Replaces the values in `resources` for which a field is set.
    pub fn apply(&self, resources: Resources) -> Resources {
        Resources {
            time_limit: self.time_limit.map(|limit| limit.0).or(resources.time_limit),
            retries: self.retries.unwrap_or(resources.retries),
            threads: self.threads.or(resources.threads),
            memory: self.memory.map_or(resources.memory, |memory| memory.0),
            gpus: self.gpus.unwrap_or(resources.gpus),
            sbatch: match &self.sbatch {
                Some(options) => options.iter().map(|option| option.0.clone()).collect(),
                None => resources.sbatch,
            },
        }
    }
}

/// The section `executors` of a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ExecutorFields {
    /// The settings of `run --executor slurm` and of `submit`.
    slurm: Option<SlurmFields>,
}

/// The settings of the Slurm executor, as written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SlurmFields {
    /// The resources of jobs whose stages do not set them.
    resources: Option<ResourceFields>,
    /// Short nodes share a Slurm job until it lasts about this long: seconds, or a duration such as
    /// `5m`, the default.
    batch_time: Option<TimeLimit>,
    /// The maximum number of tasks of a run that Slurm holds at once [default: 5000]; `submit`
    /// hands over all.
    max_tasks: Option<NonZero<usize>>,
}

/// The settings of the Slurm executor.
#[derive(Clone, Debug, PartialEq)]
pub struct SlurmSettings {
    /// The resources of jobs whose stages do not set them.
    pub resources: Resources,
    /// The duration that a Slurm job of short nodes should have.
    pub batch_time: Duration,
    /// The maximum number of tasks that Slurm holds at once.
    pub max_tasks: usize,
}

impl ExecutorFields {
    /// The settings of the Slurm executor. `sbatch` are the options of the command line.
    pub fn slurm(&self, sbatch: &[SbatchOption]) -> SlurmSettings {
        let fields = self.slurm.clone().unwrap_or_default();
        let mut resources = fields.resources.unwrap_or_default().apply(Resources::default());
        resources.sbatch.extend(sbatch.iter().map(|option| option.0.clone()));
        SlurmSettings {
            resources,
            batch_time: fields.batch_time.map_or(Duration::from_secs(300), |time| time.0),
            max_tasks: fields.max_tasks.map_or(5000, NonZero::get),
        }
    }
}

/// An option of `sbatch`, such as `--partition=long`, with its value in the same text.
#[derive(Clone, Debug, PartialEq)]
pub struct SbatchOption(String);

/// The options of `sbatch` that `repro` sets itself, or that would change what it reads.
const OWN_OPTIONS: [&str; 27] = [
    "--array",
    "-a",
    "--batch",
    "--chdir",
    "-D",
    "--clusters",
    "-M",
    "--dependency",
    "-d",
    "--error",
    "-e",
    "--help",
    "-h",
    "--job-name",
    "-J",
    "--kill-on-invalid-dep",
    "--open-mode",
    "--output",
    "-o",
    "--parsable",
    "--test-only",
    "--usage",
    "--version",
    "-V",
    "--wait",
    "-W",
    "--wrap",
];

impl SbatchOption {
    /// Reads an option. The error is one sentence.
    pub fn parse(text: &str) -> Result<SbatchOption, String> {
        let name = match text.strip_prefix("--") {
            Some(_) => text.split('=').next().unwrap_or_default(),
            // `-p long` is one option and its value, as is `-plong`.
            None => text.get(..2).unwrap_or_default(),
        };
        let is_option = text.starts_with('-') && !name.trim_matches('-').is_empty();
        if !is_option || name.contains(char::is_whitespace) || text.contains(char::is_control) {
            return Err(format!(
                "expected an option of `sbatch` such as `--partition=long`, found `{text}`"
            ));
        }
        // `sbatch` accepts a prefix of a long option.
        let is_own = |own: &&&str| **own == name || (name.len() > 3 && own.starts_with(name));
        match OWN_OPTIONS.iter().find(is_own) {
            Some(own) => Err(format!("the option `{own}` of `sbatch` is set by `repro`")),
            None => Ok(SbatchOption(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for SbatchOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SbatchOption, D::Error> {
        SbatchOption::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for SbatchOption {
    fn schema_name() -> Cow<'static, str> {
        "SbatchOption".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^-" })
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
            let threads = NonZero::new(threads);
            Resources { time_limit, retries, threads, memory, ..Resources::default() }
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
            let loosest = |a: &Resources, b: &Resources| a.clone().loosest(b.clone());
            prop_assert_eq!(loosest(&a, &b), loosest(&b, &a));
            prop_assert_eq!(loosest(&loosest(&a, &b), &c), loosest(&a, &loosest(&b, &c)));
            prop_assert_eq!(&loosest(&a, &a), &a);
            let both = loosest(&a, &b);
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
            ..Resources::default()
        };
        assert_eq!(given.apply(kind.clone()), expected);
        assert_eq!(ResourceFields::default().apply(kind.clone()), kind);
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

    #[test]
    fn resources_for_a_cluster_extend_its_defaults_and_those_of_the_command_line() {
        let yaml = "{ slurm: { resources: { threads: 4, sbatch: [--partition=main] }, \
                    batch-time: 90s } }";
        let executors: ExecutorFields = read(&YamlNode::parse(yaml).unwrap()).unwrap();
        let option = SbatchOption::parse("--qos=low").unwrap();
        let settings = executors.slurm(&[option]);
        assert_eq!((settings.batch_time.as_secs(), settings.max_tasks), (90, 5000));
        let own = fields("{ gpus: 1, sbatch: [-p long, --account=a b] }").unwrap();
        let all = own.apply(Resources::default()).or(&settings.resources);
        assert_eq!((all.threads, all.gpus), (NonZero::new(4), 1));
        assert_eq!(all.sbatch, ["--partition=main", "--qos=low", "-p long", "--account=a b"]);
    }

    #[test]
    fn an_option_of_sbatch_that_repro_sets_is_refused() {
        for (text, message) in [
            (
                "partition",
                "expected an option of `sbatch` such as `--partition=long`, found `partition`",
            ),
            ("--", "expected an option of `sbatch` such as `--partition=long`, found `--`"),
            ("-o x", "the option `-o` of `sbatch` is set by `repro`"),
            ("--arr=1-3", "the option `--array` of `sbatch` is set by `repro`"),
            ("--output=x", "the option `--output` of `sbatch` is set by `repro`"),
        ] {
            assert_eq!(SbatchOption::parse(text).unwrap_err(), message);
        }
        for text in ["-p long", "-plong", "--mem-per-cpu=1G", "--gres=gpu:2"] {
            assert!(SbatchOption::parse(text).is_ok(), "{text}");
        }
        let error = fields("{ sbatch: [--wrap=x] }").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sbatch`: the option `--wrap` of `sbatch` is set by `repro`"
        );
    }
}
