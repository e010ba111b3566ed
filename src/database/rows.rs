//! Several rows bound to one statement, in forms that PostgreSQL and SQLite both speak.
//!
//! A list of each length is a statement of its own, so lists are brought to powers of two: then a
//! handful of statements stays prepared.

use sea_orm::{DbBackend, Statement, Value};

/// Rows of values for `WITH v(…) AS (VALUES …)`, after values that are the same for all of them.
pub struct Rows {
    columns: &'static [&'static str],
    /// `$1` and so on.
    same: usize,
    values: Vec<Value>,
}

impl Rows {
    /// No rows yet, with columns of these names; the statement knows `same` as `$1` and so on.
    pub fn of<const N: usize>(columns: &'static [&'static str], same: [Value; N]) -> Self {
        Self { columns, same: N, values: same.into() }
    }

    /// Adds a row; its values are in the order of the columns.
    pub fn push<const N: usize>(&mut self, row: [Value; N]) {
        debug_assert_eq!(N, self.columns.len(), "a value for each column");
        self.values.extend(row);
    }

    pub fn is_empty(&self) -> bool {
        self.values.len() == self.same
    }

    /// The statement that reads the rows as `v`. The last row is repeated up to a power of two, so the
    /// statement must not mind a row that comes twice: an update, not an insert.
    pub fn statement(mut self, backend: DbBackend, sql: &str) -> Statement {
        let width = self.columns.len();
        let rows = (self.values.len() - self.same) / width;
        for _ in rows..rows.next_power_of_two() {
            self.values.extend_from_within(self.values.len() - width..);
        }
        let mut text = format!("WITH v({}) AS (VALUES ", self.columns.join(", "));
        for index in 0..self.values.len() - self.same {
            let before = match (index % width, index) {
                (0, 0) => "(",
                (0, _) => "), (",
                _ => ", ",
            };
            text.push_str(before);
            text.push('$');
            text.push_str(&(self.same + index + 1).to_string());
        }
        text.push_str(")) ");
        text.push_str(sql);
        Statement::from_sql_and_values(backend, text, self.values)
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
        let mut rows = Rows::of(&["a", "b"], [true.into()]);
        for n in 0..3_i32 {
            rows.push([n.into(), "x".into()]);
        }
        let statement = rows.statement(DbBackend::Sqlite, "SELECT a FROM v WHERE $1");
        let expected = "WITH v(a, b) AS (VALUES ($2, $3), ($4, $5), ($6, $7), ($8, $9)) SELECT a FROM v WHERE $1";
        assert_eq!(statement.sql, expected);
        let values = statement.values.expect("values").0;
        assert_eq!(values[5..7], values[7..9], "the last row comes twice");
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
