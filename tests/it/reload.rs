//! The configuration is read again at SIGHUP, by the real binary.

use std::{fs, path::Path, process::Stdio, time::Duration};

use rstest::rstest;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use wechat_sandbox::{DEMO_SECRET, Sandbox, demo_app};

use crate::{
    databases,
    harness::{APP, Kind, MASTER_KEY},
    process::{PATIENCE, end, free_port, magpie},
};

const NEW_APP: &str = "wxnewcomer000001";
const ROTATED: &str = "rotated0secret0of0the0demo0app00";
const NEW_SECRET: &str = "newcomer0secret0of0the0sandbox00";

/// A running server and what surrounds it.
struct Server {
    child: Child,
    directory: tempfile::TempDir,
    address: String,
    sandbox: Sandbox,
    http: reqwest::Client,
}

impl Server {
    async fn start(database_url: &str) -> Self {
        let listen = "127.0.0.1:0".parse().expect("an address");
        let config = wechat_sandbox::Config { listen, apps: vec![demo_app()], state_file: None };
        let sandbox = Sandbox::start(config).await.expect("the simulator starts");
        let (directory, port) = (tempfile::tempdir().expect("a directory"), free_port().await);
        #[expect(clippy::disallowed_methods, reason = "the stories speak HTTP themselves")]
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let top = format!(
            "listen = \"127.0.0.1:{port}\"\ndatabase_url = {database_url:?}\nmaster_key = {MASTER_KEY:?}\n\
             [wechat]\nbase_url = {:?}\n",
            sandbox.url()
        );
        fs::write(directory.path().join("top"), top).expect("a file");
        write(directory.path(), &app(APP, DEMO_SECRET));
        let log = fs::File::create(directory.path().join("log")).expect("a log");
        let mut command = magpie(directory.path());
        command.args(["serve", "--config", "magpie.toml"]).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("it starts");
        let server = Self { child, directory, address: format!("http://127.0.0.1:{port}"), sandbox, http };
        server.logged("serving", 1).await;
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("a log")
    }

    /// Waits until the log says something so often.
    async fn logged(&self, word: &str, times: usize) {
        let waiting = async {
            while self.log().matches(word).count() < times {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{word} is not logged:\n{}", self.log());
    }

    async fn hang_up(&self) {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().await.expect("kill runs").success());
    }

    async fn control(&self, put: bool, path: &str, body: &Value) -> Value {
        let address = format!("{}/sandbox/apps/{path}", self.sandbox.url());
        let request = if put { self.http.put(address) } else { self.http.post(address) };
        let answer = request.json(body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {answer:?}");
        answer.json().await.expect("JSON")
    }

    /// The status and the problem's code of a login.
    async fn log_in(&self, app_id: &str) -> (u16, Value) {
        let code = self.control(false, &format!("{app_id}/login-code"), &json!({})).await["code"].clone();
        let request = self.http.post(format!("{}/v1/apps/{app_id}/login", self.address));
        let answer = request.json(&json!({ "code": code })).send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.expect("JSON")["code"].clone())
    }
}

fn app(app_id: &str, secret: &str) -> String {
    format!(
        "[[apps]]\napp_id = {app_id:?}\nkind = \"mini_program\"\nsecret = {secret:?}\n\
         callback_token = \"callbacktoken1\"\ncallback_mode = \"plain\"\n"
    )
}

fn write(directory: &Path, apps: &str) {
    let top = fs::read_to_string(directory.join("top")).expect("a file");
    fs::write(directory.join("magpie.toml"), top + apps).expect("a file");
}

#[rstest]
#[tokio::test]
async fn a_hangup_loads_a_rotated_secret_and_a_new_app_and_a_broken_file_changes_nothing(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(database) = databases::create(kind).await else { return };
    let mut server = Server::start(&database.url).await;
    server.logged("app_secret.right", 1).await;
    assert_eq!(server.log_in(APP).await, (200, Value::Null));

    // The owner rotates the AppSecret and opens another Mini Program.
    let mut rotated = demo_app();
    rotated.secret = ROTATED.into();
    server.control(true, APP, &serde_json::to_value(rotated).expect("an app")).await;
    let newcomer = json!({ "app_id": NEW_APP, "kind": "mini_program", "secret": NEW_SECRET, "original_id": "gh_new" });
    server.control(true, NEW_APP, &newcomer).await;
    assert_eq!(server.log_in(APP).await, (502, json!("wechat_app_error")));
    assert_eq!(server.log_in(NEW_APP).await, (404, json!("app_not_found")));

    let apps = app(APP, ROTATED) + &app(NEW_APP, NEW_SECRET);
    write(server.directory.path(), &apps);
    server.hang_up().await;
    server.logged("apps.reloaded", 1).await;
    assert_eq!(server.log_in(APP).await, (200, Value::Null));
    assert_eq!(server.log_in(NEW_APP).await, (200, Value::Null));

    // Files that are refused, each for another reason.
    let half = &ROTATED[..9];
    let broken = [
        apps.replace(&format!("{ROTATED}\""), ROTATED),
        apps.replace(ROTATED, half),
        apps.replace(&format!("\"{ROTATED}\""), &format!("[\"{ROTATED}\"]")),
        apps.replace("mini_program", "maxi_program"),
        format!("{apps}secret = {NEW_SECRET:?}\n"),
    ];
    for (index, broken) in broken.iter().enumerate() {
        assert_ne!(*broken, apps);
        write(server.directory.path(), broken);
        server.hang_up().await;
        server.logged("apps.not_reloaded", index + 1).await;
        assert_eq!(server.log_in(APP).await, (200, Value::Null));
        assert_eq!(server.log_in(NEW_APP).await, (200, Value::Null));
    }

    // A wrong secret is taken, as only WeChat can tell; the log tells the cure.
    write(server.directory.path(), &app(APP, DEMO_SECRET));
    server.hang_up().await;
    server.logged("app_secret.wrong", 1).await;
    assert_eq!(server.log_in(APP).await, (502, json!("wechat_app_error")));
    assert_eq!(server.log_in(NEW_APP).await, (404, json!("app_not_found")), "an app that is gone from the file");
    let log = server.log();
    assert!(log.contains("copy the AppSecret from WeChat's console"), "{log}");
    for secret in [DEMO_SECRET, ROTATED, NEW_SECRET, half, MASTER_KEY, "callbacktoken1"] {
        assert!(!log.contains(secret), "the log holds {secret}:\n{log}");
    }
    assert!(end(&mut server.child, "-TERM").await.success());
    server.sandbox.stop().await;
}

#[tokio::test]
async fn a_wrong_secret_does_not_keep_the_server_from_starting() {
    let Some(database) = databases::create(Kind::Sqlite).await else { return };
    let mut server = Server::start(&database.url).await;
    let mut rotated = demo_app();
    rotated.secret = ROTATED.into();
    server.control(true, APP, &serde_json::to_value(rotated).expect("an app")).await;
    assert!(end(&mut server.child, "-TERM").await.success());
    let mut command = magpie(server.directory.path());
    let log = fs::File::create(server.directory.path().join("log")).expect("a log");
    server.child = command.args(["serve", "--config", "magpie.toml"]).stderr(log).spawn().expect("it starts");
    server.logged("app_secret.wrong", 1).await;
    assert!(server.log().contains("copy the AppSecret") && server.log().contains("serving"), "{}", server.log());
    assert_eq!(server.log_in(APP).await, (502, json!("wechat_app_error")));
    assert!(end(&mut server.child, "-TERM").await.success());
    server.sandbox.stop().await;
}
