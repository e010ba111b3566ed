//! What WeChat posts: signatures, modes, repeats.

use std::time::Duration;

use entity::{callback, consent, receipt};
use magpie::clock::Stopwatch;
use reqwest::Method;
use rstest::rstest;
use sea_orm::{ConnectionTrait, EntityTrait, PaginatorTrait};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use wechat_sandbox::{Format, Mode};

use crate::harness::{APP, CALLBACK_TOKEN, Kind, TEMPLATE, World};

fn signature(parts: &[&str]) -> String {
    let mut parts = [parts, &[CALLBACK_TOKEN]].concat();
    parts.sort_unstable();
    Sha1::digest(parts.concat().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn path(query: &str) -> String {
    format!("/wechat/{APP}/callback?{query}")
}

pub async fn post(world: &World, body: &Value) -> u16 {
    let signed = signature(&["1700000000", "n0nce"]);
    let path = path(&format!("signature={signed}&timestamp=1700000000&nonce=n0nce"));
    let request = world.http.post(format!("{}{path}", world.base)).body(body.to_string());
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    if status == 200 {
        assert_eq!(response.text().await.expect("a body"), "success");
    }
    status
}

#[tokio::test]
async fn the_url_check_echoes_bare_text_for_wechat_only() {
    let Some(world) = World::new(Kind::Sqlite).await else { return };
    let signed = signature(&["1700000000", "n0nce"]);
    let ask = async |signature: &str| {
        let query = format!("signature={signature}&timestamp=1700000000&nonce=n0nce&echostr=4375120948345356249");
        world.call(Method::GET, &path(&query), None, None).await
    };
    let answer = ask(&signed).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "4375120948345356249"));
    assert!(answer.headers["content-type"].to_str().expect("text").starts_with("text/plain"));
    ask(&signed.replace(&signed[..1], "x")).await.problem(403, "callback_refused");
    let nobody = format!("/wechat/wxnobody/callback?signature={signed}&timestamp=1&nonce=2&echostr=3");
    world.call(Method::GET, &nobody, None, None).await.problem(404, "app_not_found");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_push_is_stored_once_and_acknowledged(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let push = json!({ "ToUserName": "gh_x", "FromUserName": "oA", "CreateTime": "1700000000", "MsgType": "event",
        "Event": "never_heard_of_it", "Extra": { "Deep": [1, 2] } });
    let (a, b) = tokio::join!(post(&world, &push), post(&world, &push));
    assert_eq!((a, b), (200, 200));
    let mut another = push.clone();
    another["Extra"] = "another event of the same second".into();
    assert_eq!(post(&world, &another).await, 200);
    world.drain().await;
    assert_eq!(callback::Entity::find().count(world.ctx.db.read()).await.expect("a count"), 2);

    let query = "signature=0000&timestamp=1700000000&nonce=n0nce";
    world.call(Method::POST, &path(query), None, Some(push)).await.problem(403, "callback_refused");
    assert_eq!(post(&world, &json!("no object")).await, 400);
    world.finish().await;
}

/// The last character carries spare bits, as real keys do.
const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";

#[rstest]
#[tokio::test]
async fn a_receipt_arrives_in_every_mode_and_format(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
    #[values(Mode::Plain, Mode::Compatible, Mode::Secure)] mode: Mode,
) {
    let name = format!("{mode:?}").to_lowercase();
    let config = format!("callback_mode = {name:?}\nencoding_aes_key = {AES_KEY:?}\n");
    let Some(world) = World::with(kind, &config).await else { return };
    world.rule(json!({})).await;
    for (format, numbers) in [(Format::Json, false), (Format::Json, true), (Format::Xml, false)] {
        world.configure_callback(mode, format, Some(AES_KEY)).await;
        world.knobs(json!({ "numbers_in_callbacks": numbers })).await;
        let ann = world.phone("ann").await;
        let story = format!("{format:?} {numbers}");
        world.accept(&ann, &story).await;
        let answer = world.event(&story, ann.user_id.as_str()).await;
        let id = answer.body["notifications"][0]["id"].as_str().expect("an id").to_owned();
        world.drain().await;
        world.advance(Duration::from_secs(1)).await;
        world.until(&id, "delivered").await;
    }
    let plain = json!({ "FromUserName": "oA", "CreateTime": 1, "MsgType": "event", "Event": "subscribe_msg_sent_event",
        "List": { "TemplateId": "T", "MsgID": "1", "ErrorCode": "0", "ErrorStatus": "success" } });
    let expected = if mode == Mode::Plain { 200 } else { 403 };
    assert_eq!(post(&world, &plain).await, expected, "only the plain mode takes what is not sealed");
    world.finish().await;
}

#[tokio::test]
async fn the_probe_of_cloud_hosting_is_answered_and_not_stored() {
    let Some(world) = World::new(Kind::Sqlite).await else { return };
    for body in [r#"{"action":"CheckContainerPath"}"#, "<xml><action>CheckContainerPath</action></xml>"] {
        let request = world.http.post(format!("{}/wechat/{APP}/callback", world.base)).body(body);
        let response = request.send().await.expect("an answer");
        assert_eq!((response.status().as_u16(), response.text().await.expect("a body").as_str()), (200, "success"));
    }
    assert_eq!(callback::Entity::find().count(world.ctx.db.read()).await.expect("a count"), 0);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_the_database_does_not_take_in_time_is_repeated(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let push = json!({ "FromUserName": "oA", "CreateTime": 1, "MsgType": "event", "Event": "x" });
    let lock = world.ctx.db.begin().await.expect("a transaction");
    if kind == Kind::Postgres {
        lock.execute_unprepared("LOCK TABLE callback IN EXCLUSIVE MODE").await.expect("a lock");
    }
    let stopwatch = Stopwatch::start();
    assert_eq!(post(&world, &push).await, 503);
    assert!(stopwatch.elapsed() < Duration::from_millis(4500), "{:?}", stopwatch.elapsed());
    lock.rollback().await.expect("a rollback");
    assert_eq!(post(&world, &push).await, 200);
    world.drain().await;
    assert_eq!(callback::Entity::find().count(world.ctx.db.read()).await.expect("a count"), 1);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn pushes_are_searched_and_replayed(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap").await;
    let answer = world.event("e", ann.user_id.as_str()).await;
    let id = answer.body["notifications"][0]["id"].as_str().expect("an id").to_owned();
    world.drain().await;
    world.advance(Duration::from_secs(1)).await;
    world.until(&id, "delivered").await;
    let list = async |query: &str| world.get(&format!("/v1/apps/{APP}/callbacks?{query}")).await;
    let found = list("event=subscribe_msg_sent_event&processed=true").await;
    let sent = &found.body["data"][0];
    assert_eq!((&sent["openid"], &found.body["data"][1]), (&json!(ann.openid), &Value::Null), "{found:?}");
    assert!(sent["body"].as_str().expect("a text").contains("MsgID"));
    assert_eq!(list("openid=nobody").await.body["data"], json!([]));
    assert_eq!(list("received_before=2020-01-01T00:00:00Z").await.body["data"], json!([]));
    assert_eq!(list("limit=1").await.body["data"].as_array().map(Vec::len), Some(1));
    world.get("/v1/apps/wxnobody/callbacks").await.problem(404, "app_not_found");

    let replay = format!("/v1/apps/{APP}/callbacks/{}/replay", sent["id"].as_str().expect("an id"));
    for _ in 0..2 {
        assert_eq!(world.post(&replay, Value::Null).await.status, 200);
    }
    assert_eq!(receipt::Entity::find().count(world.ctx.db.read()).await.expect("a count"), 1);
    assert_eq!(world.state(&id).await, "delivered");
    let unknown = format!("/v1/apps/{APP}/callbacks/cbk_00000000000000000000000000000007/replay");
    world.post(&unknown, Value::Null).await.problem(404, "not_found");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_refusal_in_the_settings_takes_the_credits(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    world.rule(json!({ "no_credit": "wait" })).await;
    let ann = world.phone("ann").await;
    for tap in ["1", "2", "3"] {
        world.accept(&ann, tap).await;
    }
    let refusal = |at: i64| {
        json!({ "event": "subscribe_msg_change_event", "openid": ann.openid, "create_time": at,
            "list": [{ "TemplateId": TEMPLATE, "SubscribeStatusString": "reject" }] })
    };
    let now = world.clock.now().0 / 1000;
    world.wechat("/events", refusal(now - 60)).await;
    world.drain().await;
    assert_eq!(world.credits(&ann).await, 3, "it is older than the newest acceptance");

    let answer = world.event("e", ann.user_id.as_str()).await;
    let id = |n: usize| answer.body["notifications"][n]["id"].as_str().expect("an id").to_owned();
    world.wechat("/events", refusal(now + 1)).await;
    magpie::callback::process_stored(&world.ctx).await.expect("processed");
    assert_eq!(world.credits(&ann).await, 0);
    let mut states = [world.state(&id(0)).await, world.state(&id(1)).await];
    states.sort();
    assert_eq!(states, ["failed", "waiting"]);

    // A later acceptance stays when the refusal is processed once more.
    world.advance(Duration::from_secs(5)).await;
    world.accept(&ann, "4").await;
    world.drain().await;
    let found = world.get(&format!("/v1/apps/{APP}/callbacks?event=subscribe_msg_change_event")).await;
    let replay = format!("/v1/apps/{APP}/callbacks/{}/replay", found.body["data"][0]["id"].as_str().expect("an id"));
    let before = consent::Entity::find().count(world.ctx.db.read()).await.expect("a count");
    assert_eq!(world.post(&replay, Value::Null).await.status, 200);
    assert_eq!(consent::Entity::find().count(world.ctx.db.read()).await.expect("a count"), before);
    world.finish().await;
}

#[rstest]
#[case("early", "delivered")]
#[case("late", "delivered")]
#[case("twice", "delivered")]
#[case("out_of_order", "delivered")]
#[case("lost", "accepted")]
#[case("fail", "failed")]
#[tokio::test]
async fn receipts_come_as_they_like(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
    #[case] mode: &str,
    #[case] end: &str,
) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    world.knobs(json!({ "receipt": { "mode": mode } })).await;
    let ann = world.phone("ann").await;
    let mut ids = Vec::new();
    for n in ["1", "2"] {
        world.accept(&ann, n).await;
        let answer = world.event(n, ann.user_id.as_str()).await;
        ids.push(answer.body["notifications"][0]["id"].as_str().expect("an id").to_owned());
        world.drain().await;
    }
    world.advance(Duration::from_secs(11)).await;
    for id in &ids {
        world.until(id, end).await;
    }
    world.finish().await;
}
