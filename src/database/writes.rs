//! What a transaction writes, in one go.
//!
//! ```text
//! PostgreSQL  WITH w0 AS (INSERT … RETURNING 1), w1 AS (UPDATE … RETURNING 1)
//!             SELECT (SELECT count(*) FROM w0) + (SELECT count(*) FROM w1) AS written
//! SQLite      INSERT …; UPDATE …
//! ```
//!
//! On PostgreSQL the parts do not see what the others write.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, Statement};

use super::{insert::Insert, rows::Rows, writing::Writing};

/// Rows of one insert on SQLite; a bound value per cell stays far below what it takes.
const ROWS_A_STATEMENT: usize = 256;

/// Inserts and updates that belong together.
pub struct Writes {
    writing: Writing,
    parts: usize,
    rows: usize,
}

impl Writes {
    pub fn of(tx: &DatabaseTransaction) -> Self {
        Self::on(tx.get_database_backend())
    }

    fn on(backend: DbBackend) -> Self {
        Self { writing: Writing::new(backend), parts: 0, rows: 0 }
    }

    /// Stores rows, which must say the same columns; there may be none.
    pub fn insert<E: EntityTrait>(&mut self, insert: &Insert<'_, E>, rows: Vec<E::ActiveModel>) -> Result<(), DbErr> {
        // One array for each column serves any number of rows.
        let most = if self.is_sqlite() { ROWS_A_STATEMENT } else { usize::MAX };
        let mut rows = rows.into_iter();
        while rows.len() > 0 {
            let portion: Vec<_> = rows.by_ref().take(most).collect();
            self.write(portion.len(), |writing| insert.write(writing, portion))?;
        }
        Ok(())
    }

    /// Changes what `sql` says with these rows as `v`; there may be none.
    pub fn change(&mut self, rows: Rows, sql: &str) -> Result<(), DbErr> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write(rows.len(), |writing| rows.write(writing, sql))
    }

    /// Writes the next part.
    fn write(&mut self, rows: usize, statement: impl FnOnce(&mut Writing) -> Result<(), DbErr>) -> Result<(), DbErr> {
        let is_first = self.parts == 0;
        if self.is_sqlite() {
            self.writing.sql.push_str(if is_first { "" } else { "; " });
            statement(&mut self.writing)?;
        } else {
            let part = self.parts.to_string();
            for piece in [if is_first { "WITH w" } else { ", w" }, &part, " AS ("] {
                self.writing.sql.push_str(piece);
            }
            statement(&mut self.writing)?;
            self.writing.sql.push_str(" RETURNING 1)");
        }
        self.parts += 1;
        self.rows += rows;
        Ok(())
    }

    /// Writes; tells whether each row was stored or has changed one.
    pub async fn exec(self, tx: &DatabaseTransaction) -> Result<bool, DbErr> {
        if self.parts == 0 {
            return Ok(true);
        }
        let (is_sqlite, rows) = (self.is_sqlite(), self.rows);
        let statement = self.end();
        let written = if is_sqlite {
            tx.execute_raw(statement).await?.rows_affected()
        } else {
            let row = tx.query_one_raw(statement).await?;
            let row = row.ok_or_else(|| DbErr::RecordNotFound("how much is written".into()))?;
            row.try_get::<i64>("", "written")?.unsigned_abs()
        };
        Ok(usize::try_from(written).is_ok_and(|written| written == rows))
    }

    fn end(mut self) -> Statement {
        if !self.is_sqlite() {
            let counts: Vec<_> = (0..self.parts).map(|part| format!("(SELECT count(*) FROM w{part})")).collect();
            for piece in [" SELECT ", &counts.join(" + "), " AS written"] {
                self.writing.sql.push_str(piece);
            }
        }
        self.writing.end()
    }

    fn is_sqlite(&self) -> bool {
        self.writing.backend == DbBackend::Sqlite
    }
}

#[cfg(test)]
mod tests {
    use entity::{revision, template};
    use sea_orm::ActiveValue::Set;

    use super::*;

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
        let expected = r#"WITH w0 AS (WITH v ("name", "revision") AS (SELECT "name", "revision" FROM unnest($1, $2) AS told("name", "revision")) INSERT INTO "revision" ("name", "revision") SELECT "name", "revision" FROM v WHERE true ON CONFLICT DO NOTHING RETURNING 1), w1 AS (WITH v(v_name) AS (SELECT "v_name" FROM unnest($3) AS told("v_name")) UPDATE revision SET revision = $4 FROM v WHERE name = v_name RETURNING 1) SELECT (SELECT count(*) FROM w0) + (SELECT count(*) FROM w1) AS written"#;
        assert_eq!(statement.sql, expected);
    }

    #[test]
    fn sqlite_takes_one_after_the_other() {
        let statement = writes(DbBackend::Sqlite).end();
        let expected = r#"WITH v ("name", "revision") AS (VALUES (?, ?), (?, ?), (?, ?), (?, ?)) INSERT INTO "revision" ("name", "revision") SELECT "name", "revision" FROM v WHERE "name" IS NOT NULL ON CONFLICT DO NOTHING; WITH v(v_name) AS (VALUES (?)) UPDATE revision SET revision = ? FROM v WHERE name = v_name"#;
        assert_eq!(statement.sql, expected);
    }
}
