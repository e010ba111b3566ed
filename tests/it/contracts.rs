//! Templates as contracts: rules are checked when they are saved, values when the event arrives.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{APP, Kind, World};

const TYPED: &str = "typed_template_0000000000000000000000000001";

/// A template with a field of each kind, beside the demo's.
async fn with_typed_template(world: &World) {
    let mut app = serde_json::to_value(wechat_sandbox::demo_app()).expect("an app");
    let template = json!({
        "id": TYPED, "title": "付款提醒", "kind": 2,
        "content": "状态:{{phrase1.DATA}}\n金额:{{amount2.DATA}}\n日期:{{date3.DATA}}\n方式:{{enum_string4.DATA}}",
        "enum_values": [["enum_string4", ["微信", "支付宝"]]],
    });
    app["templates"].as_array_mut().expect("templates").push(template);
    let answer = world.sandbox_call(Method::PUT, &format!("/sandbox/apps/{APP}"), Some(app)).await;
    assert!(answer.status.is_success(), "{answer:?}");
    assert_eq!(world.post(&format!("/v1/apps/{APP}/templates/sync"), json!({})).await.status, 200);
}

fn rule(changes: Value) -> Value {
    let mut body = json!({
        "name": "Paid", "event_type": "order.paid", "app_id": APP, "template_id": TYPED, "no_credit": "wait",
        "fields": {
            "phrase1": "{{ data.state }}", "amount2": "{{ data.fen | money('fen') }}",
            "date3": "{{ time | date('cn') }}", "enum_string4": "{{ data.by }}",
        },
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    body
}

#[rstest]
#[tokio::test]
async fn a_rule_that_can_never_work_is_not_saved(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    with_typed_template(&world).await;
    let fields = |changes: Value| {
        let mut fields = rule(json!({}))["fields"].clone();
        fields.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
        json!({ "fields": fields })
    };
    for (changes, pointer, says) in [
        (fields(json!({ "phrase1": "shipped" })), "/fields/phrase1", "Chinese"),
        (fields(json!({ "phrase1": "{{ '已' ~ 'ok' }}" })), "/fields/phrase1", "Chinese"),
        (fields(json!({ "amount2": "twelve" })), "/fields/amount2", "|money"),
        (fields(json!({ "date3": "tomorrow" })), "/fields/date3", "|date"),
        (fields(json!({ "enum_string4": "现金" })), "/fields/enum_string4", "微信, 支付宝"),
        (fields(json!({ "phrase1": "{{ order.state }}" })), "/fields/phrase1", "an event has no `order`"),
        (fields(json!({ "amount2": "{{ data.fen | monye }}" })), "/fields/amount2", "monye"),
        (fields(json!({ "phrase1": "{{ data.state" })), "/fields/phrase1", "syntax error"),
        (fields(json!({ "thing9": "x" })), "/fields/thing9", "is no field"),
        (json!({ "when": "amount > 5" }), "/when", "an event has no `amount`"),
        (json!({ "recipients": "{{ buyer }}" }), "/recipients", "an event has no `buyer`"),
        (json!({ "recipients": "everybody" }), "/recipients", "external:YOUR_ID"),
        (json!({ "page": "pages/{{ no }}" }), "/page", "an event has no `no`"),
    ] {
        let answer = world.post("/v1/rules", rule(changes)).await;
        let error = &answer.problem(422, "rule_invalid").body["errors"][0];
        let reason = error["reason"].as_str().unwrap_or_default();
        assert_eq!((error["pointer"].as_str(), reason.contains(says)), (Some(pointer), true), "{answer:?}");
    }
    let answer =
        world.post("/v1/rules", rule(fields(json!({ "phrase1": "{% for x in range(2) %}好{% endfor %}" })))).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn values_are_checked_type_by_type_when_the_event_arrives(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    with_typed_template(&world).await;
    assert_eq!(world.post("/v1/rules", rule(json!({}))).await.status, 201);
    let ann = world.phone("ann").await;
    let tell = async |id: &str, data: Value| {
        let event = json!({ "source": "shop", "id": id, "type": "order.paid", "to": ann.user_id, "data": data,
            "time": "2026-01-02T16:30:00Z" });
        world.post("/v1/events", event).await.body["notifications"][0].clone()
    };
    let good = json!({ "state": "已付款", "fen": 1250, "by": "微信" });
    let waits = tell("good", good.clone()).await;
    assert_eq!(waits["state"], "waiting", "{waits}");
    let story = world.get(&format!("/v1/notifications/{}", waits["id"].as_str().expect("an id"))).await.body;
    assert_eq!(
        story["fields"],
        json!({ "phrase1": "已付款", "amount2": "¥12.50", "date3": "2026年1月3日 00:30", "enum_string4": "微信" })
    );
    for (name, value, field) in [
        ("state", json!("paid"), "/fields/phrase1"),
        ("state", json!("已经付过款了"), "/fields/phrase1"),
        ("fen", json!(12.5), "/fields/amount2"),
        ("fen", Value::Null, "/fields/amount2"),
        ("by", json!("现金"), "/fields/enum_string4"),
    ] {
        let mut data = good.clone();
        data[name] = value.clone();
        let outcome = tell(&format!("{name} {value}"), data).await;
        let detail = outcome["detail"].as_str().unwrap_or_default();
        assert_eq!((&outcome["state"], &outcome["reason"]), (&json!("failed"), &json!("bad_data")), "{outcome}");
        assert!(detail.contains(field) && detail.contains("Paid"), "rule and field are named: {detail}");
    }
    // The account's list changes; the rule is measured by the new one at once.
    let mut app = serde_json::to_value(wechat_sandbox::demo_app()).expect("an app");
    app["templates"].as_array_mut().expect("templates").push(json!({
        "id": TYPED, "title": "付款提醒", "kind": 2,
        "content": "状态:{{phrase1.DATA}}\n金额:{{amount2.DATA}}\n日期:{{date3.DATA}}\n方式:{{enum_string4.DATA}}",
        "enum_values": [["enum_string4", ["现金"]]],
    }));
    world.sandbox_call(Method::PUT, &format!("/sandbox/apps/{APP}"), Some(app)).await;
    world.post(&format!("/v1/apps/{APP}/templates/sync"), json!({})).await;
    assert_eq!(tell("after", good).await["reason"], "bad_data");
    world.finish().await;
}
