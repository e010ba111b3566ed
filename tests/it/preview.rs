//! Looking before leaping: what an event would lead to.

use reqwest::{Method, StatusCode};
use rstest::rstest;
use sea_orm::{EntityTrait, PaginatorTrait};
use serde_json::{Value, json};

use crate::harness::{APP, Kind, TEMPLATE, World, shipped};

async fn look(world: &World, event: Value) -> Value {
    let answer = world.post("/v1/events/preview", event).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

#[rstest]
#[tokio::test]
async fn a_preview_tells_what_would_come_and_does_nothing(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let rule = world.rule(json!({ "page": "pages/order?no={{ data.no }}" })).await;
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    world.accept(&ann, "a").await;
    let to = json!([ann.user_id, bob.user_id, "external:nobody"]);
    let preview = look(&world, shipped("42", to.clone())).await;
    let told: Vec<_> = preview["data"]
        .as_array()
        .expect("prospects")
        .iter()
        .map(|p| (p["would"].as_str(), p["reason"].as_str(), p["credits"].as_i64(), p["fix"].is_string()))
        .collect();
    assert_eq!(
        told,
        [
            (Some("send"), None, Some(1), false),
            (Some("fail"), Some("no_credit"), Some(0), true),
            (Some("fail"), Some("unknown_recipient"), None, true),
        ],
        "{preview}"
    );
    let first = &preview["data"][0];
    assert_eq!((&first["rule_id"], &first["user_id"]), (&rule["id"], &json!(ann.user_id)));
    assert_eq!((&first["app_id"], &first["template_id"]), (&json!(APP), &json!(TEMPLATE)));
    assert_eq!((&first["fields"]["thing2"], &first["page"]), (&json!("红富士苹果"), &json!("pages/order?no=NO.42")));
    assert_eq!(first["violations"], json!([]));

    // Nothing was stored, reserved or sent; asking twice changes nothing either.
    assert_eq!(look(&world, shipped("42", to.clone())).await, preview);
    assert_eq!(world.credits(&ann).await, 1);
    for count in [
        entity::event::Entity::find().count(world.ctx.db.read()).await,
        entity::notification::Entity::find().count(world.ctx.db.read()).await,
    ] {
        assert_eq!(count.expect("a count"), 0);
    }
    // What it tells is what comes.
    let real = world.event("42", to.clone()).await;
    let states: Vec<_> =
        real.body["notifications"].as_array().expect("outcomes").iter().map(|o| o["state"].clone()).collect();
    assert_eq!(states, ["pending", "failed", "failed"]);
    let again = look(&world, shipped("42", to)).await;
    assert_eq!(again["duplicate_of"], real.body["event_id"], "{again}");
    world.post("/v1/events/preview", shipped("42", "external:other")).await.problem(422, "event_conflict");
    world.post("/v1/events/preview", json!([])).await.problem(400, "invalid_request");
    world.call(Method::POST, "/v1/events/preview", None, Some(json!({}))).await.problem(401, "missing_credentials");
    world.drain().await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_preview_names_every_fault_and_the_way_out(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "event_type": "refuse", "overflow": "refuse" })).await;
    world.rule(json!({ "event_type": "wait", "no_credit": "wait" })).await;
    world.rule(json!({ "event_type": "odd", "when": "data.amount > 5" })).await;
    let ann = world.phone("ann").await;
    let event = |kind: &str, data: Value| json!({ "source": "shop", "id": kind, "type": kind, "to": ann.user_id, "data": data });
    let preview = look(&world, event("refuse", json!({ "no": "中文", "item": "一".repeat(21) }))).await;
    let prospect = &preview["data"][0];
    assert_eq!((&prospect["would"], &prospect["reason"]), (&json!("fail"), &json!("bad_data")), "{preview}");
    let violations = prospect["violations"].as_array().expect("violations");
    let fields: Vec<_> = violations.iter().map(|v| (v["field"].as_str(), v["value"].as_str())).collect();
    let long = "一".repeat(21);
    assert_eq!(
        fields,
        [(Some("character_string1"), Some("中文")), (Some("thing2"), Some(long.as_str())), (Some("time3"), None)]
    );
    assert!(prospect["fix"].as_str().expect("a text").contains("violations"));
    assert!(prospect["detail"].as_str().expect("a text").contains("Order shipped"), "the rule is named: {prospect}");

    // The words follow the reader.
    let good = shipped("x", "y")["data"].clone();
    let ask = async |language: &str| {
        let request = world.http.post(format!("{}/v1/events/preview", world.base)).bearer_auth(&world.key);
        let request = request.header("accept-language", language).json(&event("wait", good.clone()));
        request.send().await.expect("an answer").json::<Value>().await.expect("JSON")["data"][0].clone()
    };
    let (english, chinese) = (ask("en").await, ask("zh-CN").await);
    assert_eq!((&english["would"], &english["reason"]), (&json!("wait"), &json!("no_credit")));
    assert!(english["fix"].as_str().expect("a text").contains("accepts once more"), "{english}");
    assert!(chinese["fix"].as_str().expect("a text").contains("用户再次同意后即发送"), "{chinese}");

    let odd = look(&world, event("odd", json!({ "amount": "many" }))).await;
    assert_eq!(odd["data"].as_array().map(Vec::len), Some(1), "a condition that cannot be computed is told: {odd}");
    assert_eq!(look(&world, event("nobody.listens", json!({}))).await["data"], json!([]));

    // The template is no longer what the rule was written for.
    let mut app = serde_json::to_value(wechat_sandbox::demo_app()).expect("an app");
    let content = app["templates"][0]["content"].clone();
    let set_template = async |app: &Value| {
        world.sandbox_call(Method::PUT, &format!("/sandbox/apps/{APP}"), Some(app.clone())).await;
        assert_eq!(world.post(&format!("/v1/apps/{APP}/templates/sync"), json!({})).await.status, StatusCode::OK);
    };
    app["templates"][0]["content"] = "订单号:{{character_string1.DATA}}\n备注:{{thing9.DATA}}".into();
    set_template(&app).await;
    let drifted = look(&world, event("wait", good.clone())).await;
    assert_eq!((&drifted["data"][0]["would"], &drifted["data"][0]["reason"]), (&json!("fail"), &json!("bad_template")));
    assert!(drifted["data"][0]["fix"].as_str().expect("a text").contains("PUT /v1/rules"), "{drifted}");
    app["templates"][0]["content"] = content;
    set_template(&app).await;

    // What rests would wait.
    world.accept(&ann, "a").await;
    assert_eq!(
        world.post(&format!("/v1/apps/{APP}/pause"), json!({ "because": "stock-taking" })).await.status,
        StatusCode::OK
    );
    let paused = look(&world, event("wait", good.clone())).await;
    assert_eq!((&paused["data"][0]["would"], &paused["data"][0]["reason"]), (&json!("wait"), &json!("app_paused")));
    assert_eq!(world.post(&format!("/v1/apps/{APP}/resume"), json!({})).await.status, StatusCode::OK);
    let mut later = event("wait", good);
    later["deliver_at"] = magpie::clock::rfc3339(world.clock.now() + std::time::Duration::from_mins(1)).into();
    let later = look(&world, later).await;
    assert_eq!((&later["data"][0]["would"], &later["data"][0]["reason"]), (&json!("send"), &json!("scheduled")));
    world.finish().await;
}
