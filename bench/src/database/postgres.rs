//! A PostgreSQL server for the run: one of our own, made from the programs on this machine as a user would
//! get it, durable and with its default settings, or one that is named by its URL.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::statements;
use crate::{Result, child::Child, usage};

pub struct Cluster {
    /// Of the database `postgres`, from which others are created.
    pub(super) admin_url: String,
    /// Whether it is asked for its costliest statements.
    pub counts_statements: bool,
    /// The process above all others of the server, if it runs on this machine.
    pub pid: Option<u32>,
    own: Option<(Child, TempDir)>,
    databases: AtomicU32,
}

pub struct Database {
    pub url: String,
    /// Whence it is dropped; a server of our own goes as a whole.
    dropped_from: Option<(String, String)>,
}

impl Cluster {
    /// The server at the URL, or one of our own; either counts its statements if it is told to.
    pub async fn find(url: Option<&str>, counts_statements: bool) -> Result<Self> {
        let (admin_url, own) = if let Some(url) = url {
            (url.to_owned(), None)
        } else {
            let (url, child, folder) = start(counts_statements).await?;
            (url, Some((child, folder)))
        };
        let client = connect(&admin_url).await?;
        let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)?;
        let pid = u32::try_from(backend).ok().and_then(usage::parent).filter(|pid| is_postgres(*pid));
        let cluster = Self { admin_url, counts_statements, pid, own, databases: AtomicU32::default() };
        if counts_statements {
            statements::forget(&cluster).await?;
        }
        Ok(cluster)
    }

    /// A new, empty database.
    pub async fn create(&self) -> Result<super::Database> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("magpie_bench_{}_{number}", std::process::id());
        connect(&self.admin_url).await?.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        let url = with_database(&self.admin_url, &name);
        let dropped_from = self.own.is_none().then(|| (self.admin_url.clone(), name));
        Ok(super::Database::Postgres(Database { url, dropped_from }))
    }
}

impl Drop for Database {
    /// In a thread with a runtime of its own, because the run's cannot be waited for from here.
    fn drop(&mut self) {
        let Some((admin_url, name)) = self.dropped_from.take() else { return };
        let dropping = thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            runtime.block_on(async { Ok(connect(&admin_url).await?.batch_execute(&sql).await?) })
        });
        if !matches!(dropping.join(), Ok(Ok(()))) {
            eprintln!("A database magpie_bench_… could not be dropped.");
        }
    }
}

pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A server on a free port of 127.0.0.1, up.
async fn start(counts_statements: bool) -> Result<(String, Child, TempDir)> {
    let programs = programs().ok_or("PostgreSQL is needed: install it, or name a server with --database-url")?;
    let folder = tempfile::Builder::new().prefix("magpie-bench-postgres-").tempdir()?;
    let user = server_user()?;
    if let Some((uid, gid)) = user {
        chown(folder.path(), Some(uid), Some(gid))?;
    }
    let data = folder.path().join("data");
    let mut initdb = as_user(user, &programs.join("initdb"), folder.path());
    let made =
        initdb.arg("-D").arg(&data).args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
    let made = made.output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into());
    }
    // Free now, and hardly taken by another before the server takes it.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let log = fs::File::create(folder.path().join("log"))?;
    let mut postgres = as_user(user, &programs.join("postgres"), folder.path());
    postgres.arg("-D").arg(&data).stdout(Stdio::null()).stderr(log);
    for setting in
        [&format!("port={port}"), "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200"]
    {
        postgres.args(["-c", setting]);
    }
    if counts_statements {
        for setting in statements::SETTINGS {
            postgres.args(["-c", setting]);
        }
    }
    // SIGINT: does not wait for clients.
    let mut child = Child::start(&mut postgres, Signal::INT)?;
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    while connect(&url).await.is_err() {
        if child.has_ended() {
            return Err(fs::read_to_string(folder.path().join("log"))?.into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((url, child, folder))
}

fn as_user(user: Option<(u32, u32)>, program: &Path, folder: &Path) -> Command {
    let mut command = match user {
        Some((uid, gid)) => {
            let mut command = Command::new("setpriv");
            command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups").arg(program);
            command
        }
        None => Command::new(program),
    };
    command.current_dir(folder);
    command
}

/// PostgreSQL refuses to run as root, so root runs it as somebody else.
fn server_user() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    let user = |name: &str| {
        let mut fields = passwd.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let user = user("postgres").or_else(|| user("nobody"));
    user.map(Some).ok_or_else(|| "root may not run PostgreSQL, and there is no user postgres or nobody".into())
}

/// The folder of PostgreSQL's programs; Debian keeps them out of PATH, one folder a version.
fn programs() -> Option<PathBuf> {
    let in_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let mut versions: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    versions.sort_by_key(|folder| folder.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    let newest_first = versions.into_iter().rev().map(|version| version.join("bin"));
    let mut folders = in_path.into_iter().chain(newest_first);
    folders.find(|bin| ["initdb", "postgres"].iter().all(|name| bin.join(name).is_file()))
}

fn is_postgres(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres")
}

/// The URL with another database in place of its own; what follows a `?` stays.
fn with_database(url: &str, name: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, None), |(address, query)| (address, Some(query)));
    let host = address.find("://").map_or(0, |at| at + 3);
    let end = address[host..].find('/').map_or(address.len(), |at| host + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{name}{query}", &address[..end])
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn a_database_takes_the_place_of_another() {
        for (url, expected) in [
            ("postgres://me:pw@host:5432/mine?sslmode=disable", "postgres://me:pw@host:5432/new?sslmode=disable"),
            ("postgres://host", "postgres://host/new"),
        ] {
            assert_eq!(with_database(url, "new"), expected);
        }
    }
}
