//! Quotas, rids and addresses.

use serde_json::{Value, json};
use wechat_sandbox::{DEMO_APP_ID, DEMO_SECRET};

use crate::harness::{SEND, Stage, errcode};

async fn ask(stage: &Stage, path: &str, body: Value) -> Value {
    let token = stage.stable_token().await;
    stage.post(&format!("{path}?access_token={token}"), body).await
}

#[tokio::test]
async fn a_day_limit_and_its_quota_agree() {
    let stage = Stage::new().await;
    stage.accept("oA", 5).await;
    stage.knobs(json!({ "quotas": { SEND: { "daily_limit": 2, "per_minute": 60 } } })).await;
    let quota = || ask(&stage, "/cgi-bin/openapi/quota/get", json!({ "cgi_path": SEND }));
    assert_eq!(quota().await["quota"], json!({ "daily_limit": 2, "used": 0, "remain": 2 }));
    stage.send("oA").await;
    stage.send("oA").await;
    let full = stage.send("oA").await;
    assert_eq!(errcode(&full), 45009);
    let answer = quota().await;
    assert_eq!(answer["quota"], json!({ "daily_limit": 2, "used": 2, "remain": 0 }));
    assert_eq!(answer["rate_limit"], json!({ "call_count": 60, "refresh_second": 60 }));

    assert_eq!(errcode(&ask(&stage, "/cgi-bin/openapi/quota/clear", json!({ "cgi_path": SEND })).await), 0);
    assert_eq!(errcode(&stage.send("oA").await), 0);
    stage.send("oA").await;
    stage.advance(86_400).await;
    assert_eq!(quota().await["quota"]["remain"], 2);

    for (path, expected) in [("/nothing", 76021), ("/sns/jscode2session", 76021), ("/cgi-bin/user/get", 76022)] {
        let answer = ask(&stage, "/cgi-bin/openapi/quota/get", json!({ "cgi_path": path })).await;
        assert_eq!(errcode(&answer), expected);
    }
}

#[tokio::test]
async fn quotas_are_cleared_ten_times_a_month() {
    let stage = Stage::new().await;
    assert_eq!(errcode(&ask(&stage, "/cgi-bin/clear_quota", json!({ "appid": "wxelse" })).await), 40013);
    for _ in 0..9 {
        assert_eq!(errcode(&ask(&stage, "/cgi-bin/clear_quota", json!({ "appid": DEMO_APP_ID })).await), 0);
    }
    let secret = json!({ "appid": DEMO_APP_ID, "appsecret": DEMO_SECRET });
    assert_eq!(errcode(&stage.post("/cgi-bin/clear_quota/v2", secret).await), 0);
    assert_eq!(errcode(&ask(&stage, "/cgi-bin/clear_quota", json!({ "appid": DEMO_APP_ID })).await), 48006);
    assert_eq!(errcode(&stage.post("/cgi-bin/clear_quota/v2", json!({ "appid": DEMO_APP_ID })).await), 41004);
}

#[tokio::test]
async fn a_rid_explains_a_failed_call() {
    let stage = Stage::new().await;
    stage.log_in("oA").await;
    let refused = stage.send("oA").await;
    let rid = refused["errmsg"].as_str().and_then(|text| text.split_once("rid: ")).expect("a rid").1;
    let explained = ask(&stage, "/cgi-bin/openapi/rid/get", json!({ "rid": rid })).await;
    assert!(explained["request"]["request_body"].as_str().is_some_and(|body| body.contains("oA")));
    assert!(explained["request"]["response_body"].as_str().is_some_and(|body| body.contains("43101")));
    for (rid, expected) in [("nonsense", 76002), ("00000000-00000000-00000000", 76001)] {
        assert_eq!(errcode(&ask(&stage, "/cgi-bin/openapi/rid/get", json!({ "rid": rid })).await), expected);
    }
    stage.advance(8 * 86_400).await;
    assert_eq!(errcode(&ask(&stage, "/cgi-bin/openapi/rid/get", json!({ "rid": rid })).await), 76004);
}

#[tokio::test]
async fn addresses() {
    let stage = Stage::new().await;
    let token = stage.stable_token().await;
    for path in ["/cgi-bin/get_api_domain_ip", "/cgi-bin/getcallbackip"] {
        let answer = stage.get(&format!("{path}?access_token={token}")).await;
        assert_eq!(answer["ip_list"], json!(["127.0.0.1"]));
    }
    let check = ask(&stage, "/cgi-bin/callback/check", json!({ "action": "all", "check_operator": "DEFAULT" })).await;
    assert_eq!(errcode(&check), 40201, "the demo app has no callback");
}
