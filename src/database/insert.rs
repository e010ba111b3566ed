//! Many rows stored by one statement. What all of them share is bound once: of the rows of one group most cells
//! are the same, and each bound value costs both sides.
//!
//! ```text
//! INSERT INTO t (id, openid, state, …) SELECT id, openid, $9, … FROM rows
//! ```

use sea_orm::{ActiveModelTrait, ColumnTrait, ColumnType, DbBackend, DbErr, EntityTrait, IdenStatic, Iterable, Value};

use super::writing::{Column, Writing};

/// How rows of a table are stored.
pub struct Insert<'a, E: EntityTrait> {
    /// Columns that often are the same in all rows, in sets that are bound once or for each row as a whole, so that
    /// there are few different statements.
    pub shared: &'a [&'a [E::Column]],
    /// What must be so for a row, read as `v`, to be stored; always when empty.
    pub only_if: &'a str,
    /// What follows the rows: nothing, or `ON CONFLICT …`.
    pub suffix: &'a str,
}

impl<E: EntityTrait> Insert<'_, E> {
    /// Writes the statement for rows that say the same columns, those of `json` not among them.
    /// `condition` must hold for any to be stored; it may be empty.
    pub(super) fn write(
        &self,
        writing: &mut Writing,
        rows: Vec<E::ActiveModel>,
        json: Vec<Json<E>>,
        condition: &str,
    ) -> Result<(), DbErr> {
        let said = said::<E>(rows, json)?;
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
        let (mut columns, mut own) = (Vec::with_capacity(said.len()), Vec::new());
        for (column, mut cells) in said {
            let name = column.as_str();
            let is_json = matches!(column.def().get_column_type(), ColumnType::Json);
            let as_json = is_json && writing.backend == DbBackend::Postgres;
            if as_json {
                cells.iter_mut().for_each(as_text);
            }
            if shared.contains(&name) {
                columns.push((name, cells.pop(), as_json));
            } else {
                own.push((name, cells));
                columns.push((name, None, as_json));
            }
        }
        self.write_columns(writing, columns, own, condition)
    }

    /// `columns`: each with what all rows share, if they do, and whether it is JSON bound as text.
    fn write_columns(
        &self,
        writing: &mut Writing,
        columns: Vec<(&str, Option<Value>, bool)>,
        own: Vec<Column<'_>>,
        condition: &str,
    ) -> Result<(), DbErr> {
        let quoted = |names: &mut dyn Iterator<Item = &str>| {
            let names: Vec<_> = names.map(|name| format!("\"{name}\"")).collect();
            names.join(", ")
        };
        let full = own.iter().find(|(_, cells)| cells.iter().all(Value::is_some)).map(|(name, _)| *name);
        let into = quoted(&mut columns.iter().map(|(name, ..)| *name));
        let rows = quoted(&mut own.iter().map(|(name, _)| *name));
        writing.sql.push_str("WITH v (");
        writing.sql.push_str(&rows);
        writing.sql.push_str(") AS (");
        writing.rows(own)?;
        for part in [") INSERT INTO \"", E::default().table_name(), "\" (", &into, ") SELECT "] {
            writing.sql.push_str(part);
        }
        for (index, (name, shared, as_json)) in columns.into_iter().enumerate() {
            writing.sql.push_str(if index == 0 { "" } else { ", " });
            writing.sql.push_str(if as_json { "CAST(" } else { "" });
            match shared {
                None => {
                    for part in ["\"", name, "\""] {
                        writing.sql.push_str(part);
                    }
                }
                Some(value) => writing.bind(value),
            }
            writing.sql.push_str(if as_json { " AS json)" } else { "" });
        }
        // SQLite's rows of nothing are left out, and without a condition it takes the ON of a conflict for that of a
        // join.
        let always = match full {
            _ if writing.backend != DbBackend::Sqlite => "true".to_owned(),
            Some(name) => format!("\"{name}\" IS NOT NULL"),
            None => return Err(DbErr::Custom("no column that each row says, such as its key".into())),
        };
        let spaced = |before: &str, text: &str| if text.is_empty() { String::new() } else { format!("{before}{text}") };
        let (condition, only_if) = (spaced(" AND ", condition), spaced(" AND ", self.only_if));
        for part in [" FROM v WHERE ", &always, &condition, &only_if, &spaced(" ", self.suffix)] {
            writing.sql.push_str(part);
        }
        Ok(())
    }
}

/// A column with JSON for each row that is written already: a tree of values would be made of it only to be written.
pub type Json<E> = (<E as EntityTrait>::Column, Vec<String>);

/// A column with a cell for each row.
type Said<C> = (C, Vec<Value>);

/// The columns that the rows say, each with its cells.
fn said<E: EntityTrait>(mut rows: Vec<E::ActiveModel>, mut json: Vec<Json<E>>) -> Result<Vec<Said<E::Column>>, DbErr> {
    let mut said = Vec::with_capacity(32);
    for column in E::Column::iter() {
        if let Some((_, texts)) = json.iter_mut().find(|(of, _)| of.as_str() == column.as_str()) {
            said.push((column, std::mem::take(texts).into_iter().map(Value::from).collect()));
            continue;
        }
        let mut cells = Vec::with_capacity(rows.len());
        cells.extend(rows.iter_mut().filter_map(|row| row.take(column).into_value()));
        if cells.len() == rows.len() {
            said.push((column, cells));
        } else if !cells.is_empty() {
            return Err(DbErr::Custom(format!("not every row says {}", column.as_str())));
        }
    }
    Ok(said)
}

/// The driver binds JSON as `jsonb`, which PostgreSQL would parse, print and parse again for a `json` column.
fn as_text(value: &mut Value) {
    if let Value::Json(json) = value {
        // Its `to_string` goes through the formatter, which takes half as long again.
        *value = Value::String(json.take().map(|json| serde_json::to_string(&json).unwrap_or_default()));
    }
}

#[cfg(test)]
mod tests {
    use entity::{EventId, Timestamp, event};
    use sea_orm::{IntoActiveModel, Statement};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    const EVENTS: Insert<event::Entity> = Insert {
        shared: &[&[event::Column::Source, event::Column::EventType], &[event::Column::CreatedAt]],
        only_if: "",
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
        let mut writing = Writing::new(backend);
        let rows = events.map(IntoActiveModel::into_active_model).into();
        EVENTS.write(&mut writing, rows, Vec::new(), "").expect("every row says the same");
        writing.end()
    }

    #[test]
    fn what_all_rows_share_is_bound_once() {
        let statement = written(DbBackend::Sqlite, [event("shop", "1"), event("shop", "2")]);
        let expected = r#"WITH v ("id", "source_id", "time", "data", "body_hash", "outcomes") AS (VALUES (?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?)) INSERT INTO "event" ("id", "source", "source_id", "event_type", "time", "data", "body_hash", "outcomes", "created_at") SELECT "id", ?, "source_id", ?, "time", "data", "body_hash", "outcomes", ? FROM v WHERE "id" IS NOT NULL ON CONFLICT DO NOTHING"#;
        assert_eq!(statement.sql, expected);
        assert_eq!(statement.values.expect("values").0.len(), 15);
    }

    #[test]
    fn a_set_in_which_rows_differ_is_bound_for_each() {
        let statement = written(DbBackend::Postgres, [event("shop", "1"), event("desk", "2")]);
        assert!(statement.sql.contains(r#"("id", "source", "source_id", "event_type", "time","#), "{}", statement.sql);
        assert!(statement.sql.contains(r#"CAST("data" AS json)"#), "{}", statement.sql);
        assert!(statement.sql.contains("unnest($1, $2, $3, $4, $5, $6, $7, $8)"), "{}", statement.sql);
        assert!(statement.sql.contains(", $9 FROM v"), "{}", statement.sql);
        let told = format!("{:?}", statement.values.expect("values"));
        assert!(told.contains(r#"{\"b\":1,\"a\":2}"#), "in the order it was told: {told}");
    }

    #[test]
    fn rows_that_say_different_columns_are_refused() {
        let mut rows: Vec<_> = [event("shop", "1"), event("shop", "2")].map(IntoActiveModel::into_active_model).into();
        rows[1].body_hash = sea_orm::ActiveValue::NotSet;
        let refused = EVENTS.write(&mut Writing::new(DbBackend::Sqlite), rows, Vec::new(), "").expect_err("a hole");
        assert!(refused.to_string().contains("body_hash"), "{refused}");
    }
}
