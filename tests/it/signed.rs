//! Signed requests (Standard Webhooks) in the place of a key.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use magpie::{api_key, secret::hmac_sha256};
use reqwest::Method;
use rstest::rstest;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::harness::{Answer, Kind, World, shipped};

/// A business system that signs.
struct Signer {
    id: String,
    prefix: String,
    secret: Vec<u8>,
}

async fn signer(world: &World, scopes: &[&str]) -> Signer {
    let scopes: Vec<_> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let made = api_key::create(&world.ctx, "signer", &scopes, None).await.expect("a key");
    let secret = made.signing_secret.expose_secret().strip_prefix("whsec_").expect("the prefix").to_owned();
    let secret = STANDARD.decode(secret).expect("base64");
    Signer { id: made.row.id.to_string(), prefix: made.row.prefix, secret }
}

impl Signer {
    fn sign(&self, id: &str, seconds: i64, body: &str) -> String {
        let tag = hmac_sha256(&self.secret, format!("{id}.{seconds}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }
}

fn now(world: &World) -> i64 {
    world.clock.now().0 / 1000
}

async fn post(world: &World, base: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = world.http.post(format!("{base}/v1/events")).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::read(request.body(body.to_owned()).send().await.expect("an answer")).await
}

async fn tell(world: &World, base: &str, signer: &Signer, id: &str, body: &str) -> Answer {
    let seconds = now(world);
    let (time, signature) = (seconds.to_string(), signer.sign(id, seconds, body));
    post(world, base, &[("webhook-id", id), ("webhook-timestamp", &time), ("webhook-signature", &signature)], body)
        .await
}

#[rstest]
#[tokio::test]
async fn a_signed_event_is_accepted_once(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut world) = World::new(kind).await else { return };
    let elsewhere = world.second_node().await;
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap").await;
    let shop = signer(&world, &["events:write"]).await;
    // Blanks count: the body is signed as it is sent.
    let body = format!("{} ", shipped("1", ann.user_id.as_str()));
    let first = tell(&world, &world.base, &shop, "msg_1", &body).await;
    assert_eq!((first.status.as_u16(), &first.body["status"]), (202, &json!("accepted")), "{first:?}");

    // Sent again, also to another node and later: the first answer to the letter.
    for base in [&world.base, &elsewhere] {
        world.advance(Duration::from_mins(2)).await;
        let again = tell(&world, base, &shop, "msg_1", &body).await;
        assert_eq!((again.status, &again.text), (first.status, &first.text));
    }
    let other = shipped("2", ann.user_id.as_str()).to_string();
    tell(&world, &elsewhere, &shop, "msg_1", &other).await.problem(422, "signed_id_reused");
    // Another id is another request; the event itself is known.
    let repeated = tell(&world, &world.base, &shop, "msg_2", &body).await;
    assert_eq!(repeated.body["status"], "duplicate");
    // What was refused may be sent again, corrected.
    tell(&world, &world.base, &shop, "msg_3", "{}").await.problem(400, "invalid_request");
    assert_eq!(tell(&world, &world.base, &shop, "msg_3", &other).await.status, 202);

    world.drain().await;
    assert_eq!(world.messages(&ann.openid).await.len(), 1);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_is_not_signed_rightly_is_refused(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = signer(&world, &["events:write"]).await;
    let body = shipped("1", "external:a").to_string();
    let seconds = now(&world);
    let signature = shop.sign("msg_1", seconds, &body);
    let with = async |id: &str, time: i64, signature: &str, key: Option<&str>, body: &str| {
        let time = time.to_string();
        let mut headers = vec![("webhook-id", id), ("webhook-timestamp", &time), ("webhook-signature", signature)];
        headers.extend(key.map(|key| ("x-magpie-key", key)));
        post(&world, &world.base, &headers, body).await
    };
    for (id, time, signature, body) in [
        ("msg_2", seconds, signature.as_str(), body.as_str()),
        ("msg_1", seconds + 1, &signature, &body),
        ("msg_1", seconds, &signature, &format!("{body} ")),
        ("msg_1", seconds, "v1,", &body),
        ("msg_1", seconds, &signature.replace("v1,", "v1a,"), &body),
        ("msg_1", seconds, &signature[3..], &body),
        ("", seconds, &shop.sign("", seconds, &body), &body),
        ("msg_1", seconds - 301, &shop.sign("msg_1", seconds - 301, &body), &body),
        ("msg_1", seconds + 301, &shop.sign("msg_1", seconds + 301, &body), &body),
    ] {
        let refused = with(id, time, signature, None, body).await;
        assert_eq!(refused.problem(401, "invalid_signature").headers["www-authenticate"], "Bearer");
    }
    // Rotation: an old and a new secret sign side by side. The key may be named.
    let other = signer(&world, &["events:read"]).await;
    let both = format!("{} {signature}", other.sign("msg_9", seconds, &body));
    with("msg_1", seconds, &both, Some(&other.prefix), &body).await.problem(401, "invalid_signature");
    assert_eq!(with("msg_1", seconds, &both, Some(&shop.prefix), &body).await.status, 202);
    assert_eq!(with("msg_1", seconds, &both, None, &body).await.status, 202);
    // The key's scopes hold, and its end.
    tell(&world, &world.base, &other, "msg_5", &body).await.problem(403, "insufficient_scope");
    world.call(Method::DELETE, &format!("/v1/keys/{}", shop.id), Some(&world.key), None).await;
    tell(&world, &world.base, &shop, "msg_6", &body).await.problem(401, "invalid_signature");
    // What stands in headers is not signed.
    let signed = shop.sign("msg_7", seconds, &body);
    let time = seconds.to_string();
    let headers =
        [("webhook-id", "msg_7"), ("webhook-timestamp", &time), ("webhook-signature", &signed), ("ce-id", "9")];
    post(&world, &world.base, &headers, &body).await.problem(400, "invalid_request");
    // A signature is for events only.
    let seconds = seconds.to_string();
    let request = world.http.get(format!("{}/v1/apps", world.base)).header("webhook-id", "a");
    let request = request.header("webhook-timestamp", seconds).header("webhook-signature", "v1,AAAA");
    let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(answer["code"], "missing_credentials");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn without_a_name_the_sixteen_newest_secrets_are_tried(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = signer(&world, &["events:write"]).await;
    for _ in 0..15 {
        signer(&world, &["events:write"]).await;
    }
    let body = shipped("1", "external:a").to_string();
    assert_eq!(tell(&world, &world.base, &shop, "msg_1", &body).await.status, 202);
    signer(&world, &["events:write"]).await;
    tell(&world, &world.base, &shop, "msg_2", &body).await.problem(401, "invalid_signature");
    let seconds = now(&world);
    let (time, signature) = (seconds.to_string(), shop.sign("msg_2", seconds, &body));
    let named = [
        ("webhook-id", "msg_2"),
        ("webhook-timestamp", &time),
        ("webhook-signature", &signature),
        ("x-magpie-key", &shop.prefix),
    ];
    assert_eq!(post(&world, &world.base, &named, &body).await.status, 202);
    world.finish().await;
}
