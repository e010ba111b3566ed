//! Too much is refused with a time to come back, and everybody can see how much is left.

use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use serde_json::json;

use crate::harness::{APP, Answer, Kind, World, openid, shipped};

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
}

async fn login_from(world: &World, forwarded: &str, code: &str) -> Answer {
    let request = world.http.post(format!("{}/v1/apps/{APP}/login", world.base)).header("x-forwarded-for", forwarded);
    Answer::read(request.json(&json!({ "code": code })).send().await.expect("an answer")).await
}

#[rstest]
#[tokio::test]
async fn logins_are_limited_by_address_and_by_app(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let limits = "trusted_proxies = [\"127.0.0.0/8\"]\n[limits]\nlogin_per_ip = 3\nlogin_per_app = 8\n";
    let Some(world) = World::with(kind, limits).await else { return };
    for left in ["2", "1", "0"] {
        let answer = login_from(&world, "1.2.3.4", "x").await;
        answer.problem(400, "login_code_invalid");
        let policy = "\"login-per-address\";q=3;w=60, \"login-per-app\";q=8;w=60";
        assert_eq!(header(&answer, "ratelimit-policy"), policy);
        assert!(header(&answer, "ratelimit").starts_with(&format!("\"login-per-address\";r={left};t=")), "{answer:?}");
    }
    // Only what the trusted proxy itself has added counts.
    for forwarded in ["1.2.3.4", "9.9.9.9, 1.2.3.4"] {
        let refused = login_from(&world, forwarded, "x").await;
        refused.problem(429, "rate_limited");
        let wait: u64 = header(&refused, "retry-after").parse().expect("seconds");
        assert!((1..=20).contains(&wait), "{refused:?}");
        assert_eq!(header(&refused, "ratelimit"), format!("\"login-per-address\";r=0;t={wait}"));
    }
    // Who has a whole network of IPv6 addresses is one caller.
    for (address, status) in [("2001:db8::1", 400), ("2001:db8::2", 400), ("2001:db8::3", 400), ("2001:db8::4", 429)] {
        assert_eq!(login_from(&world, address, "x").await.status, status, "{address}");
    }
    // Seven spent so far: the flood from many addresses ends at the app's own limit.
    assert_eq!(login_from(&world, "5.0.0.1", "x").await.status, 400);
    assert_eq!(login_from(&world, "5.0.0.2", "x").await.status, 400);
    let refused = login_from(&world, "5.0.0.3", "x").await;
    refused.problem(429, "rate_limited");
    assert!(header(&refused, "ratelimit").contains("\"login-per-app\";r=0"), "{refused:?}");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn nobody_outside_makes_up_an_address(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with(kind, "[limits]\nlogin_per_ip = 2\n").await else { return };
    for (forwarded, status) in [("1.1.1.1", 400), ("2.2.2.2", 400), ("3.3.3.3", 429)] {
        assert_eq!(login_from(&world, forwarded, "x").await.status, status);
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn users_and_keys_have_their_own_limits(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with(kind, "[limits]\nme_per_user = 3\nevents_per_key = 2\n").await else { return };
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    let me = async |token: &str| world.call(Method::GET, "/v1/me/subscriptions", Some(token), None).await;
    for left in ["2", "1", "0"] {
        let answer = me(&ann.access_token).await;
        assert_eq!(answer.status, 200);
        assert!(header(&answer, "ratelimit").starts_with(&format!("\"me\";r={left};t=")), "{answer:?}");
    }
    assert!(!header(me(&ann.access_token).await.problem(429, "rate_limited"), "retry-after").is_empty());
    assert_eq!(me(&bob.access_token).await.status, 200);
    for id in ["1", "2"] {
        assert_eq!(world.event(id, "external:a").await.status, 202);
    }
    world.event("3", "external:a").await.problem(429, "rate_limited");
    let other = world.post("/v1/keys", json!({ "name": "other", "scopes": ["events:write"] })).await.body;
    let other = other["key"].as_str();
    let told = world.call(Method::POST, "/v1/events", other, Some(shipped("3", "external:a"))).await;
    assert_eq!(told.status, 202);
    assert_eq!(header(&world.get("/v1/apps").await, "ratelimit"), "", "what has no limit tells none");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn wechat_is_left_alone_when_it_is_asked_too_often(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with(kind, "trusted_proxies = [\"127.0.0.1\"]\n").await else { return };
    let refuse = async |times: u64| {
        let fault = json!({ "path": "/sns/jscode2session", "errcode": 45011, "times": times });
        world.wechat("/faults", fault).await;
    };
    let login = async |address: &str| login_from(&world, address, &world.code(&openid("ann")).await).await;
    let calls = async || world.calls_of("/sns/jscode2session").await;
    for wait in ["1", "2"] {
        refuse(1).await;
        assert_eq!(header(login("1.1.1.1").await.problem(429, "login_too_often"), "retry-after"), "60");
        let spent = calls().await;
        assert_eq!(header(login("1.1.1.1").await.problem(429, "login_too_often"), "retry-after"), wait);
        assert_eq!(calls().await, spent, "it is not asked meanwhile");
        assert_eq!(login("2.2.2.2").await.status, 200, "nobody else is kept out");
        world.advance(Duration::from_secs(2)).await;
    }
    assert_eq!(login("1.1.1.1").await.status, 200, "the rest is over");
    // A flood from many addresses: the whole app rests.
    refuse(8).await;
    for number in 0..8 {
        login(&format!("3.0.0.{number}")).await.problem(429, "login_too_often");
    }
    let spent = calls().await;
    login("4.4.4.4").await.problem(429, "login_too_often");
    assert_eq!(calls().await, spent);
    world.advance(Duration::from_secs(2)).await;
    assert_eq!(login("4.4.4.4").await.status, 200);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn each_event_of_a_batch_counts(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with(kind, "[limits]\nevents_per_key = 5\n").await else { return };
    let batch = |name: &str, count: usize| {
        json!((0..count).map(|number| shipped(&format!("{name} {number}"), "external:a")).collect::<Vec<_>>())
    };
    let told = world.post("/v1/events", batch("first", 3)).await;
    assert_eq!((told.status.as_u16(), told.body["data"].as_array().map(Vec::len)), (202, Some(3)));
    assert!(header(&told, "ratelimit").starts_with("\"events\";r=2;t="), "{told:?}");
    // All of them or none: two are left, and stay.
    world.post("/v1/events", batch("second", 3)).await.problem(429, "rate_limited");
    assert_eq!(world.post("/v1/events", batch("third", 2)).await.status, 202);
    world.event("fourth", "external:a").await.problem(429, "rate_limited");
    // What no waiting would let through is told as such.
    let never = world.post("/v1/events", batch("never", 6)).await;
    assert!(never.problem(400, "invalid_request").body["errors"][0]["reason"].to_string().contains("5 a minute"));
    world.finish().await;
}
