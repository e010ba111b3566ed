//! A PostgreSQL server of our own for the time of a test run, made from the programs on this machine.

use std::{
    env, fs, io,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use tokio::net::TcpStream;

use super::postgres::connect;

/// Ends with the process that started it, however that ends: the watchdog waits for the end of its
/// standard input, whose only other end is the leash.
pub struct Throwaway {
    pub url: String,
    folder: PathBuf,
    leash: ChildStdin,
    watchdog: Child,
}

/// Takes the folder, where PostgreSQL's programs are, the port, and the command that runs them as
/// another user, if any. The folder is there for the server to be made in and is gone in the end.
///
/// SIGTERM ends what has just been started, SIGINT tells a running server not to wait for its
/// clients. They go to the whole group, again and again, since a program may start in between.
const WATCHDOG: &str = r#"
    folder=$1 programs=$2 port=$3
    shift 3
    trap : TERM INT
    (
        trap : TERM
        cd "$folder" &&
            "$@" "$programs/initdb" -D data --auth=trust --username=postgres --encoding=UTF8 --locale=C --no-sync &&
            "$@" "$programs/postgres" -D data -c "port=$port" -c listen_addresses=127.0.0.1 \
                -c unix_socket_directories= -c max_connections=300 \
                -c fsync=off -c synchronous_commit=off -c full_page_writes=off
        : >"$folder/ended"
    ) >"$folder/log" 2>&1 </dev/null &
    cat >/dev/null
    until [ -e "$folder/ended" ]; do
        kill -TERM 0
        kill -INT 0
        sleep 0.1
    done
    rm -rf "$folder"
"#;

impl Throwaway {
    pub async fn start() -> Result<Self, String> {
        let programs = programs().ok_or("initdb and postgres are neither in PATH nor below /usr/lib/postgresql")?;
        let user = server_user()?;
        let folder = tempfile::Builder::new().prefix("magpie-postgres-").tempdir().map_err(text)?;
        if let Some(User { uid, gid }) = user {
            chown(folder.path(), Some(uid), Some(gid)).map_err(text)?;
        }
        // Free now, and hardly taken by another before the server takes it.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(text)?.port();
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "sh"])
            .args([folder.path(), &programs])
            .arg(port.to_string())
            .args(user.into_iter().flat_map(User::runner))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C ends the tests; the watchdog outlives them to clear up.
            .process_group(0)
            .spawn()
            .map_err(text)?;
        let leash = watchdog.stdin.take().ok_or("the watchdog has no standard input")?;
        // From here on the watchdog removes it.
        let folder = folder.keep();
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        await_server(port, &folder).await?;
        // It listens before it is quite ready; connecting waits for that.
        connect(&url).await.map_err(|error| error.to_string())?;
        Ok(Self { url, folder, leash, watchdog })
    }
}

/// Waits until somebody listens on the port; an error when the server ended instead.
async fn await_server(port: u16, folder: &Path) -> Result<(), String> {
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        if folder.join("ended").exists() {
            return Err(fs::read_to_string(folder.join("log")).unwrap_or_else(text));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The folder of PostgreSQL's programs; Debian keeps them out of PATH, one folder a version.
fn programs() -> Option<PathBuf> {
    let in_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let mut versions: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    versions.sort_by_key(|folder| folder.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    let newest_first = versions.into_iter().rev().map(|version| version.join("bin"));
    in_path
        .into_iter()
        .chain(newest_first)
        .find(|bin| ["initdb", "postgres"].iter().all(|name| bin.join(name).is_file()))
}

#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl User {
    fn runner(self) -> [String; 4] {
        let Self { uid, gid } = self;
        ["setpriv".into(), format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]
    }
}

/// PostgreSQL refuses to run as root, so root runs it as somebody else.
fn server_user() -> Result<Option<User>, String> {
    if id(&["-u"]) != Some(0) {
        return Ok(None);
    }
    let user = |name| Some(User { uid: id(&["-u", name])?, gid: id(&["-g", name])? });
    let user = user("postgres").or_else(|| user("nobody"));
    user.map(Some).ok_or_else(|| "root may not run it, and there is no user postgres or nobody".to_owned())
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn text(error: io::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::{Throwaway, connect, programs};

    #[tokio::test]
    async fn a_throwaway_server_ends_with_its_leash() {
        if programs().is_none() {
            return;
        }
        let Throwaway { url, folder, leash, mut watchdog } = Throwaway::start().await.unwrap();
        // A client that stays does not hold it up.
        let _open = connect(&url).await.unwrap();
        drop(leash);
        assert!(watchdog.wait().unwrap().success());
        assert!(!folder.exists());
    }
}
