//! A person asks for their data, or that it goes; operators see who did what.

use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use super::privacy::dump;
use crate::harness::{APP, Kind, Phone, World};

const NUMBER: &str = "+8613800000001";

/// A person with a phone number, a message that arrived, and one that waits.
async fn full(world: &World, name: &str) -> Phone {
    let phone = world.phone(name).await;
    world.accept(&phone, "tap").await;
    let told = world.event(&format!("first of {name}"), phone.user_id.as_str()).await;
    let id = told.body["notifications"][0]["id"].as_str().unwrap_or_else(|| panic!("{told:?}")).to_owned();
    world.drain().await;
    world.advance(Duration::from_secs(1)).await;
    world.until(&id, "delivered").await;
    let told = world.event(&format!("second of {name}"), format!("openid:{APP}/{}", phone.openid)).await;
    assert_eq!(told.body["notifications"][0]["state"], "waiting", "{told:?}");
    phone
}

async fn give_number(world: &World, phone: &Phone) {
    let code = world.wechat("/phone-code", json!({ "openid": phone.openid, "phone_number": "13800000001" })).await;
    let body = json!({ "code": code["code"] });
    let answer = world.call(Method::POST, "/v1/me/phone", Some(&phone.access_token), Some(body)).await;
    assert_eq!(answer.body["phone_number"], NUMBER, "{answer:?}");
}

#[rstest]
#[tokio::test]
async fn a_person_gets_everything_as_one_document(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "no_credit": "wait" })).await;
    let (ann, bob) = (full(&world, "ann").await, full(&world, "bob").await);
    give_number(&world, &ann).await;
    let path = format!("/v1/users/{}/external-id", ann.user_id);
    world.call(Method::PUT, &path, Some(&world.key), Some(json!({ "external_id": "1001" }))).await;

    let mine = world.call(Method::GET, "/v1/me/export", Some(&ann.access_token), None).await;
    let theirs = world.get(&format!("/v1/users/{}/export", ann.user_id)).await;
    for export in [&mine, &theirs] {
        assert_eq!(export.status, 200, "{export:?}");
        let body = &export.body;
        assert_eq!((&body["user"]["id"], &body["user"]["external_id"]), (&json!(ann.user_id), &json!("1001")));
        assert_eq!(body["user"]["phone_number"], NUMBER);
        assert_eq!(body["identities"][0]["openid"], ann.openid.as_str());
        assert_eq!(body["balances"][0]["credits"], 0);
        let counting = body["ledger"].as_array().expect("entries").iter().filter(|entry| entry["delta"] != 0);
        let kinds: Vec<_> = counting.map(|entry| &entry["kind"]).collect();
        assert_eq!(kinds, ["accept", "reserved"]);
        let states: Vec<_> = body["notifications"].as_array().expect("rows").iter().map(|row| &row["state"]).collect();
        assert_eq!(states, ["delivered", "waiting"]);
        assert_eq!(body["notifications"][0]["fields"]["thing2"], "红富士苹果");
        assert!(body["callbacks"].as_array().is_some_and(|rows| !rows.is_empty()));
        assert_eq!(body["sessions"].as_array().map(Vec::len), Some(1));
        for foreign in [bob.openid.as_str(), &bob.user_id, "session_key", "code_mac", "generation"] {
            assert!(!export.text.contains(foreign), "{foreign} is in the export");
        }
    }
    let audit = world.get("/v1/audit?action=user.exported").await.body;
    let actors: Vec<_> =
        audit["data"].as_array().expect("entries").iter().map(|entry| entry["actor"].clone()).collect();
    assert!(actors[0].as_str().is_some_and(|actor| actor.starts_with("key_")), "{actors:?}");
    assert_eq!(actors[1], ann.user_id.as_str());
    world.get("/v1/users/usr_00000000000000000000000000000007/export").await.problem(404, "not_found");
    world.finish().await;
}

#[rstest]
#[case::by_themselves(true)]
#[case::by_the_shop(false)]
#[tokio::test]
async fn a_person_who_asks_leaves_nothing(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
    #[case] by_themselves: bool,
) {
    let Some(mut world) = World::new(kind).await else { return };
    let elsewhere = world.second_node().await;
    world.rule(json!({ "no_credit": "wait" })).await;
    let (ann, bob) = (full(&world, "ann").await, full(&world, "bob").await);
    give_number(&world, &ann).await;
    let gone = if by_themselves {
        world.call(Method::DELETE, "/v1/me", Some(&ann.access_token), None).await
    } else {
        world.call(Method::DELETE, &format!("/v1/users/{}", ann.user_id), Some(&world.key), None).await
    };
    assert_eq!(gone.status, 204, "{gone:?}");
    world
        .call_at(&elsewhere, Method::GET, "/v1/me/export", Some(&ann.access_token), None)
        .await
        .problem(401, "session_ended");
    world.get(&format!("/v1/users/{}", ann.user_id)).await.problem(404, "not_found");
    let again = world.call(Method::DELETE, &format!("/v1/users/{}", ann.user_id), Some(&world.key), None).await;
    again.problem(404, "not_found");

    let dump = dump(&world).await;
    let left: Vec<_> = dump.lines().filter(|line| line.contains(&ann.openid)).collect();
    assert!(left.is_empty(), "{left:#?}");
    assert!(dump.contains(&bob.openid), "somebody else's data stays");
    let entry = world.get(&format!("/v1/audit?action=user.erased&subject={}", ann.user_id)).await.body;
    let actor = entry["data"][0]["actor"].as_str().expect("an actor").to_owned();
    assert_eq!(actor == ann.user_id, by_themselves, "{entry}");
    assert_eq!(entry["data"][0]["detail"], json!({ "identities": 1, "notifications": 2 }));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_audit_log_tells_who_did_what(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    let path = |what: &str| format!("/v1/apps/{APP}/{what}");
    world.post(&path("pause"), json!({ "because": "The secret of ann" })).await;
    world.call(Method::POST, &path("resume"), Some(&world.key), None).await;
    let made = world.post("/v1/keys", json!({ "name": "for ann", "scopes": ["audit:read"] })).await;
    let reader = made.body["key"].as_str().expect("a key").to_owned();
    let local = json!({ "name": "x", "scopes": ["audit:read"], "app_ids": [APP] });
    let local = world.post("/v1/keys", local).await.body["key"].as_str().expect("a key").to_owned();
    world.call(Method::DELETE, &format!("/v1/users/{}", ann.user_id), Some(&world.key), None).await;

    let read = async |key: &str, query: &str| {
        let answer = world.call(Method::GET, &format!("/v1/audit?{query}"), Some(key), None).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!answer.text.contains("of ann") && !answer.text.contains("for ann"), "no words of people");
        let entries = answer.body["data"].as_array().expect("entries").clone();
        entries.iter().map(|entry| entry["action"].as_str().expect("a word").to_owned()).collect::<Vec<_>>()
    };
    let all = read(&reader, "").await;
    assert_eq!(
        all,
        ["user.erased", "key.created", "key.created", "app.resumed", "app.paused", "key.created"],
        "newest first"
    );
    assert!(all.iter().all(|action| magpie::audit::ACTIONS.contains(&action.as_str())));
    assert_eq!(read(&local, "").await, ["app.resumed", "app.paused"], "only of its apps");
    assert_eq!(read(&reader, "actor=command%20line").await, ["key.created"]);
    assert_eq!(read(&reader, "action=app.paused").await, ["app.paused"]);
    assert_eq!(read(&reader, &format!("subject={}", ann.user_id)).await, ["user.erased"]);
    assert_eq!(read(&reader, "before=2020-01-01T00:00:00Z").await, Vec::<String>::new());
    assert_eq!(read(&reader, "after=2020-01-01T00:00:00Z&limit=1").await, ["user.erased"]);
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let answer = world.call(method, "/v1/audit", Some(&world.key), Some(Value::Null)).await;
        answer.problem(405, "method_not_allowed");
    }
    world.finish().await;
}
