//! Logging in, staying logged in, logging out.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use entity::identity;
use reqwest::Method;
use rstest::rstest;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, IntoActiveModel};
use serde_json::{Value, json};

use crate::harness::{APP, Kind, World, openid};

macro_rules! world {
    ($kind:expr) => {
        match World::new($kind).await {
            Some(world) => world,
            None => return,
        }
    };
}

#[rstest]
#[tokio::test]
async fn a_code_becomes_a_session(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let world = world!(kind);
    let code = world.code(&openid("ann")).await;
    let first = world.log_in_with(&code).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.headers["cache-control"], "no-store");
    assert_eq!(first.body["token_type"], "Bearer");
    assert_eq!(first.body["expires_in"], 900);
    assert_eq!(first.body["user"]["is_new"], true);
    assert!(!first.text.contains("session_key"));

    // The claims are those other backends rely on.
    let token = first.body["access_token"].as_str().expect("a token");
    let claims = claims(token);
    assert_eq!(claims["sub"], first.body["user"]["id"]);
    assert_eq!(claims["app"], APP);
    for claim in ["iss", "aud", "exp", "jti", "sid"] {
        assert!(!claims[claim].is_null(), "{claim}");
    }
    verify_with_jwks(&world, token).await;

    // The second login of the same person is no new user.
    let again = world.phone("ann").await;
    assert_eq!(Some(again.user_id.as_str()), first.body["user"]["id"].as_str());
    world.finish().await;
}

/// As another backend would: with nothing but the public keys.
async fn verify_with_jwks(world: &World, token: &str) {
    let jwks = world.call(Method::GET, "/.well-known/jwks.json", None, None).await;
    let jwks: jsonwebtoken::jwk::JwkSet = serde_json::from_value(jwks.body).expect("a key set");
    let kid = jsonwebtoken::decode_header(token).expect("a header").kid.expect("a key id");
    let key = jsonwebtoken::DecodingKey::from_jwk(jwks.find(&kid).expect("its key")).expect("a key");
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&[&world.ctx.config.public_url]);
    validation.validate_exp = false;
    jsonwebtoken::decode::<Value>(token, &key, &validation).expect("a genuine token");
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64")).expect("claims")
}

#[rstest]
#[tokio::test]
async fn the_session_key_is_sealed_and_a_late_login_does_not_bring_back_an_older_one(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let world = world!(kind);
    world.phone("ann").await;
    let before = identity::Entity::find().one(world.ctx.db.read()).await.expect("a row").expect("an identity");
    let sealed = before.session_key.clone().expect("a session key");
    let context = magpie::user::session_key_context(before.id);
    let opened = world.ctx.keys.open(&context, &sealed).expect("it opens");
    // 16 bytes in base64, and not a trace of them in the row.
    assert_eq!(opened.len(), 24);
    assert!(!sealed.windows(8).any(|part| opened.windows(8).any(|plain| plain == part)));

    // A login that began later replaces the key.
    world.advance(Duration::from_mins(1)).await;
    world.phone("ann").await;
    let after = identity::Entity::find().one(world.ctx.db.read()).await.expect("a row").expect("an identity");
    assert_ne!(after.session_key, before.session_key);
    assert!(after.session_key_at > before.session_key_at);

    // One that began earlier, and took so long that a later one was there first, does not.
    let mut later = after.clone().into_active_model();
    later.session_key_at = Set(after.session_key_at.map(|at| at + Duration::from_secs(5)));
    let later = later.update(world.ctx.db.write()).await.expect("the row");
    world.phone("ann").await;
    let kept = identity::Entity::find().one(world.ctx.db.read()).await.expect("a row").expect("an identity");
    assert_eq!((kept.session_key, kept.session_key_at), (later.session_key, later.session_key_at));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_same_code_gives_the_same_session_for_a_minute_on_any_node(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let mut world = world!(kind);
    let other = world.second_node().await;
    let code = world.code(&openid("ann")).await;
    // A double tap: both requests at once.
    let (first, second) = tokio::join!(world.log_in_with(&code), world.log_in_with(&code));
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.body["refresh_token"], second.body["refresh_token"]);
    assert_eq!(second.body["user"]["is_new"], true);
    assert_eq!(world.calls_of("/sns/jscode2session").await, 1);

    // Another node, which remembers nothing.
    let path = format!("/v1/apps/{APP}/login");
    let body = json!({ "code": code });
    let third = world.call_at(&other, Method::POST, &path, None, Some(body.clone())).await;
    assert_eq!(third.body["refresh_token"], first.body["refresh_token"], "{third:?}");
    assert_eq!(third.body["user"]["is_new"], true);

    world.advance(Duration::from_secs(61)).await;
    world.log_in_with(&code).await.problem(409, "login_code_used");
    world.call_at(&other, Method::POST, &path, None, Some(body)).await.problem(409, "login_code_used");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_repeated_code_does_not_revive_an_ended_session(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let world = world!(kind);
    let code = world.code(&openid("ann")).await;
    let login = world.log_in_with(&code).await;
    let token = login.body["access_token"].as_str().expect("a token");
    assert_eq!(world.call(Method::POST, "/v1/logout", Some(token), None).await.status, 204);
    world.log_in_with(&code).await.problem(409, "login_code_used");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn every_refusal_of_wechat_has_its_own_answer(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with(kind, "[delivery]\nrequest_timeout = \"300ms\"\n").await else { return };
    let fault = async |fault: Value| {
        let mut fault = fault;
        fault["path"] = "/sns/jscode2session".into();
        world.wechat("/faults", fault).await;
        world.log_in_with(&world.code(&openid("ann")).await).await
    };
    for (errcode, status, code) in [
        (40029, 400, "login_code_invalid"),
        (40163, 409, "login_code_used"),
        (40226, 403, "login_refused"),
        (45011, 429, "login_too_often"),
        (-1, 503, "wechat_busy"),
        (40125, 502, "wechat_app_error"),
        (99999, 422, "wechat_refused"),
    ] {
        let answer = fault(json!({ "errcode": errcode })).await;
        answer.problem(status, code);
        assert_eq!(answer.body["wechat"]["errcode"], errcode);
        assert!(answer.body["wechat"]["rid"].is_string(), "{answer:?}");
        assert_eq!(answer.headers.contains_key("retry-after"), [429, 503].contains(&status), "{answer:?}");
        world.advance(Duration::from_secs(2)).await;
    }
    fault(json!({ "body": "<html>502 Bad Gateway</html>" })).await.problem(502, "wechat_bad_answer");
    fault(json!({ "status": 502, "body": "" })).await.problem(502, "wechat_bad_answer");
    fault(json!({ "truncate": 20 })).await.problem(504, "wechat_timeout");
    fault(json!({ "drop": "after" })).await.problem(504, "wechat_timeout");
    fault(json!({ "delay_ms": 900 })).await.problem(504, "wechat_timeout");
    // After all that the next login works.
    world.phone("ann").await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_wrong_request_is_explained(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let world = world!(kind);
    world.log_in_with("").await.problem(400, "invalid_request");
    world.log_in_with("made-up").await.problem(400, "login_code_invalid");
    let path = "/v1/apps/wxnobody/login";
    world.call(Method::POST, path, None, Some(json!({ "code": "x" }))).await.problem(404, "app_not_found");
    let path = format!("/v1/apps/{APP}/login");
    let answer = world.call(Method::POST, &path, None, Some(json!({ "kode": "x" }))).await;
    assert_eq!(answer.problem(400, "invalid_request").body["errors"][0]["pointer"], "/kode");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_refresh_token_rotates_and_a_replay_ends_the_session(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let world = world!(kind);
    let phone = world.phone("ann").await;
    let refresh = async |token: &str| {
        world.call(Method::POST, "/v1/token/refresh", None, Some(json!({ "refresh_token": token }))).await
    };
    let second = refresh(&phone.refresh_token).await;
    assert_eq!(second.status, 200, "{second:?}");
    let second_token = second.body["refresh_token"].as_str().expect("a token");
    assert_ne!(second_token, phone.refresh_token);

    // The answer was lost, the front end asks again: the same new token.
    world.advance(Duration::from_secs(29)).await;
    assert_eq!(refresh(&phone.refresh_token).await.body["refresh_token"], second_token);

    // Later it can only be a thief.
    world.advance(Duration::from_secs(5)).await;
    refresh(&phone.refresh_token).await.problem(401, "session_ended");
    refresh(second_token).await.problem(401, "session_ended");
    let me = world.call(Method::GET, "/v1/me/subscriptions", Some(&phone.access_token), None).await;
    me.problem(401, "session_ended");
    refresh("ses_made.up.token").await.problem(401, "invalid_refresh_token");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn two_refreshes_at_once_agree(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let world = world!(kind);
    let phone = world.phone("ann").await;
    let body = json!({ "refresh_token": phone.refresh_token });
    let refresh = || world.call(Method::POST, "/v1/token/refresh", None, Some(body.clone()));
    let (a, b, c) = tokio::join!(refresh(), refresh(), refresh());
    for answer in [&a, &b, &c] {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body["refresh_token"], a.body["refresh_token"]);
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn logging_out_counts_at_once_on_every_node(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let mut world = world!(kind);
    let other = world.second_node().await;
    let phone = world.phone("ann").await;
    let me = "/v1/me/subscriptions";
    assert_eq!(world.call_at(&other, Method::GET, me, Some(&phone.access_token), None).await.status, 200);
    assert_eq!(world.call(Method::POST, "/v1/logout", Some(&phone.access_token), None).await.status, 204);
    world.call_at(&other, Method::GET, me, Some(&phone.access_token), None).await.problem(401, "session_ended");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_access_token_ends_and_a_forged_one_never_works(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let world = world!(kind);
    let phone = world.phone("ann").await;
    let me = async |token: &str| world.call(Method::GET, "/v1/me/subscriptions", Some(token), None).await;
    assert_eq!(me(&phone.access_token).await.status, 200);
    let answer = me(&format!("{}x", phone.access_token)).await;
    assert_eq!(answer.problem(401, "invalid_token").headers["www-authenticate"], "Bearer error=\"invalid_token\"");
    // Unsigned, as in the oldest attack on JWTs.
    let payload = phone.access_token.split('.').nth(1).expect("a payload");
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
    me(&format!("{header}.{payload}.")).await.problem(401, "invalid_token");
    world.advance(Duration::from_mins(15)).await;
    me(&phone.access_token).await.problem(401, "invalid_token");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn one_person_in_two_apps_is_one_user(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    // The unionid comes with the second login only: the app was bound to an Open Platform account since.
    let world = world!(kind);
    let ann = world.phone("ann").await;
    let answer = world.wechat("/login-code", json!({ "openid": openid("ann"), "unionid": "uAnn" })).await;
    let login = world.log_in_with(answer["code"].as_str().expect("a code")).await;
    assert_eq!(login.body["user"]["id"], ann.user_id.as_str());

    // A second identity with the same unionid belongs to the same user.
    let answer = world.wechat("/login-code", json!({ "openid": openid("ann2"), "unionid": "uAnn" })).await;
    let login = world.log_in_with(answer["code"].as_str().expect("a code")).await;
    assert_eq!(login.body["user"]["id"], ann.user_id.as_str());
    assert_eq!(login.body["user"]["is_new"], false);

    // Two users that turn out to be one: the older survives.
    let bob = world.phone("bob").await;
    assert_ne!(bob.user_id, ann.user_id);
    let answer = world.wechat("/login-code", json!({ "openid": openid("bob"), "unionid": "uAnn" })).await;
    let login = world.log_in_with(answer["code"].as_str().expect("a code")).await;
    assert_eq!(login.body["user"]["id"], ann.user_id.as_str());
    world.finish().await;
}
