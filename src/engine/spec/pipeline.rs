//! pipeline.yaml as written: stages, profiles, seed. This module knows no kinds and expands no
//! grids.

use crate::engine::error::Diagnostic;
use crate::engine::located::{
    Location, Value, ValueError, YamlField, YamlNode, read as read_value, suggest,
};
use crate::engine::resources::{ExecutorFields, RESOURCES};
use crate::engine::stage::Invocation;

/// A parsed pipeline file.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The name of the file, for messages.
    pub source: String,
    /// The profile and the overrides that have been applied.
    pub invocation: Invocation,
    /// The seed of every random stream.
    pub seed: String,
    /// The address of the remote cache, as written, and its location.
    pub remote: Option<(String, Option<Location>)>,
    /// The profile to use by default.
    pub default_profile: Option<String>,
    default_profile_location: Option<Location>,
    /// The stages, in file order.
    pub stages: Vec<StageDecl>,
    /// The profiles, in file order.
    pub profiles: Vec<ProfileDecl>,
    /// The settings of executors.
    pub executors: ExecutorFields,
}

/// `name: { kind: { field: value, ... } }`.
#[derive(Clone, Debug)]
pub struct StageDecl {
    /// The name of the stage.
    pub name: String,
    /// The location of the name.
    pub location: Option<Location>,
    /// The name of the kind.
    pub kind: String,
    /// The location of the kind.
    pub kind_location: Option<Location>,
    /// Parameters and inputs.
    pub fields: Vec<YamlField>,
}

/// `name: { stages: { stage: { kind: ... } }, stage: { field: value, ... } }`.
#[derive(Clone, Debug)]
pub struct ProfileDecl {
    /// The name of the profile.
    pub name: String,
    /// The stages that only this profile has.
    pub own: Vec<StageDecl>,
    /// The stages that the profile changes, with the fields it sets.
    pub stages: Vec<YamlField>,
}

/// The fields whose keys the user chooses. A profile and `-S` set single keys of these fields, and
/// replace any other field as a whole.
pub(crate) const OPEN_FIELDS: [&str; 4] = ["params", "env", "inputs", RESOURCES];

/// The fields of an input whose axes are renamed. They are set one by one.
pub(super) const INPUT_FIELDS: [&str; 2] = ["stage", "rename"];

/// The field of the pipeline, and of a profile, that declares stages.
pub(super) const STAGES: &str = "stages";

/// The section of the settings of executors.
const EXECUTORS: &str = "executors";

const TOP_LEVEL: [&str; 6] = ["seed", "profile", "remote", STAGES, "profiles", EXECUTORS];

impl Pipeline {
    /// Parses `text`, the content of the file `source`.
    pub fn parse(source: &str, text: &str) -> Result<Pipeline, Diagnostic> {
        YamlNode::parse(text)
            .and_then(|node| read(source, &node))
            .map_err(|error| Diagnostic::of(source, "", &error))
    }

    /// Applies the profile `name`, or the default profile, and returns its name: adds the stages
    /// that only the profile has, and sets fields of the others. `null` removes a field, or a key
    /// of `params`, `env`, `inputs` or `resources`.
    pub fn apply_profile(&mut self, name: Option<&str>) -> Result<Option<String>, Diagnostic> {
        let requested = name.is_some();
        let Some(name) = name.map(str::to_owned).or_else(|| self.default_profile.clone()) else {
            return Ok(None);
        };
        let Some(profile) = self.profiles.iter().find(|p| p.name == name).cloned() else {
            let none = || Some("no profile is declared under `profiles`".to_owned());
            let hint = suggest(&name, self.profiles.iter().map(|p| p.name.as_str())).or_else(none);
            let location = if requested { None } else { self.default_profile_location };
            return Err(self.diagnostic(location, format!("there is no profile `{name}`"), hint));
        };
        for own in profile.own {
            if self.stages.iter().any(|stage| stage.name == own.name) {
                let message = format!(
                    "profile `{name}`: `stages` declares the stage `{}`, which exists",
                    own.name
                );
                let hint = format!("write `{}: {{ field: value }}` in the profile", own.name);
                return Err(self.diagnostic(own.location, message, Some(hint)));
            }
            self.stages.push(own);
        }
        for stage in &profile.stages {
            let fields = stage.value.as_map().unwrap_or_default();
            for field in fields {
                self.set(
                    &stage.key,
                    stage.location,
                    &[&field.key],
                    field.location,
                    field.value.clone(),
                )
                .map_err(|diagnostic| Diagnostic {
                    message: format!("profile `{name}`: {}", diagnostic.message),
                    ..diagnostic
                })?;
            }
        }
        self.invocation.profile = Some(name.clone());
        Ok(Some(name))
    }

    /// Applies `-S stage.field[.inner...]=value` or `-S seed=value`. The value is YAML and has the
    /// same effect as in a profile.
    pub fn apply_override(&mut self, assignment: &str) -> Result<(), Diagnostic> {
        let diagnostic = |message: String, hint: Option<String>| Diagnostic {
            source: format!("-S {assignment}"),
            location: None,
            message,
            hint,
        };
        let form = || Some("write `-S stage.field=value`, such as `-S nets.epochs=10`".to_owned());
        let (path, yaml) = assignment
            .split_once('=')
            .ok_or_else(|| diagnostic("there is no `=`".into(), form()))?;
        let mut value =
            YamlNode::parse(yaml).map_err(|error| diagnostic(error.message, error.hint))?;
        clear_locations(&mut value);
        let mut steps = path.split('.');
        let stage = steps.next().unwrap_or_default();
        let Some(field) = steps.next() else {
            if stage == "seed" {
                self.seed =
                    text(&value, "the seed").map_err(|error| diagnostic(error.message, None))?;
                self.invocation.overrides.push(assignment.to_owned());
                return Ok(());
            }
            return Err(diagnostic("no field is named".into(), form()));
        };
        let path: Vec<&str> = [field].into_iter().chain(steps).collect();
        self.set(stage, None, &path, None, value).map_err(|f| diagnostic(f.message, f.hint))?;
        self.invocation.overrides.push(assignment.to_owned());
        Ok(())
    }

    /// Sets `value` at `path` in a stage. `stage_location` and `location` are the locations of the
    /// stage's name and of the last component of the path.
    fn set(
        &mut self,
        stage: &str,
        stage_location: Option<Location>,
        path: &[&str],
        location: Option<Location>,
        value: YamlNode,
    ) -> Result<(), Diagnostic> {
        let Some(at) = self.stages.iter().position(|s| s.name == stage) else {
            let hint = suggest(stage, self.stages.iter().map(|s| s.name.as_str()));
            return Err(self.diagnostic(
                stage_location,
                format!("there is no stage `{stage}`"),
                hint,
            ));
        };
        let fields = &mut self.stages[at].fields;
        let is_open = OPEN_FIELDS.contains(&path[0]);
        if let [field, choice, ..] = path
            && let Some(Value::Map(chosen)) =
                fields.iter_mut().find(|f| f.key == *field).map(|f| &mut f.value.value)
            && !is_open
            && matches!(&chosen[..], [other] if other.key != *choice)
            && !INPUT_FIELDS.contains(choice)
            && !matches!(value.value, Value::Null)
        {
            // `{ normal: ... }` is one of several variants, and another variant replaces it.
            chosen.clear();
        }
        set(fields, path, location, value, is_open)
            .map_err(|error| self.diagnostic(None, error.message, error.hint))
    }

    /// A diagnostic for this file.
    pub fn diagnostic(
        &self,
        location: Option<Location>,
        message: String,
        hint: Option<String>,
    ) -> Diagnostic {
        Diagnostic { source: self.source.clone(), location, message, hint }
    }
}

/// Sets `value` at `path` in a mapping. `null` removes the field. In an open mapping, a mapping is
/// merged key by key, as in JSON Merge Patch (RFC 7396); any other value replaces the old one. A
/// path into a grid is an error.
fn set(
    entries: &mut Vec<YamlField>,
    path: &[&str],
    location: Option<Location>,
    value: YamlNode,
    is_open: bool,
) -> Result<(), ValueError> {
    let Some((key, rest)) = path.split_first() else { return Ok(()) };
    let at = match (entries.iter().position(|entry| entry.key == *key), &value.value) {
        (None, Value::Null) => return Ok(()),
        (Some(at), Value::Null) if rest.is_empty() => {
            entries.remove(at);
            return Ok(());
        }
        (Some(at), _) => at,
        (None, _) => {
            let empty = YamlNode { location: value.location, value: Value::Map(Vec::new()) };
            entries.push(YamlField { key: (*key).to_owned(), location, value: empty });
            entries.len() - 1
        }
    };
    let present = &mut entries[at];
    match (rest.first(), value) {
        (Some(next), _) if matches!(present.value.value, Value::List(_)) => {
            let hint = "write the whole list: `-S stage.field=[...]`".to_owned();
            Err(ValueError::at(None, format!("`{next}` would be set inside a grid"), Some(hint)))
        }
        (Some(_), value) => set(inside(&mut present.value), rest, location, value, is_open),
        (None, YamlNode { value: Value::Map(new), .. }) if is_open => {
            let inner = inside(&mut present.value);
            new.into_iter().try_for_each(|e| set(inner, &[&e.key], e.location, e.value, is_open))
        }
        (None, value) => {
            (present.location, present.value) = (location, value);
            Ok(())
        }
    }
}

/// The fields of a node. Replaces a node that is not a mapping by an empty mapping.
fn inside(node: &mut YamlNode) -> &mut Vec<YamlField> {
    if node.as_map().is_none() {
        node.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut node.value else { unreachable!("BUG: it is a mapping by now") };
    entries
}

fn read(source: &str, node: &YamlNode) -> Result<Pipeline, ValueError> {
    let mut pipeline = Pipeline {
        source: source.to_owned(),
        invocation: Invocation::default(),
        seed: "0".to_owned(),
        remote: None,
        default_profile: None,
        default_profile_location: None,
        stages: Vec::new(),
        profiles: Vec::new(),
        executors: ExecutorFields::default(),
    };
    let nothing = matches!(node.value, Value::Null);
    for entry in if nothing { &[] } else { mapping(node, "a pipeline")? } {
        match entry.key.as_str() {
            "seed" => pipeline.seed = text(&entry.value, "the seed")?,
            "remote" => {
                let address = text(&entry.value, "the address of the remote cache")?;
                pipeline.remote = Some((address, entry.value.location));
            }
            "profile" => {
                pipeline.default_profile = Some(text(&entry.value, "the default profile's name")?);
                pipeline.default_profile_location = entry.value.location;
            }
            STAGES => pipeline.stages = stages(&entry.value)?,
            "profiles" => {
                pipeline.profiles = mapping(&entry.value, "`profiles`")?
                    .iter()
                    .map(profile)
                    .collect::<Result<_, ValueError>>()?;
            }
            EXECUTORS => {
                pipeline.executors =
                    read_value(&entry.value).map_err(|error| error.under(EXECUTORS))?;
            }
            unknown => {
                let message = format!("unknown top-level field `{unknown}`");
                return Err(ValueError::at(entry.location, message, suggest(unknown, TOP_LEVEL)));
            }
        }
    }
    if pipeline.stages.is_empty() {
        let hint = "for example, write `stages: { data: { fetch: { dataset: mnist } } }`";
        return Err(ValueError::at(
            node.location,
            "the pipeline has no `stages`",
            Some(hint.into()),
        ));
    }
    Ok(pipeline)
}

fn stages(node: &YamlNode) -> Result<Vec<StageDecl>, ValueError> {
    mapping(node, "`stages`")?.iter().map(stage).collect()
}

fn stage(entry: &YamlField) -> Result<StageDecl, ValueError> {
    check_name(entry)?;
    let what = format!("the stage `{}`", entry.key);
    let Some([kind]) = entry.value.as_map() else {
        let hint = format!("write `{}: {{ kind: {{ ... }} }}`, with one kind", entry.key);
        return Err(ValueError::at(
            entry.value.location,
            format!("{what} must have its kind as its single key"),
            Some(hint),
        ));
    };
    let fields = match &kind.value.value {
        Value::Null => &[],
        _ => mapping(&kind.value, &format!("the value of `{}`", kind.key))?,
    };
    Ok(StageDecl {
        name: entry.key.clone(),
        location: entry.location,
        kind: kind.key.clone(),
        kind_location: kind.location,
        fields: fields.to_vec(),
    })
}

fn profile(entry: &YamlField) -> Result<ProfileDecl, ValueError> {
    check_name(entry)?;
    let fields = match &entry.value.value {
        Value::Null => &[],
        _ => mapping(&entry.value, &format!("the profile `{}`", entry.key))?,
    };
    let (own, changed): (Vec<&YamlField>, Vec<&YamlField>) =
        fields.iter().partition(|field| field.key == STAGES);
    for stage in &changed {
        mapping(
            &stage.value,
            &format!("the stage `{1}` in the profile `{0}`", entry.key, stage.key),
        )?;
    }
    let own = own.into_iter().map(|field| stages(&field.value)).collect::<Result<Vec<_>, _>>()?;
    Ok(ProfileDecl {
        name: entry.key.clone(),
        own: own.into_iter().flatten().collect(),
        stages: changed.into_iter().cloned().collect(),
    })
}

/// Checks a name, which becomes a part of folder names, targets and node names.
fn check_name(entry: &YamlField) -> Result<(), ValueError> {
    let name = &entry.key;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=64).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    let shown: String = name.chars().take(40).flat_map(char::escape_default).collect();
    let hint = "a name is 1 to 64 letters, digits, `-` and `_`".to_owned();
    Err(ValueError::at(entry.location, format!("`{shown}` cannot be a name"), Some(hint)))
}

fn mapping<'a>(node: &'a YamlNode, what: &str) -> Result<&'a [YamlField], ValueError> {
    let hint = || Some("write one `name: ...` per line".to_owned());
    let refuse = || {
        ValueError::at(
            node.location,
            format!("{what} must be a mapping, not {}", node.kind()),
            hint(),
        )
    };
    node.as_map().ok_or_else(refuse)
}

fn text(node: &YamlNode, what: &str) -> Result<String, ValueError> {
    let refuse = || {
        ValueError::at(node.location, format!("{what} must be a text, not {}", node.kind()), None)
    };
    node.as_text().map(str::to_owned).ok_or_else(refuse)
}

fn clear_locations(node: &mut YamlNode) {
    node.location = None;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(clear_locations),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.location = None;
            clear_locations(&mut entry.value);
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
seed: 7
profile: small
stages:
  data: { source: { size: 3 } }
  nets: { source: { from: data, width: [1, 2] } }
profiles:
  small: { data: { size: 1 } }
  large:
";

    fn field<'a>(pipeline: &'a Pipeline, stage: &str, field: &str) -> &'a Value {
        let stage = pipeline.stages.iter().find(|s| s.name == stage).unwrap();
        &stage.fields.iter().find(|f| f.key == field).unwrap().value.value
    }

    #[test]
    fn a_pipeline_reads_as_written() {
        let pipeline = Pipeline::parse("p.yaml", TEXT).unwrap();
        assert_eq!(pipeline.seed, "7");
        assert_eq!(
            pipeline.stages.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
            ["data", "nets"]
        );
        assert_eq!(pipeline.stages[1].kind, "source");
        assert_eq!(pipeline.stages[1].location, Some(Location { line: 6, column: 3 }));
    }

    #[test]
    fn a_profile_replaces_fields_and_overrides_take_precedence() {
        let mut pipeline = Pipeline::parse("p.yaml", TEXT).unwrap();
        assert_eq!(pipeline.apply_profile(None).unwrap().as_deref(), Some("small"));
        assert_eq!(field(&pipeline, "data", "size"), &Value::Int(1, "1".into()));
        pipeline.apply_override("data.size=5").unwrap();
        assert_eq!(field(&pipeline, "data", "size"), &Value::Int(5, "5".into()));
        pipeline.apply_override("nets.prior.normal.variance=0.1").unwrap();
        let Value::Map(prior) = field(&pipeline, "nets", "prior") else { panic!("a mapping") };
        assert_eq!(prior[0].key, "normal");
        pipeline.apply_override("nets.prior.normal.mean=1").unwrap();
        let Value::Map(prior) = field(&pipeline, "nets", "prior") else { panic!("a mapping") };
        assert_eq!(prior[0].value.as_map().unwrap().len(), 2, "other fields are kept");
        pipeline.apply_override("seed=8").unwrap();
        assert_eq!(pipeline.seed, "8");
    }

    #[test]
    fn a_profile_declares_stages_of_its_own() {
        let text = "
stages: { data: { source: { size: 3 } } }
profiles:
  large: { stages: { more: { sink: { data: data } } }, more: { points: 5 }, data: { size: 9 } }
  clash: { stages: { data: { sink: {} } } }
";
        let names = |profile: Option<&str>| {
            let mut pipeline = Pipeline::parse("p.yaml", text).unwrap();
            pipeline.apply_profile(profile).map_err(|diagnostic| diagnostic.to_string())?;
            Ok::<_, String>(
                pipeline.stages.iter().map(|stage| stage.name.clone()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(names(None), Ok(vec!["data".into()]));
        assert_eq!(names(Some("large")), Ok(vec!["data".into(), "more".into()]));
        let refusal = names(Some("clash")).unwrap_err();
        assert!(
            refusal.contains("profile `clash`: `stages` declares the stage `data`, which exists"),
            "{refusal}"
        );
        let mut pipeline = Pipeline::parse("p.yaml", text).unwrap();
        pipeline.apply_profile(Some("large")).unwrap();
        assert_eq!(field(&pipeline, "more", "points"), &Value::Int(5, "5".into()));
    }

    const OPEN: &str = "
stages:
  c:
    command: { run: x, outputs: [y], params: { a: 1, b: [2, 3] }, env: { A: x },
      prior: { normal: { variance: 1 } } }
profiles:
  p: { c: { params: { b: 4, c: 5 }, env: { A: null, B: y },
      inputs: { raw: data, none: null }, prior: { none: {} } } }
  q: { c: { params: null, env: null, nothing: null } }
";

    /// The value of `field` of the stage `c` after profile and overrides.
    fn merged(profile: Option<&str>, overrides: &[&str], field: &str) -> Option<String> {
        let mut pipeline = Pipeline::parse("p.yaml", OPEN).unwrap();
        pipeline.apply_profile(profile).unwrap();
        overrides.iter().for_each(|assignment| pipeline.apply_override(assignment).unwrap());
        pipeline.stages[0]
            .fields
            .iter()
            .find(|f| f.key == field)
            .map(|f| f.value.to_json().to_string())
    }

    #[test]
    fn a_profile_and_an_override_merge_into_open_mappings_and_null_removes() {
        let case = |profile, overrides: &[&str], field: &str, expected: Option<&str>| {
            assert_eq!(
                merged(profile, overrides, field).as_deref(),
                expected,
                "{profile:?} {overrides:?} {field}"
            );
        };
        let (p, q) = (Some("p"), Some("q"));
        case(p, &[], "params", Some(r#"{"a":1,"b":4,"c":5}"#));
        case(p, &[], "env", Some(r#"{"B":"y"}"#));
        case(p, &[], "inputs", Some(r#"{"raw":"data"}"#));
        case(None, &["c.params={b: 4, c: 5}"], "params", Some(r#"{"a":1,"b":4,"c":5}"#));
        case(None, &["c.params.b=4", "c.params.c=5"], "params", Some(r#"{"a":1,"b":4,"c":5}"#));
        case(p, &["c.params.b=null", "c.params={a: null}"], "params", Some(r#"{"c":5}"#));
        case(None, &["c.params.a=null", "c.params.b=null"], "params", Some("{}"));
        case(q, &[], "params", None);
        case(q, &["c.params.d=6"], "params", Some(r#"{"d":6}"#));
        case(None, &["c.run=null", "c.nothing.at.all=null"], "run", None);
        case(None, &["c.nothing.at.all=null"], "nothing", None);
    }

    #[test]
    fn a_field_of_a_kind_is_replaced_as_a_whole_even_by_another_variant() {
        let case = |profile, overrides: &[&str], expected: &str| {
            assert_eq!(
                merged(profile, overrides, "prior").as_deref(),
                Some(expected),
                "{profile:?} {overrides:?}"
            );
        };
        case(Some("p"), &[], r#"{"none":{}}"#);
        case(None, &["c.prior={laplace: {scale: 2}}"], r#"{"laplace":{"scale":2}}"#);
        case(None, &["c.prior.laplace.scale=2"], r#"{"laplace":{"scale":2}}"#);
        case(None, &["c.prior.normal.variance=2"], r#"{"normal":{"variance":2}}"#);
        case(
            None,
            &["c.prior.normal.mean=2", "c.prior.normal.variance=null"],
            r#"{"normal":{"mean":2}}"#,
        );
        case(None, &["c.prior.laplace.scale=null"], r#"{"normal":{"variance":1}}"#);
    }

    #[test]
    fn an_invalid_override_or_profile_is_an_error_with_a_hint() {
        let mut pipeline = Pipeline::parse("p.yaml", TEXT).unwrap();
        let mut case = |assignment: &str, message: &str, hint: &str| {
            let diagnostic = pipeline.apply_override(assignment).unwrap_err();
            assert_eq!(
                (diagnostic.to_string().as_str(), diagnostic.hint.as_deref()),
                (message, Some(hint))
            );
        };
        let form = "write `-S stage.field=value`, such as `-S nets.epochs=10`";
        case("data", "-S data: there is no `=`", form);
        case("data=1", "-S data=1: no field is named", form);
        let whole = "write the whole list: `-S stage.field=[...]`";
        case("nets.width.x=null", "-S nets.width.x=null: `x` would be set inside a grid", whole);
        case("nets.width.x=1", "-S nets.width.x=1: `x` would be set inside a grid", whole);
        case("dato.size=1", "-S dato.size=1: there is no stage `dato`", "did you mean `data`?");
        let diagnostic = pipeline.apply_profile(Some("smal")).unwrap_err();
        assert_eq!(diagnostic.to_string(), "p.yaml: there is no profile `smal`");
        assert_eq!(diagnostic.hint.as_deref(), Some("did you mean `small`?"));
    }

    #[test]
    fn names_that_could_escape_their_folder_are_errors() {
        for name in ["..", "a/b", "\"a\\0b\"", "\"\\u202Eevil\"", "\"\"", &"x".repeat(10_000)] {
            let diagnostic =
                Pipeline::parse("p.yaml", &format!("stages: {{ ? {name} : {{ source: }} }}"))
                    .unwrap_err();
            assert!(diagnostic.message.contains("cannot be a name"), "{diagnostic}");
            assert!(diagnostic.message.len() < 400, "the message does not repeat a giant name");
        }
    }
}
