//! The axes of a stage: those of its inputs, and the lists among its own fields.

use super::slots::Found;
use super::{Builder, INPUTS, MAX_CANDIDATES, MAX_NODES, PARAMS, WHERE};
use crate::engine::error::Diagnostic;
use crate::engine::located::{YamlField, YamlNode};
use crate::engine::resources::RESOURCES;
use crate::engine::spec::grid::{alternatives, combination, is_grid, render, width};
use crate::engine::spec::pipeline::{OPEN_FIELDS, StageDecl};
use crate::engine::stage::{Kind, ResolvedStage};
use serde_json::Value as Json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A list in pipeline.yaml whose values are those of an axis, as texts in names.
#[derive(Debug)]
pub(super) struct AxisList {
    values: Vec<String>,
    places: HashMap<String, usize>,
}

impl AxisList {
    fn new(values: Vec<String>) -> AxisList {
        let mut places = HashMap::new();
        for (place, value) in values.iter().enumerate() {
            places.entry(value.clone()).or_insert(place);
        }
        AxisList { values, places }
    }

    /// The place of a value in the list.
    pub(super) fn place(&self, value: &str) -> Option<usize> {
        self.places.get(value).copied()
    }
}

/// An axis of all nodes of a stage.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) name: String,
    /// The lists that its values are in. There are several if inputs were joined on the axis.
    lists: Vec<Arc<AxisList>>,
}

impl Axis {
    /// All values of its lists.
    pub(super) fn values(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let all = self.lists.iter().flat_map(|list| &list.values);
        all.map(String::as_str).filter(|value| seen.insert(*value)).collect()
    }

    /// The list that the values of both axes are in.
    pub(super) fn common_list(&self, other: &Axis) -> Option<&Arc<AxisList>> {
        self.lists.iter().find(|list| other.lists.iter().any(|of| Arc::ptr_eq(list, of)))
    }

    fn add(&mut self, lists: &[Arc<AxisList>]) {
        for list in lists {
            if !self.lists.iter().any(|known| Arc::ptr_eq(known, list)) {
                self.lists.push(Arc::clone(list));
            }
        }
    }
}

/// The fields of a stage that are parameters, with the values of each.
pub(super) struct Grid<'p> {
    pub(super) fields: Vec<(&'p YamlField, Vec<YamlNode>)>,
    /// The parameters that a stage of an open kind declares.
    pub(super) declared: &'p [YamlField],
    widths: Vec<usize>,
    /// By field, whether its values are those of an axis.
    are_axes: Vec<bool>,
}

impl<'p> Grid<'p> {
    /// The number of combinations of values.
    pub(super) fn len(&self) -> usize {
        self.widths.iter().product()
    }

    /// The index of the combination of the value at `place` in a field with the first values of all
    /// other fields.
    fn index_of(&self, field: usize, place: usize) -> usize {
        place * self.widths[field + 1..].iter().product::<usize>()
    }

    /// A value of each field.
    pub(super) fn combination(&self, index: usize) -> Vec<(&'p YamlField, &YamlNode)> {
        let chosen = combination(&self.widths, index);
        let each = self.fields.iter().zip(chosen);
        each.map(|((field, values), place)| (*field, &values[place])).collect()
    }

    /// The text in names of a value in a field. `full` has the parameters of a node with it.
    fn text(&self, field: &YamlField, value: &YamlNode, full: Option<&Json>) -> String {
        let is_declared = is_declared(self.declared, field);
        match (value.as_text(), full) {
            // In names, a value that is passed to a program keeps its text.
            (Some(text), _) if is_declared || full.and_then(Json::as_str) == Some(text) => {
                text.to_owned()
            }
            (None, Some(full)) if !is_declared && OPEN_FIELDS.contains(&&*field.key) => {
                render(full)
            }
            _ => render(&value.to_json()),
        }
    }
}

/// The axes that a stage declares itself: the fields with lists.
pub(super) struct OwnAxes {
    /// By field of the grid; `None` for a field that is no axis.
    lists: Vec<Option<(String, Arc<AxisList>)>>,
    widths: Vec<usize>,
}

impl OwnAxes {
    /// The axes. `resolve` returns the parameters of the combination with an index of `grid`; an
    /// invalid combination has none, which `where` may leave out.
    pub(super) fn new(
        grid: &Grid,
        mut resolve: impl FnMut(usize) -> Option<Arc<ResolvedStage>>,
    ) -> OwnAxes {
        let mut lists = Vec::new();
        for (i, (field, values)) in grid.fields.iter().enumerate() {
            if !grid.are_axes[i] {
                lists.push(None);
                continue;
            }
            let text = |(place, value): (usize, &YamlNode)| {
                let resolved = resolve(grid.index_of(i, place));
                grid.text(field, value, resolved.as_ref().and_then(|of| of.full.get(&field.key)))
            };
            let texts: Vec<String> = values.iter().enumerate().map(text).collect();
            lists.push(Some((field.key.clone(), Arc::new(AxisList::new(texts)))));
        }
        OwnAxes { lists, widths: grid.widths.clone() }
    }

    /// The axis values of the combination with an index of the grid.
    pub(super) fn values(&self, index: usize) -> Vec<(&str, &str)> {
        let chosen = combination(&self.widths, index);
        let each = self.lists.iter().zip(chosen);
        each.filter_map(|(axis, place)| {
            let (name, list) = axis.as_ref()?;
            Some((name.as_str(), list.values[place].as_str()))
        })
        .collect()
    }
}

/// The parameters that a stage of an open kind declares.
fn declared<'p>(stage: &'p StageDecl, kind: &dyn Kind) -> &'p [YamlField] {
    let field =
        if kind.is_open() { stage.fields.iter().find(|field| field.key == PARAMS) } else { None };
    field.and_then(|field| field.value.as_map()).unwrap_or_default()
}

/// Whether `field` is one of the parameters that the stage declares.
pub(super) fn is_declared(declared: &[YamlField], field: &YamlField) -> bool {
    declared.iter().any(|entry| std::ptr::eq(entry, field))
}

impl<'p> Builder<'p> {
    /// The parameters of a stage with their values.
    pub(super) fn grid(
        &self,
        stage: &'p StageDecl,
        kind: &'static dyn Kind,
    ) -> Result<Grid<'p>, Diagnostic> {
        let declared = declared(stage, kind);
        let is_parameter = |field: &&YamlField| {
            let is_slot = kind.slots().iter().any(|slot| slot.name == field.key)
                || (kind.is_open() && field.key == INPUTS);
            let is_spread = !declared.is_empty() && field.key == PARAMS;
            !is_slot && !is_spread && field.key != RESOURCES && field.key != WHERE
        };
        let is_filtered = stage.fields.iter().any(|field| field.key == WHERE);
        let most = if is_filtered { MAX_CANDIDATES } else { MAX_NODES };
        let (mut fields, mut widths, mut are_axes) = (Vec::new(), Vec::new(), Vec::new());
        let mut count = 1usize;
        for field in stage.fields.iter().filter(is_parameter).chain(declared) {
            let is_axis = is_grid(&field.value)
                && (is_declared(declared, field) || !kind.lists().contains(&field.key.as_str()));
            are_axes.push(is_axis);
            if !is_axis {
                fields.push((field, vec![field.value.clone()]));
                widths.push(1);
                continue;
            }
            count = width(&field.value)
                .and_then(|n| count.checked_mul(n))
                .filter(|&n| n <= most)
                .ok_or_else(|| self.too_many(stage, field.location))?;
            if count == 0 {
                let message = format!("stage `{}`: the grid `{}` is empty", stage.name, field.key);
                return Err(self.pipeline.diagnostic(
                    field.value.location,
                    message,
                    Some("list at least one value".into()),
                ));
            }
            let values = alternatives(&field.value);
            widths.push(values.len());
            fields.push((field, values));
        }
        Ok(Grid { fields, declared, widths, are_axes })
    }

    /// The axes of a stage; those of its inputs come first.
    pub(super) fn axes_of(
        &self,
        stage: &StageDecl,
        inputs: &[Found<'p>],
        grid: &Grid,
        own: &OwnAxes,
    ) -> Result<Vec<Axis>, Diagnostic> {
        let mut axes: Vec<Axis> = Vec::new();
        for found in inputs {
            for axis in &self.axes[found.reference.stage.as_str()] {
                if found.reference.fixes(&axis.name) {
                    continue;
                }
                let name = found.renamed(&axis.name);
                match axes.iter_mut().find(|known| known.name == name) {
                    Some(known) => known.add(&axis.lists),
                    None => axes.push(Axis { name: name.to_owned(), lists: axis.lists.clone() }),
                }
            }
        }
        for ((field, _), axis) in grid.fields.iter().zip(&own.lists) {
            let Some((name, list)) = axis else { continue };
            if axes.iter().any(|known| known.name == *name) {
                let message =
                    format!("stage `{}`: its inputs already have the axis `{name}`", stage.name);
                return Err(self.pipeline.diagnostic(
                    field.location,
                    message,
                    Some("give one value, not a list".into()),
                ));
            }
            axes.push(Axis { name: name.clone(), lists: vec![Arc::clone(list)] });
        }
        Ok(axes)
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::{names, refusal};

    #[test]
    fn lists_expand_in_file_order_and_the_last_varies_fastest() {
        assert_eq!(
            names("stages: { s: { source: { width: [2, 1], text: [x, v] } } }"),
            ["s@width=2,text=x", "s@width=2,text=v", "s@width=1,text=x", "s@width=1,text=v"]
        );
    }

    #[test]
    fn a_list_inside_a_mapping_is_a_grid_and_a_single_field_is_not_named() {
        assert_eq!(
            names(
                "stages: { s: { source: { text: x, style: [plain, { framed: { by: [1, 2] } }] } } }"
            ),
            ["s@style=plain", "s@style=framed-1", "s@style=framed-2"]
        );
        assert_eq!(
            names(
                "stages: { s: { source: { \
                     text: x, style: { framed: { by: [1, 2], round: true } } } } }"
            ),
            ["s@style=framed-by-1-round-true", "s@style=framed-by-2-round-true"]
        );
    }

    #[test]
    fn a_list_of_one_value_is_an_axis_and_a_single_value_is_not() {
        assert_eq!(names("stages: { s: { source: { text: x } } }"), ["s"]);
        assert_eq!(names("stages: { s: { source: { text: [x] } } }"), ["s@text=x"]);
    }

    #[test]
    fn a_grid_of_a_billion_nodes_is_an_error_before_it_is_expanded() {
        let thousand = (1..=1000).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
        let (message, hint) = refusal(&format!(
            "stages: {{ s: {{ source: {{ \
                 text: x, width: [{thousand}], ratio: [{thousand}], note: [{thousand}] }} }} }}"
        ));
        assert!(message.ends_with("stage `s` expands to more than 200000 nodes"), "{message}");
        assert_eq!(hint.as_deref(), Some("shorten its lists"));
    }
}
