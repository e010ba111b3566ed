//! A PostgreSQL server for the tests, decided once per process, in this order:
//!
//! 1. the one `MAGPIE_TEST_POSTGRES_URL` names, which must then answer;
//! 2. one on 127.0.0.1:5432 that lets `postgres` in without a password, or `PGUSER` with
//!    `PGPASSWORD`, and lets them create databases;
//! 3. a throwaway server from the programs on this machine.
//!
//! The schema is migrated once into a template named after the migrations' own text, which stays for
//! the next run; a test's database is a copy of it.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    sync::Once,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, Statement};
use sha2::{Digest, Sha256};
use tokio::{net::TcpStream, sync::OnceCell};
use uuid::Uuid;

use super::{TestDatabase, migrate, throwaway::Throwaway};

const URL: &str = "MAGPIE_TEST_POSTGRES_URL";
const REQUIRE: &str = "MAGPIE_TEST_REQUIRE_POSTGRES";
const LOCAL: &str = "127.0.0.1:5432";
const PREFIX: &str = "magpie_test_";
/// No test runs for so long: what is older was left behind by a run that was killed.
const LEFTOVER_AFTER: Duration = Duration::from_hours(1);
/// Any number, as long as all test processes take the same.
const TEMPLATE_LOCK: i64 = 0x6d61_6770_6965;

struct Server {
    /// Of the database `postgres`, from which others are created and dropped.
    admin_url: String,
    template: String,
    _throwaway: Option<Throwaway>,
}

pub async fn create() -> Option<TestDatabase> {
    let server = server().await?;
    let made = make(server, &format!("TEMPLATE {}", server.template)).await;
    Some(made.unwrap_or_else(|error| panic!("{error}")))
}

/// PostgreSQL 15 and later, where it was built with ICU.
pub async fn create_in_english() -> Option<TestDatabase> {
    let server = server().await?;
    let english = "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'";
    match make(server, english).await {
        Ok(made) => {
            migrate(&made.url).await;
            Some(made)
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "SKIPPED IN ENGLISH: {error}");
            None
        }
    }
}

async fn server() -> Option<&'static Server> {
    static SERVER: OnceCell<Result<Server, String>> = OnceCell::const_new();
    match SERVER.get_or_init(prepare).await {
        Ok(server) => Some(server),
        Err(why) => {
            skip(why);
            None
        }
    }
}

async fn make(server: &Server, how: &str) -> Result<TestDatabase, DbErr> {
    let name = format!("{PREFIX}{}_{}", unix_now(), Uuid::now_v7().simple());
    execute(&server.admin_url, &format!("CREATE DATABASE {name} {how}")).await?;
    let url = with_database(&server.admin_url, &name);
    Ok(TestDatabase { url, _keeper: Box::new(Dropper { admin_url: server.admin_url.clone(), name }) })
}

/// Written past `eprintln!`, which the test runner shows only for tests that fail.
fn skip(why: &str) {
    static SAID: Once = Once::new();
    let asked_for = |name| env::var(name).is_ok_and(|value| !["", "0"].contains(&value.as_str()));
    assert!(!asked_for(URL), "{URL} is set, but its server cannot be used\n{why}");
    assert!(!asked_for(REQUIRE), "{REQUIRE} is set, but there is no PostgreSQL server\n{why}");
    SAID.call_once(|| {
        let _ = writeln!(io::stderr(), "\nNOT TESTED ON POSTGRESQL: there is no server\n{why}\n");
    });
    let _ = writeln!(io::stderr(), "SKIPPED ON POSTGRESQL: {}", thread::current().name().unwrap_or("a test"));
}

async fn prepare() -> Result<Server, String> {
    let (admin_url, throwaway) = find().await?;
    sweep(&admin_url).await;
    let template = template(&admin_url).await.unwrap_or_else(|error| panic!("the template database: {error}"));
    Ok(Server { admin_url, template, _throwaway: throwaway })
}

async fn find() -> Result<(String, Option<Throwaway>), String> {
    if let Ok(url) = env::var(URL) {
        let url = with_database(&url, "postgres");
        return usable(&url).await.map(|()| (url, None)).map_err(|error| format!("  {error}"));
    }
    let mut tried = format!("  {URL} is not set\n");
    if let Err(error) = TcpStream::connect(LOCAL).await {
        let _ = writeln!(tried, "  {LOCAL}: {error}");
    } else {
        for (user, url) in local_logins() {
            match usable(&url).await {
                Ok(()) => return Ok((url, None)),
                Err(error) => _ = writeln!(tried, "  {LOCAL}, user {user}: {error}"),
            }
        }
    }
    match Throwaway::start().await {
        Ok(throwaway) => Ok((throwaway.url.clone(), Some(throwaway))),
        Err(error) => Err(format!(
            "{tried}  a server of our own: {error}\n\
             Install PostgreSQL (Debian and Ubuntu: apt-get install postgresql) or set {URL}."
        )),
    }
}

fn local_logins() -> Vec<(String, String)> {
    let mut logins = vec![("postgres".to_owned(), format!("postgres://postgres@{LOCAL}/postgres"))];
    if let Ok(user) = env::var("PGUSER") {
        let password = env::var("PGPASSWORD").unwrap_or_default();
        let url = format!("postgres://{}:{}@{LOCAL}/postgres", percent(&user), percent(&password));
        logins.push((user, url));
    }
    logins
}

async fn usable(admin_url: &str) -> Result<(), String> {
    let sql = "SELECT rolname FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolcreatedb)";
    match names(admin_url, sql).await {
        Ok(found) if found.is_empty() => Err("may not create databases".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Drops what killed runs left behind. Another process may be doing the same, so failures are fine.
async fn sweep(admin_url: &str) {
    let sql = format!("SELECT datname::text FROM pg_database WHERE starts_with(datname, '{PREFIX}')");
    for name in names(admin_url, &sql).await.unwrap_or_default() {
        let made = name.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next()?.parse::<u64>().ok());
        if made.is_some_and(|made| made + LEFTOVER_AFTER.as_secs() < unix_now()) {
            let _ = execute(admin_url, &drop_database(&name)).await;
        }
    }
}

/// The name of the migrated template, made if it is missing.
async fn template(admin_url: &str) -> Result<String, DbErr> {
    let name = format!("magpie_template_{:016x}", hash_of_migrations());
    // The lock belongs to the session, so it is free again when this process dies.
    let admin = connect(admin_url).await?;
    admin.execute_unprepared(&format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await?;
    if names(admin_url, &format!("SELECT datname::text FROM pg_database WHERE datname = '{name}'")).await?.is_empty() {
        // The name is given last: a template under its own name is complete.
        let unfinished = format!("{name}_unfinished");
        admin.execute_unprepared(&drop_database(&unfinished)).await?;
        admin.execute_unprepared(&format!("CREATE DATABASE {unfinished} TEMPLATE template0")).await?;
        migrate(&with_database(admin_url, &unfinished)).await;
        admin.execute_unprepared(&format!("ALTER DATABASE {unfinished} RENAME TO {name}")).await?;
    }
    admin.close().await?;
    Ok(name)
}

/// Read when the tests run, so that a changed migration makes a new template.
fn hash_of_migrations() -> u64 {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migration/src");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("the migrations").map(|entry| entry.expect("a migration").path()).collect();
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(fs::read(file).expect("a migration is a file"));
    }
    hash.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

struct Dropper {
    admin_url: String,
    name: String,
}

impl Drop for Dropper {
    /// In a thread with a runtime of its own, because the test's runtime cannot be waited on from here.
    fn drop(&mut self) {
        let (admin_url, sql) = (self.admin_url.clone(), drop_database(&self.name));
        let dropping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(execute(&admin_url, &sql)))
        });
        // What stays is swept by a later run.
        let _ = dropping.join();
    }
}

fn drop_database(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")
}

async fn execute(admin_url: &str, sql: &str) -> Result<(), DbErr> {
    let admin = connect(admin_url).await?;
    admin.execute_unprepared(sql).await?;
    admin.close().await
}

/// The first column of the answer.
async fn names(admin_url: &str, sql: &str) -> Result<Vec<String>, DbErr> {
    let admin = connect(admin_url).await?;
    let rows = admin.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    admin.close().await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// A connection for one errand: each test has a runtime of its own, so none can be shared.
pub async fn connect(url: &str) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).acquire_timeout(Duration::from_secs(20)).sqlx_logging(false);
    Database::connect(options).await
}

/// The URL with another database in place of its own; what follows a `?` stays.
fn with_database(url: &str, name: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, None), |(address, query)| (address, Some(query)));
    let host = address.find("://").map_or(0, |at| at + 3);
    let end = address[host..].find('/').map_or(address.len(), |at| host + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{name}{query}", &address[..end])
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[expect(clippy::disallowed_methods, reason = "leftovers are judged by the machine's time, not by a test's")]
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::{Dropper, PREFIX, create, execute, names, percent, sweep, unix_now, with_database};

    #[test]
    fn a_database_takes_the_place_of_another() {
        for (url, expected) in [
            ("postgres://me:pw@host:5432/mine?sslmode=disable", "postgres://me:pw@host:5432/new?sslmode=disable"),
            ("postgres://host", "postgres://host/new"),
            ("postgres://host/", "postgres://host/new"),
            ("postgres://me@localhost/mine?host=/run/postgresql", "postgres://me@localhost/new?host=/run/postgresql"),
        ] {
            assert_eq!(with_database(url, "new"), expected);
        }
        assert_eq!(percent("a/@"), "%61%2F%40");
    }

    #[tokio::test]
    async fn only_old_leftovers_are_swept() {
        let Some(fresh) = create().await else { return };
        let admin_url = with_database(&fresh.url, "postgres");
        let old = format!("{PREFIX}{}_left_behind", unix_now() - 3_700);
        execute(&admin_url, &format!("CREATE DATABASE {old} TEMPLATE template0")).await.unwrap();
        let _cleared_in_any_case = Dropper { admin_url: admin_url.clone(), name: old.clone() };
        sweep(&admin_url).await;
        let all = names(&admin_url, "SELECT datname::text FROM pg_database").await.unwrap();
        assert!(!all.contains(&old));
        assert!(all.iter().any(|name| fresh.url.ends_with(name)));
    }
}
