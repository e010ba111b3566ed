//! A statement while it is written, in forms that PostgreSQL and SQLite both speak.
//!
//! Rows come as a table: on PostgreSQL an array for each column, so that one statement serves any number of rows; on
//! SQLite, which has no arrays, as `VALUES`, where rows of nothing but NULL may follow.
//!
//! ```text
//! PostgreSQL  SELECT * FROM unnest($1, $2)
//! SQLite      VALUES (?, ?), (?, ?)
//! ```

use sea_orm::{DbBackend, DbErr, Statement, Value, sea_query::ArrayType};
use uuid::Uuid;

/// A column: its name, and a value for each row.
pub(super) type Column<'a> = (&'a str, Vec<Value>);

/// The text so far, and its values in the order of their places.
pub(super) struct Writing {
    pub backend: DbBackend,
    pub sql: String,
    values: Vec<Value>,
}

impl Writing {
    pub fn new(backend: DbBackend) -> Self {
        Self { backend, sql: String::with_capacity(2048), values: Vec::with_capacity(64) }
    }

    /// Writes the place of a value. SQLite keeps a list of those with names or numbers and goes through it for each.
    pub fn bind(&mut self, value: Value) {
        self.values.push(value);
        if self.backend == DbBackend::Sqlite {
            self.sql.push('?');
        } else {
            self.sql.push('$');
            self.sql.push_str(&self.values.len().to_string());
        }
    }

    /// Writes the rows as a query.
    pub fn rows(&mut self, columns: Vec<Column<'_>>) -> Result<(), DbErr> {
        if self.backend == DbBackend::Sqlite {
            self.values_of(columns);
            return Ok(());
        }
        self.arrays_of(columns)
    }

    /// Rows of each number are a statement of their own, so rows of nothing bring them to a power of two: then a
    /// handful of statements stays prepared.
    fn values_of(&mut self, columns: Vec<Column<'_>>) {
        let rows = columns.first().map_or(0, |(_, cells)| cells.len());
        let mut columns: Vec<_> = columns.into_iter().map(|(_, cells)| cells.into_iter()).collect();
        self.sql.push_str("VALUES ");
        for row in 0..rows.next_power_of_two() {
            self.sql.push_str(if row == 0 { "(" } else { "), (" });
            for (index, cells) in columns.iter_mut().enumerate() {
                self.sql.push_str(if index == 0 { "" } else { ", " });
                self.bind(cells.next().unwrap_or(Value::Bool(None)));
            }
        }
        self.sql.push(')');
    }

    /// The driver knows no array with a hole in it, so where a column has some a second array tells them.
    fn arrays_of(&mut self, columns: Vec<Column<'_>>) -> Result<(), DbErr> {
        let holes: Vec<Option<Vec<bool>>> = columns
            .iter()
            .map(|(_, cells)| cells.iter().map(|cell| !cell.is_some()).collect::<Vec<_>>())
            .map(|holes| holes.contains(&true).then_some(holes))
            .collect();
        let (mut selected, mut named) = (Vec::new(), Vec::new());
        for ((name, _), holes) in columns.iter().zip(&holes) {
            named.push(format!("\"{name}\""));
            if holes.is_none() {
                selected.push(format!("\"{name}\""));
            } else {
                named.push(format!("\"no_{name}\""));
                selected.push(format!("CASE WHEN NOT \"no_{name}\" THEN \"{name}\" END"));
            }
        }
        self.sql.push_str("SELECT ");
        self.sql.push_str(&selected.join(", "));
        self.sql.push_str(" FROM unnest(");
        for (index, ((_, cells), holes)) in columns.into_iter().zip(holes).enumerate() {
            self.sql.push_str(if index == 0 { "" } else { ", " });
            self.bind(array(cells)?);
            if let Some(holes) = holes {
                self.sql.push_str(", ");
                self.bind(array(holes.into_iter().map(Value::from).collect())?);
            }
        }
        self.sql.push_str(") AS told(");
        self.sql.push_str(&named.join(", "));
        self.sql.push(')');
        Ok(())
    }

    pub fn end(self) -> Statement {
        Statement::from_sql_and_values(self.backend, self.sql, self.values)
    }
}

/// The values as one array; anything stands where there is none.
fn array(mut cells: Vec<Value>) -> Result<Value, DbErr> {
    let Some(first) = cells.first() else { return Err(DbErr::Custom("a table without rows".into())) };
    let of = match first {
        Value::Bool(_) => ArrayType::Bool,
        Value::Int(_) => ArrayType::Int,
        Value::BigInt(_) => ArrayType::BigInt,
        Value::String(_) => ArrayType::String,
        Value::Bytes(_) => ArrayType::Bytes,
        Value::Uuid(_) => ArrayType::Uuid,
        other => return Err(DbErr::Custom(format!("no arrays of {:?}", other.array_type()))),
    };
    for cell in &mut cells {
        match cell {
            Value::Bool(none @ None) => *none = Some(false),
            Value::Int(none @ None) => *none = Some(0),
            Value::BigInt(none @ None) => *none = Some(0),
            Value::String(none @ None) => *none = Some(String::new()),
            Value::Bytes(none @ None) => *none = Some(Vec::new()),
            Value::Uuid(none @ None) => *none = Some(Uuid::nil()),
            _ => {}
        }
    }
    Ok(Value::Array(of, Some(Box::new(cells))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(backend: DbBackend) -> Statement {
        let mut writing = Writing::new(backend);
        let columns = vec![
            ("a", vec![1_i32.into(), 2_i32.into()]),
            ("b", vec![Some("x".to_owned()).into(), None::<String>.into()]),
        ];
        writing.rows(columns).expect("a table");
        writing.end()
    }

    #[test]
    fn sqlite_takes_a_value_for_each_cell() {
        let statement = written(DbBackend::Sqlite);
        assert_eq!(statement.sql, "VALUES (?, ?), (?, ?)");
        let values = [1_i32.into(), "x".into(), 2_i32.into(), Value::String(None)];
        assert_eq!(statement.values.expect("values").0, values);
    }

    #[test]
    fn postgres_takes_an_array_for_each_column_and_is_told_of_the_holes() {
        let statement = written(DbBackend::Postgres);
        let expected =
            r#"SELECT "a", CASE WHEN NOT "no_b" THEN "b" END FROM unnest($1, $2, $3) AS told("a", "b", "no_b")"#;
        assert_eq!(statement.sql, expected);
        let array = |of, cells: [Value; 2]| Value::Array(of, Some(Box::new(cells.into())));
        let values = [
            array(ArrayType::Int, [1_i32.into(), 2_i32.into()]),
            array(ArrayType::String, ["x".into(), "".into()]),
            array(ArrayType::Bool, [false.into(), true.into()]),
        ];
        assert_eq!(statement.values.expect("values").0, values);
    }
}
