//! A world for one story: a real server on real sockets, the WeChat simulator, a database of its own,
//! and a clock moved by hand.
//!
//! The worker does not run by itself: [`World::drain`] runs its own step until nothing is due, so a
//! story decides when something happens. Every story ends with [`World::finish`], which fails when due
//! work is left behind.

mod answer;
mod steps;

use std::time::Duration;

use entity::{Timestamp, notification};
use magpie::{
    api_key,
    app::{self, Roles, Running},
    clock::Clock,
    config::Config,
    context::Context,
    worker,
};
use reqwest::Method;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use wechat_sandbox::{Callback, DEMO_APP_ID, DEMO_TEMPLATE_ID, Format, Mode, Sandbox, demo_app};

pub use self::{
    answer::Answer,
    steps::{SEND, TOKEN},
};
pub use crate::databases::Kind;
use crate::databases::{self, TestDatabase};

pub const APP: &str = DEMO_APP_ID;
pub const TEMPLATE: &str = DEMO_TEMPLATE_ID;
pub const SERVICE_ACCOUNT: &str = "wxaccount0000001";
const SERVICE_ACCOUNT_SECRET: &str = "account0secret0of0the0sandbox000";
pub const MASTER_KEY: &str = "q8vVZ2J1mW0Xr4n7sT9yB3cE6fH5kLpAoRiUuYdGxjM=";
pub const CALLBACK_TOKEN: &str = "callbacktoken1";
/// How long a story waits for something that happens on another socket.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct World {
    pub ctx: Context,
    pub clock: Clock,
    pub base: String,
    pub sandbox: Sandbox,
    /// An API key with all scopes.
    pub key: String,
    pub http: reqwest::Client,
    extra_config: String,
    nodes: Vec<Running>,
    database: TestDatabase,
    finished: bool,
}

/// A signed-in user.
#[derive(Clone, Debug)]
pub struct Phone {
    pub openid: String,
    pub user_id: String,
    pub access_token: String,
    pub refresh_token: String,
}

impl World {
    /// None when the database is not to be had and need not be.
    pub async fn new(kind: Kind) -> Option<Self> {
        Self::with(kind, "").await
    }

    /// With further lines of configuration: keys of the app (`callback_mode`, `encoding_aes_key`), other
    /// top-level keys, then tables.
    pub async fn with(kind: Kind, extra_config: &str) -> Option<Self> {
        let database = databases::create(kind).await?;
        let app = demo_app();
        let listen = "127.0.0.1:0".parse().expect("an address");
        let sandbox = wechat_sandbox::Config { listen, apps: vec![app], state_file: None };
        let sandbox = Sandbox::start(sandbox).await.expect("the simulator starts");
        let clock = Clock::hand(Timestamp(1_767_323_045_000));
        let config = configuration(&database.url, &sandbox.url(), extra_config);
        let running = node(&config, &clock).await;
        let ctx = running.ctx.clone();
        let key = api_key::create(&ctx, "test", &["admin".to_owned()], None).await.expect("a key");
        #[expect(clippy::disallowed_methods, reason = "the stories speak HTTP themselves")]
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let world = Self {
            base: format!("http://{}", running.address),
            key: key.key.expose_secret().to_owned(),
            ctx,
            clock,
            sandbox,
            http,
            extra_config: extra_config.to_owned(),
            nodes: vec![running],
            database,
            finished: false,
        };
        world.set_simulators_clock().await;
        world.configure_callback(Mode::Plain, Format::Json, None).await;
        Some(world)
    }

    /// With a service account beside the Mini Program: one template, no callbacks of the simulator.
    pub async fn with_service_account(kind: Kind) -> Option<Self> {
        let app = format!(
            "[[apps]]\napp_id = {SERVICE_ACCOUNT:?}\nkind = \"service_account\"\n\
             secret = {SERVICE_ACCOUNT_SECRET:?}\ncallback_token = {CALLBACK_TOKEN:?}\n\
             callback_mode = \"plain\"\n",
        );
        let world = Self::with(kind, &app).await?;
        let account = json!({
            "app_id": SERVICE_ACCOUNT, "kind": "service_account", "secret": SERVICE_ACCOUNT_SECRET,
            "original_id": "gh_account", "templates": [{
                "id": "account_order_shipped_template_00000000001", "title": "订单发货通知",
                "content": "{{first.DATA}}\n订单号:{{character_string1.DATA}}\n商品:{{thing2.DATA}}\n{{remark.DATA}}",
            }],
        });
        let path = format!("/sandbox/apps/{SERVICE_ACCOUNT}");
        let answer = world.sandbox_call(Method::PUT, &path, Some(account)).await;
        assert!(answer.status.is_success(), "{answer:?}");
        Some(world)
    }

    /// Another node on the same database; gives its address.
    pub async fn second_node(&mut self) -> String {
        let config = self.configuration();
        let running = node(&config, &self.clock).await;
        let address = format!("http://{}", running.address);
        self.nodes.push(running);
        address
    }

    /// The configuration of a node on the same database.
    pub fn configuration(&self) -> String {
        configuration(&self.database.url, &self.sandbox.url(), &self.extra_config)
    }

    /// A node on the same database that goes by another clock; it is built and does not run.
    pub async fn context_with(&self, clock: Clock) -> Context {
        let config = Config::from_toml(&self.configuration()).expect("a configuration");
        app::build(config, clock).await.expect("a context")
    }

    /// Lets the worker run by itself on the first node, until that is told to stop.
    pub fn work(&self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(Box::pin(worker::run(self.ctx.clone(), self.ctx.stop.clone())))
    }

    pub fn second_context(&self) -> &Context {
        &self.nodes[1].ctx
    }

    /// The simulator's clock shows what Magpie's shows: taps are matched by their times.
    async fn set_simulators_clock(&self) {
        let clock = async |seconds: i64| {
            let body = json!({ "advance_seconds": seconds });
            self.sandbox_call(Method::POST, "/sandbox/clock", Some(body)).await.body["now"].as_i64().expect("seconds")
        };
        let now = clock(0).await;
        clock(self.clock.now().0 / 1000 - now).await;
    }

    pub async fn configure_callback(&self, mode: Mode, format: Format, encoding_aes_key: Option<&str>) {
        let mut app = demo_app();
        app.callback = Some(Callback {
            url: format!("{}/wechat/{APP}/callback", self.base),
            token: CALLBACK_TOKEN.into(),
            encoding_aes_key: encoding_aes_key.map(str::to_owned),
            mode,
            format,
        });
        let app = serde_json::to_value(app).expect("an app");
        let answer = self.sandbox_call(Method::PUT, &format!("/sandbox/apps/{APP}"), Some(app)).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }

    /// A call to the server.
    pub async fn call(&self, method: Method, path: &str, bearer: Option<&str>, body: Option<Value>) -> Answer {
        self.call_at(&self.base, method, path, bearer, body).await
    }

    pub async fn call_at(
        &self,
        base: &str,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let mut request = self.http.request(method, format!("{base}{path}"));
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::read(request.send().await.expect("an answer")).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, Some(&self.key), None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(&self.key), Some(body)).await
    }

    /// A call to the simulator's control.
    pub async fn sandbox_call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.call_at(&self.sandbox.url(), method, path, None, body).await
    }

    /// A call to the simulator's control of the demo app.
    pub async fn wechat(&self, path: &str, body: Value) -> Value {
        let answer = self.sandbox_call(Method::POST, &format!("/sandbox/apps/{APP}{path}"), Some(body)).await;
        assert!(answer.status.is_success(), "{path}: {answer:?}");
        answer.body
    }

    pub async fn knobs(&self, knobs: Value) {
        let answer = self.sandbox_call(Method::PATCH, &format!("/sandbox/apps/{APP}"), Some(knobs)).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }

    /// How often WeChat's API at this path was called.
    pub async fn calls_of(&self, path: &str) -> i64 {
        let answer = self.sandbox_call(Method::GET, &format!("/sandbox/apps/{APP}/calls"), None).await;
        answer.body["by_path"][path].as_i64().unwrap_or(0)
    }

    /// What arrived on the phone of this openid.
    pub async fn messages(&self, openid: &str) -> Vec<Value> {
        let path = format!("/sandbox/apps/{APP}/messages?openid={openid}");
        let answer = self.sandbox_call(Method::GET, &path, None).await;
        answer.body["messages"].as_array().cloned().unwrap_or_default()
    }

    /// A new code of wx.login for this openid.
    pub async fn code(&self, openid: &str) -> String {
        let answer = self.wechat("/login-code", json!({ "openid": openid })).await;
        answer["code"].as_str().expect("a code").to_owned()
    }

    pub async fn log_in_with(&self, code: &str) -> Answer {
        self.call(Method::POST, &format!("/v1/apps/{APP}/login"), None, Some(json!({ "code": code }))).await
    }

    /// A user who has logged in.
    pub async fn phone(&self, name: &str) -> Phone {
        let openid = openid(name);
        let answer = self.log_in_with(&self.code(&openid).await).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        Phone {
            openid,
            user_id: text(&answer.body["user"]["id"]),
            access_token: text(&answer.body["access_token"]),
            refresh_token: text(&answer.body["refresh_token"]),
        }
    }

    /// The user accepts one message of the demo template, and the front end reports it.
    pub async fn accept(&self, phone: &Phone, report_id: &str) -> Answer {
        let results = self.wechat("/subscribe?format=results", json!({ "openid": phone.openid })).await;
        self.report(phone, report_id, results).await
    }

    pub async fn report(&self, phone: &Phone, report_id: &str, results: Value) -> Answer {
        let body = json!({ "report_id": report_id, "results": results });
        self.call(Method::POST, "/v1/me/subscriptions", Some(&phone.access_token), Some(body)).await
    }

    pub async fn credits(&self, phone: &Phone) -> i64 {
        let answer = self.call(Method::GET, "/v1/me/subscriptions", Some(&phone.access_token), None).await;
        answer.body["data"][0]["credits"].as_i64().unwrap_or(0)
    }

    /// The demo's rule, with changes.
    pub async fn rule(&self, changes: Value) -> Value {
        let mut body = json!({
            "name": "Order shipped", "event_type": "order.shipped", "app_id": APP, "template_id": TEMPLATE,
            "fields": { "character_string1": "{{ data.no }}", "thing2": "{{ data.item }}", "time3": "{{ data.at }}" },
        });
        for (key, value) in changes.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let answer = self.post("/v1/rules", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body
    }

    /// An event of the shop; `to` is one reference or a list.
    pub async fn event(&self, id: &str, to: impl Into<Value>) -> Answer {
        self.post("/v1/events", shipped(id, to)).await
    }

    /// Runs the worker until nothing is due.
    pub async fn drain(&self) {
        while worker::step(&self.ctx).await.expect("a step") > 0 {}
    }

    pub async fn state(&self, notification: &str) -> String {
        let answer = self.get(&format!("/v1/notifications/{notification}")).await;
        answer.body["state"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    /// Drains until the notification is in this state: WeChat's callbacks come on their own sockets.
    pub async fn until(&self, notification: &str, state: &str) {
        let began = std::time::Duration::ZERO;
        let mut waited = began;
        loop {
            self.drain().await;
            let now = self.state(notification).await;
            if now == state {
                return;
            }
            assert!(waited < PATIENCE, "{notification} is {now}, not {state}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            waited += Duration::from_millis(20);
        }
    }

    /// Moves the clock of Magpie and of the simulator.
    pub async fn advance(&self, span: Duration) {
        self.clock.advance(span);
        let body = json!({ "advance_seconds": span.as_secs() });
        let answer = self.sandbox_call(Method::POST, "/sandbox/clock", Some(body)).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }

    /// Ends the story: nothing that is due may be left.
    pub async fn finish(mut self) {
        self.drain().await;
        let now = self.clock.now();
        let due = notification::Entity::find()
            .filter(notification::Column::State.is_in([notification::State::Pending, notification::State::Sending]))
            .filter(notification::Column::DueAt.lte(now))
            .count(self.ctx.db.read())
            .await
            .expect("a count");
        self.finished = true;
        for node in self.nodes.drain(..) {
            node.stop().await.expect("an orderly stop");
        }
        assert_eq!(due, 0, "the story leaves due notifications behind");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        assert!(self.finished || std::thread::panicking(), "a story must end with finish()");
    }
}

/// A realistic openid for a made-up person.
pub fn openid(name: &str) -> String {
    format!("o{name:0>27}")
}

/// An event of the shop.
pub fn shipped(id: &str, to: impl Into<Value>) -> Value {
    json!({
        "source": "shop", "id": id, "type": "order.shipped", "to": to.into(),
        "data": { "no": "NO.42", "item": "红富士苹果", "at": "2026年1月2日 11:04" },
    })
}

async fn node(config: &str, clock: &Clock) -> Running {
    let config = Config::from_toml(config).expect("a configuration");
    let ctx = app::build(config, clock.clone()).await.expect("a context");
    app::start(ctx, Roles { api: true, worker: false }).await.expect("a node")
}

fn configuration(database_url: &str, sandbox_url: &str, extra: &str) -> String {
    // Top-level keys must come before the first table.
    let (top, tables) = match extra.find("\n[") {
        Some(at) => extra.split_at(at),
        None if extra.starts_with('[') => ("", extra),
        None => (extra, ""),
    };
    let (of_app, top): (Vec<_>, Vec<_>) =
        top.lines().partition(|line| ["callback_mode", "encoding_aes_key"].iter().any(|key| line.starts_with(key)));
    let (of_app, top) = (of_app.join("\n"), top.join("\n"));
    // Receivers of webhooks are on this machine.
    let here = "allow_http = true\nallowed_networks = [\"127.0.0.0/8\", \"::1/128\"]\ntimeout = \"5s\"";
    let webhooks = if tables.contains("[webhooks]") { String::new() } else { format!("[webhooks]\n{here}\n") };
    let mode = if of_app.contains("callback_mode") { "" } else { "callback_mode = \"plain\"" };
    format!(
        "listen = \"127.0.0.1:0\"\ndatabase_url = {database_url:?}\ndatabase_connections = 4\n\
         master_key = {MASTER_KEY:?}\n{top}\n\
         [wechat]\nbase_url = {sandbox_url:?}\n\
         [[apps]]\napp_id = {APP:?}\nkind = \"mini_program\"\nsecret = {:?}\n\
         callback_token = {CALLBACK_TOKEN:?}\n{mode}\n{of_app}\n{tables}\n{webhooks}\n",
        wechat_sandbox::DEMO_SECRET
    )
}
