//! Marked secrets go through every flow of the real binary, at its most talkative, and are looked for
//! wherever they must not be: logs, the spans of traces, answers of errors, metrics, the database.

use std::{fs, path::Path, process::Stdio};

use base64::{Engine, engine::general_purpose::STANDARD};
use entity::identity;
use magpie::secret::{MasterKeys, hex, hmac_sha256};
use reqwest::Method;
use rstest::rstest;
use sea_orm::{Database, EntityTrait};
use serde_json::{Value, json};
use tokio::process::Child;
use wechat_sandbox::{Callback, Format, Mode, Sandbox, demo_app};

use crate::{
    databases,
    harness::{APP, Answer, Kind, MASTER_KEY, TEMPLATE, openid, shipped},
    privacy::dump_of,
    process::{PATIENCE, end, free_port, magpie, output},
    webhooks::receiver::Receiver,
};

/// Everything, also what a target or a span of its own asks for.
const LOG: &str = "trace,sea_orm::driver::sqlx_postgres=trace,sea_orm::driver::sqlx_sqlite=trace,[connect]=trace";

const APP_SECRET: &str = "marked0app0secret000000000000001";
const CALLBACK_TOKEN: &str = "markedcallbacktoken1";
const AES_KEY: &str = "markedEncodingAesKey0000000000000000000000A";
const DATABASE_PASSWORD: &str = "marked0database0password";
const NUMBER: &str = "13912345678";
const WORDS: &str = "markedwords红富士苹果";

struct Server {
    child: Child,
    base: String,
    sandbox: Sandbox,
    http: reqwest::Client,
    /// What may be nowhere, with its name.
    secrets: Vec<(&'static str, String)>,
    /// What the database may hold, and no log, error or metric.
    of_requests: Vec<(&'static str, String)>,
    /// Every answer that is an error.
    errors: String,
}

async fn start(directory: &Path, database_url: &str) -> Server {
    let listen = "127.0.0.1:0".parse().expect("an address");
    let port = free_port().await;
    let mut app = demo_app();
    app.secret = APP_SECRET.into();
    app.callback = Some(Callback {
        url: format!("http://127.0.0.1:{port}/wechat/{APP}/callback"),
        token: CALLBACK_TOKEN.into(),
        encoding_aes_key: Some(AES_KEY.into()),
        mode: Mode::Secure,
        format: Format::Xml,
    });
    let sandbox = wechat_sandbox::Config { listen, apps: vec![app], state_file: None };
    let sandbox = Sandbox::start(sandbox).await.expect("the simulator starts");
    let database_url = with_password(database_url);
    let config = format!(
        "listen = \"127.0.0.1:{port}\"\ndatabase_url = {database_url:?}\nmaster_key = {MASTER_KEY:?}\n\
         [wechat]\nbase_url = {:?}\n[delivery]\nrequest_timeout = \"500ms\"\n\
         [webhooks]\nallow_http = true\nallowed_networks = [\"127.0.0.1\"]\n\
         [[apps]]\napp_id = {APP:?}\nkind = \"mini_program\"\nsecret = {APP_SECRET:?}\n\
         callback_token = {CALLBACK_TOKEN:?}\nencoding_aes_key = {AES_KEY:?}\n",
        sandbox.url()
    );
    fs::write(directory.join("magpie.toml"), config).expect("a file");
    let mut command = magpie(directory);
    command.args(["key", "create", "--config", "magpie.toml", "--name", "all", "--scopes", "admin"]);
    let made = String::from_utf8(output(command).await.stdout).expect("text");
    let after = |name: &str| {
        let line = made.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{made}"));
        line.trim().to_owned()
    };
    let log = fs::File::create(directory.join("log")).expect("a log");
    let mut command = magpie(directory);
    // Everything that any library says, and every span with its fields.
    command.args(["serve", "--config", "magpie.toml"]).env("RUST_LOG", LOG).env("MAGPIE_LOG_SPANS", "true");
    let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("it starts");
    #[expect(clippy::disallowed_methods, reason = "the stories speak HTTP themselves")]
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let secrets = vec![
        ("the master key", MASTER_KEY.to_owned()),
        ("the AppSecret", APP_SECRET.to_owned()),
        ("the database's password", DATABASE_PASSWORD.to_owned()),
        ("the callback token", CALLBACK_TOKEN.to_owned()),
        ("the AES key", AES_KEY.to_owned()),
        ("the phone number", NUMBER.to_owned()),
        ("the API key", after("key:")),
        ("the signing secret", after("signing secret:").replace("whsec_", "")),
    ];
    let server = Server {
        child,
        base: format!("http://127.0.0.1:{port}"),
        sandbox,
        http,
        secrets,
        of_requests: Vec::new(),
        errors: String::new(),
    };
    let up = async {
        while server.http.get(format!("{}/readyz", server.base)).send().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, up).await.expect("it is up in time");
    server
}

/// A server that trusts its clients asks for no password and takes any.
fn with_password(database_url: &str) -> String {
    match database_url.split_once('@') {
        Some((user, rest)) if !user.trim_start_matches("postgres://").contains(':') => {
            format!("{user}:{DATABASE_PASSWORD}@{rest}")
        }
        _ => database_url.to_owned(),
    }
}

impl Server {
    async fn call(&mut self, method: Method, path: &str, bearer: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.read(request).await
    }

    async fn read(&mut self, request: reqwest::RequestBuilder) -> Answer {
        let answer = Answer::read(request.send().await.expect("an answer")).await;
        if !answer.status.is_success() {
            self.errors.extend([format!("{answer:?}"), "\n".to_owned()]);
        }
        answer
    }

    async fn wechat(&self, path: &str, body: Value) -> Value {
        let address = format!("{}/sandbox/apps/{APP}{path}", self.sandbox.url());
        let answer = self.http.post(address).json(&body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {answer:?}");
        answer.json().await.expect("JSON")
    }

    fn secret(&mut self, name: &'static str, value: &Value) -> String {
        let text = value.as_str().unwrap_or_else(|| panic!("{name}: {value}")).to_owned();
        self.secrets.push((name, text.clone()));
        text
    }

    fn key(&self) -> String {
        self.secrets.iter().find(|(name, _)| *name == "the API key").expect("a key").1.clone()
    }

    async fn log_in(&mut self) -> Answer {
        let code = self.wechat("/login-code", json!({ "openid": openid("ann") })).await["code"].clone();
        self.secret("a login code", &code);
        let path = format!("/v1/apps/{APP}/login");
        let answer = self.call(Method::POST, &path, None, Some(json!({ "code": code }))).await;
        for name in ["access_token", "refresh_token"] {
            if answer.status == 200 {
                let value = answer.body[name].clone();
                self.secret("a token of ours", &value);
            }
        }
        answer
    }

    /// Everything that can be done, well and badly.
    async fn every_flow(&mut self) {
        let login = self.log_in().await;
        let access = login.body["access_token"].as_str().expect("a token").to_owned();
        let refreshed = json!({ "refresh_token": login.body["refresh_token"] });
        let refreshed = self.call(Method::POST, "/v1/token/refresh", None, Some(refreshed)).await;
        for name in ["access_token", "refresh_token"] {
            let value = refreshed.body[name].clone();
            self.secret("a token of ours", &value);
        }
        let given = json!({ "openid": openid("ann"), "phone_number": NUMBER });
        for fault in [None, Some(json!({ "drop": "after" })), Some(json!({ "body": "<html>" }))] {
            if let Some(mut fault) = fault {
                fault["path"] = "/wxa/business/getuserphonenumber".into();
                self.wechat("/faults", fault).await;
            }
            let code = self.wechat("/phone-code", given.clone()).await["code"].clone();
            self.secret("a phone code", &code);
            self.call(Method::POST, "/v1/me/phone", Some(&access), Some(json!({ "code": code }))).await;
        }
        let given = json!({ "openid": openid("ann"), "data": { "phoneNumber": NUMBER } });
        let sealed = self.wechat("/encrypted-data", given).await;
        let body = json!({ "encrypted_data": sealed["encryptedData"], "iv": sealed["iv"] });
        let opened = self.call(Method::POST, "/v1/me/decrypt", Some(&access), Some(body)).await;
        assert_eq!(opened.status, 200, "{opened:?}");
        for fault in [
            json!({ "drop": "before" }),
            json!({ "drop": "after" }),
            json!({ "status": 502, "body": "" }),
            json!({ "errcode": 40125 }),
            json!({ "delay_ms": 900 }),
            json!({ "truncate": 5 }),
        ] {
            let mut fault = fault;
            fault["path"] = "/sns/jscode2session".into();
            self.wechat("/faults", fault).await;
            assert_ne!(self.log_in().await.status, 200);
        }
        self.send_messages(&access).await;
        self.misuse(&access).await;
        self.webhooks().await;
        self.call(Method::GET, "/v1/me/export", Some(&access), None).await;
        self.call(Method::POST, "/v1/logout", Some(&access), None).await;
    }

    async fn send_messages(&mut self, access: &str) {
        let key = self.key();
        let rule = json!({
            "name": "Order shipped", "event_type": "order.shipped", "app_id": APP, "template_id": TEMPLATE,
            "fields": { "character_string1": "{{ data.no }}", "thing2": "{{ data.item }}", "time3": "{{ data.at }}" },
        });
        assert_eq!(self.call(Method::POST, "/v1/rules", Some(&key), Some(rule)).await.status, 201);
        for (number, fault) in
            [None, Some(json!({ "drop": "after" })), Some(json!({ "errcode": 40001 }))].into_iter().enumerate()
        {
            let results = self.wechat("/subscribe?format=results", json!({ "openid": openid("ann") })).await;
            let report = json!({ "report_id": format!("tap {number}"), "results": results });
            self.call(Method::POST, "/v1/me/subscriptions", Some(access), Some(report)).await;
            if let Some(mut fault) = fault {
                fault["path"] = "/cgi-bin/message/subscribe/send".into();
                self.wechat("/faults", fault).await;
            }
            let mut event = shipped(&number.to_string(), format!("openid:{APP}/{}", openid("ann")));
            event["data"]["item"] = WORDS.into();
            let told = self.call(Method::POST, "/v1/events", Some(&key), Some(event)).await;
            let id = told.body["notifications"][0]["id"].as_str().unwrap_or_else(|| panic!("{told:?}")).to_owned();
            let sent = async {
                loop {
                    let story = self.call(Method::GET, &format!("/v1/notifications/{id}"), Some(&key), None).await;
                    let state = story.body["state"].as_str().unwrap_or_default().to_owned();
                    if !["pending", "sending", "accepted"].contains(&state.as_str()) {
                        return;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
                }
            };
            tokio::time::timeout(PATIENCE, sent).await.expect("it is sent in time");
        }
        // WeChat's own token, which it gives to whoever has the AppSecret.
        let ask = json!({ "grant_type": "client_credential", "appid": APP, "secret": APP_SECRET });
        let address = format!("{}/cgi-bin/stable_token", self.sandbox.url());
        let token: Value =
            self.http.post(address).json(&ask).send().await.expect("an answer").json().await.expect("JSON");
        self.secret("WeChat's access token", &token["access_token"]);
        self.signed(&shipped("signed", "external:a").to_string(), true).await;
        self.signed(&shipped("forged", "external:a").to_string(), false).await;
    }

    async fn signed(&mut self, body: &str, rightly: bool) {
        let secret = &self.secrets.iter().find(|(name, _)| *name == "the signing secret").expect("one").1;
        let secret = STANDARD.decode(secret).expect("base64");
        #[expect(clippy::disallowed_methods, reason = "the real binary runs on the real clock")]
        let seconds = chrono::Utc::now().timestamp();
        let tag = hmac_sha256(&secret, format!("msg.{seconds}.{body}{}", if rightly { "" } else { "x" }).as_bytes());
        let request = self.http.post(format!("{}/v1/events", self.base)).header("content-type", "application/json");
        let request = request.header("webhook-id", "msg").header("webhook-timestamp", seconds.to_string());
        let request = request.header("webhook-signature", format!("v1,{}", STANDARD.encode(tag)));
        let answer = self.read(request.body(body.to_owned())).await;
        assert_eq!(answer.status, if rightly { 202 } else { 401 }, "{answer:?}");
    }

    /// Endpoints that answer, that cannot be reached, and whose addresses hold a token in the query.
    async fn webhooks(&mut self) {
        let key = self.key();
        let shop = Receiver::start().await;
        let token = "markedtokeninthequery0001";
        // It stands in the database and in the answers to who may see it, and nowhere else.
        for url in [format!("{}?token={token}", shop.url), format!("http://127.0.0.1:1/?token={token}")] {
            let made = self.call(Method::POST, "/v1/webhooks", Some(&key), Some(json!({ "url": url }))).await;
            let secret = made.body["secret"].as_str().unwrap_or_else(|| panic!("{made:?}")).replace("whsec_", "");
            self.secrets.push(("a webhook's secret", secret));
            let path = format!("/v1/webhooks/{}", made.body["id"].as_str().expect("an id"));
            let rotate = format!("{path}/rotate-secret");
            let rotated = self.call(Method::POST, &rotate, Some(&key), Some(json!({}))).await;
            let secret = rotated.body["secret"].as_str().expect("a secret").replace("whsec_", "");
            self.secrets.push(("a webhook's new secret", secret));
            self.call(Method::POST, &format!("{path}/test"), Some(&key), None).await;
            self.call(Method::GET, "/v1/webhooks", Some(&key), None).await;
        }
        self.log_in().await;
        shop.until(1).await;
        let refused = json!({ "url": format!("https://10.0.0.1/?token={token}") });
        self.call(Method::POST, "/v1/webhooks", Some(&key), Some(refused)).await;
        self.of_requests.push(("the token in a webhook's address", token.to_owned()));
        self.of_requests.push(("a webhook's signature", shop.seen()[0].headers["webhook-signature"].clone()));
    }

    /// Secrets where they do not belong.
    async fn misuse(&mut self, access: &str) {
        let key = self.key();
        let made = json!({ "name": "other", "scopes": ["users:read"] });
        let made = self.call(Method::POST, "/v1/keys", Some(&key), Some(made)).await;
        let other = self.secret("another API key", &made.body["key"]);
        let signing = made.body["signing_secret"].as_str().expect("a secret").replace("whsec_", "");
        self.secrets.push(("another signing secret", signing));
        self.call(Method::GET, "/v1/keys", Some(&other), None).await;
        self.call(Method::GET, "/v1/keys", Some(&key), None).await;
        self.call(
            Method::DELETE,
            made.body["id"].as_str().map(|id| format!("/v1/keys/{id}")).as_deref().unwrap_or_default(),
            Some(&key),
            None,
        )
        .await;
        self.call(Method::GET, "/v1/apps", Some(&other), None).await;
        self.call(Method::GET, "/v1/apps", Some(access), None).await;
        self.call(Method::GET, "/v1/me/subscriptions", Some(&key), None).await;
        for body in [json!(key), json!({ "code": [key] }), json!({ "code": "x", "more": key }), json!([access])] {
            let path = format!("/v1/apps/{APP}/login");
            self.call(Method::POST, &path, None, Some(body)).await;
        }
        for body in [json!(key), json!({ "refresh_token": key }), json!({ "refresh_token": access })] {
            self.call(Method::POST, "/v1/token/refresh", None, Some(body)).await;
        }
        let forged = self.http.post(format!("{}/wechat/{APP}/callback?signature=x&nonce=y&timestamp=1", self.base));
        self.read(forged.body("<xml></xml>")).await;
    }
}

#[rstest]
#[tokio::test]
async fn no_secret_is_where_it_must_not_be(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(database) = databases::create(kind).await else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = start(directory.path(), &database.url).await;
    server.every_flow().await;
    let made_up = Method::from_bytes(b"MADE-UP").expect("a method");
    server.call(made_up, "/v1/events", None, None).await;
    let metrics = server.call(Method::GET, "/metrics", None, None).await.text;
    // Whoever asks may make up methods, and each would be a series that is kept for ever.
    assert!(metrics.contains("http_request_method=\"_OTHER\"") && !metrics.contains("MADE-UP"), "{metrics}");
    assert!(metrics.contains("magpie_pushes_total"), "{metrics}");
    let db = Database::connect(&database.url).await.expect("a connection");
    let stored = identity::Entity::find().one(&db).await.expect("a query").expect("a row");
    let keys = MasterKeys::parse(&MASTER_KEY.to_owned().into()).expect("keys");
    let context = magpie::user::session_key_context(stored.id);
    let session_key = keys.open(&context, &stored.session_key.expect("a session key")).expect("it opens");
    let session_key = String::from_utf8(session_key).expect("text");
    server.secrets.push(("the session key", session_key));
    let rows = dump_of(&db).await;
    db.close().await.expect("closed");
    end(&mut server.child, "-TERM").await;

    let log = fs::read_to_string(directory.path().join("log")).expect("a log");
    assert!(log.contains("request") && log.lines().count() > 50, "the log is there:\n{log}");
    let spans = log.lines().filter(|line| line.ends_with(": new")).count();
    assert!(spans > 100, "the spans are there, with their fields: {spans}");
    assert!(!log.contains(WORDS), "what a message says is not logged");
    let mut raw = rows.into_bytes();
    if kind == Kind::Sqlite {
        let path = database.url.trim_start_matches("sqlite://").split('?').next().expect("a path").to_owned();
        for file in [path.clone(), format!("{path}-wal")] {
            raw.extend(fs::read(file).unwrap_or_default());
        }
    }
    let stored = String::from_utf8_lossy(&raw).to_lowercase();
    for (name, secret) in server.secrets.iter().chain(&server.of_requests) {
        for (place, text) in [("log", &log), ("errors", &server.errors), ("metrics", &metrics)] {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "{name} is in the {place}: {}", line.unwrap_or_default());
        }
    }
    for (name, secret) in &server.secrets {
        for form in [secret.to_lowercase(), hex(secret.as_bytes())] {
            assert!(!stored.contains(&form), "{name} is in the database");
        }
    }
    assert!(server.secrets.len() > 20);
}
