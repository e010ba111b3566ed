//! Templates: the mirror, the library, drift.

use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{APP, Kind, TEMPLATE, World};

fn path(rest: &str) -> String {
    format!("/v1/apps/{APP}{rest}")
}

/// Changes the demo template's text at WeChat, as its owner would in the console.
async fn change_content(world: &World, content: Option<&str>) {
    let answer = world.sandbox_call(Method::GET, &format!("/sandbox/apps/{APP}"), None).await;
    let mut app = answer.body["app"].clone();
    match content {
        Some(content) => app["templates"][0]["content"] = content.into(),
        None => app["templates"] = json!([]),
    }
    let answer = world.sandbox_call(Method::PUT, &format!("/sandbox/apps/{APP}"), Some(app)).await;
    assert!(answer.status.is_success(), "{answer:?}");
}

#[rstest]
#[tokio::test]
async fn the_mirror_knows_the_fields(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    assert_eq!(world.get(&path("/templates")).await.body["data"], json!([]), "nothing is mirrored yet");
    let synced = world.post(&path("/templates/sync"), json!({})).await;
    assert_eq!(synced.status, 200, "{synced:?}");
    let template = &world.get(&path("/templates")).await.body["data"][0];
    assert_eq!((&template["template_id"], &template["kind"]), (&json!(TEMPLATE), &json!("one_time")));
    assert_eq!(
        template["fields"][1],
        json!({ "key": "thing2", "label": "商品名称", "keyword": "thing" }),
        "{template}"
    );
    world.get("/v1/apps/wxnobody/templates").await.problem(404, "app_not_found");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_template_is_taken_from_the_library_and_given_back(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let categories = world.get(&path("/template-library/categories")).await;
    assert!(categories.body["data"][0]["name"].is_string(), "{categories:?}");
    let titles = world.get(&path("/template-library/titles")).await;
    let title = &titles.body["data"][0];
    let tid = title["tid"].as_str().unwrap_or_else(|| panic!("{titles:?}"));
    let keywords = world.get(&path(&format!("/template-library/titles/{tid}/keywords"))).await;
    let ids: Vec<_> = keywords.body["data"]
        .as_array()
        .unwrap_or_else(|| panic!("{keywords:?}"))
        .iter()
        .map(|keyword| keyword["keyword_id"].clone())
        .take(2)
        .collect();

    // What cannot be is told before WeChat is asked.
    let wrong = json!({ "tid": tid, "keyword_ids": [ids[0], 999], "scene": "这个场景说明实在是太长了根本放不下" });
    let answer = world.post(&path("/templates"), wrong).await;
    let pointers: Vec<_> = answer.problem(400, "invalid_request").body["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|error| error["pointer"].clone())
        .collect();
    assert_eq!(pointers, ["/scene", "/keyword_ids/1"]);

    let body = json!({ "tid": tid, "keyword_ids": ids, "scene": "提醒" });
    let added = world.post(&path("/templates"), body.clone()).await;
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!(added.body["title"], title["title"]);
    assert_eq!(added.body["fields"].as_array().map(Vec::len), Some(2));
    // The same again is refused by WeChat, in its own words.
    let again = world.post(&path("/templates"), body).await;
    assert_eq!(again.problem(422, "wechat_refused").body["wechat"]["errcode"], 200022, "{again:?}");

    let id = added.body["template_id"].as_str().expect("an id");
    let of_it = path(&format!("/templates/{id}"));
    let delete = || world.call(Method::DELETE, &of_it, Some(&world.key), None);
    let deleted = delete().await;
    assert_eq!(deleted.status, 204, "{deleted:?}");
    assert!(delete().await.problem(422, "template_not_found").text.contains(TEMPLATE), "the list of those there are");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_rule_may_name_its_template_by_title(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let rule = world.rule(json!({ "template_id": "订单发货通知" })).await;
    assert_eq!(rule["template_id"], TEMPLATE);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_changed_template_pauses_its_rules_and_says_so(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let rule = world.rule(json!({})).await;
    let path_of_rule = format!("/v1/rules/{}", rule["id"].as_str().expect("an id"));
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap-1").await;
    let told = async |id: &str| world.event(id, ann.user_id.as_str()).await.body["notifications"][0].clone();
    let cause = async || world.get(&path_of_rule).await.body["paused_because"].clone();
    let sync_path = path("/templates/sync");
    let sync = || world.post(&sync_path, json!({}));

    change_content(&world, Some("订单号:{{character_string1.DATA}}\n金额:{{amount4.DATA}}\n")).await;
    sync().await;
    let because = cause().await;
    let because = because.as_str().expect("a cause");
    assert!(because.contains("new amount4") && because.contains("gone thing2, time3"), "{because}");
    let outcome = told("1").await;
    assert_eq!((&outcome["state"], &outcome["reason"]), (&json!("failed"), &json!("bad_template")), "{outcome}");
    assert!(outcome["detail"].as_str().expect("a text").contains("amount4"));
    assert_eq!(world.credits(&ann).await, 1, "no credit is touched");

    // The same fields on one line, as old templates have them.
    change_content(&world, Some("{{character_string1.DATA}}的{{thing2.DATA}}于{{time3.DATA}}发货")).await;
    sync().await;
    assert_eq!(cause().await, Value::Null);

    // Deleted: the same.
    change_content(&world, None).await;
    sync().await;
    assert!(cause().await.as_str().expect("a cause").contains("no longer in the account"));

    // Back as it was: the rule goes on by itself.
    world.configure_callback(wechat_sandbox::Mode::Plain, wechat_sandbox::Format::Json, None).await;
    sync().await;
    assert_eq!(cause().await, Value::Null);
    assert_eq!(told("2").await["state"], "pending");
    world.drain().await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_banned_template_rests_until_it_is_listed_again(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap-1").await;
    world.knobs(json!({ "banned_templates": [TEMPLATE] })).await;
    let answer = world.event("1", ann.user_id.as_str()).await;
    let id = answer.body["notifications"][0]["id"].as_str().expect("an id").to_owned();
    world.drain().await;
    assert_eq!(world.state(&id).await, "pending", "it costs no attempt");
    let template = world.get(&path("/templates")).await.body["data"][0].clone();
    assert_eq!(template["state"], "paused");
    assert!(template["paused_because"].as_str().expect("a cause").contains("43107"), "{template}");
    world.advance(Duration::from_secs(5)).await;
    world.drain().await;
    assert_eq!(world.calls_of("/cgi-bin/message/subscribe/send").await, 1, "it is left alone");

    world.knobs(json!({ "banned_templates": [] })).await;
    world.post(&path("/templates/sync"), json!({})).await;
    world.until(&id, "delivered").await;
    world.finish().await;
}
