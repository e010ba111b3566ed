//! A simulator on a free port, and short words for what the tests say to it.

use std::path::PathBuf;

use reqwest::{Client, Response};
use serde_json::{Value, json};
use wechat_sandbox::{App, Config, DEMO_APP_ID, DEMO_SECRET, DEMO_TEMPLATE_ID, Sandbox, demo_app};

pub const SEND: &str = "/cgi-bin/message/subscribe/send";

pub struct Stage {
    pub sandbox: Sandbox,
    pub http: Client,
}

impl Stage {
    pub async fn new() -> Self {
        Self::with(vec![demo_app()], None).await
    }

    pub async fn with(apps: Vec<App>, state_file: Option<PathBuf>) -> Self {
        let config = Config { apps, state_file, ..Config::default() };
        let sandbox = Sandbox::start(config).await.expect("a free port");
        Self { sandbox, http: client() }
    }

    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.url())
    }

    pub async fn get(&self, path: &str) -> Value {
        json_of(self.http.get(self.at(path)).send().await.expect("an answer")).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        json_of(self.http.post(self.at(path)).json(&body).send().await.expect("an answer")).await
    }

    /// A POST to the control API of the demo app.
    pub async fn phone(&self, what: &str, body: Value) -> Value {
        self.post(&format!("/sandbox/apps/{DEMO_APP_ID}/{what}"), body).await
    }

    pub async fn look(&self, what: &str) -> Value {
        self.get(&format!("/sandbox/apps/{DEMO_APP_ID}/{what}")).await
    }

    pub async fn knobs(&self, turned: Value) -> Value {
        let url = self.at(&format!("/sandbox/apps/{DEMO_APP_ID}"));
        json_of(self.http.patch(url).json(&turned).send().await.expect("an answer")).await
    }

    pub async fn fault(&self, fault: Value) {
        let added = self.phone("faults", fault).await;
        assert!(added["id"].is_u64(), "{added}");
    }

    pub async fn advance(&self, seconds: i64) {
        self.post("/sandbox/clock", json!({ "advance_seconds": seconds })).await;
    }

    pub async fn stable_token(&self) -> String {
        self.stable_token_of(DEMO_APP_ID, DEMO_SECRET).await
    }

    pub async fn stable_token_of(&self, app_id: &str, secret: &str) -> String {
        let ask = json!({ "grant_type": "client_credential", "appid": app_id, "secret": secret });
        let answer = self.post("/cgi-bin/stable_token", ask).await;
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    pub async fn login_code(&self, openid: &str) -> String {
        let answer = self.phone("login-code", json!({ "openid": openid })).await;
        answer["code"].as_str().expect("a code").to_owned()
    }

    pub async fn log_in(&self, openid: &str) -> Value {
        let code = self.login_code(openid).await;
        self.code_to_session(&code).await
    }

    pub async fn code_to_session(&self, code: &str) -> Value {
        self.get(&format!(
            "/sns/jscode2session?appid={DEMO_APP_ID}&secret={DEMO_SECRET}&js_code={code}&grant_type=authorization_code"
        ))
        .await
    }

    /// Accepts the demo template `times` times, without a popup event.
    pub async fn accept(&self, openid: &str, times: usize) {
        for _ in 0..times {
            let ask = json!({ "openid": openid, "template_ids": [DEMO_TEMPLATE_ID], "popup": false });
            let answer = self.phone("subscribe", ask).await;
            assert_eq!(answer[DEMO_TEMPLATE_ID], "accept");
        }
    }

    pub async fn send(&self, openid: &str) -> Value {
        self.send_body(&message(openid)).await
    }

    pub async fn send_body(&self, body: &Value) -> Value {
        let token = self.stable_token().await;
        self.post(&format!("{SEND}?access_token={token}"), body.clone()).await
    }

    pub async fn credits(&self, openid: &str) -> u64 {
        let answer = self.look(&format!("credits?openid={openid}")).await;
        answer["credits"][0]["one_time"].as_u64().unwrap_or_default()
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests' one client")]
pub fn client() -> Client {
    Client::builder().no_proxy().build().expect("a client")
}

pub async fn json_of(response: Response) -> Value {
    let text = response.text().await.expect("a body");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub fn message(openid: &str) -> Value {
    json!({
        "touser": openid,
        "template_id": DEMO_TEMPLATE_ID,
        "page": "pages/order?id=42",
        "miniprogram_state": "formal",
        "lang": "zh_CN",
        "data": {
            "character_string1": { "value": "A-42" },
            "thing2": { "value": "龙井茶" },
            "time3": { "value": "2026年01月01日 15:01" },
        },
    })
}

/// An answer's errcode; 0 when it has none.
pub fn errcode(answer: &Value) -> i64 {
    answer["errcode"].as_i64().unwrap_or_default()
}

/// A refusal ends in ` rid: xxxxxxxx-xxxxxxxx-xxxxxxxx`.
pub fn has_rid(answer: &Value) -> bool {
    let text = answer["errmsg"].as_str().unwrap_or_default();
    text.split_once(" rid: ").is_some_and(|(_, rid)| {
        rid.len() == 26 && rid.split('-').all(|part| part.len() == 8 && part.bytes().all(|b| b.is_ascii_hexdigit()))
    })
}
