//! Access tokens: stable and classic, their lives, and the checks on other paths.

use serde_json::{Value, json};
use wechat_sandbox::{DEMO_APP_ID, DEMO_SECRET};

use crate::harness::{Stage, errcode};

async fn stable(stage: &Stage, force: bool) -> (String, i64) {
    let ask = json!({
        "grant_type": "client_credential", "appid": DEMO_APP_ID, "secret": DEMO_SECRET, "force_refresh": force,
    });
    pair(&stage.post("/cgi-bin/stable_token", ask).await)
}

async fn classic(stage: &Stage) -> (String, i64) {
    let path = format!("/cgi-bin/token?grant_type=client_credential&appid={DEMO_APP_ID}&secret={DEMO_SECRET}");
    pair(&stage.get(&path).await)
}

fn pair(answer: &Value) -> (String, i64) {
    let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}"));
    (token.to_owned(), answer["expires_in"].as_i64().expect("expires_in"))
}

/// What WeChat says to a call with this token.
async fn verdict(stage: &Stage, token: &str) -> i64 {
    errcode(&stage.get(&format!("/wxaapi/newtmpl/gettemplate?access_token={token}")).await)
}

#[tokio::test]
async fn the_stable_token_stays_until_its_last_minutes() {
    let stage = Stage::new().await;
    let (first, life) = stable(&stage, false).await;
    assert!(first.len() > 100);
    assert_eq!(life, 7200);
    stage.advance(6855).await;
    let (same, left) = stable(&stage, false).await;
    assert_eq!(same, first);
    assert!((344..=345).contains(&left), "{left}");

    stage.advance(60).await;
    let (second, life) = stable(&stage, false).await;
    assert_ne!(second, first);
    assert_eq!(life, 7200);
    assert_eq!((verdict(&stage, &first).await, verdict(&stage, &second).await), (0, 0));
    stage.advance(300).await;
    assert_eq!((verdict(&stage, &first).await, verdict(&stage, &second).await), (42001, 0));
}

#[tokio::test]
async fn force_kills_the_old_one_thirty_seconds_apart_twenty_times_a_day() {
    let stage = Stage::new().await;
    // A day that does not end within the test.
    let now = stage.get("/sandbox/clock").await["now"].as_i64().expect("now");
    stage.advance(86_400 - (now + 8 * 3600) % 86_400).await;

    let (first, _) = stable(&stage, false).await;
    let (second, _) = stable(&stage, true).await;
    assert_ne!(first, second);
    assert_eq!((verdict(&stage, &first).await, verdict(&stage, &second).await), (40001, 0));
    let (soon, _) = stable(&stage, true).await;
    assert_eq!(soon, second, "closer than 30 s nothing is refreshed");
    for _ in 1..20 {
        stage.advance(31).await;
        stable(&stage, true).await;
    }
    stage.advance(31).await;
    let ask = json!({
        "grant_type": "client_credential", "appid": DEMO_APP_ID, "secret": DEMO_SECRET, "force_refresh": true,
    });
    assert_eq!(errcode(&stage.post("/cgi-bin/stable_token", ask).await), 45009);
}

#[tokio::test]
async fn classic_tokens_replace_each_other_and_leave_the_stable_one_alone() {
    let stage = Stage::new().await;
    let (kept, _) = stable(&stage, false).await;
    let (first, _) = classic(&stage).await;
    let (second, _) = classic(&stage).await;
    assert_ne!(first, second);
    assert_eq!(verdict(&stage, &first).await, 0);
    stage.advance(301).await;
    assert_eq!(verdict(&stage, &first).await, 40001);
    assert_eq!((verdict(&stage, &second).await, verdict(&stage, &kept).await), (0, 0));
    stage.advance(7200).await;
    assert_eq!(verdict(&stage, &second).await, 42001);
}

#[tokio::test]
async fn refusals_of_the_token_endpoints() {
    let stage = Stage::new().await;
    let full = json!({ "grant_type": "client_credential", "appid": DEMO_APP_ID, "secret": DEMO_SECRET });
    for (member, value, expected) in [
        ("grant_type", json!("code"), 40002),
        ("appid", json!(""), 41002),
        ("secret", json!(""), 41004),
        ("appid", json!("wxnone"), 40013),
        ("secret", json!("wrong"), 40125),
    ] {
        let mut ask = full.clone();
        ask[member] = value;
        assert_eq!(errcode(&stage.post("/cgi-bin/stable_token", ask).await), expected);
    }
    assert_eq!(errcode(&stage.get("/cgi-bin/stable_token").await), 43002);
    assert_eq!(errcode(&stage.post("/cgi-bin/token", full.clone()).await), 43001);
    let empty = stage.http.post(stage.at("/cgi-bin/stable_token")).send().await.expect("an answer");
    assert!(empty.text().await.expect("a body").contains("44002"));

    stage.knobs(json!({ "ip_white_list": ["10.0.0.1"] })).await;
    let refused = stage.post("/cgi-bin/stable_token", full.clone()).await;
    assert_eq!(errcode(&refused), 40164);
    let text = refused["errmsg"].as_str().expect("errmsg");
    assert!(text.starts_with("invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist rid: "), "{text}");
    stage.knobs(json!({ "ip_white_list": null })).await;
    assert_eq!(errcode(&stage.post("/cgi-bin/stable_token", full).await), 0);
}

#[tokio::test]
async fn every_other_path_looks_at_the_token() {
    let stage = Stage::new().await;
    assert_eq!(errcode(&stage.get("/wxaapi/newtmpl/gettemplate").await), 41001);
    assert_eq!(verdict(&stage, "99_made-up").await, 40014);
    assert_eq!(errcode(&stage.get("/cgi-bin/nothing/here").await), 40066);

    stage.knobs(json!({ "token_life_seconds": 60, "refuse_tokens": 2 })).await;
    let (token, life) = stable(&stage, false).await;
    assert_eq!(life, 60);
    assert_eq!(verdict(&stage, &token).await, 40001);
    assert_eq!(verdict(&stage, &token).await, 40001);
    assert_eq!(verdict(&stage, &token).await, 0);
    stage.advance(60).await;
    assert_eq!(verdict(&stage, &token).await, 42001);
    assert_eq!(stage.look("calls").await["by_path"]["/cgi-bin/stable_token"], 1);
}
