//! Magpie as it is shipped: the release binary with a configuration that names only what it must.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    Result,
    child::Child,
    clock,
    database::Database,
    http::Connection,
    upstream::Upstream,
    work::{self, APP},
};

/// How long it may take to start and to be ready.
const PATIENCE: Duration = Duration::from_mins(1);

pub struct Magpie {
    binary: PathBuf,
    address: SocketAddr,
    /// Its configuration and its log.
    folder: TempDir,
}

/// Builds the release binary, unless one is named.
pub fn binary(named: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(binary) = named {
        return Ok(binary.canonicalize()?);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the workspace is gone")?;
    let built = Command::new("cargo").args(["build", "--release", "--package", "magpie"]).current_dir(root).status()?;
    if !built.success() {
        return Err("the server does not build".into());
    }
    // Beside this program's own folder, wherever cargo was told to put both.
    let folder =
        std::env::current_exe()?.parent().and_then(Path::parent).ok_or("this program has no folder")?.to_owned();
    Ok(folder.join("release/magpie").canonicalize()?)
}

impl Magpie {
    pub fn new(binary: &Path, upstream: &Upstream, database: &Database) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("magpie-bench-").tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = format!(
            "listen = \"{address}\"\ndatabase_url = {:?}\nmaster_key = \"q8vVZ2J1mW0Xr4n7sT9yB3cE6fH5kLpAoRiUuYdGxjM=\"\n\
             [wechat]\nbase_url = {:?}\n[limits]\nlogin_per_ip = 0\nlogin_per_app = 0\nme_per_user = 0\n\
             [[apps]]\napp_id = {APP:?}\nkind = \"mini_program\"\nsecret = \"secret0of0the0benchmark0000000001\"\n",
            database.url(),
            upstream.url(),
        );
        fs::write(folder.path().join("magpie.toml"), config)?;
        Ok(Self { binary: binary.to_owned(), address, folder })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--config").arg(self.folder.path().join("magpie.toml"));
        command.current_dir(self.folder.path());
        command
    }

    /// Starts it; its log goes to a file, as a service's would.
    pub async fn start(&self) -> Result<(Child, SocketAddr)> {
        let log = fs::File::options().append(true).create(true).open(self.log())?;
        let mut child = Child::start(self.command(&["serve"]).stderr(log), Signal::TERM)?;
        let began = clock::now();
        while Connection::open(self.address).await.is_err() {
            if child.has_ended() || began.elapsed() > PATIENCE {
                return Err(format!("the server did not start:\n{}", fs::read_to_string(self.log())?).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok((child, self.address))
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Makes an API key and the rule; gives the key.
    pub async fn prepare(&self, address: SocketAddr) -> Result<Arc<str>> {
        let made = self.command(&["key", "create", "--name", "bench", "--scopes", "admin"]).output()?;
        let printed = String::from_utf8(made.stdout)?;
        let key = printed.lines().find_map(|line| line.strip_prefix("key:")).ok_or("no API key was made")?;
        let key: Arc<str> = key.trim().into();
        let mut connection = Connection::open(address).await?;
        connection.post(&format!("/v1/apps/{APP}/templates/sync"), Some(&key), "{}".into()).await?.json()?;
        connection.post("/v1/rules", Some(&key), work::rule().to_string().into()).await?.json()?;
        Ok(key)
    }
}
