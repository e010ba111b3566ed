//! What an erasure finds beyond the person's own rows, and what comes after it.

use std::time::Duration;

use magpie::user::erase;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    harness::{APP, Kind, Phone, SERVICE_ACCOUNT, World, openid, shipped},
    privacy::dump,
};

const UNIONID: &str = "uUnionOfAnn00000000000000001";

/// A user known by a unionid, too.
async fn ann(world: &World) -> Phone {
    let code = world.wechat("/login-code", json!({ "openid": openid("ann"), "unionid": UNIONID })).await;
    let login = world.log_in_with(code["code"].as_str().expect("a code")).await;
    assert_eq!(login.status, 200, "{login:?}");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    Phone {
        openid: openid("ann"),
        user_id: text(&login.body["user"]["id"]),
        access_token: text(&login.body["access_token"]),
        refresh_token: text(&login.body["refresh_token"]),
    }
}

async fn closes_the_account(world: &World, phone: &Phone) {
    let event = json!({ "event": "user_authorization_cancellation", "openid": phone.openid });
    assert_eq!(world.wechat("/events", event).await["delivered"], true);
    world.drain().await;
}

#[track_caller]
fn assert_gone(dump: &str, names: &[&str]) {
    let left: Vec<_> = dump.lines().filter(|line| names.iter().any(|name| line.contains(name))).collect();
    assert!(left.is_empty(), "{left:#?}");
}

#[rstest]
#[tokio::test]
async fn events_that_reached_nobody_forget_the_person_too(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with_service_account(kind).await else { return };
    let rule = json!({
        "name": "To followers", "event_type": "order.shipped", "app_id": SERVICE_ACCOUNT,
        "template_id": "account_order_shipped_template_00000000001",
        "fields": { "character_string1": "{{ data.no }}", "thing2": "{{ data.item }}" },
    });
    assert_eq!(world.post("/v1/rules", rule).await.status, 201);
    let (ann, bob) = (ann(&world).await, world.phone("bob").await);
    let path = format!("/v1/users/{}/external-id", ann.user_id);
    let body = json!({ "external_id": "customer-1001" });
    assert_eq!(world.call(Method::PUT, &path, Some(&world.key), Some(body)).await.status, 200);

    // Nobody follows the service account, so none of these becomes a notification.
    let references = [
        format!("openid:{APP}/{}", ann.openid),
        format!("unionid:{UNIONID}"),
        "external:customer-1001".to_owned(),
        ann.user_id.clone(),
    ];
    let mut stored = Vec::new();
    for (index, reference) in references.iter().enumerate() {
        let mut event = shipped(&index.to_string(), reference.as_str());
        event["data"]["buyer"] = json!({ "openid": ann.openid, "name": "安安" });
        let answer = world.post("/v1/events", event).await;
        assert_eq!(answer.body["notifications"][0]["reason"], "no_identity", "{answer:?}");
        stored.push(answer.body["event_id"].as_str().expect("an id").to_owned());
    }
    let mut shared = shipped("shared", json!([references[0], format!("openid:{APP}/{}", bob.openid)]));
    shared["data"]["buyer"] = ann.openid.as_str().into();
    let shared = world.post("/v1/events", shared).await.body["event_id"].as_str().expect("an id").to_owned();

    closes_the_account(&world, &ann).await;
    let dump = dump(&world).await;
    assert_gone(&dump, &[&ann.openid, UNIONID, "customer-1001", "安安"]);
    for id in &stored {
        let event = world.get(&format!("/v1/events/{id}")).await;
        assert_eq!(event.status, 200, "{event:?}");
    }
    // Somebody else's part of an event stays.
    assert!(
        dump.lines().any(|line| line.starts_with("event:") && line.contains("NO.42") && line.contains(&bob.openid))
    );
    assert_eq!(world.get(&format!("/v1/events/{shared}")).await.status, 200);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_event_that_meets_an_erasure_keeps_no_name(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "no_credit": "wait" })).await;
    for by_openid in [true, false] {
        let ann = ann(&world).await;
        let reference = if by_openid { format!("openid:{APP}/{}", ann.openid) } else { ann.user_id.clone() };
        // The erasure has begun and is not committed when the event comes.
        let tx = world.ctx.db.begin().await.expect("a transaction");
        erase::in_app(&world.ctx, &tx, (APP, &ann.openid), "test", world.clock.now()).await.expect("an erasure");
        let (answer, ()) = tokio::join!(world.event(&ann.user_id, reference.as_str()), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            tx.commit().await.expect("a commit");
        });
        assert_eq!(answer.status, 202, "{answer:?}");
        let outcome = &answer.body["notifications"][0];
        assert_eq!(
            (&outcome["state"], &outcome["reason"]),
            (&json!("failed"), &json!("unknown_recipient")),
            "{outcome}"
        );
        let notifications = world.get("/v1/notifications").await;
        assert_eq!(notifications.body["data"], json!([]), "{notifications:?}");
        // An openid that is gone, and on SQLite with its one writer anybody, is a stranger: the event came after.
        if kind == Kind::Postgres && !by_openid {
            assert_eq!(outcome["recipient"], "erased", "{outcome}");
        }
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn links_and_wechats_words_go_with_the_message(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with_service_account(kind).await else { return };
    let rule = json!({
        "name": "To followers", "event_type": "order.shipped", "app_id": SERVICE_ACCOUNT,
        "template_id": "account_order_shipped_template_00000000001",
        "miniprogram": { "app_id": APP, "page": "pages/order?buyer={{ data.buyer }}" },
        "fields": { "character_string1": "{{ data.no }}", "thing2": "{{ data.item }}" },
    });
    assert_eq!(world.post("/v1/rules", rule).await.status, 201);
    let post = async |path: &str, body: Value| {
        let path = format!("/sandbox/apps/{SERVICE_ACCOUNT}{path}");
        assert!(world.sandbox_call(Method::POST, &path, Some(body)).await.status.is_success());
    };
    post("/follow", json!({ "openid": openid("ann"), "unionid": UNIONID })).await;
    let ann = ann(&world).await;
    crate::service_account::told(&world, json!({ "Event": "subscribe", "FromUserName": ann.openid })).await;
    let words = format!("argument invalid! {} data.thing2.value", ann.openid);
    post("/faults", json!({ "path": "/cgi-bin/message/template/send", "errcode": 47003, "errmsg": words })).await;
    let mut event = shipped("1", format!("openid:{SERVICE_ACCOUNT}/{}", ann.openid));
    event["data"]["buyer"] = ann.openid.as_str().into();
    let answer = world.post("/v1/events", event).await;
    let id = answer.body["notifications"][0]["id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
    world.drain().await;
    assert_eq!(world.state(&id).await, "failed");

    // The person closes the account everywhere.
    crate::service_account::told(
        &world,
        json!({ "Event": "user_authorization_cancellation", "FromUserName": "oPlatform", "OpenID": ann.openid }),
    )
    .await;
    closes_the_account(&world, &ann).await;
    assert_gone(&dump(&world).await, &[&ann.openid, UNIONID]);
    let story = world.get(&format!("/v1/notifications/{id}")).await.body;
    let attempt = &story["attempts"][0];
    assert_eq!((&attempt["errcode"], &attempt["errmsg"], &attempt["rid"]), (&json!(47003), &Value::Null, &Value::Null));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_answer_to_a_call_in_flight_brings_no_name_back(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = ann(&world).await;
    world.accept(&ann, "tap").await;
    let words = format!("argument invalid! {} data.thing2.value", ann.openid);
    let fault =
        json!({ "path": "/cgi-bin/message/subscribe/send", "errcode": 47003, "errmsg": words, "delay_ms": 600 });
    world.wechat("/faults", fault).await;
    let answer = world.event("1", ann.user_id.as_str()).await;
    let id = answer.body["notifications"][0]["id"].as_str().expect("an id").to_owned();
    let ((), ()) = tokio::join!(world.drain(), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let event = json!({ "event": "user_authorization_cancellation", "openid": ann.openid });
        assert_eq!(world.wechat("/events", event).await["delivered"], true);
        magpie::callback::process_stored(&world.ctx).await.expect("processed");
    });
    assert_eq!(world.state(&id).await, "cancelled");
    assert_gone(&dump(&world).await, &[&ann.openid]);
    let story = world.get(&format!("/v1/notifications/{id}")).await.body;
    assert_eq!(story["attempts"][0]["errcode"], 47003, "{story}");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_receipt_that_comes_after_the_erasure_brings_no_name_back(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
    #[values(true, false)] omit_msgid: bool,
) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    world.knobs(json!({ "receipt": { "mode": "lost" }, "omit_msgid": omit_msgid })).await;
    let ann = ann(&world).await;
    world.accept(&ann, "tap").await;
    let answer = world.event("1", ann.user_id.as_str()).await;
    let id = answer.body["notifications"][0]["id"].as_str().expect("an id").to_owned();
    world.until(&id, "accepted").await;
    let message_id = world.messages(&ann.openid).await[0]["msgid"].to_string();
    closes_the_account(&world, &ann).await;

    let entry = json!({ "TemplateId": crate::harness::TEMPLATE, "MsgID": message_id, "ErrorCode": "0", "ErrorStatus": "success" });
    let sent = json!({ "event": "subscribe_msg_sent_event", "openid": ann.openid, "list": [entry] });
    assert_eq!(world.wechat("/events", sent).await["delivered"], true);
    world.drain().await;
    assert_gone(&dump(&world).await, &[&ann.openid]);
    let expected = if omit_msgid { "accepted" } else { "delivered" };
    assert_eq!(world.state(&id).await, expected, "what became of the message is still known where WeChat names it");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_wechat_says_after_the_erasure_is_not_kept(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let (ann, bob) = (ann(&world).await, world.phone("bob").await);
    let tell = async |phone: &Phone| {
        let template = crate::harness::TEMPLATE;
        let popup = json!([{ "TemplateId": template, "SubscribeStatusString": "accept", "PopupScene": "0" }]);
        let change = json!([{ "TemplateId": template, "SubscribeStatusString": "reject" }]);
        for event in [
            json!({ "event": "subscribe_msg_popup_event", "list": popup }),
            json!({ "event": "subscribe_msg_change_event", "list": change }),
            json!({ "event": "user_authorization_revoke", "fields": { "RevokeInfo": "8" } }),
            json!({ "event": "user_enter_tempsession", "fields": { "SessionFrom": "address of the order" } }),
            json!({ "event": "subscribe", "fields": {} }),
            json!({ "event": "unsubscribe", "fields": {} }),
            json!({ "event": "", "fields": { "MsgType": "text", "Content": "where is my order" } }),
        ] {
            let mut event = event;
            event["openid"] = phone.openid.as_str().into();
            let answer = world.wechat("/events", event).await;
            assert_eq!(answer["delivered"], true, "{answer}");
        }
        world.drain().await;
    };
    closes_the_account(&world, &ann).await;
    tell(&ann).await;
    tell(&bob).await;
    let dump = dump(&world).await;
    assert_gone(&dump, &[&ann.openid]);
    let kept = |event: &str| dump.lines().any(|line| line.contains(event) && line.contains(&bob.openid));
    assert!(kept("user_enter_tempsession") && kept("subscribe_msg_popup_event"), "who is known is remembered");
    assert_eq!(dump.matches("where is my order").count(), 1, "{dump}");
    world.finish().await;
}
