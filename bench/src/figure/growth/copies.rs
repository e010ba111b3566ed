//! Statements that multiply one real row of each table.

use crate::{
    Result,
    database::{Database, Kind},
};

/// A table, which of its rows is the pattern, and the kind of its own ids.
struct Table {
    name: &'static str,
    pattern: &'static str,
    ids: Option<u8>,
}

const USER: u8 = 1;
const IDENTITY: u8 = 2;
const EVENT: u8 = 3;
const NOTIFICATION: u8 = 4;

/// In an order in which nothing names what is not there.
const TABLES: [Table; 8] = [
    Table { name: "user", pattern: "external_id IS NULL", ids: Some(USER) },
    Table { name: "identity", pattern: "unionid IS NULL", ids: Some(IDENTITY) },
    Table { name: "session", pattern: "revoked_at IS NULL", ids: Some(5) },
    Table { name: "credit", pattern: "credits > 0", ids: None },
    Table { name: "consent", pattern: "kind = 'accept'", ids: Some(6) },
    Table { name: "event", pattern: "source = 'bench'", ids: Some(EVENT) },
    Table { name: "notification", pattern: "state = 'accepted'", ids: Some(NOTIFICATION) },
    Table { name: "attempt", pattern: "outcome = 'accepted'", ids: None },
];

/// One statement a table, each of which makes so many rows.
pub async fn statements(database: &Database, rows: usize) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    for table in TABLES {
        let Table { name, pattern, .. } = table;
        let columns = columns(database, name).await?;
        let names = columns.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ");
        let values: Vec<_> = columns.iter().map(|column| value(database.kind(), &table, column)).collect();
        let one = format!("(SELECT * FROM \"{name}\" WHERE {pattern} LIMIT 1) AS one");
        let insert = format!("INSERT INTO \"{name}\" ({names}) SELECT {} FROM {one}", values.join(", "));
        statements.push(match database.kind() {
            Kind::Postgres => format!("{insert} CROSS JOIN generate_series(1, {rows}) AS series (n)"),
            Kind::Sqlite => format!(
                "WITH RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {rows}) \
                 {insert} CROSS JOIN series"
            ),
        });
    }
    Ok(statements)
}

async fn columns(database: &Database, table: &str) -> Result<Vec<String>> {
    let sql = match database.kind() {
        Kind::Postgres => format!(
            "SELECT column_name::text FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name = '{table}' AND is_generated = 'NEVER'"
        ),
        Kind::Sqlite => format!("SELECT name FROM pragma_table_info('{table}')"),
    };
    let columns: Vec<_> = database.texts(&sql).await?.into_iter().flatten().collect();
    if columns.is_empty() { Err(format!("there is no table {table}").into()) } else { Ok(columns) }
}

/// What row `n` holds there: ids and keys of its own, all else as in the pattern.
fn value(kind: Kind, table: &Table, column: &str) -> String {
    let ids = match column {
        "id" => table.ids,
        "user_id" => Some(USER),
        "identity_id" => Some(IDENTITY),
        "event_id" => Some(EVENT),
        "notification_id" => Some(NOTIFICATION),
        _ => None,
    };
    match (ids, column, kind) {
        (Some(ids), _, _) => format!("CASE WHEN one.\"{column}\" IS NULL THEN NULL ELSE {} END", id(kind, ids)),
        (None, "openid" | "source_id" | "message_id", Kind::Postgres) => "'copy' || lpad(n::text, 24, '0')".into(),
        (None, "openid" | "source_id" | "message_id", Kind::Sqlite) => "printf('copy%024d', n)".into(),
        (None, "code_mac", Kind::Postgres) => "sha256(n::text::bytea)".into(),
        (None, "code_mac", Kind::Sqlite) => "randomblob(32)".into(),
        _ => format!("one.\"{column}\""),
    }
}

/// Id `n` of a kind: in the order they were made, as a `UUIDv7` would be.
fn id(kind: Kind, ids: u8) -> String {
    match kind {
        Kind::Postgres => format!("('01900000-0000-7000-800{ids}-' || lpad(to_hex(n), 12, '0'))::uuid"),
        Kind::Sqlite => format!("unhex(printf('0190000000007000800{ids}%012x', n))"),
    }
}

#[cfg(test)]
mod tests {
    use super::statements;
    use crate::database::Database;

    #[tokio::test]
    async fn a_row_is_copied_with_ids_of_its_own() {
        let database = Database::sqlite().expect("a database");
        database
            .execute(
                "CREATE TABLE user (id blob PRIMARY KEY, external_id text, name text);
                 CREATE TABLE identity (id blob PRIMARY KEY, user_id blob, openid text UNIQUE, unionid text);
                 CREATE TABLE session (id blob PRIMARY KEY, revoked_at integer, code_mac blob UNIQUE);
                 CREATE TABLE credit (identity_id blob PRIMARY KEY, credits integer);
                 CREATE TABLE consent (id blob PRIMARY KEY, kind text, notification_id blob UNIQUE);
                 CREATE TABLE event (id blob PRIMARY KEY, source text, source_id text UNIQUE);
                 CREATE TABLE notification (id blob PRIMARY KEY, event_id blob UNIQUE, state text, message_id text UNIQUE);
                 CREATE TABLE attempt (notification_id blob PRIMARY KEY, outcome text);
                 INSERT INTO user VALUES (x'01', NULL, 'a'), (x'02', 'x', 'b');
                 INSERT INTO identity VALUES (x'01', x'01', 'o', NULL);
                 INSERT INTO session VALUES (x'01', NULL, x'00');
                 INSERT INTO credit VALUES (x'01', 5);
                 INSERT INTO consent VALUES (x'01', 'accept', NULL);
                 INSERT INTO event VALUES (x'01', 'bench', 's');
                 INSERT INTO notification VALUES (x'01', x'01', 'accepted', 'm');
                 INSERT INTO attempt VALUES (x'01', 'accepted')",
            )
            .await
            .expect("tables");
        for statement in statements(&database, 100).await.expect("statements") {
            database.execute(&statement).await.expect(&statement);
        }
        for (sql, expected) in [
            ("SELECT count(*) FROM user WHERE name = 'a'", 101),
            ("SELECT count(*) FROM identity JOIN user ON user.id = user_id", 101),
            ("SELECT count(*) FROM notification JOIN event ON event.id = event_id", 101),
            ("SELECT count(*) FROM attempt JOIN notification ON notification.id = notification_id", 101),
            ("SELECT count(*) FROM consent WHERE notification_id IS NULL", 101),
            ("SELECT count(*) FROM identity WHERE length(id) = 16", 100),
        ] {
            assert_eq!(database.number(sql).await.expect(sql), expected, "{sql}");
        }
    }
}
