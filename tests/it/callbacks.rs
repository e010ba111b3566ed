//! What WeChat posts: signatures, modes, repeats.

use entity::callback;
use reqwest::Method;
use rstest::rstest;
use sea_orm::{EntityTrait, PaginatorTrait};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use wechat_sandbox::{Format, Mode};

use crate::harness::{APP, CALLBACK_TOKEN, Kind, World};

fn signature(parts: &[&str]) -> String {
    let mut parts = [parts, &[CALLBACK_TOKEN]].concat();
    parts.sort_unstable();
    Sha1::digest(parts.concat().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn path(query: &str) -> String {
    format!("/wechat/{APP}/callback?{query}")
}

async fn post(world: &World, body: &Value) -> u16 {
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

#[rstest]
#[tokio::test]
async fn sealed_callbacks_are_opened_and_plain_ones_refused(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    // The last character carries spare bits, as real keys do.
    const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
    let Some(world) = World::with(kind, &format!("callback_mode = \"secure\"\nencoding_aes_key = {AES_KEY:?}\n")).await
    else {
        return;
    };
    world.rule(json!({})).await;
    for mode in [Mode::Secure, Mode::Compatible] {
        world.configure_callback(mode, Format::Json, Some(AES_KEY)).await;
        let ann = world.phone("ann").await;
        world.accept(&ann, &format!("{mode:?}")).await;
        let answer = world.event(&format!("{mode:?}"), ann.user_id.as_str()).await;
        let id = answer.body["notifications"][0]["id"].as_str().expect("an id").to_owned();
        world.drain().await;
        world.advance(std::time::Duration::from_secs(1)).await;
        world.until(&id, "delivered").await;
    }
    let plain = json!({ "FromUserName": "oA", "CreateTime": 1, "MsgType": "event", "Event": "subscribe_msg_sent_event",
        "List": { "TemplateId": "T", "MsgID": "1", "ErrorCode": "0", "ErrorStatus": "success" } });
    assert_eq!(post(&world, &plain).await, 403, "secure mode refuses what is not sealed");
    world.finish().await;
}
