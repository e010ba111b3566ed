//! jscode2session: codes, session keys, refusals.

use serde_json::json;
use wechat_sandbox::{App, DEMO_APP_ID, DEMO_OPENID, DEMO_SECRET, demo_app};

use crate::harness::{Stage, errcode, has_rid};

#[tokio::test]
async fn a_code_works_once_within_five_minutes() {
    let stage = Stage::new().await;
    let code = stage.login_code("oA").await;
    let session = stage.code_to_session(&code).await;
    assert_eq!(session["openid"], "oA");
    assert_eq!(session["session_key"].as_str().map(str::len), Some(24));
    assert!(session.get("errcode").is_none() && session.get("unionid").is_none());

    let again = stage.code_to_session(&code).await;
    assert_eq!(errcode(&again), 40163);
    assert!(has_rid(&again), "{again}");

    let late = stage.login_code("oA").await;
    stage.advance(301).await;
    assert_eq!(errcode(&stage.code_to_session(&late).await), 40029);
    assert_eq!(errcode(&stage.code_to_session("nonsense").await), 40029);
}

#[tokio::test]
async fn a_new_login_rotates_the_session_key() {
    let stage = Stage::new().await;
    let first = stage.log_in("oA").await;
    let second = stage.log_in("oA").await;
    assert_ne!(first["session_key"], second["session_key"]);
}

#[tokio::test]
async fn the_default_phone_belongs_to_the_demo_user() {
    let stage = Stage::new().await;
    assert_eq!(stage.phone("login-code", json!({})).await["openid"], DEMO_OPENID);
    assert_eq!(DEMO_OPENID.len(), 28);
    let url = stage.at(&format!("/sandbox/apps/{DEMO_APP_ID}/login-code?format=text&openid=oB&unionid=uB"));
    let code = stage.http.post(url).send().await.expect("an answer").text().await.expect("a body");
    let session = stage.code_to_session(&code).await;
    assert_eq!((session["openid"].as_str(), session["unionid"].as_str()), (Some("oB"), Some("uB")));
}

#[tokio::test]
async fn refusals_in_wechats_words() {
    let other = App { app_id: "wxother".into(), secret: "other-secret".into(), ..demo_app() };
    let stage = Stage::with(vec![demo_app(), other], None).await;
    let code = stage.login_code("oA").await;
    let cases = [
        (format!("secret={DEMO_SECRET}&js_code={code}&grant_type=authorization_code"), 41002),
        (format!("appid={DEMO_APP_ID}&js_code={code}&grant_type=authorization_code"), 41004),
        (format!("appid={DEMO_APP_ID}&secret={DEMO_SECRET}&grant_type=authorization_code"), 41008),
        (format!("appid=WXDEMO&secret={DEMO_SECRET}&js_code={code}&grant_type=authorization_code"), 40013),
        (format!("appid={DEMO_APP_ID}&secret=wrong&js_code={code}&grant_type=authorization_code"), 40125),
        (format!("appid={DEMO_APP_ID}&secret={DEMO_SECRET}&js_code={code}&grant_type=code"), 40002),
        // A code of another app is no code here.
        (format!("appid=wxother&secret=other-secret&js_code={code}&grant_type=authorization_code"), 40029),
    ];
    for (query, expected) in cases {
        let answer = stage.get(&format!("/sns/jscode2session?{query}")).await;
        assert_eq!(errcode(&answer), expected, "{query}: {answer}");
    }
    let posted = stage.post("/sns/jscode2session", json!({ "appid": DEMO_APP_ID })).await;
    assert_eq!(errcode(&posted), 41002);
    assert_eq!(stage.code_to_session(&code).await["openid"], "oA", "refusals above spent nothing");
}

#[tokio::test]
async fn blocked_and_hasty_users() {
    let stage = Stage::new().await;
    stage.knobs(json!({ "blocked_openids": ["oBad"] })).await;
    assert_eq!(errcode(&stage.log_in("oBad").await), 40226);
    for _ in 0..100 {
        assert_eq!(errcode(&stage.log_in("oFast").await), 0);
    }
    let code = stage.login_code("oFast").await;
    assert_eq!(errcode(&stage.code_to_session(&code).await), 45011);
    stage.advance(60).await;
    assert_eq!(errcode(&stage.code_to_session(&code).await), 0);
}
