//! CSV files as text: tables of users, and the values in a template.

use csv::{ErrorKind, ReaderBuilder};

/// A table with a heading for each column.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sheet {
    pub(super) columns: Vec<String>,
    /// Each row has as many cells as there are columns.
    pub(super) rows: Vec<Vec<String>>,
}

impl Sheet {
    /// Parses a CSV file whose first line is the heading.
    ///
    /// # Errors
    /// Why it is not such a file: a sentence about "it".
    pub(super) fn parse(bytes: &[u8]) -> Result<Sheet, String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        check_quotes(bytes)?;
        let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
        let mut lines = reader.records();
        let cells = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect();
        let read = |record: csv::Result<csv::StringRecord>| {
            record.map_err(|error| match error.kind() {
                ErrorKind::Utf8 { pos, .. } => {
                    let line = pos.as_ref().map_or(1, |pos| line(bytes, pos.byte()));
                    format!("it is not UTF-8 at line {line}")
                }
                _ => format!("it is not CSV: {error}"),
            })
        };
        let columns: Vec<String> = match lines.next() {
            Some(record) => cells(&read(record)?),
            None => return Err("it is empty".into()),
        };
        if let [only] = columns.as_slice()
            && let Some(other) = [';', '\t'].into_iter().find(|other| only.contains(*other))
        {
            return Err(format!("its columns are separated by `{}`", other.escape_default()));
        }
        let mut rows = Vec::new();
        for record in lines {
            let record = read(record)?;
            if record.len() != columns.len() {
                let line = record.position().map_or(0, |position| line(bytes, position.byte()));
                let (found, expected) = (count(record.len()), count(columns.len()));
                return Err(format!("line {line} has {found}, but line 1 has {expected}"));
            }
            rows.push(cells(&record));
        }
        Ok(Sheet { columns, rows })
    }

    /// Whether a column contains numbers: at least one, and no texts other than missing values.
    pub(super) fn is_numeric(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().map(|row| row[column].as_str());
        cells.clone().any(|cell| number(cell).is_some())
            && cells.all(|cell| number(cell).is_some() || is_missing(cell))
    }
}

/// `1 cell`, `2 cells`.
fn count(cells: usize) -> String {
    format!("{cells} cell{}", if cells == 1 { "" } else { "s" })
}

/// The number in a cell, if it is finite.
pub(super) fn number(cell: &str) -> Option<f64> {
    cell.trim().parse().ok().filter(|x: &f64| x.is_finite())
}

fn is_missing(cell: &str) -> bool {
    matches!(cell.trim().to_lowercase().as_str(), "" | "nan" | "na" | "inf" | "-inf")
}

/// The line of the record that begins at or after empty lines at `byte`.
fn line(bytes: &[u8], byte: u64) -> usize {
    let byte = (byte as usize).min(bytes.len());
    let is_end = |b: &u8| matches!(b, b'\n' | b'\r');
    let start = byte + bytes[byte..].iter().take_while(|b| is_end(b)).count();
    1 + bytes[..start].iter().filter(|b| **b == b'\n').count()
}

/// Rejects a quote that is not closed and text after a closing quote, which the reader accepts.
fn check_quotes(bytes: &[u8]) -> Result<(), String> {
    /// The state after a byte.
    enum State {
        FieldStart,
        Bare,
        /// In quotes that opened at a line.
        Quoted(usize),
        /// After a quote in quotes, which closes them unless another follows.
        Closed(usize),
    }
    let mut state = State::FieldStart;
    let mut line = 1;
    for byte in bytes {
        state = match (state, byte) {
            (State::FieldStart, b'"') => State::Quoted(line),
            (State::Quoted(from), b'"') => State::Closed(from),
            (State::Closed(from), b'"') => State::Quoted(from),
            (State::Quoted(from), _) => State::Quoted(from),
            (_, b',' | b'\n') => State::FieldStart,
            (State::Closed(from), b'\r') => State::Closed(from),
            (State::Closed(_), _) => return Err(format!("line {line} has text after a quote")),
            (State::FieldStart | State::Bare, _) => State::Bare,
        };
        line += usize::from(*byte == b'\n');
    }
    match state {
        State::Quoted(from) => Err(format!("the quote in line {from} is not closed")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_file_has_a_heading_and_rows() {
        let text = "\u{feff}name,x\r\n\"a, \"\"b\"\"\",1.5\r\n\r\nc,\n";
        let sheet = Sheet::parse(text.as_bytes()).unwrap();
        assert_eq!(sheet.columns, ["name", "x"]);
        assert_eq!(sheet.rows, [["a, \"b\"", "1.5"], ["c", ""]]);
        assert_eq!([sheet.is_numeric(0), sheet.is_numeric(1)], [false, true]);
    }

    #[test]
    fn a_malformed_csv_file_is_an_error_with_its_line() {
        let refusal = |bytes: &[u8]| Sheet::parse(bytes).unwrap_err();
        assert_eq!(refusal(b""), "it is empty");
        assert_eq!(refusal(b"\n\n"), "it is empty");
        assert_eq!(refusal(b"a,b\n1,2\n\n3\n"), "line 4 has 1 cell, but line 1 has 2 cells");
        assert_eq!(refusal(b"a\n1,2\n"), "line 2 has 2 cells, but line 1 has 1 cell");
        assert_eq!(refusal(b"a,b\n1,\"2\n3,4\n"), "the quote in line 2 is not closed");
        assert_eq!(refusal(b"a,b\n\"1\"x,2\n"), "line 2 has text after a quote");
        assert_eq!(refusal(b"a,b\n1,2\n\xff,2\n"), "it is not UTF-8 at line 3");
        assert_eq!(refusal(b"a;b\n1;2\n"), "its columns are separated by `;`");
        assert_eq!(refusal(b"a\tb\n1\t2\n"), "its columns are separated by `\\t`");
    }

    #[test]
    fn a_column_with_missing_values_is_numeric_and_one_with_words_is_not() {
        let sheet = Sheet::parse(b"a,b,c\n1,,x\n-2e-3,nan,1\n").unwrap();
        assert_eq!([0, 1, 2].map(|column| sheet.is_numeric(column)), [true, false, false]);
    }
}
