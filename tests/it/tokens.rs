//! Access tokens, quotas, hosts: what keeps calls to WeChat going, and who is told when they stop.

use std::{path::Path, time::Duration};

use magpie::{config::Config, wechat, worker};
use rstest::rstest;
use serde_json::json;
use wechat_sandbox::{Callback, DEMO_SECRET, Format, Mode, Sandbox, demo_app};

use crate::{
    databases,
    harness::{APP, CALLBACK_TOKEN, Kind, MASTER_KEY, SEND, TOKEN, World},
};

const QUOTA: &str = "/cgi-bin/openapi/quota/get";

fn apps_with_secret(secret: &str) -> Vec<magpie::config::App> {
    let text = format!(
        "[[apps]]\napp_id = {APP:?}\nkind = \"mini_program\"\nsecret = {secret:?}\n\
         callback_token = {CALLBACK_TOKEN:?}\ncallback_mode = \"plain\"\n"
    );
    Config::from_toml(&text).expect("a configuration").apps
}

#[rstest]
#[tokio::test]
async fn a_token_is_renewed_by_what_wechat_says_of_its_life(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.knobs(json!({ "token_life_seconds": 345 })).await;
    assert!(world.app().await["token"]["expires_in"].is_null(), "nothing was called yet");
    assert_eq!(world.sync().await.status, 200);
    let token = world.app().await["token"].clone();
    assert_eq!(token, json!({ "age_seconds": 0, "expires_in": 345, "force_refreshes_left": 20 }));
    world.advance(Duration::from_secs(44)).await;
    world.sync().await;
    assert_eq!(world.calls_of(TOKEN).await, 1, "still good");
    world.advance(Duration::from_secs(2)).await;
    world.sync().await;
    world.sync().await;
    assert_eq!(world.calls_of(TOKEN).await, 2, "asked again in its last five minutes, and not at every call");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_token_that_comes_back_after_its_refusal_is_forced_within_the_budget(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(mut world) = World::new(kind).await else { return };
    world.second_node().await;
    world.rule(json!({})).await;
    let (ann, bob) = (world.ready("ann", 2).await, world.ready("bob", 1).await);
    world.sync().await;

    // Both nodes meet the refusal; only one of them may force.
    world.knobs(json!({ "refuse_tokens": 1 })).await;
    let first = world.told("1", &ann).await;
    world.until(&first, "delivered").await;
    assert_eq!(world.app().await["token"]["force_refreshes_left"], 19);
    world.knobs(json!({ "refuse_tokens": 1 })).await;
    let second = world.told("2", &bob).await;
    while worker::step(world.second_context()).await.expect("a step") > 0 {}
    world.until(&second, "delivered").await;
    assert_eq!(world.app().await["token"]["force_refreshes_left"], 19, "30 s must lie between two");

    world.advance(Duration::from_secs(31)).await;
    world.knobs(json!({ "refuse_tokens": 1 })).await;
    let third = world.told("3", &ann).await;
    world.until(&third, "delivered").await;
    assert_eq!(world.app().await["token"]["force_refreshes_left"], 18);
    world.advance(Duration::from_hours(24)).await;
    assert_eq!(world.app().await["token"]["force_refreshes_left"], 20, "a new day in China");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_refusing_token_endpoint_is_left_alone_and_its_cause_is_named(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(world) = World::new(kind).await else { return };
    world.knobs(json!({ "ip_white_list": ["203.0.113.9"] })).await;
    for _ in 0..3 {
        let answer = world.sync().await;
        answer.problem(502, "wechat_app_error");
        assert_eq!(answer.body["wechat"]["errcode"], 40164);
        assert!(answer.body["detail"].as_str().expect("a detail").contains("add 127.0.0.1 to"), "{answer:?}");
    }
    assert_eq!(world.calls_of(TOKEN).await, 1, "the breaker is open");
    let refused = world.app().await["token_refused"].clone();
    assert_eq!((&refused["errcode"], refused["until"].is_string()), (&json!(40164), true), "{refused}");
    world.knobs(json!({ "ip_white_list": null })).await;
    world.advance(Duration::from_mins(5)).await;
    assert_eq!(world.sync().await.status, 200);
    assert!(world.app().await["token_refused"].is_null());
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn loading_the_apps_again_drops_the_token_of_another_secret_and_closes_the_breaker(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 1).await;
    world.ctx.replace_apps(&apps_with_secret("0123456789abcdef0123456789abcdef"));
    let id = world.told("1", &ann).await;
    world.drain().await;
    assert_eq!(world.calls_of(SEND).await, 0, "the token of the old secret is not used");
    assert_eq!(world.state(&id).await, "pending");
    let shown = world.app().await;
    assert!(shown["paused_because"].as_str().expect("a cause").contains("AppSecret"), "{shown}");
    assert_eq!(shown["token_refused"]["errcode"], 40125);

    world.ctx.replace_apps(&apps_with_secret(DEMO_SECRET));
    magpie::app_account::retry_tokens(&world.ctx).await.expect("a reload");
    world.until(&id, "delivered").await;
    assert!(world.app().await["token_refused"].is_null());
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_day_limit_pauses_the_app_until_the_quota_has_room(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 2).await;
    world.knobs(json!({ "quotas": { SEND: { "daily_limit": 1 } } })).await;
    let first = world.told("1", &ann).await;
    world.until(&first, "delivered").await;
    let second = world.told("2", &ann).await;
    world.drain().await;
    assert_eq!(world.state(&second).await, "pending");
    let shown = world.get(&format!("/v1/apps/{APP}")).await.body;
    assert!(shown["paused_because"].as_str().expect("a cause").contains("45009"), "{shown}");
    assert_eq!(shown["quota"], json!({ "daily_limit": 1, "used": 1, "remain": 0 }));
    let (sends, asked) = (world.calls_of(SEND).await, world.calls_of(QUOTA).await);
    world.advance(Duration::from_secs(30)).await;
    world.drain().await;
    assert_eq!((world.calls_of(SEND).await, world.calls_of(QUOTA).await), (sends, asked), "asked once a minute");
    // The operator gets more.
    world.knobs(json!({ "quotas": {} })).await;
    world.advance(Duration::from_secs(31)).await;
    world.until(&second, "delivered").await;
    assert!(world.app().await["paused_until"].is_null());
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_minute_limit_only_slows_down(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 1).await;
    world.wechat("/faults", json!({ "path": SEND, "errcode": 45009 })).await;
    let id = world.told("1", &ann).await;
    world.drain().await;
    assert_eq!(world.state(&id).await, "pending");
    assert!(world.app().await["paused_until"].is_null(), "the day is not over");
    world.advance(Duration::from_secs(59)).await;
    world.drain().await;
    assert_eq!(world.calls_of(SEND).await, 1, "the minute is waited for");
    world.advance(Duration::from_secs(32)).await;
    world.until(&id, "delivered").await;
    world.finish().await;
}

async fn sandbox() -> Sandbox {
    let mut app = demo_app();
    app.callback = Some(Callback {
        url: "http://127.0.0.1:9/callback".into(),
        token: CALLBACK_TOKEN.into(),
        encoding_aes_key: None,
        mode: Mode::Plain,
        format: Format::Json,
    });
    let listen = "127.0.0.1:0".parse().expect("an address");
    let config = wechat_sandbox::Config { listen, apps: vec![app], state_file: None };
    Sandbox::start(config).await.expect("the simulator starts")
}

#[tokio::test]
async fn calls_go_to_the_fallback_or_through_the_proxy_when_told() {
    let sandbox = sandbox().await;
    let closed = "http://127.0.0.1:1";
    let call = async |wechat: &str| {
        let config = format!("[wechat]\nbase_url = {closed:?}\n{wechat}");
        let config = Config::from_toml(&config).expect("a configuration");
        let client = wechat::Client::new(&config).expect("a client");
        client.stable_token(APP, &DEMO_SECRET.into(), false).await
    };
    assert!(matches!(call("").await, Err(wechat::Error::NotSent(_))), "nobody listens there");
    assert!(call(&format!("fallback_url = {:?}", sandbox.url())).await.is_ok());
    assert!(call(&format!("proxy = {:?}", sandbox.url())).await.is_ok());
    sandbox.stop().await;
    let default = Config::from_toml("").expect("the defaults");
    assert_eq!(default.wechat.fallback_url(), Some("https://api2.weixin.qq.com"));
    let none = Config::from_toml("[wechat]\nfallback_url = \"\"").expect("a configuration");
    assert_eq!(none.wechat.fallback_url(), None);
    let refused = Config::from_toml("[wechat]\nfallback_url = \"http://example.com\"").expect_err("refused");
    assert!(refused.to_string().contains("fallback_url"), "{refused}");
}

async fn doctor(directory: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_magpie"));
    command.args(arguments).args(["--config", "magpie.toml"]).current_dir(directory).env_clear();
    let output = command.output().await.expect("it runs");
    (output.status.success(), String::from_utf8(output.stdout).expect("text"))
}

#[rstest]
#[tokio::test]
async fn the_doctor_finds_what_is_wrong_and_says_how_to_mend_it(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(database) = databases::create(kind).await else { return };
    let (sandbox, directory) = (sandbox().await, tempfile::tempdir().expect("a directory"));
    let write = |database_url: &str, secret: &str, callback: &str| {
        let text = format!(
            "database_url = {database_url:?}\nmaster_key = {MASTER_KEY:?}\n[wechat]\nbase_url = {:?}\n\
             [[apps]]\napp_id = {APP:?}\nkind = \"mini_program\"\nsecret = {secret:?}\ncallback_mode = \"plain\"\n{callback}\n",
            sandbox.url()
        );
        std::fs::write(directory.path().join("magpie.toml"), text).expect("a file");
    };
    let callback = format!("callback_token = {CALLBACK_TOKEN:?}");
    write(&database.url, DEMO_SECRET, &callback);
    let (well, told) = doctor(directory.path(), &["doctor"]).await;
    assert!(well && !told.contains("FAIL"), "{told}");
    for part in
        ["configuration", "database", "clock", "master key", "WeChat", "token", "AppSecret", "templates", "callback"]
    {
        assert!(told.lines().any(|line| line.starts_with("ok") && line.contains(part)), "{part}: {told}");
    }
    assert!(told.contains("WeChat sees calls come from 127.0.0.1"), "{told}");

    write(&database.url, "0123456789abcdef0123456789abcdef", "");
    let (well, told) = doctor(directory.path(), &["doctor"]).await;
    assert!(!well && told.contains("copy the AppSecret") && told.contains("callback_token is missing"), "{told}");

    // The white list guards the token endpoint only, so the login may fail by itself and the other way round.
    let login = format!("{APP} AppSecret");
    for (errcode, cure) in [(40125, "copy the AppSecret"), (40013, "letter case"), (40164, "IP white list")] {
        let body = serde_json::json!({ "path": "/sns/jscode2session", "errcode": errcode });
        let faults = format!("{}/sandbox/apps/{APP}/faults", sandbox.url());
        #[expect(clippy::disallowed_methods, reason = "the stories speak HTTP themselves")]
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        assert!(http.post(faults).json(&body).send().await.expect("an answer").status().is_success());
        write(&database.url, DEMO_SECRET, &callback);
        let (well, told) = doctor(directory.path(), &["doctor"]).await;
        let line = told.lines().find(|line| line.contains(&login)).expect("a line of it");
        assert!(!well && line.starts_with("FAIL") && line.contains(cure), "{told}");
        assert!(!told.contains(DEMO_SECRET), "{told}");
    }

    write("sqlite://empty.db", DEMO_SECRET, &callback);
    let (well, told) = doctor(directory.path(), &["doctor"]).await;
    assert!(!well && told.contains("magpie migrate"), "{told}");
    sandbox.stop().await;
}
