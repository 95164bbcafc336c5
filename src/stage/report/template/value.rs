//! Values of tables: a placeholder selects one row and a column.

use super::syntax::{Format, Query, Word};
use crate::engine::stage::suggest;
use crate::report::prose::Problem;
use crate::stage::report::sheet::{Sheet, number};
use std::collections::BTreeSet;

/// A value in a text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    /// As it is written in the text.
    pub(super) text: String,
    /// As it is written in the table.
    pub(super) cell: String,
}

/// The maximum number of values that a hint lists.
const MAX_LISTED: usize = 6;

impl Query {
    /// The conditions, as in `hidden=50, method=linear`.
    pub(super) fn selection(&self) -> String {
        let pair = |(column, value): &(Word, Word)| format!("{}={}", column.text, value.text);
        self.conditions.iter().map(pair).collect::<Vec<_>>().join(", ")
    }

    /// The value in `sheet`; `offset` is that of the placeholder.
    pub(super) fn evaluate(&self, sheet: &Sheet, offset: usize) -> Result<Value, Problem> {
        let column = self.find_column(sheet, &self.column)?;
        let mut rows: Vec<&Vec<String>> = sheet.rows.iter().collect();
        for (name, value) in &self.conditions {
            let at = self.find_column(sheet, name)?;
            let values: BTreeSet<&str> = rows.iter().map(|row| row[at].as_str()).collect();
            rows.retain(|row| is_same(&row[at], &value.text));
            if rows.is_empty() {
                let cause = format!(
                    "no row of `{}` has `{}={}`{}",
                    self.table.text,
                    name.text,
                    value.text,
                    self.before(name)
                );
                let hint = match suggest(&value.text, values.iter().copied()) {
                    Some(near) if near.starts_with("did") => near,
                    _ => format!("`{}` is {}", name.text, listed(&values)),
                };
                return Err(Problem::new(value.offset, cause, hint));
            }
        }
        let row = match rows.as_slice() {
            [row] => *row,
            [] => {
                let cause = format!("`{}` has no rows", self.table.text);
                return Err(Problem::new(offset, cause, "select a value of another table"));
            }
            _ => return Err(self.several(sheet, &rows, offset)),
        };
        self.format(&row[column], offset)
    }

    /// The conditions before that on `name`, for a message.
    fn before(&self, name: &Word) -> String {
        let earlier = self.conditions.iter().take_while(|(other, _)| other != name);
        let earlier: Vec<String> =
            earlier.map(|(column, value)| format!("{}={}", column.text, value.text)).collect();
        if earlier.is_empty() { String::new() } else { format!(" and `{}`", earlier.join(", ")) }
    }

    fn find_column(&self, sheet: &Sheet, name: &Word) -> Result<usize, Problem> {
        sheet.columns.iter().position(|column| *column == name.text).ok_or_else(|| {
            let cause = format!("`{}` has no column `{}`", self.table.text, name.text);
            let known = sheet.columns.iter().map(String::as_str);
            let hint = suggest(&name.text, known).unwrap_or_default();
            Problem::new(name.offset, cause, hint)
        })
    }

    /// The error for several rows, with the columns that distinguish them.
    fn several(&self, sheet: &Sheet, rows: &[&Vec<String>], offset: usize) -> Problem {
        let count = rows.len();
        let cause = match self.conditions.is_empty() {
            true => format!("`{}` has {count} rows, and the value needs one", self.table.text),
            false => format!(
                "{count} rows of `{}` have `{}`, and the value needs one",
                self.table.text,
                self.selection()
            ),
        };
        let values =
            |at: usize| -> BTreeSet<&str> { rows.iter().map(|row| row[at].as_str()).collect() };
        let mut chosen: Vec<usize> = Vec::new();
        let distinct = |chosen: &[usize]| {
            let key = |row: &&Vec<String>| -> Vec<String> {
                chosen.iter().map(|at| row[*at].clone()).collect()
            };
            rows.iter().map(key).collect::<BTreeSet<_>>().len()
        };
        for at in 0..sheet.columns.len() {
            if distinct(&chosen) == count {
                break;
            }
            if values(at).len() > 1 && sheet.columns[at] != self.column.text {
                chosen.push(at);
            }
        }
        let condition = |at: &usize| format!("`{}` ({})", sheet.columns[*at], listed(&values(*at)));
        let hint = match chosen.as_slice() {
            [] => "the rows differ in no other column".to_owned(),
            [one] => format!("add a condition on {}", condition(one)),
            several => {
                let conditions: Vec<String> = several.iter().map(condition).collect();
                format!("add conditions on {}", conditions.join(", "))
            }
        };
        Problem::new(offset, cause, hint)
    }

    fn format(&self, cell: &str, offset: usize) -> Result<Value, Problem> {
        let (table, column) = (&self.table.text, &self.column.text);
        if cell.trim().is_empty() {
            let cause = format!("`{column}` of this row of `{table}` is empty");
            let hint = "the table has no such value; for example, an interval requires several \
                        pairs";
            return Err(Problem::new(offset, cause, hint));
        }
        let text = match self.format {
            Format::Text => cell.to_owned(),
            format => {
                let Some(x) = number(cell) else {
                    let cause =
                        format!("`{column}` of this row of `{table}` is `{cell}`, not a number");
                    return Err(Problem::new(offset, cause, "remove `format`"));
                };
                let refuse = || {
                    let cause = format!(
                        "`{column}` of this row of `{table}` is {cell}, not a whole number"
                    );
                    Problem::new(offset, cause, "write `format=.0f` to round it")
                };
                format.number(x).ok_or_else(refuse)?
            }
        };
        Ok(Value { text, cell: cell.to_owned() })
    }
}

/// Whether a cell has a value: the same text, or the same number.
fn is_same(cell: &str, value: &str) -> bool {
    cell == value || number(cell).is_some_and(|x| number(value) == Some(x))
}

/// `10, 50 or 100`.
fn listed(values: &BTreeSet<&str>) -> String {
    let mut values: Vec<&str> = values.iter().copied().collect();
    values.sort_by(|a, b| match (number(a), number(b)) {
        (Some(x), Some(y)) => x.total_cmp(&y).then(a.cmp(b)),
        (x, y) => x.is_none().cmp(&y.is_none()).then(a.cmp(b)),
    });
    let more = values.len().saturating_sub(MAX_LISTED);
    let quoted: Vec<String> =
        values.iter().take(MAX_LISTED).map(|value| format!("`{value}`")).collect();
    match (quoted.as_slice(), more) {
        ([], _) => "missing".to_owned(),
        ([only], 0) => only.clone(),
        ([most @ .., last], 0) => format!("{} or {last}", most.join(", ")),
        (quoted, more) => format!("{} or {more} others", quoted.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::syntax::{Content, Part, parse};
    use super::*;

    const TABLE: &str = "hidden,prior,method,split,metric,mean,low\n\
                         10,none,linear,test,max_error,45.678,\n\
                         10,none,linear,train,max_error,44,40\n\
                         10,none,arc,test,max_error,9.5,9\n\
                         50,none,linear,test,max_error,30.25,30\n\
                         50,normal 0.01,linear,test,max_error,3e-2,\n\
                         50,normal 0.01,linear,test,barrier,7.0,x\n";

    fn evaluate(arguments: &str) -> Result<Value, Problem> {
        let template = format!("{{{{ value: t.csv {arguments} }}}}");
        match parse(&template).unwrap().remove(0) {
            Part::Placeholder(placeholder) => match placeholder.content {
                Content::Value(query) => {
                    query.evaluate(&Sheet::parse(TABLE.as_bytes()).unwrap(), 0)
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn conditions_select_one_row_by_text_or_by_number() {
        let text = |arguments: &str| evaluate(arguments).unwrap().text;
        assert_eq!(text("where hidden=10, method=arc column=mean"), "9.5");
        assert_eq!(text("where hidden=10.0, method=arc column=method"), "arc");
        assert_eq!(text("where mean=0.03 column=prior"), "normal 0.01");
        assert_eq!(text("where low=\"\", hidden=10 column=mean format=.1f"), "45.7");
        assert_eq!(text("where prior=\"normal 0.01\", metric=barrier column=mean"), "7.0");
        assert_eq!(text("where metric=barrier column=mean format=integer"), "7");
        let value = evaluate("where mean=3e-2 column=mean format=.1%").unwrap();
        assert_eq!((value.text.as_str(), value.cell.as_str()), ("3.0 %", "3e-2"));
    }

    #[test]
    fn a_value_that_is_not_one_cell_is_a_problem_with_a_hint() {
        let problem = |arguments: &str| {
            let Problem { offset, cause, hint } = evaluate(arguments).unwrap_err();
            format!("{arguments}\n  {offset}: {cause} ({hint})")
        };
        insta::assert_snapshot!(
            [
                "column=mean",
                "where hidden=10 column=mean",
                "where hidden=50, metric=max_error column=mean",
                "where hidden=51 column=mean",
                "where method=liner column=mean",
                "where hidden=10, prior=normal column=mean",
                "where hiden=10 column=mean",
                "where metric=barrier column=maen",
                "where metric=barrier column=low format=.2f",
                "where mean=0.03 column=low",
                "where mean=9.5 column=mean format=integer",
            ]
            .map(problem)
            .join("\n"),
            @r"
        column=mean
          0: `t.csv` has 6 rows, and the value needs one (add conditions on `hidden` (`10` or `50`), `prior` (`none` or `normal 0.01`), `method` (`arc` or `linear`), `split` (`test` or `train`), `metric` (`barrier` or `max_error`))
        where hidden=10 column=mean
          0: 3 rows of `t.csv` have `hidden=10`, and the value needs one (add conditions on `method` (`arc` or `linear`), `split` (`test` or `train`))
        where hidden=50, metric=max_error column=mean
          0: 2 rows of `t.csv` have `hidden=50, metric=max_error`, and the value needs one (add a condition on `prior` (`none` or `normal 0.01`))
        where hidden=51 column=mean
          29: no row of `t.csv` has `hidden=51` (`hidden` is `10` or `50`)
        where method=liner column=mean
          29: no row of `t.csv` has `method=liner` (did you mean `linear`?)
        where hidden=10, prior=normal column=mean
          39: no row of `t.csv` has `prior=normal` and `hidden=10` (`prior` is `none`)
        where hiden=10 column=mean
          22: `t.csv` has no column `hiden` (did you mean `hidden`?)
        where metric=barrier column=maen
          44: `t.csv` has no column `maen` (did you mean `mean`?)
        where metric=barrier column=low format=.2f
          0: `low` of this row of `t.csv` is `x`, not a number (remove `format`)
        where mean=0.03 column=low
          0: `low` of this row of `t.csv` is empty (the table has no such value; for example, an interval requires several pairs)
        where mean=9.5 column=mean format=integer
          0: `mean` of this row of `t.csv` is 9.5, not a whole number (write `format=.0f` to round it)
        ");
    }
}
