//! Several rows bound to one statement, in forms that PostgreSQL and SQLite both speak.
//!
//! A list of each length is a statement of its own, so lists are brought to powers of two: then a
//! handful of statements stays prepared.

use sea_orm::{DbBackend, Statement, Value};

/// Where a value that is the same for all rows stands in a statement.
const SAME: &str = "$same";

/// Rows of values for `WITH v(…) AS (VALUES …)`.
pub struct Rows {
    columns: &'static [&'static str],
    values: Vec<Value>,
    same: Vec<Value>,
}

impl Rows {
    /// No rows yet, with columns of these names.
    pub fn of(columns: &'static [&'static str]) -> Self {
        Self { columns, values: Vec::new(), same: Vec::new() }
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
        self.values.extend(row);
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The statement that reads the rows as `v`. The last row is repeated up to a power of two, so the
    /// statement must not mind a row that comes twice: an update, not an insert.
    pub fn statement(mut self, backend: DbBackend, sql: &str) -> Statement {
        let width = self.columns.len();
        let rows = self.values.len() / width;
        for _ in rows..rows.next_power_of_two() {
            self.values.extend_from_within(self.values.len() - width..);
        }
        let mut text = format!("WITH v({}) AS (VALUES ", self.columns.join(", "));
        for index in 0..self.values.len() {
            text.push_str(match (index % width, index) {
                (0, 0) => "(",
                (0, _) => "), (",
                _ => ", ",
            });
            place(&mut text, backend, index + 1);
        }
        text.push_str(")) ");
        let mut parts = sql.split(SAME);
        text.push_str(parts.next().unwrap_or_default());
        for (value, part) in self.same.into_iter().zip(parts) {
            self.values.push(value);
            place(&mut text, backend, self.values.len());
            text.push_str(part);
        }
        Statement::from_sql_and_values(backend, text, self.values)
    }
}

/// Writes the place of a value, counted from 1; places come in their order. SQLite keeps a list of those with names
/// or numbers and goes through it for each.
pub fn place(sql: &mut String, backend: DbBackend, number: usize) {
    if backend == DbBackend::Sqlite {
        sql.push('?');
    } else {
        sql.push('$');
        sql.push_str(&number.to_string());
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

    #[test]
    fn rows_are_numbered_and_brought_to_a_power_of_two() {
        for (backend, expected) in [
            (DbBackend::Sqlite, "WITH v(a, b) AS (VALUES (?, ?), (?, ?), (?, ?), (?, ?)) SELECT a FROM v WHERE ? < ?"),
            (
                DbBackend::Postgres,
                "WITH v(a, b) AS (VALUES ($1, $2), ($3, $4), ($5, $6), ($7, $8)) SELECT a FROM v WHERE $9 < $10",
            ),
        ] {
            let mut rows = Rows::of(&["a", "b"]).with(1).with(2);
            for n in 0..3_i32 {
                rows.push([n.into(), "x".into()]);
            }
            let statement = rows.statement(backend, "SELECT a FROM v WHERE $same < $same");
            assert_eq!(statement.sql, expected);
            let values = statement.values.expect("values").0;
            assert_eq!(values[4..6], values[6..8], "the last row comes twice");
        }
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
