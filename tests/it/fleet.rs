//! Real processes on one database and one simulator, to be killed, stopped and cut off; and the account
//! of every message at the end.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    task::JoinSet,
};
use wechat_sandbox::{DEMO_APP_ID, DEMO_SECRET, DEMO_TEMPLATE_ID, Sandbox, demo_app};

use crate::{
    databases::{self, Kind, TestDatabase},
    harness::{CALLBACK_TOKEN, MASTER_KEY, openid},
};

const PATIENCE: Duration = Duration::from_mins(1);
/// Front ends that act at the same time.
const AT_ONCE: usize = 16;

pub struct Fleet {
    pub database: TestDatabase,
    _sandbox: Sandbox,
    pub directory: TempDir,
    pub nodes: Vec<Node>,
    door: Door,
}

/// How the outside reaches the nodes and the simulator.
#[derive(Clone)]
struct Door {
    http: reqwest::Client,
    key: String,
    wechat: String,
}

pub struct Node {
    pub child: Child,
    pub base: String,
}

/// What became of all notifications, and what really arrived.
#[derive(Debug)]
pub struct Account {
    /// Notifications by state, `failed` with its reason.
    pub states: BTreeMap<String, usize>,
    /// Messages that arrived more than once.
    pub doubled: Vec<String>,
    /// Told as sent, but not arrived.
    pub lost: Vec<String>,
    /// Told as failed for a reason that excludes it, but arrived.
    pub denied: Vec<String>,
    /// Told as of unknown outcome, but arrived.
    pub unnoticed: Vec<String>,
}

impl Account {
    pub fn of(&self, state: &str) -> usize {
        self.states.get(state).copied().unwrap_or(0)
    }

    /// Nothing lost, nothing doubled, nothing denied; and every message is somewhere.
    #[track_caller]
    pub fn balances(&self, accepted: usize) {
        assert_eq!(self.states.values().sum::<usize>(), accepted, "{self:?}");
        assert!(self.doubled.is_empty() && self.lost.is_empty() && self.denied.is_empty(), "{self:?}");
    }
}

impl Fleet {
    /// No node yet. `configuration` holds whole tables, such as `[delivery]`.
    pub async fn new(kind: Kind, configuration: &str) -> Option<Self> {
        Some(Self::on(databases::create(kind).await?, configuration).await)
    }

    /// On this database.
    pub async fn on(database: TestDatabase, configuration: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listen = "127.0.0.1:0".parse().expect("an address");
        let sandbox = wechat_sandbox::Config { listen, apps: vec![demo_app()], state_file: None };
        let sandbox = Sandbox::start(sandbox).await.expect("the simulator starts");
        let toml = format!(
            "database_url = {:?}\ndatabase_connections = 4\nmaster_key = {MASTER_KEY:?}\n\
             [wechat]\nbase_url = {:?}\n\
             [[apps]]\napp_id = {DEMO_APP_ID:?}\nkind = \"mini_program\"\nsecret = {DEMO_SECRET:?}\n\
             callback_token = {CALLBACK_TOKEN:?}\ncallback_mode = \"plain\"\n\
             [limits]\nlogin_per_ip = 0\nlogin_per_app = 0\n{configuration}\n",
            database.url,
            sandbox.url(),
        );
        std::fs::write(directory.path().join("magpie.toml"), toml).expect("a configuration");
        #[expect(clippy::disallowed_methods, reason = "the stories speak HTTP themselves")]
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        let door = Door { http, key: String::new(), wechat: sandbox.url() };
        let mut fleet = Self { database, _sandbox: sandbox, directory, nodes: Vec::new(), door };
        let made = fleet.command(&["key", "create", "--name", "test", "--scopes", "admin"]).output().await;
        let printed = String::from_utf8(made.expect("it runs").stdout).expect("text");
        let key = printed.lines().find_map(|line| line.strip_prefix("key:")).unwrap_or_else(|| panic!("{printed}"));
        key.trim().clone_into(&mut fleet.door.key);
        fleet
    }

    /// Where the simulator listens.
    pub fn wechat_url(&self) -> &str {
        &self.door.wechat
    }

    /// Changes the configuration of nodes that are started from now on.
    pub fn reconfigure(&self, change: impl FnOnce(String) -> String) {
        let path = self.directory.path().join("magpie.toml");
        let toml = std::fs::read_to_string(&path).expect("a configuration");
        std::fs::write(path, change(toml)).expect("a configuration");
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
        command.args(arguments).args(["--config", "magpie.toml"]).current_dir(self.directory.path());
        command.env_clear().env("RUST_LOG", "warn").kill_on_drop(true).stdin(Stdio::null());
        command
    }

    /// Starts a node with these further arguments and waits until it is ready.
    pub async fn start(&mut self, arguments: &[&str]) -> usize {
        let mut command = self.command(&["serve"]);
        command.args(arguments);
        self.spawn(command).await
    }

    /// Starts a node from a shell that first does something to itself, such as `ulimit`.
    pub async fn start_after(&mut self, preparation: &str) -> usize {
        let mut command = Command::new("sh");
        let script = format!("{preparation}; exec \"$0\" serve --config magpie.toml --listen \"$1\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_magpie")]).current_dir(self.directory.path());
        command.env("RUST_LOG", "warn").kill_on_drop(true).stdin(Stdio::null());
        let address = free_address().await;
        command.arg(&address);
        self.up(command, address).await
    }

    async fn spawn(&mut self, mut command: Command) -> usize {
        let address = free_address().await;
        command.args(["--listen", &address]);
        self.up(command, address).await
    }

    async fn up(&mut self, mut command: Command, address: String) -> usize {
        let log = std::fs::File::options().append(true).create(true).open(self.directory.path().join("log"));
        let child = command.stderr(log.expect("a log")).stdout(Stdio::null()).spawn().expect("it starts");
        let base = format!("http://{address}");
        let ready = async {
            while !self
                .door
                .http
                .get(format!("{base}/readyz"))
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.unwrap_or_else(|_| panic!("not ready: {}", self.log()));
        self.nodes.push(Node { child, base });
        self.nodes.len() - 1
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Sends a signal and waits for the end.
    pub async fn end(&mut self, node: usize, signal: &str) -> std::process::ExitStatus {
        self.signal(node, signal).await;
        let child = &mut self.nodes[node].child;
        tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("a status")
    }

    pub async fn signal(&self, node: usize, signal: &str) {
        let pid = self.nodes[node].child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.expect("kill runs").success());
    }

    /// A call with the key; None when nobody answered.
    pub async fn call(&self, node: usize, method: Method, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
        self.door.call(&self.door.key, method, format!("{}{path}", self.nodes[node].base), body).await
    }

    /// The simulator's control of the demo app.
    pub async fn wechat(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        self.door.wechat(method, path, body).await
    }

    /// How many messages WeChat took.
    pub async fn arrived(&self) -> usize {
        let messages = self.wechat(Method::GET, "/messages", None).await;
        messages["messages"].as_array().map_or(0, Vec::len)
    }

    /// How often WeChat's API at this path was called.
    pub async fn calls_of(&self, path: &str) -> i64 {
        self.wechat(Method::GET, "/calls", None).await["by_path"][path].as_i64().unwrap_or(0)
    }

    /// People who agreed to so many messages each, through a node's front door; and the rule.
    pub async fn people(&self, node: usize, count: usize, credits: usize) -> Vec<String> {
        let rule = json!({
            "name": "Order shipped", "event_type": "order.shipped", "app_id": DEMO_APP_ID,
            "template_id": DEMO_TEMPLATE_ID, "fields": {
                "character_string1": "{{ data.no }}", "thing2": "{{ data.item }}", "time3": "{{ data.at }}"
            },
        });
        let made = self.call(node, Method::POST, "/v1/rules", Some(rule)).await.expect("an answer");
        assert_eq!(made.0, 201, "{made:?}");
        let mut tasks = JoinSet::new();
        for lane in 0..AT_ONCE {
            let (door, base) = (self.door.clone(), self.nodes[node].base.clone());
            tasks.spawn(async move {
                for person in (lane..count).step_by(AT_ONCE) {
                    door.person(&base, &openid(&format!("p{person}")), credits).await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("they agree");
        }
        (0..count).map(|person| openid(&format!("p{person}"))).collect()
    }

    /// Tells of an order of each person; gives how many messages came of it. An answer that is missing or
    /// an error is asked for again, as a business system would, on the nodes in turn.
    pub async fn order_of(&self, people: &[String], number: usize) -> usize {
        for turn in 0..600 {
            let node = turn % self.nodes.len();
            match self.tell(node, people, number).await {
                Some((202, body)) => return body["notifications"].as_array().map_or(0, Vec::len),
                Some((500.., _)) | None => tokio::time::sleep(Duration::from_millis(100)).await,
                other => panic!("order {number}: {other:?}"),
            }
        }
        panic!("order {number} is not taken\n{}", self.log());
    }

    /// Tells once; gives the status.
    pub async fn try_order(&self, node: usize, people: &[String], number: usize) -> Option<u16> {
        self.tell(node, people, number).await.map(|(status, _)| status)
    }

    /// Tells of an order of each person, once; gives status and answer, or None when nobody answered.
    pub async fn tell(&self, node: usize, people: &[String], number: usize) -> Option<(u16, Value)> {
        let to: Vec<_> = people.iter().map(|openid| format!("openid:{DEMO_APP_ID}/{openid}")).collect();
        let event = json!({
            "source": "shop", "id": format!("order-{number}-{}", people[0]), "type": "order.shipped", "to": to,
            "data": { "no": format!("NO.{number}"), "item": "苹果", "at": "2026-01-02 10:00" },
        });
        self.call(node, Method::POST, "/v1/events", Some(event)).await
    }

    /// Waits until nothing is under way any more, as a node tells it.
    pub async fn settle(&self, node: usize) {
        let done = async {
            let mut open = Vec::new();
            loop {
                open.clear();
                for state in ["pending", "sending", "unsure"] {
                    let path = format!("/v1/notifications?state={state}&limit=1");
                    let answer = self.call(node, Method::GET, &path, None).await;
                    if answer.is_none_or(|(_, body)| body["data"].as_array().is_none_or(|rows| !rows.is_empty())) {
                        open.push(state);
                    }
                }
                if open.is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, done).await.unwrap_or_else(|_| panic!("it does not settle\n{}", self.log()));
    }

    /// Every notification beside what really arrived.
    pub async fn account(&self, node: usize) -> Account {
        let messages = self.wechat(Method::GET, "/messages", None).await;
        let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
        for message in messages["messages"].as_array().into_iter().flatten() {
            let number = &message["data"]["character_string1"]["value"];
            *arrived.entry(format!("{} {}", message["openid"], number)).or_default() += 1;
        }
        let doubled = arrived.iter().filter(|(_, times)| **times > 1).map(|(message, _)| message.clone()).collect();
        let mut account =
            Account { states: BTreeMap::new(), doubled, lost: Vec::new(), denied: Vec::new(), unnoticed: Vec::new() };
        let openids = self.openids(node).await;
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/notifications?limit=100{cursor}");
            let (_, page) = self.call(node, Method::GET, &path, None).await.expect("an answer");
            for row in page["data"].as_array().expect("rows") {
                let (state, reason) = (row["state"].as_str().expect("a state"), row["reason"].as_str());
                let told = reason.map_or_else(|| state.to_owned(), |reason| format!("{state}({reason})"));
                let openid = &openids[row["user_id"].as_str().expect("a user")];
                let message = format!("\"{openid}\" {}", row["fields"]["character_string1"]);
                let came = arrived.contains_key(&message);
                match told.as_str() {
                    "accepted" | "delivered" if !came => account.lost.push(message),
                    "failed(unknown_outcome)" if came => account.unnoticed.push(message),
                    "failed(unknown_outcome)" | "unsure" | "accepted" | "delivered" => {}
                    _ if came => account.denied.push(format!("{message} {told}")),
                    _ => {}
                }
                *account.states.entry(told).or_default() += 1;
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return account,
            }
        }
    }

    async fn openids(&self, node: usize) -> BTreeMap<String, String> {
        let mut openids = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let (_, page) =
                self.call(node, Method::GET, &format!("/v1/users?limit=100{cursor}"), None).await.expect("an answer");
            for user in page["data"].as_array().expect("users") {
                let text = |value: &Value| value.as_str().expect("a text").to_owned();
                openids.insert(text(&user["id"]), text(&user["identities"][0]["openid"]));
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return openids,
            }
        }
    }
}

impl Door {
    async fn call(&self, bearer: &str, method: Method, url: String, body: Option<Value>) -> Option<(u16, Value)> {
        let mut request = self.http.request(method, url).bearer_auth(bearer);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.unwrap_or_default()))
    }

    async fn wechat(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.http.request(method, format!("{}/sandbox/apps/{DEMO_APP_ID}{path}", self.wechat));
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    async fn person(&self, base: &str, openid: &str, credits: usize) {
        let code = self.wechat(Method::POST, "/login-code", Some(json!({ "openid": openid }))).await;
        let url = format!("{base}/v1/apps/{DEMO_APP_ID}/login");
        let login = self.call("", Method::POST, url, Some(json!({ "code": code["code"] }))).await;
        let token = login.expect("an answer").1["access_token"].as_str().expect("a token").to_owned();
        for tap in 0..credits {
            let results =
                self.wechat(Method::POST, "/subscribe?format=results", Some(json!({ "openid": openid }))).await;
            let report = json!({ "report_id": format!("tap-{tap}"), "results": results });
            let told = self.call(&token, Method::POST, format!("{base}/v1/me/subscriptions"), Some(report)).await;
            assert_eq!(told.expect("an answer").0, 200);
        }
    }
}

async fn free_address() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address").to_string()
}
