//! The real binary, as an operator runs it.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use rstest::rstest;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

use crate::{databases, harness::Kind};

pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn magpie(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    command.current_dir(directory).env_clear().kill_on_drop(true).stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

pub async fn output(mut command: Command) -> Output {
    tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").expect("it runs")
}

/// A development server on free ports and the lines it prints for pasting.
struct Dev {
    child: Child,
    lines: Vec<String>,
    key: String,
}

pub async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address").port()
}

async fn dev(directory: &Path, database_url: &str) -> Dev {
    let (port, sandbox_port) = (free_port().await, free_port().await);
    let mut command = magpie(directory);
    command.args(["dev", "--listen", &format!("127.0.0.1:{port}"), "--database-url", database_url]);
    command.args(["--sandbox-listen", &format!("127.0.0.1:{sandbox_port}")]);
    let log = std::fs::File::options().append(true).create(true).open(directory.join("log")).expect("a log");
    command.env("RUST_LOG", "debug");
    let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("it starts");
    let mut printed = BufReader::new(child.stdout.take().expect("its output")).lines();
    let (mut lines, mut key) = (Vec::new(), String::new());
    let reading = async {
        while lines.len() < 5 {
            let line = printed.next_line().await.expect("text").expect("five lines to paste");
            if line.starts_with("curl ") {
                lines.push(line);
            } else if let Some(printed) = line.trim().strip_prefix("API key") {
                printed.trim().clone_into(&mut key);
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it is up in time");
    Dev { child, lines, key }
}

/// Pastes a line into a fresh shell.
async fn paste(line: &str) -> String {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(line).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let output = output(shell).await;
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("not JSON: {text}"))
}

pub async fn end(child: &mut Child, signal: &str) -> std::process::ExitStatus {
    let pid = child.id().expect("it runs").to_string();
    let killed = Command::new("kill").args([signal, &pid]).status().await.expect("kill runs");
    assert!(killed.success());
    tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("a status")
}

#[rstest]
#[tokio::test]
async fn the_five_lines_of_magpie_dev_work_when_pasted(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(database) = databases::create(kind).await else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let mut dev = dev(directory.path(), &database.url).await;
    let [code, login, consent, event, look] = &dev.lines[..] else { panic!("five lines: {:?}", dev.lines) };

    assert!(json(&paste(code).await)["code"].is_string());
    let login = json(&paste(login).await);
    assert!(login["access_token"].is_string(), "{login}");
    let balances = json(&paste(consent).await);
    assert_eq!(balances["data"][0]["credits"], 1, "{balances}");
    let answer = paste(event).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let mut state = Value::Null;
    for _ in 0..40 {
        state = json(&paste(look).await)["data"][0]["state"].clone();
        if state == "delivered" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(state, "delivered", "within two seconds");

    // kill -9, start again: the same key works, the data is there, and so is the user's phone.
    end(&mut dev.child, "-KILL").await;
    let key = dev.key.clone();
    let mut dev = self::dev(directory.path(), &database.url).await;
    assert_eq!(dev.key, key);
    let kept = json(&paste(&dev.lines[4]).await);
    assert_eq!(kept["data"][0]["state"], "delivered", "{kept}");
    assert_eq!(json(&paste(&dev.lines[1]).await)["user"]["id"], login["user"]["id"]);
    assert!(end(&mut dev.child, "-TERM").await.success(), "an orderly stop is a success");

    // Even the most talkative log names no secret and no content.
    let log = std::fs::read_to_string(directory.path().join("log")).expect("a log");
    for line in ["request", "notification.push", "notification.receipt"] {
        assert!(log.contains(line), "{line} is missing");
    }
    let keys = std::fs::read_to_string(directory.path().join("magpie-dev.keys")).expect("keys");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut secrets = vec![text(&login["access_token"]), text(&login["refresh_token"]), key, "红富士".to_owned()];
    secrets.extend(keys.split_whitespace().map(str::to_owned));
    secrets.push(wechat_sandbox::DEMO_SECRET.to_owned());
    for secret in secrets {
        assert!(!log.contains(&secret), "the log holds {secret}");
    }
    assert!(!log.contains("access_token=") && !log.contains("js_code="), "the log holds an address of WeChat");
}

#[tokio::test]
async fn serve_refuses_what_cannot_work_and_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let refused = async |variables: &[(&str, &str)]| {
        let mut command = magpie(directory.path());
        command.arg("serve").envs(variables.iter().copied());
        let output = output(command).await;
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(&[]).await.contains("openssl rand -base64 32"));
    assert!(refused(&[("MAGPIE_MASTER_KEY", "AAAA")]).await.contains("openssl rand -base64 32"));
    assert!(refused(&[("MAGPIE_COLOUR", "red")]).await.contains("colour"));
    assert!(refused(&[("MAGPIE_DELIVERY__LEASE", "1s")]).await.contains("delivery.lease"));
    let apps = r#"[{app_id="wx0123456789abcdef",kind="mini_program",secret="short"}]"#;
    let told = refused(&[("MAGPIE_APPS", apps)]).await;
    assert!(told.contains("AppSecret"), "{told}");
    std::fs::write(directory.path().join("magpie.toml"), "[delivery]\nleese = \"1s\"\n").expect("a file");
    let mut command = magpie(directory.path());
    command.args(["serve", "--config", "magpie.toml"]);
    let told = String::from_utf8_lossy(&output(command).await.stderr).into_owned();
    assert!(told.contains("leese"), "{told}");
}

#[rstest]
#[tokio::test]
async fn an_operator_migrates_makes_a_key_and_serves(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(database) = databases::create(kind).await else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let port = free_port().await;
    let master_key = magpie::secret::MasterKeys::generate();
    let run = |arguments: &[&str], master_key: &str| {
        let mut command = magpie(directory.path());
        command.args(arguments).env("MAGPIE_MASTER_KEY", master_key).env("MAGPIE_DATABASE_URL", &database.url);
        command.env("MAGPIE_LISTEN", format!("127.0.0.1:{port}"));
        command
    };
    assert!(output(run(&["migrate"], &master_key)).await.status.success());
    let made =
        output(run(&["key", "create", "--name", "shop", "--scopes", "apps:read", "--expires", "90d"], &master_key))
            .await;
    let printed = String::from_utf8(made.stdout).expect("text");
    let value = |name: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{printed}"));
        line.trim().to_owned()
    };
    assert!(value("signing secret:").starts_with("whsec_"));
    let unknown = output(run(&["key", "create", "--name", "x", "--scopes", "everything"], &master_key)).await;
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("events:write"));

    let mut server = run(&["serve"], &master_key).stderr(Stdio::null()).spawn().expect("it starts");
    let apps = format!(
        "curl -s --retry 50 --retry-connrefused --retry-delay 0 http://127.0.0.1:{port}/v1/apps -H 'Authorization: Bearer {}'",
        value("key:")
    );
    assert_eq!(json(&paste(&apps).await)["data"], serde_json::json!([]));
    assert!(end(&mut server, "-TERM").await.success());

    // Another master key: start and migration are refused before anything is lost.
    for command in ["serve", "migrate"] {
        let wrong = output(run(&[command], &magpie::secret::MasterKeys::generate())).await;
        let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert!(!wrong.status.success() && told.contains("master_key"), "{command}: {told}");
    }
    // Where the schema is changed the key need not be.
    let mut without = run(&["migrate"], &master_key);
    without.env_remove("MAGPIE_MASTER_KEY");
    let without = output(without).await;
    assert!(without.status.success() && String::from_utf8_lossy(&without.stdout).contains("No master key"));
}

#[tokio::test]
async fn openapi_prints_the_document() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = magpie(directory.path());
    command.arg("openapi");
    let printed = String::from_utf8(output(command).await.stdout).expect("text");
    assert_eq!(printed, magpie::api::document());
    assert_eq!(json(&printed)["openapi"], "3.0.0");
}

/// Asks so often how the server is, one request after the other on one connection.
#[cfg(target_os = "linux")]
async fn ask_often(port: u16, times: usize) {
    const TOGETHER: usize = 100;
    let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    let requests = "GET /healthz HTTP/1.1\r\nHost: magpie\r\n\r\n".repeat(TOGETHER);
    let mut answers = Vec::new();
    for _ in 0..times / TOGETHER {
        connection.write_all(requests.as_bytes()).await.expect("they are taken");
        answers.clear();
        while answers.windows(12).filter(|part| *part == b"HTTP/1.1 200").count() < TOGETHER {
            let read = tokio::time::timeout(PATIENCE, connection.read_buf(&mut answers)).await.expect("in time");
            assert_ne!(read.expect("an answer"), 0, "{}", String::from_utf8_lossy(&answers));
        }
    }
}

/// Memory that is no file's, in KB.
#[cfg(target_os = "linux")]
fn memory_of(child: &Child) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().expect("it runs"))).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_is_measured_does_not_pile_up_where_nobody_reads_it() {
    const MANY: usize = 60_000;
    let directory = tempfile::tempdir().expect("a directory");
    let (port, sandbox_port) = (free_port().await, free_port().await);
    let mut command = magpie(directory.path());
    command.args(["dev", "--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--sandbox-listen", &format!("127.0.0.1:{sandbox_port}")]);
    let mut child = command.env("RUST_LOG", "off").stdout(Stdio::null()).spawn().expect("it starts");
    let up = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, up).await.expect("it is up in time");
    let mut memory = Vec::new();
    for _ in 0..2 {
        ask_often(port, MANY).await;
        // Longer than it takes until what was measured is added up.
        tokio::time::sleep(Duration::from_secs(3)).await;
        memory.push(memory_of(&child));
    }
    end(&mut child, "-TERM").await;
    // Kept one by one they would take some 1,200 KB.
    assert!(memory[1] - memory[0] < 500, "{memory:?} KB after {MANY} requests each");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn memory_comes_from_mimalloc() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = magpie(directory.path());
    command.arg("--help").env("MIMALLOC_SHOW_STATS", "1");
    let told = String::from_utf8(output(command).await.stderr).expect("text");
    let pages = told.lines().find_map(|line| line.trim().strip_prefix("pages")?.split_once(':'));
    let most = pages.and_then(|(_, counts)| counts.split_whitespace().next()?.parse::<u32>().ok());
    assert!(most > Some(4), "{told}");
}
