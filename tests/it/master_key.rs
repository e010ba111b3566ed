//! A new master key: everything is sealed anew, and the old one can go.

use base64::{Engine, engine::general_purpose::STANDARD};
use magpie::{api_key, app, clock::Clock, config::Config, master_key, secret::MasterKeys};
use reqwest::Method;
use rstest::rstest;
use sea_orm::EntityTrait;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::harness::{Kind, MASTER_KEY, World};

#[rstest]
#[tokio::test]
async fn everything_is_sealed_anew(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let (ann, _) = (world.phone("ann").await, world.phone("bob").await);
    let code = world.wechat("/phone-code", json!({ "openid": ann.openid })).await;
    let body = Some(json!({ "code": code["code"] }));
    world.call(Method::POST, "/v1/me/phone", Some(&ann.access_token), body).await;
    let made = api_key::create(&world.ctx, "signer", &["events:write".into()], None).await.expect("a key");

    // A node with both keys, then one with the new key alone.
    let new = MasterKeys::generate();
    let node = async |keys: String| {
        let config = Config::from_toml(&world.configuration().replace(MASTER_KEY, &keys)).expect("a configuration");
        app::build(config, Clock::hand(world.clock.now())).await
    };
    assert!(node(new.clone()).await.is_err(), "a lost key is noticed at start");
    let both = node(format!("{new} {MASTER_KEY}")).await.expect("a node");
    assert!(node(new.clone()).await.is_err(), "the old key still seals something");
    let done = master_key::rotate(&both, "command line").await.expect("rotated");
    assert_eq!((done.session_keys, done.phone_numbers, done.signing_secrets, done.signing_keys), (2, 1, 2, 1));
    // Run again, as after an interruption: nothing is left to do.
    assert_eq!(master_key::rotate(&both, "command line").await.expect("rotated"), master_key::Resealed::default());

    let alone = node(new.clone()).await.unwrap_or_else(|error| panic!("the old key is needed no more: {error}"));
    assert!(node(MASTER_KEY.to_owned()).await.is_err(), "and opens nothing any more");
    let id = ann.user_id.parse().expect("an id");
    let export = magpie::user::export::export(&alone, id, None, "command line").await.expect("an export");
    let number = export.phone_number.expect("a number");
    let index = magpie::user_data::phone::index(&alone.keys, &number);
    assert_eq!(export.user.phone_index, Some(index), "found by the new key's index");
    let identity = &export.identities[0];
    let context = magpie::user::session_key_context(identity.id);
    alone.keys.open(&context, identity.session_key.as_ref().expect("a session key")).expect("it opens");
    assert!(!magpie::signing_key::all(&alone).await.expect("keys").is_empty());
    let row = api_key::list(&alone, None, 1).await.expect("keys").remove(0);
    let secret = alone.keys.open(&api_key::signing_secret_context(row.id), &row.signing_secret).expect("it opens");
    assert_eq!(made.signing_secret.expose_secret(), format!("whsec_{}", STANDARD.encode(secret)));
    let entries = magpie::audit::list(&alone, &magpie::audit::Filter::default(), None, 10).await.expect("entries");
    assert_eq!(entries.iter().filter(|entry| entry.action == "master_key.rotated").count(), 2);
    for ctx in [both, alone] {
        ctx.db.close().await.expect("closed");
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_changes_meanwhile_is_kept(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    for number in 0..5 {
        world.phone(&format!("user{number}")).await;
    }
    let keys = format!("{} {MASTER_KEY}", MasterKeys::generate());
    let config = Config::from_toml(&world.configuration().replace(MASTER_KEY, &keys)).expect("a configuration");
    let both = app::build(config, Clock::hand(world.clock.now())).await.expect("a node");
    // The running node goes on logging in under the old key, which all nodes still know.
    let (rotated, ()) = tokio::join!(master_key::rotate(&both, "command line"), async {
        for number in 0..5 {
            world.phone(&format!("user{number}")).await;
        }
    });
    // A node that still seals with the old key may keep it from being forgotten.
    if let Err(error) = rotated {
        assert_eq!(error.code.as_str(), "state_conflict", "{error}");
    }
    master_key::rotate(&both, "command line").await.expect("a second run takes the rest");
    for identity in entity::identity::Entity::find().all(both.db.read()).await.expect("identities") {
        let context = magpie::user::session_key_context(identity.id);
        let sealed = identity.session_key.expect("a session key");
        both.keys.open(&context, &sealed).expect("it opens");
        assert!(both.keys.is_newest(&sealed));
    }
    both.db.close().await.expect("closed");
    world.finish().await;
}
