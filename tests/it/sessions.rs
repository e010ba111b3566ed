//! Sessions end when they should, on every node, and not before.

use std::time::Duration;

use entity::{identity, session};
use magpie::user::erase;
use reqwest::Method;
use rstest::rstest;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect, Statement,
    sea_query::LockType,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{APP, Answer, Kind, Phone, World, openid};

async fn refresh(world: &World, token: &str) -> Answer {
    world.call(Method::POST, "/v1/token/refresh", None, Some(json!({ "refresh_token": token }))).await
}

async fn me(world: &World, base: &str, token: &str) -> Answer {
    world.call_at(base, Method::GET, "/v1/me/subscriptions", Some(token), None).await
}

/// The same person on another device.
async fn again(world: &World, phone: &Phone) -> Phone {
    let answer = world.log_in_with(&world.code(&phone.openid).await).await;
    let text = |name: &str| answer.body[name].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
    Phone { access_token: text("access_token"), refresh_token: text("refresh_token"), ..phone.clone() }
}

#[rstest]
#[tokio::test]
async fn a_user_sees_and_ends_their_own_sessions(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut world) = World::new(kind).await else { return };
    let elsewhere = world.second_node().await;
    let ann = world.phone("ann").await;
    let tablet = again(&world, &ann).await;
    let bob = world.phone("bob").await;
    let listed = world.call(Method::GET, "/v1/me/sessions", Some(&tablet.access_token), None).await.body;
    let sessions = listed["data"].as_array().expect("sessions").clone();
    assert_eq!(sessions.iter().map(|session| &session["current"]).collect::<Vec<_>>(), [true, false]);
    let first = sessions[1]["id"].as_str().expect("an id");

    let end = async |token: &str, id: &str| {
        world.call(Method::DELETE, &format!("/v1/me/sessions/{id}"), Some(token), None).await
    };
    end(&bob.access_token, first).await.problem(404, "not_found");
    end(&tablet.access_token, "nonsense").await.problem(404, "not_found");
    assert_eq!(me(&world, &elsewhere, &ann.access_token).await.status, 200);
    assert_eq!(end(&tablet.access_token, first).await.status, 204);
    me(&world, &elsewhere, &ann.access_token).await.problem(401, "session_ended");
    refresh(&world, &ann.refresh_token).await.problem(401, "session_ended");
    assert_eq!(me(&world, &elsewhere, &tablet.access_token).await.status, 200);
    let listed = world.call(Method::GET, "/v1/me/sessions", Some(&tablet.access_token), None).await.body;
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_session_idles_and_lasts_only_so_long(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let lifetimes = "[session]\naccess_token_ttl = \"15m\"\nrefresh_token_ttl = \"1h\"\nlongest = \"2h 5m\"\n";
    let Some(world) = World::with(kind, lifetimes).await else { return };
    let (idle, mut busy) = (world.phone("idle").await, world.phone("busy").await);
    for minutes in [50, 50] {
        world.advance(Duration::from_mins(minutes)).await;
        let answer = refresh(&world, &busy.refresh_token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        busy.refresh_token = answer.body["refresh_token"].as_str().expect("a token").to_owned();
    }
    refresh(&world, &idle.refresh_token).await.problem(401, "session_ended");
    // Five minutes before the end a token lives five minutes.
    world.advance(Duration::from_mins(20)).await;
    let last = refresh(&world, &busy.refresh_token).await;
    assert_eq!(last.body["expires_in"], 300, "{last:?}");
    let access = last.body["access_token"].as_str().expect("a token");
    assert_eq!(me(&world, &world.base, access).await.status, 200);
    world.advance(Duration::from_mins(6)).await;
    me(&world, &world.base, access).await.problem(401, "invalid_token");
    let token = last.body["refresh_token"].as_str().expect("a token");
    refresh(&world, token).await.problem(401, "session_ended");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_new_signing_key_logs_nobody_out(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut world) = World::new(kind).await else { return };
    let elsewhere = world.second_node().await;
    let ann = world.phone("ann").await;
    let kid = |token: &str| jsonwebtoken::decode_header(token).expect("a header").kid.expect("a kid");
    let public = async |base: &str| {
        let jwks = world.call_at(base, Method::GET, "/.well-known/jwks.json", None, None).await.body;
        let keys = jwks["keys"].as_array().expect("keys").clone();
        keys.iter().map(|key| key["kid"].as_str().expect("a kid").to_owned()).collect::<Vec<_>>()
    };
    let old = kid(&ann.access_token);
    let new = magpie::signing_key::rotate(&world.ctx, "command line").await.expect("a new key");
    assert_eq!(public(&world.base).await, [new.clone(), old.clone()]);
    assert_eq!(kid(&world.phone("bob").await.access_token), old, "not before it is known everywhere");
    world.advance(Duration::from_mins(2)).await;
    assert_eq!(public(&elsewhere).await, [new.clone(), old.clone()], "other nodes notice");
    world.advance(Duration::from_mins(9)).await;
    for base in [&world.base, &elsewhere] {
        let path = format!("/v1/apps/{APP}/login");
        let code = world.code(&ann.openid).await;
        let answer = world.call_at(base, Method::POST, &path, None, Some(json!({ "code": code }))).await;
        assert_eq!(kid(answer.body["access_token"].as_str().expect("a token")), new);
        assert_eq!(me(&world, base, &ann.access_token).await.status, 200, "the old key's token is still good");
    }
    // Tokens of the old key have all ended; it goes.
    world.advance(Duration::from_hours(26)).await;
    magpie::retention::clear(&world.ctx).await.expect("cleared");
    world.advance(Duration::from_mins(2)).await;
    assert_eq!(public(&elsewhere).await, std::slice::from_ref(&new));
    assert_eq!(refresh(&world, &ann.refresh_token).await.status, 200);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_ban_keeps_nobody_out_who_logs_in_beside_it_known_or_not(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let mut codes = Vec::new();
    for number in 0..24 {
        let phone = world.phone(&format!("user-{number}")).await;
        let is_banned = number % 3 == 0;
        if is_banned {
            let path = format!("/v1/users/{}/ban", phone.user_id);
            assert_eq!(world.call(Method::PUT, &path, Some(&world.key), Some(json!({}))).await.status, 200);
        }
        codes.push((world.code(&phone.openid).await, if is_banned { 403 } else { 200 }));
    }
    for number in 0..6 {
        codes.push((world.code(&openid(&format!("stranger-{number}"))).await, 200));
    }
    // All at once, so that they are stored together.
    let logins = codes.into_iter().map(|(code, expected)| {
        let request = world.http.post(format!("{}/v1/apps/{APP}/login", world.base)).json(&json!({ "code": code }));
        async move { (request.send().await.expect("an answer").status().as_u16(), expected) }
    });
    for (status, expected) in logins.collect::<JoinSet<_>>().join_all().await {
        assert_eq!(status, expected);
    }
    // A login, another of those who are not banned, and one of each stranger.
    let stored = session::Entity::find().count(world.ctx.db.read()).await.expect("a count");
    assert_eq!(stored, 24 + 16 + 6, "a session of a banned user is stored");
    world.finish().await;
}

/// How many statements of this database wait for others.
async fn waiting(world: &World) -> i64 {
    let sql = "SELECT count(*) AS waiting FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let row = world.ctx.db.read().query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await;
    row.expect("a query").expect("a row").try_get("", "waiting").expect("a number")
}

/// What another one and a login are answered that wait for the same person: the login has read them before the other one
/// is written, and writes after it.
async fn overtaken<T>(world: &World, phone: &Phone, other: impl Future<Output = T>) -> (T, Answer) {
    let code = world.code(&phone.openid).await;
    let lock = world.ctx.db.begin().await.expect("a transaction");
    identity::Entity::find().lock(LockType::Update).all(&lock).await.expect("a lock");
    let queue = async |length| {
        let until = async {
            while waiting(world).await < length {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), until).await.expect("it waits for the person");
    };
    let login = async {
        queue(1).await;
        world.log_in_with(&code).await
    };
    let release = async {
        queue(2).await;
        lock.commit().await.expect("a commit");
    };
    let (other, login, ()) = tokio::join!(other, login, release);
    (other, login)
}

#[tokio::test]
async fn a_ban_that_is_written_while_a_login_has_read_but_not_written_counts() {
    let Some(world) = World::new(Kind::Postgres).await else { return };
    let phone = world.phone("ann").await;
    let path = format!("/v1/users/{}/ban", phone.user_id);
    let ban = world.call(Method::PUT, &path, Some(&world.key), Some(json!({})));
    let (ban, login) = overtaken(&world, &phone, ban).await;
    assert_eq!(ban.status, 200, "{ban:?}");
    login.problem(403, "user_banned");
    let live = session::Entity::find().filter(session::Column::RevokedAt.is_null());
    assert_eq!(live.count(world.ctx.db.read()).await.expect("a count"), 0, "a session of a banned user lives");
    world.finish().await;
}

#[tokio::test]
async fn who_is_erased_while_a_login_has_read_but_not_written_is_a_stranger() {
    let Some(world) = World::new(Kind::Postgres).await else { return };
    let phone = world.phone("ann").await;
    let erasure = Box::pin(async {
        let tx = world.ctx.db.begin().await.expect("a transaction");
        erase::in_app(&world.ctx, &tx, (APP, &phone.openid), "test", world.clock.now()).await.expect("an erasure");
        tx.commit().await.expect("a commit");
    });
    let ((), login) = overtaken(&world, &phone, erasure).await;
    assert_eq!((login.status.as_u16(), &login.body["user"]["is_new"]), (200, &json!(true)), "{login:?}");
    assert_ne!(login.body["user"]["id"], phone.user_id.as_str());
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_banned_user_is_out_everywhere(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut world) = World::new(kind).await else { return };
    let elsewhere = world.second_node().await;
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    let path = format!("/v1/users/{}/ban", ann.user_id);
    let banned = world.call(Method::PUT, &path, Some(&world.key), Some(json!({ "because": "Resells coupons" }))).await;
    assert_eq!(banned.status, 200, "{banned:?}");
    assert!(banned.body["banned_at"].is_string() && banned.body["banned_because"] == "Resells coupons");
    for base in [&world.base, &elsewhere] {
        me(&world, base, &ann.access_token).await.problem(401, "session_ended");
        let body = Some(json!({ "code": world.code(&ann.openid).await }));
        let login = world.call_at(base, Method::POST, &format!("/v1/apps/{APP}/login"), None, body).await;
        let login = login.problem(403, "user_banned");
        assert!(!login.text.contains("coupons"), "the reason is for operators");
        assert_eq!(me(&world, base, &bob.access_token).await.status, 200);
    }
    refresh(&world, &ann.refresh_token).await.problem(401, "session_ended");

    // Somebody who turns out to be the banned person is banned, too.
    for phone in [&ann, &bob] {
        let login = world.wechat("/login-code", json!({ "openid": phone.openid, "unionid": "uSame" })).await;
        world.log_in_with(login["code"].as_str().expect("a code")).await.problem(403, "user_banned");
    }
    me(&world, &world.base, &bob.access_token).await.problem(401, "session_ended");

    let lifted = world.call(Method::DELETE, &path, Some(&world.key), None).await;
    assert_eq!((lifted.status.as_u16(), &lifted.body["banned_at"]), (200, &Value::Null), "{lifted:?}");
    again(&world, &ann).await;
    let audit = world.get(&format!("/v1/audit?subject={}", ann.user_id)).await.body;
    let actions: Vec<_> = audit["data"].as_array().expect("entries").iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["user.unbanned", "user.banned"]);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn only_our_own_access_tokens_pass(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    let parts: Vec<_> = ann.access_token.split('.').collect();
    let decode = |part: &str| {
        let bytes = magpie::secret::from_base64_url(part).expect("base64");
        serde_json::from_slice::<Value>(&bytes).expect("JSON")
    };
    let (header, claims) = (decode(parts[0]), decode(parts[1]));
    assert_eq!((&header["alg"], &header["typ"]), (&json!("ES256"), &json!("at+jwt")));
    for claim in ["iss", "aud", "exp", "sub", "jti", "sid", "app"] {
        assert!(!claims[claim].is_null(), "{claim} is missing: {claims}");
    }
    let keys = magpie::signing_key::all(&world.ctx).await.expect("keys");
    let ours = Header { kid: Some(keys[0].kid.clone()), typ: Some("at+jwt".into()), ..Header::new(Algorithm::ES256) };
    let sign = |header: &Header, change: (&str, Value)| {
        let mut claims = claims.clone();
        claims[change.0] = change.1;
        let part = |said: Value| magpie::secret::base64_url(said.to_string().as_bytes());
        let said = format!("{}.{}", part(json!(header)), part(claims));
        let signature = keys[0].sign(&said).expect("a signature");
        format!("{said}.{}", magpie::secret::base64_url(&signature))
    };
    assert_eq!(me(&world, &world.base, &sign(&ours, ("jti", json!("other")))).await.status, 200);
    let bob = world.phone("bob").await;
    let bobs = decode(bob.access_token.split('.').nth(1).expect("claims"));
    for (name, token) in [
        ("another issuer", sign(&ours, ("iss", json!("https://evil.example")))),
        ("another audience", sign(&ours, ("aud", json!("https://evil.example")))),
        ("over", sign(&ours, ("exp", json!(1)))),
        ("no number", sign(&ours, ("exp", json!("never")))),
        ("no subject", sign(&ours, ("sub", Value::Null))),
        ("another app", sign(&ours, ("app", json!("wxaccount0000001")))),
        ("another type", sign(&Header { typ: Some("JWT".into()), ..ours.clone() }, ("jti", json!("x")))),
        ("another key", sign(&Header { kid: Some("unknown".into()), ..ours.clone() }, ("jti", json!("x")))),
        ("symmetric", {
            let header = Header { alg: Algorithm::HS256, ..ours.clone() };
            encode(&header, &claims, &EncodingKey::from_secret(keys[0].jwk.x.as_bytes())).expect("a token")
        }),
        ("unsigned", {
            let none = magpie::secret::base64_url(json!({ "alg": "none", "kid": keys[0].kid }).to_string().as_bytes());
            format!("{none}.{}.", parts[1])
        }),
        ("somebody else's claims", {
            let other = magpie::secret::base64_url(bobs.to_string().as_bytes());
            format!("{}.{other}.{}", parts[0], parts[2])
        }),
    ] {
        let answer = me(&world, &world.base, &token).await;
        assert_eq!((answer.status.as_u16(), &answer.body["code"]), (401, &json!("invalid_token")), "{name}");
        assert!(!answer.text.contains(&token));
    }
    world.finish().await;
}
