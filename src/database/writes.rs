//! What a transaction writes, in one go.
//!
//! ```text
//! PostgreSQL  WITH w0 AS (INSERT …), w1 AS (INSERT … ON CONFLICT … RETURNING 1), w2 AS (UPDATE … RETURNING 1)
//!             SELECT true AND (SELECT count(*) FROM w1) + (SELECT count(*) FROM w2) = … AS whole
//! SQLite      INSERT …; UPDATE …
//! ```
//!
//! On PostgreSQL the parts do not see what the others write. What is written alone, as a transaction by itself, is
//! written whole or not at all: each row says what must be so for it, and one that is not stored gives up the others.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, Statement};

use super::{
    insert::{Insert, Json},
    rows::Rows,
    writing::Writing,
};

/// Rows of one insert on SQLite; a bound value per cell stays far below what it takes.
const ROWS_A_STATEMENT: usize = 256;

/// What PostgreSQL says when a statement gives itself up; nothing is wrong then.
pub(super) const GIVEN_UP: &str = "Magpie begins anew, rows that could be written: ";

/// Inserts and updates that belong together.
pub struct Writes {
    writing: Writing,
    parts: usize,
    /// The numbers of those that are counted: on PostgreSQL only where a row may be left out without an error.
    counted: Vec<usize>,
    /// The rows of those that are counted.
    rows: usize,
    /// What must be so for anything to be written, as PostgreSQL reads it.
    conditions: usize,
}

impl Writes {
    pub fn on(backend: DbBackend) -> Self {
        Self { writing: Writing::new(backend), parts: 0, counted: Vec::new(), rows: 0, conditions: 0 }
    }

    /// Stores rows, which must say the same columns; there may be none.
    pub fn insert<E: EntityTrait>(&mut self, insert: &Insert<'_, E>, rows: Vec<E::ActiveModel>) -> Result<(), DbErr> {
        self.insert_with(insert, rows, Vec::new())
    }

    /// The same, with columns that the rows leave out.
    pub fn insert_with<E: EntityTrait>(
        &mut self,
        insert: &Insert<'_, E>,
        rows: Vec<E::ActiveModel>,
        mut json: Vec<Json<E>>,
    ) -> Result<(), DbErr> {
        // One array for each column serves any number of rows.
        let most = if self.is_sqlite() { ROWS_A_STATEMENT } else { usize::MAX };
        let is_certain = insert.only_if.is_empty() && insert.suffix.is_empty();
        let mut rows = rows.into_iter();
        while rows.len() > 0 {
            let portion: Vec<_> = rows.by_ref().take(most).collect();
            let its_json = json.iter_mut().map(|(of, texts)| (*of, texts.drain(..portion.len()).collect())).collect();
            self.write(portion.len(), is_certain, |writing, condition| {
                insert.write(writing, portion, its_json, condition)
            })?;
        }
        Ok(())
    }

    /// Changes what `sql` says with these rows as `v`; there may be none.
    pub fn change(&mut self, rows: Rows, sql: &str) -> Result<(), DbErr> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write(rows.len(), false, |writing, condition| {
            rows.write(writing, sql)?;
            writing.sql.push_str(if condition.is_empty() { "" } else { " AND " });
            writing.sql.push_str(condition);
            Ok(())
        })
    }

    /// What follows is written only if `sql` finds this many rows with these rows as `v`; there may be none. To be
    /// said first. SQLite has no need of it: there what does not fit comes to light as the rows are written, and is
    /// taken back.
    pub fn only_if(&mut self, rows: Rows, sql: &str, found: usize) -> Result<(), DbErr> {
        if self.is_sqlite() || rows.is_empty() {
            return Ok(());
        }
        let condition = self.conditions.to_string();
        for piece in [if condition == "0" { "WITH c" } else { ", c" }, &condition, " AS MATERIALIZED ("] {
            self.writing.sql.push_str(piece);
        }
        rows.write(&mut self.writing, sql)?;
        for piece in ["), ok", &condition, " AS MATERIALIZED (SELECT count(*) = "] {
            self.writing.sql.push_str(piece);
        }
        self.writing.bind(i64::try_from(found).unwrap_or(i64::MAX).into());
        for piece in [" AS ok FROM c", &condition, ")"] {
            self.writing.sql.push_str(piece);
        }
        self.conditions += 1;
        Ok(())
    }

    /// What `only_if` has asked for, as one condition.
    fn condition(&self) -> String {
        if self.conditions == 0 {
            return "true".to_owned();
        }
        let each: Vec<_> = (0..self.conditions).map(|number| format!("(SELECT ok FROM ok{number})")).collect();
        each.join(" AND ")
    }

    /// Writes the next part; `is_certain` when each of its rows is written or the statement fails.
    fn write(
        &mut self,
        rows: usize,
        is_certain: bool,
        statement: impl FnOnce(&mut Writing, &str) -> Result<(), DbErr>,
    ) -> Result<(), DbErr> {
        let is_first = self.parts == 0 && self.conditions == 0;
        let condition = if self.conditions == 0 { String::new() } else { self.condition() };
        if self.is_sqlite() {
            self.writing.sql.push_str(if is_first { "" } else { "; " });
            statement(&mut self.writing, &condition)?;
        } else {
            let part = self.parts.to_string();
            for piece in [if is_first { "WITH w" } else { ", w" }, &part, " AS ("] {
                self.writing.sql.push_str(piece);
            }
            statement(&mut self.writing, &condition)?;
            self.writing.sql.push_str(if is_certain { ")" } else { " RETURNING 1)" });
        }
        // SQLite counts all that it writes.
        if self.is_sqlite() || !is_certain {
            self.counted.push(self.parts);
            self.rows += rows;
        }
        self.parts += 1;
        Ok(())
    }

    /// Writes; tells whether each row was stored or has changed one. If not, the rest is written all the same, and the
    /// caller takes the transaction back or knows what it means.
    pub async fn exec(self, tx: &DatabaseTransaction) -> Result<bool, DbErr> {
        if self.is_empty() {
            return Ok(true);
        }
        if self.is_sqlite() {
            let rows = self.rows;
            let written = tx.execute_raw(self.end()).await?.rows_affected();
            return Ok(usize::try_from(written) == Ok(rows));
        }
        // All of the answer is read: what is not counted is written last, and may fail after the row is sent.
        let row = tx.query_all_raw(self.end()).await?.pop();
        row.ok_or_else(|| DbErr::RecordNotFound("whether it is written".into()))?.try_get("", "whole")
    }

    pub(super) fn end(mut self) -> Statement {
        if !self.is_sqlite() {
            for piece in [" SELECT ", &self.condition(), " AND ", &self.written(), " = "] {
                self.writing.sql.push_str(piece);
            }
            self.bind_rows();
            self.writing.sql.push_str(" AS whole");
        }
        self.writing.end()
    }

    /// On PostgreSQL, the statement that tells whether all of it is written. Where a row is missing although the
    /// conditions hold it fails, so that nothing is; this is rare, since somebody else has to do the same in this moment.
    pub(super) fn end_whole(mut self) -> Statement {
        let written = self.written();
        for piece in [" SELECT CASE WHEN NOT (", &self.condition(), ") THEN false WHEN ", &written, " = "] {
            self.writing.sql.push_str(piece);
        }
        self.bind_rows();
        // Not known before the rows are counted, so it is not computed when the statement is planned.
        for piece in [" THEN true ELSE CAST('", GIVEN_UP, "' || ", &written, " AS boolean) END AS whole"] {
            self.writing.sql.push_str(piece);
        }
        self.writing.end()
    }

    fn bind_rows(&mut self) {
        self.writing.bind(i64::try_from(self.rows).unwrap_or(i64::MAX).into());
    }

    /// How many rows of the counted parts are written, as an expression; PostgreSQL computes it after them.
    fn written(&self) -> String {
        let counts: Vec<_> = self.counted.iter().map(|part| format!("(SELECT count(*) FROM w{part})")).collect();
        if counts.is_empty() { "(SELECT 0::bigint)".to_owned() } else { counts.join(" + ") }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts == 0
    }

    /// The rows of the parts that are counted; on SQLite all are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    fn is_sqlite(&self) -> bool {
        self.writing.backend == DbBackend::Sqlite
    }
}

#[cfg(test)]
mod tests {
    use entity::{event, revision, template};
    use sea_orm::{ActiveValue::Set, Value};

    use super::*;

    #[test]
    fn json_stays_with_its_row_in_each_portion() {
        const EVENTS: Insert<event::Entity> = Insert { shared: &[], only_if: "", suffix: "" };
        let row = |number: usize| event::ActiveModel { source_id: Set(number.to_string()), ..Default::default() };
        let numbers = 0..ROWS_A_STATEMENT + 44;
        let json = numbers.clone().map(|number| format!("[{number}]")).collect();
        let mut writes = Writes::on(DbBackend::Sqlite);
        writes
            .insert_with(&EVENTS, numbers.clone().map(row).collect(), vec![(event::Column::Data, json)])
            .expect("rows alike");
        let values = writes.end().values.expect("values").0;
        let told: Vec<String> =
            values.into_iter().filter_map(|value| if let Value::String(text) = value { text } else { None }).collect();
        let expected: Vec<_> = numbers.flat_map(|number| [number.to_string(), format!("[{number}]")]).collect();
        assert_eq!(told, expected);
    }

    const REVISIONS: Insert<revision::Entity> = Insert { shared: &[], only_if: "", suffix: "ON CONFLICT DO NOTHING" };
    const RAISE: &str = "UPDATE revision SET revision = $same FROM v WHERE name = v_name";

    fn revision(name: &str) -> revision::ActiveModel {
        revision::ActiveModel { name: Set(name.into()), revision: Set(1) }
    }

    fn writes(backend: DbBackend) -> Writes {
        let mut writes = Writes::on(backend);
        writes.insert(&REVISIONS, vec![revision("a"), revision("b"), revision("c")]).expect("rows alike");
        let nothing = Insert::<template::Entity> { shared: &[], only_if: "", suffix: "" };
        writes.insert(&nothing, Vec::new()).expect("no rows");
        let mut rows = Rows::of(&["v_name"]).with(2_i64);
        rows.push(["d".into()]);
        writes.change(rows, RAISE).expect("a table");
        writes
    }

    #[test]
    fn postgres_takes_all_of_it_as_one_statement() {
        let statement = writes(DbBackend::Postgres).end();
        let expected = r#"WITH w0 AS (WITH v ("name", "revision") AS (SELECT "name", "revision" FROM unnest($1, $2) AS told("name", "revision")) INSERT INTO "revision" ("name", "revision") SELECT "name", "revision" FROM v WHERE true ON CONFLICT DO NOTHING RETURNING 1), w1 AS (WITH v(v_name) AS (SELECT "v_name" FROM unnest($3) AS told("v_name")) UPDATE revision SET revision = $4 FROM v WHERE name = v_name RETURNING 1) SELECT true AND (SELECT count(*) FROM w0) + (SELECT count(*) FROM w1) = $5 AS whole"#;
        assert_eq!(statement.sql, expected);
    }

    #[test]
    fn postgres_need_not_count_what_is_written_or_fails() {
        let mut writes = Writes::on(DbBackend::Postgres);
        let plain = Insert { suffix: "", ..REVISIONS };
        writes.insert(&plain, vec![revision("a")]).expect("a row");
        let expected = r#"WITH w0 AS (WITH v ("name", "revision") AS (SELECT "name", "revision" FROM unnest($1, $2) AS told("name", "revision")) INSERT INTO "revision" ("name", "revision") SELECT "name", "revision" FROM v WHERE true) SELECT true AND (SELECT 0::bigint) = $3 AS whole"#;
        assert_eq!(writes.end().sql, expected);
        let mut rows = Rows::of(&["v_name"]).with(2_i64);
        rows.push(["d".into()]);
        let mut writes = Writes::on(DbBackend::Postgres);
        writes.insert(&plain, vec![revision("a"), revision("b")]).expect("rows alike");
        writes.change(rows, RAISE).expect("a table");
        let statement = writes.end_whole();
        assert!(statement.sql.contains("WHEN (SELECT count(*) FROM w1) = $5 THEN true"), "{}", statement.sql);
        assert_eq!(statement.values.expect("values").0[4], 1_i64.into());
    }

    /// With a condition, alone.
    fn alone(backend: DbBackend) -> Writes {
        let mut writes = Writes::on(backend);
        let mut rows = Rows::of(&["v_name"]);
        rows.push(["a".into()]);
        writes.only_if(rows, "SELECT 1 FROM revision JOIN v ON name = v_name", 0).expect("a table");
        writes.insert(&REVISIONS, vec![revision("a")]).expect("a row");
        let mut rows = Rows::of(&["v_name"]).with(2_i64);
        rows.push(["d".into()]);
        writes.change(rows, RAISE).expect("a table");
        writes
    }

    #[test]
    fn postgres_writes_nothing_unless_the_condition_holds_and_gives_up_unless_all_is_written() {
        let statement = alone(DbBackend::Postgres).end_whole();
        let expected = r#"WITH c0 AS MATERIALIZED (WITH v(v_name) AS (SELECT "v_name" FROM unnest($1) AS told("v_name")) SELECT 1 FROM revision JOIN v ON name = v_name), ok0 AS MATERIALIZED (SELECT count(*) = $2 AS ok FROM c0), w0 AS (WITH v ("name", "revision") AS (SELECT "name", "revision" FROM unnest($3, $4) AS told("name", "revision")) INSERT INTO "revision" ("name", "revision") SELECT "name", "revision" FROM v WHERE true AND (SELECT ok FROM ok0) ON CONFLICT DO NOTHING RETURNING 1), w1 AS (WITH v(v_name) AS (SELECT "v_name" FROM unnest($5) AS told("v_name")) UPDATE revision SET revision = $6 FROM v WHERE name = v_name AND (SELECT ok FROM ok0) RETURNING 1) SELECT CASE WHEN NOT ((SELECT ok FROM ok0)) THEN false WHEN (SELECT count(*) FROM w0) + (SELECT count(*) FROM w1) = $7 THEN true ELSE CAST('Magpie begins anew, rows that could be written: ' || (SELECT count(*) FROM w0) + (SELECT count(*) FROM w1) AS boolean) END AS whole"#;
        assert_eq!(statement.sql, expected);
    }

    #[test]
    fn sqlite_needs_no_condition() {
        let statement = alone(DbBackend::Sqlite).end();
        let expected = r#"WITH v ("name", "revision") AS (VALUES (?, ?)) INSERT INTO "revision" ("name", "revision") SELECT "name", "revision" FROM v WHERE "name" IS NOT NULL ON CONFLICT DO NOTHING; WITH v(v_name) AS (VALUES (?)) UPDATE revision SET revision = ? FROM v WHERE name = v_name"#;
        assert_eq!(statement.sql, expected);
    }

    #[test]
    fn sqlite_takes_one_after_the_other() {
        let statement = writes(DbBackend::Sqlite).end();
        let expected = r#"WITH v ("name", "revision") AS (VALUES (?, ?), (?, ?), (?, ?), (?, ?)) INSERT INTO "revision" ("name", "revision") SELECT "name", "revision" FROM v WHERE "name" IS NOT NULL ON CONFLICT DO NOTHING; WITH v(v_name) AS (VALUES (?)) UPDATE revision SET revision = ? FROM v WHERE name = v_name"#;
        assert_eq!(statement.sql, expected);
    }
}
