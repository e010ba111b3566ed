//! Events for many people: everybody is told once, whatever comes between.

use entity::{
    IdentityId, Timestamp, UserId, consent as ledger, credit, fan_out, fan_out_portion, identity, notification,
    template, user,
};
use magpie::{event::fan_out::step, worker};
use reqwest::Method;
use rstest::rstest;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};

use crate::harness::{APP, Kind, TEMPLATE, World, shipped};

/// People who once logged in and agreed to one message each; more than a story would log in by hand. Gives the
/// openids.
async fn people(world: &World, count: usize) -> Vec<String> {
    let (db, now) = (world.ctx.db.write(), world.clock.now());
    let mut openids = Vec::new();
    let numbers: Vec<_> = (0..count).collect();
    for numbers in numbers.chunks(100) {
        let (mut users, mut identities, mut credits, mut entries) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for number in numbers {
            let (user_id, id) = (UserId(uuid::Uuid::now_v7()), IdentityId(uuid::Uuid::now_v7()));
            let openid = format!("oCrowd{number:0>22}");
            users.push(user::ActiveModel {
                id: Set(user_id),
                created_at: Set(now),
                updated_at: Set(now),
                ..Default::default()
            });
            identities.push(identity::ActiveModel {
                id: Set(id),
                user_id: Set(user_id),
                app_id: Set(APP.into()),
                openid: Set(openid.clone()),
                created_at: Set(now),
                ..Default::default()
            });
            credits.push(balance(id, now));
            entries.push(entry(id, now));
            openids.push(openid);
        }
        user::Entity::insert_many(users).exec_without_returning(db).await.expect("users");
        identity::Entity::insert_many(identities).exec_without_returning(db).await.expect("identities");
        credit::Entity::insert_many(credits).exec_without_returning(db).await.expect("balances");
        ledger::Entity::insert_many(entries).exec_without_returning(db).await.expect("entries");
    }
    openids
}

fn balance(identity_id: IdentityId, now: Timestamp) -> credit::ActiveModel {
    credit::Model {
        identity_id,
        template_id: TEMPLATE.into(),
        kind: template::Kind::OneTime,
        credits: 1,
        last_result: ledger::Kind::Accept,
        updated_at: now,
    }
    .into_active_model()
}

fn entry(identity_id: IdentityId, now: Timestamp) -> ledger::ActiveModel {
    ledger::Model {
        id: entity::ConsentId(uuid::Uuid::now_v7()),
        identity_id,
        template_id: TEMPLATE.into(),
        kind: ledger::Kind::Accept,
        delta: 1,
        source: ledger::Source::Operator,
        report_id: None,
        twin: None,
        notification_id: None,
        tapped_at: now,
        created_at: now,
    }
    .into_active_model()
}

async fn progress(world: &World, event_id: &Value) -> Value {
    world.get(&format!("/v1/events/{}", event_id.as_str().expect("an id"))).await.body
}

async fn count(world: &World) -> u64 {
    notification::Entity::find().count(world.ctx.db.read()).await.expect("a count")
}

#[rstest]
#[tokio::test]
async fn everybody_who_agreed_is_told_once(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut world) = World::new(kind).await else { return };
    world.second_node().await;
    // Nothing is sent here: the simulator knows none of these people.
    world.rule(json!({ "delay_seconds": 3600 })).await;
    people(&world, 1200).await;
    let bob = world.phone("bob").await;
    let answer = world.event("1", "audience:consented").await;
    assert_eq!((answer.status.as_u16(), &answer.body["notifications"]), (202, &json!([])), "{answer:?}");
    assert_eq!(answer.body["fan_out"], json!({ "done": 0, "total": 1200, "unreached": 0, "state": "running" }));
    assert_eq!(step(&world.ctx).await.expect("a portion"), 500);
    assert_eq!(progress(&world, &answer.body["event_id"]).await["fan_out"]["done"], 500);
    // Two nodes at once take turns.
    let (here, there) = tokio::join!(step(&world.ctx), step(world.second_context()));
    assert!(here.is_ok() && there.is_ok(), "{here:?} {there:?}");
    world.drain().await;
    let done = progress(&world, &answer.body["event_id"]).await;
    assert_eq!(done["fan_out"], json!({ "done": 1200, "total": 1200, "unreached": 0, "state": "done" }));
    assert_eq!(done["states"], json!({ "pending": 1200 }), "{done}");
    assert_eq!(world.credits(&bob).await, 0, "who did not agree is not told");
    let left = credit::Entity::find().filter(credit::Column::Credits.gt(0)).count(world.ctx.db.read()).await;
    assert_eq!(left.expect("a count"), 0, "each credit is set aside");
    // The same event again tells how far it is; nobody is told twice.
    let again = world.event("1", "audience:consented").await;
    assert_eq!((&again.body["status"], &again.body["fan_out"]["done"]), (&json!("duplicate"), &json!(1200)));
    world.drain().await;
    assert_eq!(count(&world).await, 1200);
    crate::consent::assert_ledger_adds_up(&world).await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_long_list_is_worked_off_after_a_crash(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "delay_seconds": 3600 })).await;
    let mut to: Vec<_> = people(&world, 700).await.iter().map(|openid| format!("openid:{APP}/{openid}")).collect();
    to.push("external:nobody".into());
    // The same person under another name, in another portion.
    let first = identity::Entity::find().one(world.ctx.db.read()).await.expect("a row").expect("a person");
    to.push(first.user_id.to_string());
    let answer = world.event("1", json!(to)).await;
    assert_eq!(answer.body["fan_out"]["total"], 702, "{answer:?}");
    // Somebody leaves before their turn comes.
    let gone = to[650].rsplit('/').next().expect("an openid").to_owned();
    let event = json!({ "event": "user_authorization_cancellation", "openid": gone, "fields": { "OpenID": gone } });
    assert_eq!(world.wechat("/events", event).await["delivered"], true);
    magpie::callback::process_stored(&world.ctx).await.expect("a callback");
    let portions = fan_out_portion::Entity::find().all(world.ctx.db.read()).await.expect("rows");
    assert!(portions.iter().all(|row| !row.recipients.0.iter().any(|reference| reference.contains(&gone))));
    step(&world.ctx).await.expect("a portion");
    let names = fan_out_portion::Entity::find().count(world.ctx.db.read()).await.expect("a count");
    assert_eq!((count(&world).await, names), (500, 1), "what is done is forgotten");
    // A crash in the middle of a portion leaves nothing of it: the progress is part of its commit.
    let broken = world.ctx.db.begin().await.expect("a transaction");
    fan_out_portion::Entity::delete_many().exec(&broken).await.expect("a change");
    drop(broken);
    world.drain().await;
    let done = progress(&world, &answer.body["event_id"]).await;
    assert_eq!(done["fan_out"], json!({ "done": 702, "total": 702, "unreached": 2, "state": "done" }), "{done}");
    assert_eq!(done["states"], json!({ "pending": 699 }));
    assert_eq!(worker::step(&world.ctx).await.expect("a step"), 0, "nothing is left to do");

    // Too many, and what all would fail of, is told at once.
    let too_many: Vec<_> = (0..100_001).map(|_| "external:a").collect();
    let mut event = shipped("2", json!(too_many));
    event["data"] = Value::Null;
    let refused = world.post("/v1/events", event).await;
    let fault = &refused.problem(400, "invalid_request").body["errors"][0];
    assert!(fault["reason"].to_string().contains("at most 100000") && fault["pointer"] == "/to", "{fault}");
    let mut bad = shipped("3", "audience:consented");
    bad["data"] = json!({});
    let bad = world.post("/v1/events", bad).await;
    let outcome = &bad.body["notifications"][0];
    assert_eq!((&outcome["state"], &outcome["reason"]), (&json!("failed"), &json!("bad_data")), "{bad:?}");
    assert_eq!((&outcome["recipient"], &bad.body["fan_out"]), (&json!("audience:consented"), &Value::Null));
    let preview = world.post("/v1/events/preview", shipped("4", "audience:consented")).await.body;
    assert_eq!(preview["data"][0]["recipient"], "audience:consented", "{preview}");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_fan_out_is_paused_and_cancelled(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "delay_seconds": 3600 })).await;
    people(&world, 1100).await;
    let answer = world.event("1", "audience:consented").await;
    let path = format!("/v1/events/{}", answer.body["event_id"].as_str().expect("an id"));
    step(&world.ctx).await.expect("a portion");
    assert_eq!(world.post(&format!("{path}/pause"), json!({})).await.body["state"], "paused");
    world.drain().await;
    assert_eq!(count(&world).await, 500, "nobody else is told");
    assert_eq!(world.post(&format!("{path}/resume"), json!({})).await.body["state"], "running");
    step(&world.ctx).await.expect("a portion");
    assert_eq!(count(&world).await, 1000);
    let cancelled = world.post(&format!("{path}/cancel"), json!({})).await;
    assert_eq!(cancelled.body["state"], "cancelling", "{cancelled:?}");
    world.drain().await;
    let end = world.get(&path).await.body;
    assert_eq!(
        (&end["fan_out"]["state"], &end["states"]),
        (&json!("cancelled"), &json!({ "cancelled": 1000 })),
        "{end}"
    );
    let left = credit::Entity::find().filter(credit::Column::Credits.eq(1)).count(world.ctx.db.read()).await;
    assert_eq!(left.expect("a count"), 1100, "each credit is given back");
    crate::consent::assert_ledger_adds_up(&world).await;
    assert_eq!(world.post(&format!("{path}/resume"), json!({})).await.body["state"], "cancelled");
    let states: Vec<_> = fan_out::Entity::find().all(world.ctx.db.read()).await.expect("rows");
    assert_eq!(states.len(), 1);
    let small = world.event("2", "external:nobody").await;
    let small = format!("/v1/events/{}/pause", small.body["event_id"].as_str().expect("an id"));
    world.post(&small, json!({})).await.problem(404, "not_found");
    world.call(Method::POST, &format!("{path}/pause"), None, None).await.problem(401, "missing_credentials");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_list_of_a_hundred_thousand_is_taken_at_once(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "delay_seconds": 3600 })).await;
    let mut to: Vec<_> = people(&world, 600).await.iter().map(|openid| format!("openid:{APP}/{openid}")).collect();
    to.extend((600..100_000).map(|number| format!("openid:{APP}/oNobody{number:0>21}")));
    let event = shipped("1", json!(to));
    assert!(event.to_string().len() > 5_000_000, "more than other requests may hold");
    let began = magpie::clock::Stopwatch::start();
    let answer = world.post("/v1/events", event).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    // A debug build on a busy machine; docs/performance.md has the real figure.
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(answer.body["fan_out"], json!({ "done": 0, "total": 100_000, "unreached": 0, "state": "running" }));
    for done in [500, 1_000] {
        step(&world.ctx).await.expect("a portion");
        assert_eq!(progress(&world, &answer.body["event_id"]).await["fan_out"]["done"], done);
    }
    let now = progress(&world, &answer.body["event_id"]).await;
    assert_eq!((&now["fan_out"]["unreached"], &now["states"]), (&json!(400), &json!({ "pending": 600 })));
    let path = format!("/v1/events/{}/cancel", answer.body["event_id"].as_str().expect("an id"));
    assert_eq!(world.post(&path, json!({})).await.status, 200);
    world.drain().await;
    assert_eq!(fan_out_portion::Entity::find().count(world.ctx.db.read()).await.expect("a count"), 0);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_small_fan_out_does_not_wait_for_a_large_one(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "delay_seconds": 3600 })).await;
    let to: Vec<_> = people(&world, 1100).await.iter().map(|openid| format!("openid:{APP}/{openid}")).collect();
    let large = world.event("large", json!(to)).await;
    world.advance(std::time::Duration::from_secs(1)).await;
    let small = world.event("small", json!(to[..101])).await;
    for _ in 0..2 {
        world.advance(std::time::Duration::from_secs(1)).await;
        step(&world.ctx).await.expect("a portion");
    }
    let of =
        async |answer: &crate::harness::Answer| progress(&world, &answer.body["event_id"]).await["fan_out"].clone();
    assert_eq!((&of(&small).await["state"], &of(&large).await["done"]), (&json!("done"), &json!(500)));
    world.drain().await;
    assert_eq!(of(&large).await["done"], 1100);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_worker_tells_many_people_by_itself(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    for phone in [&ann, &bob] {
        world.accept(phone, "tap").await;
    }
    // A message without a rule may be for an audience, too.
    let letter = json!({
        "app_id": APP, "template_id": TEMPLATE, "to": ["audience:consented", ann.user_id],
        "fields": { "character_string1": "NO.42", "thing2": "红富士苹果", "time3": "11:04" },
    });
    let answer = world.post("/v1/notifications", letter).await;
    assert_eq!(answer.body["fan_out"]["total"], 3, "{answer:?}");
    world.drain().await;
    for phone in [&ann, &bob] {
        assert_eq!(world.messages(&phone.openid).await.len(), 1, "each is told once");
    }
    let end = progress(&world, &answer.body["event_id"]).await;
    assert_eq!(end["fan_out"]["state"], "done", "{end}");
    world.finish().await;
}
