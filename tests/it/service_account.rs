//! Service accounts: template messages, followers, receipts. WeChat's pushes are posted by the stories
//! themselves, so that each decides what comes and when.

use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use crate::harness::{CALLBACK_TOKEN, Kind, SERVICE_ACCOUNT, World, openid};

const SEND: &str = "/cgi-bin/message/template/send";
const TEMPLATE: &str = "account_order_shipped_template_00000000001";

/// A world with the service account and a rule on its template.
pub async fn ready(kind: Kind, rule: Value) -> Option<World> {
    let world = World::with_service_account(kind).await?;
    let mut body = json!({
        "name": "Order shipped", "event_type": "order.shipped", "app_id": SERVICE_ACCOUNT, "template_id": TEMPLATE,
        "fields": { "character_string1": "{{ data.no }}", "thing2": "{{ data.item }}" },
    });
    for (key, value) in rule.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    let answer = world.post("/v1/rules", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    Some(world)
}

/// A call to the simulator's control of the service account.
async fn wechat(world: &World, path: &str, body: Value) -> Value {
    let path = format!("/sandbox/apps/{SERVICE_ACCOUNT}{path}");
    let answer = world.sandbox_call(Method::POST, &path, Some(body)).await;
    assert!(answer.status.is_success(), "{path}: {answer:?}");
    answer.body
}

async fn calls_of(world: &World, path: &str) -> i64 {
    let answer = world.sandbox_call(Method::GET, &format!("/sandbox/apps/{SERVICE_ACCOUNT}/calls"), None).await;
    answer.body["by_path"][path].as_i64().unwrap_or(0)
}

async fn messages(world: &World, openid: &str) -> Vec<Value> {
    let path = format!("/sandbox/apps/{SERVICE_ACCOUNT}/messages?openid={openid}");
    world.sandbox_call(Method::GET, &path, None).await.body["messages"].as_array().cloned().unwrap_or_default()
}

/// WeChat tells of an event of the service account.
pub async fn told(world: &World, mut event: Value) {
    event["ToUserName"] = "gh_account".into();
    event["MsgType"] = "event".into();
    if event["CreateTime"].is_null() {
        event["CreateTime"] = (world.clock.now().0 / 1000).into();
    }
    let mut parts = [CALLBACK_TOKEN, "1700000000", "n0nce"];
    parts.sort_unstable();
    let signature: String = Sha1::digest(parts.concat()).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = format!("/wechat/{SERVICE_ACCOUNT}/callback?signature={signature}&timestamp=1700000000&nonce=n0nce");
    let answer = world.call(Method::POST, &path, None, Some(event)).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "success"), "{answer:?}");
    world.drain().await;
}

pub async fn follows(world: &World, name: &str, unionid: Option<&str>) -> String {
    let openid = openid(name);
    wechat(world, "/follow", json!({ "openid": openid, "unionid": unionid })).await;
    told(world, json!({ "Event": "subscribe", "FromUserName": openid, "EventKey": "" })).await;
    openid
}

pub async fn leaves(world: &World, openid: &str) {
    wechat(world, "/unfollow", json!({ "openid": openid })).await;
    told(world, json!({ "Event": "unsubscribe", "FromUserName": openid })).await;
}

/// The event's only notification.
async fn send(world: &World, id: &str, to: &str) -> Value {
    let answer = world.event(id, to).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.body["notifications"][0].clone()
}

fn id_of(notification: &Value) -> &str {
    notification["id"].as_str().unwrap_or_else(|| panic!("{notification}"))
}

#[rstest]
#[tokio::test]
async fn a_follower_gets_a_message_without_consent(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let target = json!({ "miniprogram": { "app_id": "wxdemo0000000001", "page": "pages/order?no={{ data.no }}" },
        "url": "https://shop.example/{{ data.no }}" });
    let Some(world) = ready(kind, target).await else { return };
    let ann = follows(&world, "annsa", None).await;
    let sent = send(&world, "42", &format!("openid:{SERVICE_ACCOUNT}/{ann}")).await;
    assert_eq!(sent["state"], "pending", "{sent}");
    let id = id_of(&sent);
    world.drain().await;
    assert_eq!(world.state(id).await, "accepted");
    let arrived = messages(&world, &ann).await;
    assert_eq!(arrived.len(), 1, "{arrived:?}");
    let message = &arrived[0];
    assert_eq!(message["client_msg_id"], id, "{message}");
    assert_eq!(message["miniprogram"], json!({ "appid": "wxdemo0000000001", "pagepath": "pages/order?no=NO.42" }));
    assert_eq!(message["url"], "https://shop.example/NO.42");

    let message_id = world.story(id).await["message_id"].as_str().expect("a message id").to_owned();
    let receipt =
        json!({ "Event": "TEMPLATESENDJOBFINISH", "FromUserName": ann, "MsgID": message_id, "Status": "success" });
    told(&world, receipt).await;
    assert_eq!(world.state(id).await, "delivered");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn receipts_tell_why_a_message_failed(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = ready(kind, json!({})).await else { return };
    let ann = follows(&world, "annsa", None).await;
    for (status, reason) in [("failed:user block", "blocked"), ("failed: system failed", "system_failure")] {
        let sent = send(&world, status, &format!("openid:{SERVICE_ACCOUNT}/{ann}")).await;
        world.drain().await;
        let message_id = world.story(id_of(&sent)).await["message_id"].clone();
        told(
            &world,
            json!({ "Event": "TEMPLATESENDJOBFINISH", "FromUserName": ann, "MsgID": message_id, "Status": status }),
        )
        .await;
        let story = world.story(id_of(&sent)).await;
        assert_eq!((&story["state"], &story["reason"]), (&json!("failed"), &json!(reason)), "{story}");
        assert_eq!(story["detail"], status);
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_unanswered_call_is_repeated_and_arrives_once(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = ready(kind, json!({})).await else { return };
    let ann = follows(&world, "annsa", None).await;
    wechat(&world, "/faults", json!({ "path": SEND, "drop": "after", "times": 2 })).await;
    let sent = send(&world, "42", &format!("openid:{SERVICE_ACCOUNT}/{ann}")).await;
    let id = id_of(&sent);
    world.drain().await;
    assert_eq!(world.state(id).await, "pending", "the rule sends at most once, but WeChat recognises a repeat");
    for _ in 0..2 {
        world.advance(Duration::from_secs(5)).await;
        world.drain().await;
    }
    let told = world.story(id).await;
    let outcomes: Vec<_> =
        told["attempts"].as_array().expect("attempts").iter().map(|a| a["outcome"].clone()).collect();
    assert_eq!(outcomes, ["unsure", "unsure", "accepted"], "{told}");
    assert_eq!(messages(&world, &ann).await.len(), 1);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_replay_is_another_message_to_wechat(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let target = json!({ "miniprogram": { "app_id": "wxdemo0000000001", "page": "pages/order" } });
    let Some(world) = ready(kind, target).await else { return };
    let ann = follows(&world, "annsa", None).await;
    let id = id_of(&send(&world, "42", &format!("openid:{SERVICE_ACCOUNT}/{ann}")).await).to_owned();
    for replay in 1..=2 {
        world.drain().await;
        // WeChat took it and could not deliver it; the operator sends it again at once.
        let message_id = world.story(&id).await["message_id"].clone();
        let failed = json!({ "Event": "TEMPLATESENDJOBFINISH", "FromUserName": ann, "MsgID": message_id,
            "Status": "failed: system failed" });
        told(&world, failed).await;
        assert_eq!(world.state(&id).await, "failed");
        let again = world.post(&format!("/v1/notifications/{id}/replay"), Value::Null).await;
        assert_eq!(again.status, 200, "{again:?}");
        world.drain().await;
        assert_eq!(world.state(&id).await, "accepted");
        let arrived = messages(&world, &ann).await;
        assert_eq!(arrived.len(), replay + 1, "under the first id WeChat would have dropped it as a repeat");
        assert_eq!(arrived[replay]["client_msg_id"], format!("{id}:replay_{replay}"));
    }

    // A replay leaves the calls before it in the story.
    let story = world.story(&id).await;
    let calls = story["attempts"].as_array().expect("attempts").iter();
    let calls: Vec<_> = calls.map(|call| (call["number"].as_i64(), call["outcome"].as_str())).collect();
    assert_eq!(calls, [1, 2, 3].map(|number| (Some(number), Some("accepted"))), "{story}");

    // The Mini Program is no longer linked to the account: a fault of the account, not of the message.
    let unlinked = json!({ "linked_mini_programs": [] });
    let path = format!("/sandbox/apps/{SERVICE_ACCOUNT}");
    assert!(world.sandbox_call(Method::PATCH, &path, Some(unlinked)).await.status.is_success());
    let waits = send(&world, "43", &format!("openid:{SERVICE_ACCOUNT}/{ann}")).await;
    world.drain().await;
    assert_eq!(world.state(id_of(&waits)).await, "pending");
    let app = world.get(&format!("/v1/apps/{SERVICE_ACCOUNT}")).await.body;
    assert!(app["paused_because"].as_str().is_some_and(|because| because.contains("not linked")), "{app}");
    let linked = json!({ "linked_mini_programs": null });
    assert!(world.sandbox_call(Method::PATCH, &path, Some(linked)).await.status.is_success());
    world.advance(Duration::from_secs(301)).await;
    world.until(id_of(&waits), "accepted").await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_repeat_that_wechat_has_forgotten_is_left_to_the_policy(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = ready(kind, json!({})).await else { return };
    let ann = follows(&world, "annsa", None).await;
    wechat(&world, "/faults", json!({ "path": SEND, "drop": "after", "times": 1 })).await;
    let sent = send(&world, "42", &format!("openid:{SERVICE_ACCOUNT}/{ann}")).await;
    let id = id_of(&sent);
    world.drain().await;
    assert_eq!(world.state(id).await, "pending");
    // Nobody sends for ten minutes: every node was down.
    world.advance(Duration::from_mins(10)).await;
    world.drain().await;
    assert_eq!(world.state(id).await, "unsure");
    assert_eq!(calls_of(&world, SEND).await, 1, "a second call could make a second message");
    world.advance(Duration::from_mins(2)).await;
    world.drain().await;
    let told = world.story(id).await;
    assert_eq!((&told["state"], &told["reason"]), (&json!("failed"), &json!("unknown_outcome")), "{told}");
    assert_eq!(messages(&world, &ann).await.len(), 1);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn who_left_gets_nothing_and_costs_no_call(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = ready(kind, json!({})).await else { return };
    let ann = follows(&world, "annsa", None).await;
    let to = format!("openid:{SERVICE_ACCOUNT}/{ann}");
    let before = send(&world, "1", &to).await;
    leaves(&world, &ann).await;
    let told_later = world.story(id_of(&before)).await;
    // `told` drains, so the first message may have been on its way before the user left.
    assert!(["failed", "accepted"].contains(&told_later["state"].as_str().unwrap_or_default()), "{told_later}");
    let calls = calls_of(&world, SEND).await;
    let after = send(&world, "2", &to).await;
    assert_eq!((&after["state"], &after["reason"]), (&json!("failed"), &json!("not_following")), "{after}");
    world.drain().await;
    assert_eq!(calls_of(&world, SEND).await, calls);

    // Who comes back gets messages again.
    world.advance(Duration::from_secs(1)).await;
    follows(&world, "annsa", None).await;
    let back = send(&world, "3", &to).await;
    world.drain().await;
    assert_eq!(world.state(id_of(&back)).await, "accepted");

    // An event that comes late, when the user follows again, changes nothing.
    told(&world, json!({ "Event": "unsubscribe", "FromUserName": ann, "CreateTime": 1 })).await;
    let again = send(&world, "4", &to).await;
    assert_eq!(again["state"], "pending", "{again}");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_rule_reaches_who_only_ever_logged_in_to_the_mini_program(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
    #[values(true, false)] follows_first: bool,
) {
    let Some(world) = ready(kind, json!({})).await else { return };
    let log_in = async || {
        let asked = json!({ "openid": openid("ann"), "unionid": "uAnn" });
        let answer = world.wechat("/login-code", asked).await;
        let login = world.log_in_with(answer["code"].as_str().expect("a code")).await;
        login.body["user"]["id"].as_str().unwrap_or_else(|| panic!("{login:?}")).to_owned()
    };
    let (user_id, account_openid) = if follows_first {
        let account_openid = follows(&world, "annsa", Some("uAnn")).await;
        (log_in().await, account_openid)
    } else {
        (log_in().await, follows(&world, "annsa", Some("uAnn")).await)
    };
    for (index, to) in
        [user_id.clone(), format!("openid:wxdemo0000000001/{}", openid("ann")), "unionid:uAnn".to_owned()]
            .into_iter()
            .enumerate()
    {
        let sent = send(&world, &index.to_string(), &to).await;
        assert_eq!((&sent["state"], &sent["user_id"]), (&json!("pending"), &json!(user_id)), "{to}: {sent}");
        world.drain().await;
        assert_eq!(messages(&world, &account_openid).await.len(), index + 1);
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_follower_is_looked_up_again_while_wechat_is_away(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = ready(kind, json!({})).await else { return };
    wechat(&world, "/faults", json!({ "path": "/cgi-bin/user/info", "errcode": -1, "times": 1 })).await;
    let ann = openid("annsa");
    wechat(&world, "/follow", json!({ "openid": ann, "unionid": "uAnn" })).await;
    told(&world, json!({ "Event": "subscribe", "FromUserName": ann })).await;
    world.drain().await;
    let sent = send(&world, "1", "unionid:uAnn").await;
    assert_eq!(sent["state"], "pending", "{sent}");
    world.drain().await;
    assert_eq!(messages(&world, &ann).await.len(), 1);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_mirror_holds_the_accounts_templates(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = ready(kind, json!({})).await else { return };
    let answer = world.post(&format!("/v1/apps/{SERVICE_ACCOUNT}/templates/sync"), json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let template = &answer.body["data"][0];
    assert_eq!((&template["template_id"], &template["kind"]), (&json!(TEMPLATE), &json!("service_account")));
    let keys: Vec<_> = template["fields"].as_array().expect("fields").iter().map(|f| f["key"].clone()).collect();
    assert_eq!(keys, ["character_string1", "thing2"], "withdrawn lines are no fields");

    let page = json!({ "name": "x", "event_type": "y", "app_id": SERVICE_ACCOUNT, "template_id": TEMPLATE, "page": "pages/a",
        "fields": { "character_string1": "1", "thing2": "2" } });
    let answer = world.post("/v1/rules", page).await;
    assert_eq!(answer.problem(422, "rule_invalid").body["errors"][0]["pointer"], "/page");
    world.finish().await;
}
