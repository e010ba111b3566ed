//! Several rows bound to one statement, in forms that PostgreSQL and SQLite both speak.
//!
//! A list of each length is a statement of its own, so lists are brought to powers of two: then a handful of statements
//! stays prepared.

use sea_orm::{DbBackend, DbErr, Statement, Value};

use super::writing::Writing;

/// Where a value that is the same for all rows stands in a statement.
const SAME: &str = "$same";

/// Rows of values that a statement reads as `v`.
pub struct Rows {
    columns: &'static [&'static str],
    cells: Vec<Vec<Value>>,
    same: Vec<Value>,
}

impl Rows {
    /// No rows yet, with columns of these names.
    pub fn of(columns: &'static [&'static str]) -> Self {
        Self { columns, cells: columns.iter().map(|_| Vec::new()).collect(), same: Vec::new() }
    }

    /// The statement has this value in the place of its next `$same`.
    #[must_use]
    pub fn with(mut self, same: impl Into<Value>) -> Self {
        self.same.push(same.into());
        self
    }

    /// Adds a row; its values are in the order of the columns.
    pub fn push<const N: usize>(&mut self, row: [Value; N]) {
        debug_assert_eq!(N, self.columns.len(), "a value for each column");
        for (cells, value) in self.cells.iter_mut().zip(row) {
            cells.push(value);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.cells.first().map_or(0, Vec::len)
    }

    /// The statement that reads the rows as `v`. On SQLite rows of nothing but NULL may follow, so it must look for
    /// something that equals the rows' values, as an update does.
    pub fn statement(self, backend: DbBackend, sql: &str) -> Result<Statement, DbErr> {
        let mut writing = Writing::new(backend);
        self.write(&mut writing, sql)?;
        Ok(writing.end())
    }

    pub(super) fn write(self, writing: &mut Writing, sql: &str) -> Result<(), DbErr> {
        writing.sql.push_str("WITH v(");
        writing.sql.push_str(&self.columns.join(", "));
        writing.sql.push_str(") AS (");
        writing.rows(self.columns.iter().copied().zip(self.cells).collect())?;
        writing.sql.push_str(") ");
        let mut parts = sql.split(SAME);
        writing.sql.push_str(parts.next().unwrap_or_default());
        for (value, part) in self.same.into_iter().zip(parts) {
            writing.bind(value);
            writing.sql.push_str(part);
        }
        Ok(())
    }
}

/// The values of an `IN (…)`, the last one repeated up to a power of two.
pub fn padded<T: Clone>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    if let Some(last) = values.last().cloned() {
        values.resize(values.len().next_power_of_two(), last);
    }
    values
}

/// Rows to insert, in portions of a power of two, at most `most` each.
pub fn portions<T>(rows: Vec<T>, most: usize) -> impl Iterator<Item = Vec<T>> {
    let mut rows = rows.into_iter();
    std::iter::from_fn(move || {
        let exponent = rows.len().min(most).checked_ilog2()?;
        Some(rows.by_ref().take(1 << exponent).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_rows(backend: DbBackend) -> Statement {
        let mut rows = Rows::of(&["a", "b"]).with(1).with(2);
        for n in 0..3_i32 {
            rows.push([n.into(), "x".into()]);
        }
        rows.statement(backend, "SELECT a FROM v WHERE $same < $same").expect("a statement")
    }

    #[test]
    fn rows_come_before_what_all_of_them_share() {
        let statement = three_rows(DbBackend::Postgres);
        let expected =
            r#"WITH v(a, b) AS (SELECT "a", "b" FROM unnest($1, $2) AS told("a", "b")) SELECT a FROM v WHERE $3 < $4"#;
        assert_eq!(statement.sql, expected);
        assert_eq!(statement.values.expect("values").0[2..], [1.into(), 2.into()]);
    }

    #[test]
    fn sqlite_takes_few_numbers_of_rows() {
        let statement = three_rows(DbBackend::Sqlite);
        let expected = "WITH v(a, b) AS (VALUES (?, ?), (?, ?), (?, ?), (?, ?)) SELECT a FROM v WHERE ? < ?";
        assert_eq!(statement.sql, expected);
        let values = statement.values.expect("values").0;
        assert_eq!(values[6..8], [Value::Bool(None), Value::Bool(None)], "a row of nothing");
    }

    #[test]
    fn lists_and_portions_have_few_lengths() {
        assert_eq!(padded([1, 2, 3]), [1, 2, 3, 3]);
        assert_eq!(padded(Vec::<i32>::new()), [0_i32; 0]);
        let lengths: Vec<_> = portions((0..23).collect(), 8).map(|portion| portion.len()).collect();
        assert_eq!(lengths, [8, 8, 4, 2, 1]);
        assert_eq!(portions((0..23).collect(), 8).flatten().count(), 23);
    }
}
