//! What a transaction writes, in one go: PostgreSQL takes it as one statement, SQLite (which is in this process, and
//! writes nothing in a `WITH`) as several.
//!
//! ```text
//! WITH w0 AS (INSERT … RETURNING 1), w1 AS (UPDATE … RETURNING 1) SELECT (SELECT count(*) FROM w0), …
//! ```
//!
//! The parts do not see what the others write.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, EntityTrait, Statement};

use super::{
    insert::Insert,
    rows::{Rows, portions},
    writing::Writing,
};

/// Rows of one insert on SQLite; a bound value per cell stays far below what it takes.
const ROWS_A_STATEMENT: usize = 256;

/// Inserts and updates that belong together.
pub struct Writes {
    parts: usize,
    /// PostgreSQL's one statement.
    whole: Writing,
    /// SQLite's statements, each with its part.
    statements: Vec<(usize, Statement)>,
}

impl Writes {
    pub fn of(tx: &DatabaseTransaction) -> Self {
        Self::on(tx.get_database_backend())
    }

    fn on(backend: DbBackend) -> Self {
        Self { parts: 0, whole: Writing::new(backend), statements: Vec::new() }
    }

    /// Stores rows, which must say the same columns; there may be none.
    pub fn insert<E: EntityTrait>(&mut self, insert: &Insert<'_, E>, rows: Vec<E::ActiveModel>) -> Result<(), DbErr> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.is_sqlite() {
            for portion in portions(rows, ROWS_A_STATEMENT) {
                self.write(|writing| insert.write(writing, portion))?;
            }
        } else {
            self.write(|writing| insert.write(writing, rows))?;
        }
        self.parts += 1;
        Ok(())
    }

    /// Changes what `sql` says with these rows as `v`; there may be none.
    pub fn change(&mut self, rows: Rows, sql: &str) -> Result<(), DbErr> {
        if !rows.is_empty() {
            self.write(|writing| rows.write(writing, sql))?;
            self.parts += 1;
        }
        Ok(())
    }

    /// Writes a statement of the part that is next.
    fn write(&mut self, statement: impl FnOnce(&mut Writing) -> Result<(), DbErr>) -> Result<(), DbErr> {
        if self.is_sqlite() {
            let mut writing = Writing::new(DbBackend::Sqlite);
            statement(&mut writing)?;
            self.statements.push((self.parts, writing.end()));
            return Ok(());
        }
        let part = self.parts.to_string();
        for piece in [if self.parts == 0 { "WITH w" } else { ", w" }, &part, " AS ("] {
            self.whole.sql.push_str(piece);
        }
        statement(&mut self.whole)?;
        self.whole.sql.push_str(" RETURNING 1)");
        Ok(())
    }

    /// Writes; gives how many rows each part that had any has written, in their order.
    pub async fn exec(self, tx: &DatabaseTransaction) -> Result<Vec<u64>, DbErr> {
        let mut written = vec![0; self.parts];
        if self.parts == 0 {
            return Ok(written);
        }
        if self.is_sqlite() {
            for (part, statement) in self.statements {
                written[part] += tx.execute_raw(statement).await?.rows_affected();
            }
            return Ok(written);
        }
        let row = tx.query_one_raw(self.into_one()).await?.ok_or_else(|| DbErr::RecordNotFound("the counts".into()))?;
        for (part, count) in written.iter_mut().enumerate() {
            *count = row.try_get::<i64>("", &format!("w{part}"))?.unsigned_abs();
        }
        Ok(written)
    }

    fn into_one(mut self) -> Statement {
        let counts: Vec<_> = (0..self.parts).map(|part| format!("(SELECT count(*) FROM w{part}) AS w{part}")).collect();
        self.whole.sql.push_str(" SELECT ");
        self.whole.sql.push_str(&counts.join(", "));
        self.whole.end()
    }

    fn is_sqlite(&self) -> bool {
        self.whole.backend == DbBackend::Sqlite
    }
}

#[cfg(test)]
mod tests {
    use entity::{revision, template};
    use sea_orm::ActiveValue::Set;

    use super::*;

    const REVISIONS: Insert<revision::Entity> = Insert { shared: &[], suffix: "ON CONFLICT DO NOTHING" };
    const RAISE: &str = "UPDATE revision SET revision = $same FROM v WHERE name = v_name";

    fn revision(name: &str) -> revision::ActiveModel {
        revision::ActiveModel { name: Set(name.into()), revision: Set(1) }
    }

    fn writes(backend: DbBackend) -> Writes {
        let mut writes = Writes::on(backend);
        writes.insert(&REVISIONS, vec![revision("a"), revision("b"), revision("c")]).expect("rows alike");
        let nothing = Insert::<template::Entity> { shared: &[], suffix: "" };
        writes.insert(&nothing, Vec::new()).expect("no rows");
        let mut rows = Rows::of(&["v_name"]).with(2_i64);
        rows.push(["d".into()]);
        writes.change(rows, RAISE).expect("a table");
        writes
    }

    #[test]
    fn postgres_takes_all_of_it_as_one_statement() {
        let statement = writes(DbBackend::Postgres).into_one();
        let expected = r#"WITH w0 AS (WITH v ("name", "revision") AS (SELECT "name", "revision" FROM unnest($1, $2) AS told("name", "revision")) INSERT INTO "revision" ("name", "revision") SELECT "name", "revision" FROM v WHERE true ON CONFLICT DO NOTHING RETURNING 1), w1 AS (WITH v(v_name) AS (SELECT "v_name" FROM unnest($3) AS told("v_name")) UPDATE revision SET revision = $4 FROM v WHERE name = v_name RETURNING 1) SELECT (SELECT count(*) FROM w0) AS w0, (SELECT count(*) FROM w1) AS w1"#;
        assert_eq!(statement.sql, expected);
    }

    #[test]
    fn sqlite_takes_it_in_portions_each_with_its_part() {
        let parts: Vec<_> = writes(DbBackend::Sqlite).statements.into_iter().map(|(part, _)| part).collect();
        assert_eq!(parts, [0, 0, 1], "three rows are a portion of two and one of one");
    }
}
