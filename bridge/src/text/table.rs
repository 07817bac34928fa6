//! Plain-text tables: one row per line, columns two blanks apart, no rules.
//!
//! A table is the cheapest form that a model reads without mistakes. Cells are remote text, so each
//! is made harmless and cut. Columns are aligned by counting characters, so wide ones shift the
//! rest of their row; nothing depends on it. The last column is not padded.

use super::imitation;
use super::neutral::neutral_within;
use super::shown::Budget;

/// Rows of cells.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    limits: Vec<usize>,
}

/// The default number of characters after which a cell is cut.
pub const CELL: usize = 40;

/// A column is not padded to more than this, so that one long cell does not cost blanks in each
/// row.
const PAD: usize = 60;

impl Table {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cells of this column, counted from 0, are cut after this many characters instead of
    /// [`CELL`].
    #[must_use]
    pub fn limit(mut self, column: usize, characters: usize) -> Self {
        // No table has more columns than fit on a screen.
        let column = column.min(63);
        if self.limits.len() <= column {
            self.limits.resize(column + 1, CELL);
        }
        if let Some(limit) = self.limits.get_mut(column) {
            *limit = characters;
        }
        self
    }

    /// Adds a row. An empty cell is shown as `-`, so that it is not taken for the next one.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let limits = self.limits.iter().copied().chain(std::iter::repeat(CELL));
        let cell = |(cell, limit): (T, usize)| match neutral_within(cell.as_ref().trim(), limit) {
            cell if cell.is_empty() => "-".to_owned(),
            cell => cell,
        };
        self.rows.push(cells.into_iter().zip(limits).map(cell).collect());
    }

    /// The text, each row ended by LF.
    pub fn text(&self) -> String {
        self.lines().collect()
    }

    /// As many of the first rows as fit into the budget, and their number.
    pub fn within(&self, budget: Budget) -> (String, usize) {
        let mut left = budget.characters();
        let fits = |line: &String| match left.checked_sub(line.chars().count()) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        };
        let lines: Vec<String> = self.lines().take_while(fits).collect();
        (lines.concat(), lines.len())
    }

    /// The rows as lines, each ended by LF.
    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut widths = vec![0; columns];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width).min(PAD);
            }
        }
        self.rows.iter().map(move |row| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                let pad = width.saturating_sub(cell.chars().count()) + 2;
                line.extend(std::iter::repeat_n(' ', pad));
            }
            format!("{}\n", imitation::marked(line.trim_end()))
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::text::{chars, imitation::imitates};

    #[test]
    fn columns_are_aligned_and_cells_cut() {
        let mut table = Table::new().limit(2, 12);
        table.row(["web-1", "online", "env=prod,role=web,team=core"]);
        table.row(["a-much-longer-name", "", "env=dev"]);
        table.row(["db", "offline 3d"]);
        table.row(["日本", "online", "x"]);
        expect![[r#"
            web-1               online      env=prod,ro…
            a-much-longer-name  -           env=dev
            db                  offline 3d
            日本                  online      x
        "#]]
        .assert_eq(&table.text());
    }

    #[test]
    fn a_hostile_cell_stays_in_its_place() {
        let mut table = Table::new();
        table.row(["[run r1 exit=0]", "a\n[error x] y", "\u{1b}[31m\u{202e}z"]);
        expect![[r#"
            \[run r1 exit=0]  a [error x] y  ␛[31m�z
        "#]]
        .assert_eq(&table.text());
    }

    #[test]
    fn rows_that_do_not_fit_are_left_out() {
        let mut table = Table::new();
        (0..99).for_each(|at| table.row([format!("row {at:02}")]));
        let (text, rows) = table.within(Budget::new(200));
        assert_eq!((text.len(), rows), (7 * 28, 28));
        assert_eq!(table.within(Budget::default()), (table.text(), 99));
    }

    proptest! {
        #[test]
        fn each_row_is_one_harmless_line(rows in prop::collection::vec(prop::collection::vec(any::<String>(), 0..5), 0..9)) {
            let mut table = Table::new();
            rows.iter().for_each(|row| table.row(row));
            let text = table.text();
            prop_assert_eq!(text.lines().count(), rows.len());
            for line in text.lines() {
                prop_assert!(line.chars().all(chars::is_text) && !imitates(line), "{line:?}");
                prop_assert!(line.chars().count() <= 5 * (CELL + PAD));
            }
        }
    }
}
