//! When the receipt of a message comes, and when it does not.

use serde_json::{Value, json};
use wechat_sandbox::{Format, Mode};

use crate::{
    callback::{Receiver, app_with_callback},
    harness::{Stage, message},
};

async fn stage() -> (Receiver, Stage) {
    let (receiver, url) = Receiver::start().await;
    let stage = Stage::with(vec![app_with_callback(&url, Mode::Plain, Format::Json)], None).await;
    stage.accept("oA", 5).await;
    (receiver, stage)
}

async fn msgid(stage: &Stage) -> String {
    stage.send_body(&message("oA")).await["msgid"].as_u64().expect("msgid").to_string()
}

fn entry(body: &str) -> Value {
    serde_json::from_str::<Value>(body).expect("JSON")["List"].clone()
}

#[tokio::test]
async fn early_is_before_the_answer() {
    let (receiver, stage) = stage().await;
    stage.knobs(json!({ "receipt": { "mode": "early" } })).await;
    let id = msgid(&stage).await;
    assert_eq!(receiver.count(), 1);
    assert_eq!(entry(&receiver.wait(1).await[0].body)["MsgID"], id);
}

#[tokio::test]
async fn late_comes_by_the_simulators_clock() {
    let (receiver, stage) = stage().await;
    stage.knobs(json!({ "receipt": { "mode": "late", "delay_ms": 3_600_000 } })).await;
    msgid(&stage).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(receiver.count(), 0);
    stage.advance(3600).await;
    receiver.wait(1).await;
}

#[tokio::test]
async fn twice_lost_and_failed() {
    let (receiver, stage) = stage().await;
    stage.knobs(json!({ "receipt": { "mode": "twice", "delay_ms": 0 } })).await;
    msgid(&stage).await;
    let posts = receiver.wait(2).await;
    assert_eq!(posts[0].body, posts[1].body);

    stage.knobs(json!({ "receipt": { "mode": "lost" } })).await;
    msgid(&stage).await;
    stage.knobs(json!({ "receipt": { "mode": "fail", "delay_ms": 0 }, "numbers_in_callbacks": true })).await;
    msgid(&stage).await;
    let failed = entry(&receiver.wait(3).await[2].body);
    assert_eq!((failed["ErrorCode"].as_i64(), failed["ErrorStatus"].as_str()), (Some(1), Some("system failed")));
    assert!(failed["MsgID"].is_u64());
    assert_eq!(stage.look("messages").await["total"], 2);
}

#[tokio::test]
async fn out_of_order_lets_the_second_overtake() {
    let (receiver, stage) = stage().await;
    stage.knobs(json!({ "receipt": { "mode": "out_of_order", "delay_ms": 0 } })).await;
    let (first, second) = (msgid(&stage).await, msgid(&stage).await);
    let posts = receiver.wait(2).await;
    assert_eq!(entry(&posts[0].body)["MsgID"], second);
    assert_eq!(entry(&posts[1].body)["MsgID"], first);
    let lonely = msgid(&stage).await;
    stage.advance(10).await;
    assert_eq!(entry(&receiver.wait(3).await[2].body)["MsgID"], lonely);
}
