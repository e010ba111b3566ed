//! subscribe/send: checks, credits, what arrives.

use serde_json::{Value, json};
use wechat_sandbox::{DEMO_APP_ID, DEMO_TEMPLATE_ID};

use crate::harness::{SEND, Stage, errcode, has_rid, message};

#[tokio::test]
async fn a_credit_is_spent_by_success_only() {
    let stage = Stage::new().await;
    stage.accept("oA", 2).await;
    let sent = stage.send("oA").await;
    assert_eq!((errcode(&sent), sent["errmsg"].as_str()), (0, Some("ok")));
    assert!(sent["msgid"].as_u64().expect("msgid") > 1 << 53);
    assert_eq!(stage.credits("oA").await, 1);

    let mut wrong = message("oA");
    wrong["data"]["thing2"]["value"] = json!("");
    assert_eq!(errcode(&stage.send_body(&wrong).await), 47003);
    assert_eq!(stage.credits("oA").await, 1);

    stage.knobs(json!({ "omit_msgid": true })).await;
    assert!(stage.send("oA").await.get("msgid").is_none());
    let none_left = stage.send("oA").await;
    assert_eq!(errcode(&none_left), 43101);
    assert!(has_rid(&none_left));

    let arrived = stage.look("messages?openid=oA").await;
    assert_eq!(arrived["total"], 2);
    let first = &arrived["messages"][0];
    assert_eq!(first["msgid"], sent["msgid"]);
    assert_eq!(first["page"], "pages/order?id=42");
    assert_eq!(first["data"]["thing2"]["value"], "龙井茶");
    assert_eq!(first["text"], "订单号:A-42\n商品名称:龙井茶\n发货时间:2026年01月01日 15:01\n");
    assert_eq!(stage.look("messages?openid=oOther").await["total"], 0);
}

#[tokio::test]
async fn refusal_takes_all_credits() {
    let stage = Stage::new().await;
    stage.accept("oA", 3).await;
    stage.phone("refuse", json!({ "openid": "oA", "template_id": DEMO_TEMPLATE_ID })).await;
    assert_eq!(errcode(&stage.send("oA").await), 43101);
}

#[tokio::test]
async fn long_term_is_a_switch() {
    let stage = Stage::new().await;
    let mut app = wechat_sandbox::demo_app();
    app.templates[0].kind = 3;
    let url = stage.at(&format!("/sandbox/apps/{DEMO_APP_ID}"));
    stage.http.put(url).json(&app).send().await.expect("an answer");
    stage.accept("oA", 1).await;
    for _ in 0..3 {
        assert_eq!(errcode(&stage.send("oA").await), 0);
    }
    stage.phone("subscribe", json!({ "openid": "oA", "answer": "reject" })).await;
    assert_eq!(errcode(&stage.send("oA").await), 43101);
}

async fn post_raw(stage: &Stage, body: &str) -> Value {
    let token = stage.stable_token().await;
    let url = stage.at(&format!("{SEND}?access_token={token}"));
    let answer = stage.http.post(url).body(body.to_owned()).send().await.expect("an answer");
    crate::harness::json_of(answer).await
}

#[tokio::test]
async fn broken_bodies() {
    let stage = Stage::new().await;
    stage.accept("oA", 1).await;
    assert_eq!(errcode(&post_raw(&stage, "").await), 44002);
    assert_eq!(errcode(&post_raw(&stage, "{\"touser\":").await), 47001);
    assert_eq!(errcode(&post_raw(&stage, "[]").await), 47001);
    let plain = message("oA").to_string();
    assert_eq!(errcode(&post_raw(&stage, &format!("\u{feff}{plain}")).await), 47001);
    assert_eq!(errcode(&post_raw(&stage, &plain.replace("龙井茶", "\\u9f99\\u4e95")).await), 40033);
    assert_eq!(errcode(&post_raw(&stage, &plain.replace("龙井茶", "\\u0041")).await), 0);
}

#[tokio::test]
async fn every_field_is_checked() {
    let stage = Stage::new().await;
    stage.accept("oA", 1).await;
    stage.knobs(json!({ "missing_pages": ["pages/gone"], "sensitive_words": ["违禁"], "banned_templates": [] })).await;
    let cases: &[(&str, Value, i64, &str)] = &[
        ("/touser", json!("oNobody"), 40003, "invalid openid"),
        ("/template_id", json!("none"), 40037, "invalid template_id"),
        ("/data", json!("{}"), 47001, "data format error"),
        ("/page", json!("/pages/order"), 41030, "invalid page"),
        ("/page", json!("pages/gone?id=1"), 41030, "invalid page"),
        ("/miniprogram_state", json!("release"), 40097, "miniprogram_state"),
        ("/lang", json!("fr_FR"), 40097, "lang"),
        ("/data/thing2/value", json!("违禁品"), 45168, "sensitive"),
        ("/data/thing2/value", json!(42), 47003, "data.thing2.value invalid"),
        ("/data/thing2", json!("bare"), 47003, "data.thing2.value invalid"),
        ("/data/thing2/value", json!(""), 47003, "data.thing2.value is emtpy"),
        ("/data/thing2/value", json!("一二三四五六七八九十一二三四五六七八九十一"), 47003, "data.thing2.value invalid"),
        ("/data/character_string1/value", json!("订单"), 47003, "data.character_string1.value invalid"),
        ("/data/time3/value", json!("tomorrow"), 47003, "data.time3.value invalid"),
        ("/data/time3/value", json!("08:00～09:00"), 47003, "data.time3.value invalid"),
    ];
    for (pointer, value, expected, text) in cases {
        let mut body = message("oA");
        *body.pointer_mut(pointer).expect("a field") = value.clone();
        let answer = stage.send_body(&body).await;
        assert_eq!(errcode(&answer), *expected, "{pointer} {value}: {answer}");
        assert!(answer["errmsg"].as_str().is_some_and(|errmsg| errmsg.contains(text)), "{answer}");
    }
    let mut body = message("oA");
    body["data"]["thing9"] = json!({ "value": "extra" });
    assert!(stage.send_body(&body).await["errmsg"].as_str().is_some_and(|text| text.contains("data.thing9.value")));
    body["data"].as_object_mut().expect("data").retain(|key, _| key == "thing2");
    let missing = stage.send_body(&body).await;
    assert!(missing["errmsg"].as_str().is_some_and(|text| text.contains("data.character_string1.value invalid")));

    stage.knobs(json!({ "banned_templates": [DEMO_TEMPLATE_ID] })).await;
    assert_eq!(errcode(&stage.send("oA").await), 43107);
    assert_eq!(stage.credits("oA").await, 1);
}

#[tokio::test]
async fn a_second_message_to_one_person_waits_its_turn() {
    let stage = Stage::new().await;
    stage.accept("oA", 3).await;
    stage.accept("oB", 1).await;
    let token = stage.stable_token().await;
    stage.fault(json!({ "path": SEND, "contains": "oA", "delay_ms": 300 })).await;
    let path = format!("{SEND}?access_token={token}");
    let slow = stage.post(&path, message("oA"));
    let others = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        (stage.post(&path, message("oA")).await, stage.post(&path, message("oB")).await)
    };
    let (slow, (same, other)) = tokio::join!(slow, others);
    assert_eq!((errcode(&slow), errcode(&same), errcode(&other)), (0, 43108, 0));
    assert_eq!(errcode(&stage.post(&path, message("oA")).await), 0);
}

#[tokio::test]
async fn quotas_run_out() {
    let stage = Stage::new().await;
    stage.accept("oA", 5).await;
    stage.knobs(json!({ "quotas": { SEND: { "daily_limit": 3, "per_minute": 1 } } })).await;
    assert_eq!(errcode(&stage.send("oA").await), 0);
    let minute = stage.send("oA").await;
    assert_eq!(errcode(&minute), 45009);
    stage.advance(60).await;
    assert_eq!(errcode(&stage.send("oA").await), 0);
}
