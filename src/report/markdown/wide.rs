//! Tables of many columns, split into several that read well on GitHub.

use crate::report::document::Column;

/// The largest number of columns of a table in Markdown.
pub(super) const COLUMNS: usize = 7;

/// The indices of the columns of each part of a table. Each part begins with the columns that
/// identify the rows.
pub(super) fn parts(columns: &[Column]) -> Vec<Vec<usize>> {
    if columns.len() <= COLUMNS {
        return vec![(0..columns.len()).collect()];
    }
    let identifying = columns.iter().take_while(|column| column.facet_of_rows.is_some()).count();
    let identifying = identifying.clamp(1, COLUMNS - 2);
    let rest: Vec<usize> = (identifying..columns.len()).collect();
    let count = rest.len().div_ceil(COLUMNS - identifying);
    let size = rest.len().div_ceil(count);
    rest.chunks(size).map(|part| (0..identifying).chain(part.iter().copied()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(identifying: usize, others: usize) -> Vec<Column> {
        let facet = |i: usize| (i < identifying).then(|| "prior".to_owned());
        let column = |i| Column { facet_of_rows: facet(i), ..Column::default() };
        (0..identifying + others).map(column).collect()
    }

    #[test]
    fn no_part_has_more_than_seven_columns_and_every_column_is_in_one() {
        for identifying in 0..9 {
            for others in 0..30 {
                let columns = columns(identifying, others);
                let parts = parts(&columns);
                assert!(parts.iter().all(|part| part.len() <= COLUMNS));
                for i in 0..columns.len() {
                    assert!(parts.iter().any(|part| part.contains(&i)), "{identifying} {others}");
                }
            }
        }
    }

    #[test]
    fn every_part_begins_with_the_columns_that_identify_the_rows() {
        assert_eq!(parts(&columns(2, 5)), [[0, 1, 2, 3, 4, 5, 6]]);
        assert_eq!(parts(&columns(2, 6)), [[0, 1, 2, 3, 4], [0, 1, 5, 6, 7]]);
        assert_eq!(parts(&columns(0, 9)), [[0, 1, 2, 3, 4], [0, 5, 6, 7, 8]]);
    }
}
