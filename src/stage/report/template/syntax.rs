//! The grammar of templates.
//!
//! ```text
//! template    = { text | "{{{{" | placeholder }
//! placeholder = "{{" ( "value" ":" value | kind ":" name ) "}}"
//! kind        = "figure" | "table" | "section" | "extra"
//! value       = word [ "where" condition { "," condition } ] option { option }
//! condition   = word "=" word
//! option      = ( "column" | "format" ) "=" word
//! word        = characters without spaces, or a text in double quotes, in which `\"` is a quote
//!               and `\\` is a backslash
//! ```
//!
//! `{{{{` stands for `{{`. A word that ends at a `,` or `=`, and a name with `}}`, need quotes.

use crate::engine::stage::{Hinted, suggest};
use crate::report::prose::{self, Problem};
use std::ops::Range;

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// Text, which stays as it is.
    Text(Range<usize>),
    /// An escaped `{{`, at an offset.
    Braces(usize),
    /// A placeholder.
    Placeholder(Placeholder),
}

/// A placeholder.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placeholder {
    /// Its range in the template, with its braces.
    pub(super) range: Range<usize>,
    /// What it stands for.
    pub(super) content: Content,
}

/// What a placeholder stands for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// A cell of a table, within text.
    Value(Query),
    /// Blocks of the report.
    Blocks(BlockKind, String),
}

/// What blocks a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BlockKind {
    /// A figure of the study.
    Figure,
    /// A table of the report.
    Table,
    /// A section of the report.
    Section,
    /// A file in `extras`.
    Extra,
}

/// The kinds of placeholders.
const KINDS: [(&str, Option<BlockKind>); 5] = [
    ("value", None),
    ("figure", Some(BlockKind::Figure)),
    ("table", Some(BlockKind::Table)),
    ("section", Some(BlockKind::Section)),
    ("extra", Some(BlockKind::Extra)),
];

impl BlockKind {
    /// Its name in a template.
    pub(super) fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == Some(self)).map_or("", |(name, _)| name)
    }
}

/// A cell of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Query {
    /// The table, such as `tables/summary.csv`.
    pub(super) table: Word,
    /// Columns and their values, which select one row.
    pub(super) conditions: Vec<(Word, Word)>,
    /// The column.
    pub(super) column: Word,
    /// The format.
    pub(super) format: Format,
}

/// A word of a placeholder.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Word {
    pub(super) text: String,
    /// Its offset in the template.
    pub(super) offset: usize,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// As in the table.
    #[default]
    Text,
    /// A whole number, without a decimal point.
    Integer,
    /// `.2f`: decimals.
    Fixed(usize),
    /// `.2e`: decimals of the mantissa.
    Scientific(usize),
    /// `.3g`: significant digits.
    General(usize),
    /// `.1%`: decimals of 100 times the value.
    Percent(usize),
}

/// The most digits of a format. An `f64` has 17 significant ones.
const MAX_DIGITS: usize = 30;

impl Format {
    fn parse(text: &str) -> Result<Format, Hinted> {
        let refuse = || {
            let cause = format!("unknown format `{text}`");
            Hinted::new(cause, "write `.2f`, `.3g`, `.1e`, `.1%`, `%`, `integer` or `text`")
        };
        match text {
            "text" => return Ok(Format::Text),
            "integer" => return Ok(Format::Integer),
            "%" => return Ok(Format::Percent(0)),
            _ => {}
        }
        let rest = text.strip_prefix('.').ok_or_else(refuse)?;
        let kind = rest.chars().next_back().ok_or_else(refuse)?;
        let digits = &rest[..rest.len() - kind.len_utf8()];
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let digits: usize = digits.parse().ok().filter(|_| is_number).ok_or_else(refuse)?;
        if digits > MAX_DIGITS {
            let cause = format!("the format `{text}` has more than {MAX_DIGITS} digits");
            return Err(Hinted::new(cause, "write fewer digits, such as `.3g`"));
        }
        match kind {
            'f' => Ok(Format::Fixed(digits)),
            'e' => Ok(Format::Scientific(digits)),
            'g' => Ok(Format::General(digits.max(1))),
            '%' => Ok(Format::Percent(digits)),
            _ => Err(refuse()),
        }
    }

    /// The text of the number `x`; `None` if it is not a whole number but the format requires one.
    /// Except for the space before `%`, as in Python.
    pub(super) fn number(self, x: f64) -> Option<String> {
        let text = match self {
            Format::Text => x.to_string(),
            Format::Integer if x != x.trunc() => return None,
            Format::Integer => format!("{x:.0}"),
            Format::Fixed(digits) => format!("{x:.digits$}"),
            Format::Scientific(digits) => scientific(x, digits),
            Format::General(digits) => general(x, digits),
            Format::Percent(digits) => format!("{:.digits$} %", 100.0 * x),
        };
        // A small negative number is not written as `-0.00`.
        let is_zero = !text.contains(|c: char| matches!(c, '1'..='9'));
        Some(text.strip_prefix('-').filter(|_| is_zero).map(str::to_owned).unwrap_or(text))
    }
}

/// `1.23e-05`: the exponent has a sign and at least two digits.
fn scientific(x: f64, digits: usize) -> String {
    let text = format!("{x:.digits$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// Significant digits without trailing zeros; scientific below 0.0001 and from `10^digits`.
fn general(x: f64, digits: usize) -> String {
    let rounded = format!("{x:.*e}", digits - 1);
    let exponent: i32 =
        rounded.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or_default();
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= digits as i32 {
        let text = scientific(x, digits - 1);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "+00"));
        return format!("{}e{exponent}", trimmed(mantissa));
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    trimmed(&format!("{x:.decimals$}"))
}

/// The parts of a template. Code and comments are text.
pub(super) fn parse(template: &str) -> Result<Vec<Part>, Problem> {
    let verbatim = prose::verbatim(template);
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(found) = template[at..].find("{{").map(|found| at + found) {
        if let Some(code) = verbatim.iter().find(|range| range.contains(&found)) {
            at = code.end.max(found + 1);
            continue;
        }
        if found > from {
            parts.push(Part::Text(from..found));
        }
        at = match template[found..].starts_with("{{{{") {
            true => {
                parts.push(Part::Braces(found));
                found + 4
            }
            false => {
                let mut reader = Reader { text: template, at: found + 2, start: found };
                let content = reader.placeholder()?;
                parts.push(Part::Placeholder(Placeholder { range: found..reader.at, content }));
                reader.at
            }
        };
        from = at;
    }
    if template.len() > from {
        parts.push(Part::Text(from..template.len()));
    }
    Ok(parts)
}

/// Reads one placeholder.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// The offset of the placeholder.
    start: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn is_end(&self) -> bool {
        self.rest().starts_with("}}")
    }

    fn not_closed(&self) -> Problem {
        let hint = "write `}}` after the placeholder, or `{{{{` for two braces";
        Problem::new(self.start, "`{{` is not closed", hint)
    }

    /// Reads the rest of a placeholder, after its `{{`.
    fn placeholder(&mut self) -> Result<Content, Problem> {
        self.skip_spaces();
        let kind = self.word(&[':'])?;
        self.skip_spaces();
        let names = || KINDS.iter().map(|(name, _)| *name);
        let known = KINDS.iter().find(|(name, _)| *name == kind.text);
        let Some((_, block)) = known.filter(|_| self.peek() == Some(':')) else {
            let hint = match known {
                Some((name, _)) => format!("write `{{{{ {name}: ... }}}}`"),
                None => suggest(&kind.text, names()).unwrap_or_default(),
            };
            let cause = match (known, kind.text.as_str()) {
                (Some((name, _)), _) => format!("`:` is missing after `{name}`"),
                (None, "") => "the placeholder has no name".to_owned(),
                (None, name) => format!("unknown placeholder `{}`", shown(name)),
            };
            let escape = "; write `{{{{` for two braces";
            return Err(Problem::new(self.start, cause, format!("{hint}{escape}")));
        };
        self.at += 1;
        self.skip_spaces();
        match block {
            Some(block) => Ok(Content::Blocks(*block, self.name(*block)?)),
            None => self.query().map(Content::Value),
        }
    }

    /// Reads a name and the end of the placeholder.
    fn name(&mut self, kind: BlockKind) -> Result<String, Problem> {
        let name = match self.peek() {
            Some('"') => self.word(&[])?.text,
            _ => {
                let end = self.rest().find("}}").ok_or_else(|| self.not_closed())?;
                let name = self.rest()[..end].trim().to_owned();
                self.at += end;
                name
            }
        };
        self.skip_spaces();
        if name.is_empty() {
            let cause = format!("the {} has no name", kind.name());
            let hint = format!("write `{{{{ {}: NAME }}}}`", kind.name());
            return Err(Problem::new(self.start, cause, hint));
        }
        self.end()?;
        Ok(name)
    }

    fn end(&mut self) -> Result<(), Problem> {
        if !self.is_end() {
            return Err(self.not_closed());
        }
        self.at += 2;
        Ok(())
    }

    /// Reads a value and the end of the placeholder.
    fn query(&mut self) -> Result<Query, Problem> {
        let mut query = Query { table: self.word(&[])?, ..Query::default() };
        if query.table.text.is_empty() {
            let hint = "write `{{ value: tables/summary.csv where hidden=50 column=mean }}`";
            return Err(Problem::new(self.start, "the value has no table", hint));
        }
        self.skip_spaces();
        let before = self.at;
        match self.word(&['=', ','])?.text.as_str() {
            "where" => self.conditions(&mut query)?,
            _ => self.at = before,
        }
        let (mut has_column, mut has_format) = (false, false);
        loop {
            self.skip_spaces();
            if self.is_end() || self.rest().is_empty() {
                break;
            }
            let (name, value) = self.pair()?;
            let is_repeated = match name.text.as_str() {
                "column" => std::mem::replace(&mut has_column, true),
                "format" => std::mem::replace(&mut has_format, true),
                other => {
                    let hint = match query.conditions.is_empty() {
                        true => suggest(other, ["where", "column", "format"]).unwrap_or_default(),
                        false => format!("write a comma between conditions: `, {other}=...`"),
                    };
                    let cause = format!("unknown option `{}`", shown(other));
                    return Err(Problem::new(name.offset, cause, hint));
                }
            };
            if is_repeated {
                let cause = format!("`{}` is given twice", name.text);
                return Err(Problem::new(name.offset, cause, "remove one"));
            }
            match name.text.as_str() {
                "column" => query.column = value,
                _ => {
                    let refuse = |e: Hinted| Problem::new(value.offset, e.cause, e.hint);
                    query.format = Format::parse(&value.text).map_err(refuse)?;
                }
            }
        }
        self.end()?;
        if !has_column {
            let hint = "add `column=NAME` after the conditions";
            return Err(Problem::new(self.start, "the value has no column", hint));
        }
        Ok(query)
    }

    fn conditions(&mut self, query: &mut Query) -> Result<(), Problem> {
        loop {
            self.skip_spaces();
            let condition = self.pair()?;
            query.conditions.push(condition);
            self.skip_spaces();
            if self.peek() != Some(',') {
                return Ok(());
            }
            self.at += 1;
        }
    }

    /// Reads `NAME=VALUE`.
    fn pair(&mut self) -> Result<(Word, Word), Problem> {
        let name = self.word(&['=', ','])?;
        self.skip_spaces();
        if name.text.is_empty() || self.peek() != Some('=') {
            if self.rest().is_empty() {
                return Err(self.not_closed());
            }
            let found = match name.text.as_str() {
                "" => format!("`{}`", self.rest().chars().take(2).collect::<String>()),
                name => format!("`{}`", shown(name)),
            };
            let hint = "write `NAME=VALUE`, with double quotes around a value with spaces";
            return Err(Problem::new(
                name.offset,
                format!("expected `NAME=VALUE`, found {found}"),
                hint,
            ));
        }
        self.at += 1;
        self.skip_spaces();
        let value = self.word(&[','])?;
        let is_quoted = self.text[value.offset..].starts_with('"');
        if value.text.is_empty() && !is_quoted {
            let cause = format!("`{}` has no value", name.text);
            return Err(Problem::new(name.offset, cause, "write `\"\"` for an empty cell"));
        }
        Ok((name, value))
    }

    /// Reads a word, which ends before a space, `}}` or one of `ends`.
    fn word(&mut self, ends: &[char]) -> Result<Word, Problem> {
        let offset = self.at;
        let mut text = String::new();
        if self.peek() == Some('"') {
            let mut chars = self.rest().char_indices().skip(1);
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        self.at = offset + at + 1;
                        return Ok(Word { text, offset });
                    }
                    '\\' => text.extend(chars.next().map(|(_, c)| c)),
                    c => text.push(c),
                }
            }
            return Err(Problem::new(offset, "a quote is not closed", "write `\"` at its end"));
        }
        while let Some(c) = self.peek() {
            if c.is_whitespace() || self.is_end() || ends.contains(&c) {
                break;
            }
            text.push(c);
            self.at += c.len_utf8();
        }
        Ok(Word { text, offset })
    }
}

/// The beginning of a text for a message, on one line.
fn shown(text: &str) -> String {
    text.chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The placeholders of a template.
    fn placeholders(template: &str) -> Vec<Content> {
        let content = |part| match part {
            Part::Placeholder(placeholder) => Some(placeholder.content),
            _ => None,
        };
        parse(template).unwrap().into_iter().filter_map(content).collect()
    }

    fn query(template: &str) -> Query {
        match placeholders(template).remove(0) {
            Content::Value(query) => query,
            other => panic!("{other:?}"),
        }
    }

    /// `offset: cause (hint)`
    fn problem(template: &str) -> String {
        let Problem { offset, cause, hint } = parse(template).unwrap_err();
        format!("{offset}: {cause} ({hint})")
    }

    #[test]
    fn a_value_has_a_table_conditions_a_column_and_a_format() {
        let query = query(
            "a {{value:t/s.csv where hidden = 50, \"a b\"=\"normal 0.01\",\n  method=linear+wa \
             column=mean\nformat=.2f}} b",
        );
        let words = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let conditions: Vec<(String, String)> =
            query.conditions.iter().map(|(n, v)| (n.text.clone(), v.text.clone())).collect();
        assert_eq!(query.table.text, "t/s.csv");
        assert_eq!(
            conditions,
            [("hidden", "50"), ("a b", "normal 0.01"), ("method", "linear+wa")].map(words)
        );
        assert_eq!((query.column.text.as_str(), query.format), ("mean", Format::Fixed(2)));
    }

    #[test]
    fn a_column_called_column_is_a_condition_after_where_and_quotes_can_be_escaped() {
        let query = query(r#"{{ value: a@b=c,d=e/t.csv where column="x \"y\" \\" column=z }}"#);
        assert_eq!(query.table.text, "a@b=c,d=e/t.csv");
        assert_eq!(query.conditions[0].0.text, "column");
        assert_eq!(query.conditions[0].1.text, r#"x "y" \"#);
        assert_eq!((query.column.text.as_str(), query.format), ("z", Format::Text));
    }

    #[test]
    fn blocks_are_placed_by_name() {
        let name = |kind: BlockKind, name: &str| Content::Blocks(kind, name.to_owned());
        assert_eq!(
            placeholders(
                "{{ figure: a-b }}{{table:c}}{{ section : d }}\n{{ extra: n@k=x y/z.svg }}\
                 {{ extra: \"}} \" }}"
            ),
            [
                name(BlockKind::Figure, "a-b"),
                name(BlockKind::Table, "c"),
                name(BlockKind::Section, "d"),
                name(BlockKind::Extra, "n@k=x y/z.svg"),
                name(BlockKind::Extra, "}} "),
            ]
        );
    }

    #[test]
    fn code_comments_and_escaped_braces_are_no_placeholders() {
        let template =
            "`{{ a }}` {{{{ b }}\n\n    {{ c }}\n\n```\n{{ d }}\n```\n<!-- {{ e }} -->\n";
        let at = template.find("{{{{").unwrap();
        assert_eq!(
            parse(template).unwrap(),
            [Part::Text(0..at), Part::Braces(at), Part::Text(at + 4..template.len())]
        );
    }

    #[test]
    fn an_invalid_placeholder_is_a_problem_with_its_place_and_a_hint() {
        insta::assert_snapshot!(
            [
                "a {{ vlaue: t }}",
                "{{ value }}",
                "{{ x",
                "{{}}",
                "{{ figure: }}",
                "{{ figure: a",
                "{{ figure: \"a }}",
                "{{ value: }}",
                "{{ value: t }}",
                "{{ value: t where }}",
                "{{ value: t where a }}",
                "{{ value: t where a=b c column=d }}",
                "{{ value: t where a=1 b=2 column=c }}",
                "{{ value: t where a= column=c }}",
                "{{ value: t colum=c }}",
                "{{ value: t column=c column=d }}",
                "{{ value: t column=c format=.f }}",
                "{{ value: t column=c format=%.2f }}",
                "{{ value: t column=c format=.99g }}",
                "{{ value: t column=c",
            ]
            .map(|template| format!("> {template}\n  {}", problem(template)))
            .join("\n"),
            @r#"
        > a {{ vlaue: t }}
          2: unknown placeholder `vlaue` (did you mean `value`?; write `{{{{` for two braces)
        > {{ value }}
          0: `:` is missing after `value` (write `{{ value: ... }}`; write `{{{{` for two braces)
        > {{ x
          0: unknown placeholder `x` (known: `value`, `figure`, `table`, `section`, `extra`; write `{{{{` for two braces)
        > {{}}
          0: the placeholder has no name (known: `value`, `figure`, `table`, `section`, `extra`; write `{{{{` for two braces)
        > {{ figure: }}
          0: the figure has no name (write `{{ figure: NAME }}`)
        > {{ figure: a
          0: `{{` is not closed (write `}}` after the placeholder, or `{{{{` for two braces)
        > {{ figure: "a }}
          11: a quote is not closed (write `"` at its end)
        > {{ value: }}
          0: the value has no table (write `{{ value: tables/summary.csv where hidden=50 column=mean }}`)
        > {{ value: t }}
          0: the value has no column (add `column=NAME` after the conditions)
        > {{ value: t where }}
          18: expected `NAME=VALUE`, found `}}` (write `NAME=VALUE`, with double quotes around a value with spaces)
        > {{ value: t where a }}
          18: expected `NAME=VALUE`, found `a` (write `NAME=VALUE`, with double quotes around a value with spaces)
        > {{ value: t where a=b c column=d }}
          22: expected `NAME=VALUE`, found `c` (write `NAME=VALUE`, with double quotes around a value with spaces)
        > {{ value: t where a=1 b=2 column=c }}
          22: unknown option `b` (write a comma between conditions: `, b=...`)
        > {{ value: t where a= column=c }}
          0: the value has no column (add `column=NAME` after the conditions)
        > {{ value: t colum=c }}
          12: unknown option `colum` (did you mean `column`?)
        > {{ value: t column=c column=d }}
          21: `column` is given twice (remove one)
        > {{ value: t column=c format=.f }}
          28: unknown format `.f` (write `.2f`, `.3g`, `.1e`, `.1%`, `%`, `integer` or `text`)
        > {{ value: t column=c format=%.2f }}
          28: unknown format `%.2f` (write `.2f`, `.3g`, `.1e`, `.1%`, `%`, `integer` or `text`)
        > {{ value: t column=c format=.99g }}
          28: the format `.99g` has more than 30 digits (write fewer digits, such as `.3g`)
        > {{ value: t column=c
          0: `{{` is not closed (write `}}` after the placeholder, or `{{{{` for two braces)
        "#);
    }

    #[test]
    fn numbers_are_formatted_as_in_python() {
        let case = |format: &str, x: f64, expected: &str| {
            assert_eq!(Format::parse(format).unwrap().number(x).as_deref(), Some(expected));
        };
        // Each is `format(x, '.3g')` and the like in Python, except for the space before `%`.
        case(".2f", 12.345, "12.35");
        case(".2f", -0.001, "0.00");
        case(".0f", 2.5, "2");
        case(".3g", 1234.5, "1.23e+03");
        case(".3g", 0.000_123_45, "0.000123");
        case(".3g", 0.000_012_345, "1.23e-05");
        case(".3g", 0.5, "0.5");
        case(".3g", 999.9, "1e+03");
        case(".3g", 0.0, "0");
        case(".0g", 12.0, "1e+01");
        case(".6g", 100_000.0, "100000");
        case(".1e", -12345.0, "-1.2e+04");
        case(".1%", 0.1234, "12.3 %");
        case("%", 0.5, "50 %");
        case("integer", 50.0, "50");
        case("integer", -0.0, "0");
        assert_eq!(Format::Integer.number(1.5), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn text_without_placeholders_is_one_part(text in "(?s:[^{]|\\{[^{]){0,60}") {
            let expected: &[Part] =
                if text.is_empty() { &[] } else { &[Part::Text(0..text.len())] };
            if !text.contains("{{") {
                prop_assert_eq!(parse(&text).unwrap(), expected);
            }
        }

        #[test]
        fn any_text_is_parsed_without_a_panic_and_its_parts_are_the_text(
            text in "(\\{\\{|\\}\\}|value|figure|:|=|,|\"|\\\\| |\n|where|column|é|`){0,30}",
        ) {
            match parse(&text) {
                Ok(parts) => {
                    let mut at = 0;
                    for part in parts {
                        let range = match part {
                            Part::Text(range) => range,
                            Part::Braces(at) => at..at + 4,
                            Part::Placeholder(placeholder) => placeholder.range,
                        };
                        prop_assert_eq!(range.start, at);
                        at = range.end;
                    }
                    prop_assert_eq!(at, text.len());
                }
                Err(problem) => prop_assert!(text.is_char_boundary(problem.offset)),
            }
        }
    }
}
