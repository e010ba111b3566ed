//! Many rows stored by one statement. What all of them share is bound once: of the rows of one group most cells
//! are the same, and each bound value costs both sides.
//!
//! ```text
//! WITH v (id, openid, …) AS (VALUES ($1, $2, …), ($5, $6, …), …)
//! INSERT INTO t (id, openid, state, …) SELECT id, openid, $9, … FROM v
//! ```

use std::vec;

use sea_orm::{
    ActiveModelTrait, ColumnTrait, ColumnType, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait,
    IdenStatic, Iterable, Statement, Value,
};

use super::rows::place;

/// How rows of a table are stored.
pub struct Insert<'a, E: EntityTrait> {
    /// Columns that often are the same in all rows, in sets that are bound once or for each row as a whole, so that
    /// there are few different statements.
    pub shared: &'a [&'a [E::Column]],
    /// What follows the rows: nothing, or `ON CONFLICT …`.
    pub suffix: &'a str,
}

impl<E: EntityTrait> Insert<'_, E> {
    /// Stores the rows, which must say the same columns; gives how many were stored. The number of rows should be one
    /// of few, see `rows::portions`.
    pub async fn exec(&self, tx: &DatabaseTransaction, rows: Vec<E::ActiveModel>) -> Result<u64, DbErr> {
        if rows.is_empty() {
            return Ok(0);
        }
        let statement = self.statement(tx.get_database_backend(), rows)?;
        Ok(tx.execute_raw(statement).await?.rows_affected())
    }

    fn statement(&self, backend: DbBackend, rows: Vec<E::ActiveModel>) -> Result<Statement, DbErr> {
        let count = rows.len();
        let said = said::<E>(rows)?;
        let alike = |of: &E::Column| {
            let cells = said.iter().find(|(column, _)| column.as_str() == of.as_str()).map(|(_, cells)| cells);
            cells.is_none_or(|cells| cells.iter().all(|cell| *cell == cells[0]))
        };
        let shared: Vec<_> = self
            .shared
            .iter()
            .filter(|set| set.iter().all(alike))
            .flat_map(|set| set.iter().map(IdenStatic::as_str))
            .collect();
        let mut text = Text { backend, columns: Vec::new(), own: Vec::new() };
        for (column, cells) in said {
            let as_json = backend == DbBackend::Postgres && matches!(column.def().get_column_type(), ColumnType::Json);
            text.column(column.as_str(), cells, shared.contains(&column.as_str()), as_json);
        }
        let (sql, values) = text.end(E::default().table_name(), count, self.suffix);
        Ok(Statement::from_sql_and_values(backend, sql, values))
    }
}

/// A column with a cell for each row.
type Said<C> = (C, Vec<Value>);

/// The columns that the rows say, each with its cells.
fn said<E: EntityTrait>(mut rows: Vec<E::ActiveModel>) -> Result<Vec<Said<E::Column>>, DbErr> {
    let mut said = Vec::new();
    for column in E::Column::iter() {
        let cells: Vec<_> = rows.iter_mut().filter_map(|row| row.take(column).into_value()).collect();
        if cells.len() == rows.len() {
            said.push((column, cells));
        } else if !cells.is_empty() {
            return Err(DbErr::Custom(format!("not every row says {}", column.as_str())));
        }
    }
    Ok(said)
}

/// A statement while it is written.
struct Text {
    backend: DbBackend,
    columns: Vec<Column>,
    /// The columns of `v`, each with a cell for each row.
    own: Vec<(String, vec::IntoIter<Value>)>,
}

struct Column {
    name: String,
    /// What all rows say.
    shared: Option<Value>,
    as_json: bool,
}

impl Text {
    fn column(&mut self, name: &str, mut cells: Vec<Value>, is_shared: bool, as_json: bool) {
        let name = format!("\"{name}\"");
        cells.truncate(if is_shared { 1 } else { cells.len() });
        if as_json {
            cells.iter_mut().for_each(as_text);
        }
        let shared = if is_shared { cells.pop() } else { None };
        if !is_shared {
            self.own.push((name.clone(), cells.into_iter()));
        }
        self.columns.push(Column { name, shared, as_json });
    }

    /// The values are in the order of their places.
    fn end(mut self, table: &str, rows: usize, suffix: &str) -> (String, Vec<Value>) {
        let mut values = Vec::with_capacity(rows * self.own.len() + self.columns.len());
        let names: Vec<_> = self.own.iter().map(|(name, _)| name.as_str()).collect();
        let mut sql = format!("WITH v ({}) AS (VALUES ", names.join(", "));
        for row in 0..rows {
            sql.push_str(if row == 0 { "(" } else { "), (" });
            for (index, (_, cells)) in self.own.iter_mut().enumerate() {
                sql.push_str(if index == 0 { "" } else { ", " });
                values.extend(cells.next());
                place(&mut sql, self.backend, values.len());
            }
        }
        let columns: Vec<_> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let into = format!(")) INSERT INTO \"{table}\" ({}) SELECT ", columns.join(", "));
        sql.push_str(&into);
        for (index, Column { name, shared, as_json }) in self.columns.into_iter().enumerate() {
            sql.push_str(if index == 0 { "" } else { ", " });
            sql.push_str(if as_json { "CAST(" } else { "" });
            match shared {
                None => sql.push_str(&name),
                Some(value) => {
                    values.push(value);
                    place(&mut sql, self.backend, values.len());
                }
            }
            sql.push_str(if as_json { " AS json)" } else { "" });
        }
        // Without a condition SQLite takes the ON of a conflict for that of a join.
        sql.push_str(" FROM v WHERE true ");
        sql.push_str(suffix);
        (sql, values)
    }
}

/// The driver binds JSON as `jsonb`, which PostgreSQL would parse, print and parse again for a `json` column.
fn as_text(value: &mut Value) {
    if let Value::Json(json) = value {
        *value = Value::String(json.take().map(|json| json.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use entity::{EventId, Timestamp, event};
    use sea_orm::IntoActiveModel;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    const EVENTS: Insert<event::Entity> = Insert {
        shared: &[&[event::Column::Source, event::Column::EventType], &[event::Column::CreatedAt]],
        suffix: "ON CONFLICT DO NOTHING",
    };

    fn event(source: &str, id: &str) -> event::Model {
        event::Model {
            id: EventId(Uuid::now_v7()),
            source: source.into(),
            source_id: id.into(),
            event_type: "order.shipped".into(),
            time: Timestamp(1),
            data: json!({ "b": 1, "a": 2 }),
            body_hash: vec![1],
            outcomes: json!([]),
            created_at: Timestamp(1),
        }
    }

    fn written(backend: DbBackend, events: [event::Model; 2]) -> Statement {
        let rows = events.map(IntoActiveModel::into_active_model).into();
        EVENTS.statement(backend, rows).expect("every row says the same")
    }

    #[test]
    fn what_all_rows_share_is_bound_once() {
        let statement = written(DbBackend::Sqlite, [event("shop", "1"), event("shop", "2")]);
        let expected = r#"WITH v ("id", "source_id", "time", "data", "body_hash", "outcomes") AS (VALUES (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?)) INSERT INTO "event" ("id", "source", "source_id", "event_type", "time", "data", "body_hash", "outcomes", "created_at") SELECT "id", ?, "source_id", ?, "time", "data", "body_hash", "outcomes", ? FROM v WHERE true ON CONFLICT DO NOTHING"#;
        assert_eq!(statement.sql, expected);
        assert_eq!(statement.values.expect("values").0.len(), 15);
    }

    #[test]
    fn a_set_in_which_rows_differ_is_bound_for_each() {
        let statement = written(DbBackend::Postgres, [event("shop", "1"), event("desk", "2")]);
        assert!(statement.sql.contains(r#"("id", "source", "source_id", "event_type", "time","#), "{}", statement.sql);
        assert!(statement.sql.contains(r#"CAST("data" AS json)"#), "{}", statement.sql);
        assert!(statement.sql.contains("($9, $10,") && statement.sql.contains(", $17 FROM v"), "{}", statement.sql);
        let values = statement.values.expect("values").0;
        assert!(
            values.contains(&Value::String(Some(r#"{"b":1,"a":2}"#.into()))),
            "in the order it was told: {values:?}"
        );
    }

    #[test]
    fn rows_that_say_different_columns_are_refused() {
        let mut rows: Vec<_> = [event("shop", "1"), event("shop", "2")].map(IntoActiveModel::into_active_model).into();
        rows[1].body_hash = sea_orm::ActiveValue::NotSet;
        let refused = EVENTS.statement(DbBackend::Sqlite, rows).expect_err("a hole");
        assert!(refused.to_string().contains("body_hash"), "{refused}");
    }
}
