//! The numbers of figures and tables, which are the same in every form of a document.

/// Counts figures and tables in the order of the document.
#[derive(Default)]
pub(super) struct Numbers {
    figures: usize,
    tables: usize,
}

impl Numbers {
    /// The number of the next figure.
    pub(super) fn figure(&mut self) -> usize {
        self.figures += 1;
        self.figures
    }

    /// The number of the next table.
    pub(super) fn table(&mut self) -> usize {
        self.tables += 1;
        self.tables
    }
}
