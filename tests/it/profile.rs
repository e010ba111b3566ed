//! The signed-in user: what they say about themselves, and what to ask them for.

use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{APP, Answer, Kind, Phone, TEMPLATE, World, shipped};

async fn me(world: &World, phone: &Phone, method: Method, path: &str, body: Option<Value>) -> Answer {
    world.call(method, &format!("/v1/me{path}"), Some(&phone.access_token), body).await
}

#[rstest]
#[tokio::test]
async fn a_profile_is_the_users_own_word(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    let fresh = me(&world, &ann, Method::GET, "", None).await;
    assert_eq!((&fresh.body["id"], &fresh.body["app_id"]), (&json!(ann.user_id), &json!(APP)), "{fresh:?}");
    assert_eq!((&fresh.body["nickname"], &fresh.body["has_phone"]), (&Value::Null, &json!(false)));
    let change = json!({ "nickname": "安妮", "avatar_url": "https://cdn.example.com/a.png", "language": "zh-CN" });
    let changed = me(&world, &ann, Method::PATCH, "", Some(change)).await;
    assert_eq!((changed.status.as_u16(), &changed.body["nickname"]), (200, &json!("安妮")), "{changed:?}");
    // What is missing stays, null takes away.
    let changed = me(&world, &ann, Method::PATCH, "", Some(json!({ "avatar_url": null }))).await;
    assert_eq!((&changed.body["nickname"], &changed.body["avatar_url"]), (&json!("安妮"), &Value::Null));
    assert_eq!(me(&world, &ann, Method::GET, "", None).await.body, changed.body);
    let wrong = json!({ "nickname": "", "avatar_url": "javascript:alert(1)", "language": "Chinese (simplified)" });
    let refused = me(&world, &ann, Method::PATCH, "", Some(wrong)).await;
    assert_eq!(refused.problem(400, "invalid_request").body["errors"].as_array().map(Vec::len), Some(3));
    me(&world, &ann, Method::PATCH, "", Some(json!({ "id": "usr_x" }))).await.problem(400, "invalid_request");
    world.call(Method::GET, "/v1/me", None, None).await.problem(401, "missing_credentials");

    // WeChat tells that the user takes it back.
    let fields = json!({ "RevokeInfo": "6" });
    let event = json!({ "event": "user_authorization_revoke", "openid": ann.openid, "fields": fields });
    assert_eq!(world.wechat("/events", event).await["delivered"], true);
    world.drain().await;
    let left = me(&world, &ann, Method::GET, "", None).await;
    assert_eq!((&left.body["nickname"], &left.body["language"]), (&Value::Null, &json!("zh-CN")), "{left:?}");
    world.finish().await;
}

const PAID: &str = "paid_template_00000000000000000000000000001";
const DUE: &str = "due_template_000000000000000000000000000001";
const NEWS: &str = "news_template_00000000000000000000000000001";
const NEWS_AGAIN: &str = "news_template_00000000000000000000000000002";

#[rstest]
#[tokio::test]
async fn the_most_useful_templates_are_asked_for(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let mut app = serde_json::to_value(wechat_sandbox::demo_app()).expect("an app");
    for (id, title, kind) in [(PAID, "付款", 2), (DUE, "还款", 2), (NEWS, "通知", 3), (NEWS_AGAIN, "通知", 3)] {
        let template = json!({ "id": id, "title": title, "kind": kind, "content": "内容:{{thing1.DATA}}" });
        app["templates"].as_array_mut().expect("templates").push(template);
    }
    world.sandbox_call(Method::PUT, &format!("/sandbox/apps/{APP}"), Some(app)).await;
    assert_eq!(world.post(&format!("/v1/apps/{APP}/templates/sync"), json!({})).await.status, 200);
    let ann = world.phone("ann").await;
    let ask = async |query: &str| {
        let answer = me(&world, &ann, Method::GET, &format!("/subscriptions/ask{query}"), None).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["template_ids"].clone()
    };
    // No rule says what will be sent: any may be, of one kind, no two of one title.
    let all = ask("?limit=5").await;
    let one_time = [TEMPLATE, PAID, DUE].iter().all(|id| all.as_array().expect("ids").contains(&json!(id)));
    assert!(one_time || all == json!([NEWS]), "{all}");

    world.rule(json!({ "no_credit": "wait" })).await;
    let simple = |id: &str, event: &str| json!({ "event_type": event, "template_id": id, "no_credit": "wait", "fields": { "thing1": "好" } });
    world.rule(simple(PAID, "order.paid")).await;
    world.rule(simple(DUE, "loan.due")).await;
    world.rule(simple(NEWS, "news")).await;
    world.rule(simple(NEWS_AGAIN, "news.more")).await;
    let tell = async |kind: &str, id: &str| {
        let mut event = shipped(id, ann.user_id.as_str());
        event["type"] = kind.into();
        assert_eq!(world.post("/v1/events", event).await.status, 202);
    };
    // Two messages wait for one template, one for another.
    tell("loan.due", "1").await;
    tell("loan.due", "2").await;
    tell("order.paid", "3").await;
    assert_eq!(ask("").await, json!([DUE, PAID, TEMPLATE]));
    assert_eq!(ask("?limit=1").await, json!([DUE]));
    // Waiting messages come first wherever the page leads; then what the page is about.
    assert_eq!(ask("?scene=order.shipped").await, json!([DUE, PAID, TEMPLATE]));
    let agree = async |tap: &str, ids: &[&str]| {
        let asked = json!({ "openid": ann.openid, "template_ids": ids, "popup": false });
        let results = world.wechat("/subscribe?format=results", asked).await;
        assert_eq!(world.report(&ann, tap, results).await.status, 200);
    };
    agree("tap-1", &[DUE]).await;
    agree("tap-2", &[DUE, PAID]).await;
    world.drain().await;
    assert_eq!(ask("?scene=loan").await, json!([DUE]));
    assert_eq!(ask("?scene=order").await, json!([PAID, TEMPLATE]), "used last comes first");
    assert_eq!(ask("?scene=ord").await, json!([]));
    // A balance is worth less than none.
    world.advance(Duration::from_secs(1)).await;
    agree("tap-3", &[PAID]).await;
    assert_eq!(ask("?scene=order").await, json!([TEMPLATE, PAID]));
    // Long-term templates by themselves, until they are on; what is banned never.
    assert_eq!(ask("?scene=news").await, json!([NEWS]));
    world.report(&ann, "tap-4", json!({ NEWS: "accept", NEWS_AGAIN: "ban" })).await;
    assert_eq!(ask("?scene=news").await, json!([]));
    let wrong = me(&world, &ann, Method::GET, "/subscriptions/ask?limit=6", None).await;
    wrong.problem(400, "invalid_request");
    world.finish().await;
}
