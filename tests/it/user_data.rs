//! The phone number and encrypted data: what opens, what does not, and what to do then.

use std::time::Duration;

use entity::{identity, user};
use magpie::user_data::phone;
use reqwest::Method;
use rstest::rstest;
use sea_orm::EntityTrait;
use serde_json::{Value, json};

use crate::harness::{APP, Answer, Kind, Phone, World, openid};

async fn post(world: &World, phone: &Phone, path: &str, body: Value) -> Answer {
    world.call(Method::POST, path, Some(&phone.access_token), Some(body)).await
}

async fn phone_code(world: &World, openid: &str) -> Value {
    let answer = world.wechat("/phone-code", json!({ "openid": openid })).await;
    json!({ "code": answer["code"] })
}

/// What an open-data call gives the front end, as it sends it here.
async fn sealed(world: &World, openid: &str, data: Value) -> Value {
    let given = world.wechat("/encrypted-data", json!({ "openid": openid, "data": data })).await;
    json!({
        "encrypted_data": given["encryptedData"], "iv": given["iv"],
        "raw_data": given["rawData"], "signature": given["signature"],
    })
}

async fn users(world: &World) -> Vec<user::Model> {
    user::Entity::find().all(world.ctx.db.read()).await.expect("rows")
}

#[rstest]
#[tokio::test]
async fn a_phone_number_is_kept_sealed_and_found_by_its_index(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    let answer = post(&world, &ann, "/v1/me/phone", phone_code(&world, &ann.openid).await).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["phone_number"], "+8613800000001");
    assert_eq!(
        (&answer.body["country_code"], &answer.body["pure_phone_number"]),
        (&json!("86"), &json!("13800000001"))
    );

    let row = users(&world).await.remove(0);
    let stored = row.phone.clone().expect("a phone number");
    assert!(!stored.windows(8).any(|part| part == b"13800000"), "it must be sealed");
    assert_eq!(phone::of(&world.ctx.keys, &row).expect("opens").as_deref(), Some("+8613800000001"));
    assert_eq!(row.phone_index, Some(phone::index(&world.ctx.keys, "+8613800000001")));
    assert!(row.phone_at.is_some());
    let found = async |number: &str| {
        let people = world.post("/v1/users/search", json!({ "phone_number": number })).await.body["data"].clone();
        people.as_array().expect("a list").iter().map(|user| user["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(found("+86 138-0000-0001").await, std::slice::from_ref(&ann.user_id));
    assert!(found("+8613800000002").await.is_empty());
    let refused = world.post("/v1/users/search", json!({ "phone_number": "13800000001" })).await;
    assert_eq!(refused.body["errors"][0]["pointer"], "/phone_number", "{refused:?}");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn every_refusal_of_a_phone_code_has_its_own_answer(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    let path = "/v1/me/phone";
    for (errcode, status, code) in [
        (40029, 400, "phone_code_invalid"),
        (40013, 400, "phone_code_of_other_app"),
        (45011, 429, "phone_too_often"),
        (-1, 503, "wechat_busy"),
    ] {
        let fault = json!({ "path": "/wxa/business/getuserphonenumber", "errcode": errcode });
        world.wechat("/faults", fault).await;
        let answer = post(&world, &ann, path, phone_code(&world, &ann.openid).await).await;
        assert_eq!(answer.problem(status, code).body["wechat"]["errcode"], errcode);
    }
    // A token that WeChat no longer takes is nobody's fault: the call is repeated.
    world.wechat("/faults", json!({ "path": "/wxa/business/getuserphonenumber", "errcode": 42001 })).await;
    assert_eq!(post(&world, &ann, path, phone_code(&world, &ann.openid).await).await.status, 200);

    let code = phone_code(&world, &ann.openid).await;
    post(&world, &bob, path, code.clone()).await.problem(400, "phone_code_invalid");
    assert_eq!(post(&world, &ann, path, code.clone()).await.status, 200);
    post(&world, &ann, path, code).await.problem(400, "phone_code_invalid");
    post(&world, &ann, path, json!({ "code": "" })).await.problem(400, "invalid_request");
    let elsewhere = json!({ "path": "/wxa/business/getuserphonenumber", "body": json!({ "errcode": 0, "phone_info": {
        "phoneNumber": "13800000001", "purePhoneNumber": "13800000001", "watermark": { "appid": "wxother" } } }).to_string() });
    world.wechat("/faults", elsewhere).await;
    let answer = post(&world, &ann, path, phone_code(&world, &ann.openid).await).await;
    answer.problem(400, "phone_code_of_other_app");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_phone_number_follows_its_person(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    assert_eq!(post(&world, &bob, "/v1/me/phone", phone_code(&world, &bob.openid).await).await.status, 200);
    // The two turn out to be one person: the older user survives, with the younger one's number.
    for name in ["ann", "bob"] {
        let answer = world.wechat("/login-code", json!({ "openid": openid(name), "unionid": "uAnn" })).await;
        assert_eq!(world.log_in_with(answer["code"].as_str().expect("a code")).await.status, 200);
    }
    let rows = users(&world).await;
    let survivor = rows.iter().find(|row| row.id.to_string() == ann.user_id).expect("the survivor");
    assert_eq!(phone::of(&world.ctx.keys, survivor).expect("opens").as_deref(), Some("+8613800000001"));
    assert!(rows.iter().all(|row| row.id == survivor.id || (row.phone.is_none() && row.phone_index.is_none())));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn encrypted_data_opens_for_its_own_user_and_app(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    let path = "/v1/me/decrypt";
    let data = json!({ "nickName": "安", "stepInfoList": [{ "step": 9007199254740993_i64 }], "new": null });
    let given = sealed(&world, &ann.openid, data.clone()).await;
    let answer = post(&world, &ann, path, given.clone()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["data"]["nickName"], "安");
    assert_eq!(answer.body["data"]["stepInfoList"], data["stepInfoList"]);
    assert_eq!(answer.body["data"]["watermark"]["appid"], APP);

    // Parsed and written again, the raw data is another text.
    let mut rewritten = given.clone();
    rewritten["raw_data"] = format!("{} ", given["raw_data"].as_str().expect("a text")).into();
    let answer = post(&world, &ann, path, rewritten).await;
    assert_eq!(answer.problem(422, "user_data_refused").body["errors"][0]["pointer"], "/signature");

    let of_another = json!({ "phoneNumber": "1", "watermark": { "appid": "wxother", "timestamp": 1 } });
    let mut given = sealed(&world, &ann.openid, of_another).await;
    given.as_object_mut().expect("an object").retain(|key, _| ["encrypted_data", "iv"].contains(&key.as_str()));
    let answer = post(&world, &ann, path, given.clone()).await;
    assert_eq!(answer.problem(422, "user_data_refused").body["errors"][0]["pointer"], "/encrypted_data");

    for (key, value) in [("iv", "AAAA"), ("encrypted_data", "not base64"), ("signature", "alone")] {
        let mut wrong = given.clone();
        wrong[key] = value.into();
        post(&world, &ann, path, wrong).await.problem(400, "invalid_request");
    }
    world.call(Method::POST, path, None, Some(given)).await.problem(401, "missing_credentials");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_stale_session_key_asks_for_a_new_login_and_garbage_does_not(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    let path = "/v1/me/decrypt";
    let good = sealed(&world, &ann.openid, json!({ "nickName": "安" })).await;
    // Data that no key opens: another iv and a text that ends in no padding.
    let mut garbage = good.clone();
    garbage["encrypted_data"] = "AAAAAAAAAAAAAAAAAAAAAA==".into();

    // WeChat says that the key is still the user's, so it is the data.
    post(&world, &ann, path, garbage).await.problem(422, "user_data_refused");
    assert_eq!(world.calls_of("/wxa/checksession").await, 1);

    // Another device logs in somewhere else, so WeChat's key is no longer ours.
    let code = world.code(&ann.openid).await;
    let query = format!(
        "/sns/jscode2session?appid={APP}&secret={}&js_code={code}&grant_type=authorization_code",
        wechat_sandbox::DEMO_SECRET
    );
    assert_eq!(world.sandbox_call(Method::GET, &query, None).await.status, 200);
    let newer = sealed(&world, &ann.openid, json!({ "nickName": "安" })).await;
    post(&world, &ann, path, newer).await.problem(409, "session_key_stale");
    // What was made with our key still opens.
    assert_eq!(post(&world, &ann, path, good).await.status, 200);

    let ann = world.phone("ann").await;
    let fresh = sealed(&world, &ann.openid, json!({ "nickName": "安" })).await;
    assert_eq!(post(&world, &ann, path, fresh).await.status, 200);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_late_login_does_not_overwrite_a_newer_session_key(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    // The first login's answer is slow, so the second one, which began later, is stored before it.
    let slow_code = world.code(&ann.openid).await;
    let slow = json!({ "path": "/sns/jscode2session", "delay_ms": 700, "contains": slow_code, "times": 1 });
    world.wechat("/faults", slow).await;
    let late = world.log_in_with(&slow_code);
    let newer = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        world.clock.advance(Duration::from_secs(1));
        let phone = world.phone("ann").await;
        let row = identity::Entity::find().one(world.ctx.db.read()).await.expect("a row").expect("an identity");
        (phone, row)
    };
    let (late, (phone, stored)) = tokio::join!(late, newer);
    assert_eq!(late.status, 200, "{late:?}");
    assert_eq!(phone.user_id, ann.user_id);
    let after = identity::Entity::find().one(world.ctx.db.read()).await.expect("a row").expect("an identity");
    assert_eq!((after.session_key, after.session_key_at), (stored.session_key, stored.session_key_at));
    world.finish().await;
}
