//! Sealed pushes as the simulator itself makes them: repeats under a new seal, and everything a service
//! account is told, which is always XML.

use std::time::Duration;

use entity::callback;
use reqwest::Method;
use rstest::rstest;
use sea_orm::{EntityTrait, PaginatorTrait};
use serde_json::{Value, json};
use wechat_sandbox::{Format, Mode};

use crate::harness::{APP, CALLBACK_TOKEN, Kind, SERVICE_ACCOUNT, World, openid, shipped};

/// The last character carries spare bits, as real keys do.
const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
const SECRET: &str = "account0secret0of0the0sandbox000";
const TEMPLATE: &str = "account_order_shipped_template_00000000001";

async fn stored(world: &World) -> u64 {
    callback::Entity::find().count(world.ctx.db.read()).await.expect("a count")
}

async fn posted(world: &World, app_id: &str) -> Vec<Value> {
    let answer = world.sandbox_call(Method::GET, &format!("/sandbox/apps/{app_id}/callbacks"), None).await;
    answer.body["callbacks"].as_array().cloned().unwrap_or_else(|| panic!("{answer:?}"))
}

#[rstest]
#[tokio::test]
async fn the_same_push_under_a_new_seal_is_stored_once(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
    #[values(Format::Json, Format::Xml)] format: Format,
) {
    let config = format!("callback_mode = \"secure\"\nencoding_aes_key = {AES_KEY:?}\n");
    let Some(mut world) = World::with(kind, &config).await else { return };
    world.second_node().await;
    world.configure_callback(Mode::Secure, format, Some(AES_KEY)).await;
    let checked = world.wechat("/callback-check", json!({})).await;
    assert_eq!(checked["ok"], true, "{checked}");
    let event = json!({ "event": "never_heard_of_it", "openid": "oA", "create_time": 1_700_000_000 });
    for _ in 0..2 {
        assert_eq!(world.wechat("/events", event.clone()).await["delivered"], true);
    }
    // And the very bytes once more, as WeChat's own repeat may be.
    assert_eq!(world.wechat("/callbacks/1/resend", json!({})).await["delivered"], true);
    let posted = posted(&world, APP).await;
    assert_eq!(posted[0]["plain"], posted[1]["plain"]);
    assert_ne!(posted[0]["body"], posted[1]["body"], "sealed anew");
    assert_ne!(posted[0]["query"]["nonce"], posted[1]["query"]["nonce"]);
    assert_eq!(stored(&world).await, 1);

    let mut later = event;
    later["create_time"] = 1_700_000_001.into();
    assert_eq!(world.wechat("/events", later).await["delivered"], true);
    assert_eq!(stored(&world).await, 2, "another moment is another event");
    world.drain().await;
    world.finish().await;
}

/// A service account in secure mode, whose pushes come from the simulator.
async fn with_pushes(kind: Kind) -> Option<World> {
    let app = format!(
        "[[apps]]\napp_id = {SERVICE_ACCOUNT:?}\nkind = \"service_account\"\nsecret = {SECRET:?}\n\
         callback_token = {CALLBACK_TOKEN:?}\nencoding_aes_key = {AES_KEY:?}\ncallback_mode = \"secure\"\n",
    );
    let world = World::with(kind, &app).await?;
    let account = json!({
        "app_id": SERVICE_ACCOUNT, "kind": "service_account", "secret": SECRET, "original_id": "gh_account",
        "templates": [{ "id": TEMPLATE, "title": "订单发货通知",
            "content": "订单号:{{character_string1.DATA}} 商品:{{thing2.DATA}}" }],
        "callback": { "url": format!("{}/wechat/{SERVICE_ACCOUNT}/callback", world.base), "token": CALLBACK_TOKEN,
            "encoding_aes_key": AES_KEY, "mode": "secure" },
    });
    let answer = world.sandbox_call(Method::PUT, &format!("/sandbox/apps/{SERVICE_ACCOUNT}"), Some(account)).await;
    assert!(answer.status.is_success(), "{answer:?}");
    let rule = json!({
        "name": "Order shipped", "event_type": "order.shipped", "app_id": SERVICE_ACCOUNT, "template_id": TEMPLATE,
        "fields": { "character_string1": "{{ data.no }}", "thing2": "{{ data.item }}" },
    });
    let answer = world.post("/v1/rules", rule).await;
    assert_eq!(answer.status, 201, "both placeholders of the line are fields: {answer:?}");
    Some(world)
}

async fn account(world: &World, method: Method, path: &str, body: Value) {
    let answer = world.sandbox_call(method, &format!("/sandbox/apps/{SERVICE_ACCOUNT}{path}"), Some(body)).await;
    assert!(answer.status.is_success(), "{path}: {answer:?}");
}

/// The notification of an event to the follower, once it begins in this state.
async fn sent_as(world: &World, id: &str, ann: &str, state: &str) -> String {
    for turn in 0..200 {
        world.drain().await;
        let event = shipped(&format!("{id}-{turn}"), format!("openid:{SERVICE_ACCOUNT}/{ann}"));
        let outcome = world.post("/v1/events", event).await.body["notifications"][0].clone();
        if outcome["state"] == state {
            return outcome["id"].as_str().unwrap_or_default().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no message begins as {state}");
}

#[rstest]
#[tokio::test]
async fn a_service_accounts_sealed_xml_tells_of_followers_and_messages(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(world) = with_pushes(kind).await else { return };
    let ann = openid("annsa");
    account(&world, Method::POST, "/follow", json!({ "openid": ann, "qr_scene": "shop-7" })).await;
    let id = sent_as(&world, "first", &ann, "pending").await;
    world.until(&id, "accepted").await;
    world.advance(Duration::from_secs(1)).await;
    world.until(&id, "delivered").await;

    let blocked = json!({ "receipt": { "mode": "fail", "error_status": "failed:user block" } });
    account(&world, Method::PATCH, "", blocked).await;
    let id = sent_as(&world, "second", &ann, "pending").await;
    world.drain().await;
    world.advance(Duration::from_secs(1)).await;
    world.until(&id, "failed").await;
    let story = world.get(&format!("/v1/notifications/{id}")).await.body;
    assert_eq!((&story["reason"], &story["detail"]), (&json!("blocked"), &json!("failed:user block")), "{story}");

    account(&world, Method::POST, "/unfollow", json!({ "openid": ann })).await;
    sent_as(&world, "third", &ann, "failed").await;

    let list = world.get(&format!("/v1/apps/{SERVICE_ACCOUNT}/callbacks?processed=true")).await.body["data"].clone();
    let names: std::collections::BTreeSet<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|push| push["event"].as_str().expect("a name").to_owned())
        .collect();
    let expected = ["subscribe", "templatesendjobfinish", "unsubscribe"].map(str::to_owned);
    assert_eq!(names, expected.into());
    assert!(
        list.as_array()
            .is_some_and(|all| all.iter().all(|push| push["body"].as_str().is_some_and(|b| b.starts_with("<xml>"))))
    );
    for push in posted(&world, SERVICE_ACCOUNT).await {
        assert!(push["body"].as_str().is_some_and(|body| body.contains("<Encrypt>") && !body.contains(&ann)), "{push}");
    }
    world.drain().await;
    world.advance(Duration::from_secs(1)).await;
    world.finish().await;
}
