//! In which order the messages of one user go.

use std::time::Duration;

use entity::notification;
use magpie::notification::claim::{self, Lease, Look};
use reqwest::Method;
use rstest::rstest;
use sea_orm::{ActiveValue::Set, ColumnTrait, DbBackend, EntityTrait, QueryFilter};
use serde_json::json;
use wechat_sandbox::DEMO_APP_ID;

use crate::{
    fleet::Fleet,
    harness::{APP, Kind, World},
};

/// As they are told; the first goes at the rule's priority, 0.
const PRIORITIES: [Option<i32>; 6] = [None, Some(-5), Some(50), Some(10), Some(60), Some(-100)];
/// The numbers of the messages as they are to arrive.
const MOST_URGENT_FIRST: [&str; 6] = ["4", "2", "3", "0", "1", "5"];

#[rstest]
#[tokio::test]
async fn the_most_urgent_goes_first_on_two_nodes(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut fleet) = Fleet::new(kind, "").await else { return };
    fleet.start(&[]).await;
    if kind == Kind::Postgres {
        fleet.start(&[]).await;
    }
    let people = fleet.people(0, 12, PRIORITIES.len()).await;
    let app = format!("/v1/apps/{DEMO_APP_ID}");
    let because = json!({ "because": "the messages are to gather" });
    let paused = fleet.call(0, Method::POST, &format!("{app}/pause"), Some(because)).await.expect("an answer");
    assert_eq!(paused.0, 200, "{paused:?}");
    let to: Vec<_> = people.iter().map(|openid| format!("openid:{DEMO_APP_ID}/{openid}")).collect();
    for (number, priority) in PRIORITIES.iter().enumerate() {
        let mut event = json!({
            "source": "shop", "id": number.to_string(), "type": "order.shipped", "to": to,
            "data": { "no": number.to_string(), "item": "苹果", "at": "2026-01-02 10:00" },
        });
        if let Some(priority) = priority {
            event["priority"] = json!(priority);
        }
        let told = fleet.call(0, Method::POST, "/v1/events", Some(event)).await.expect("an answer");
        assert_eq!(told.0, 202, "{told:?}");
    }
    assert_eq!(fleet.arrived().await, 0);
    fleet.call(0, Method::POST, &format!("{app}/resume"), Some(json!({}))).await.expect("an answer");
    fleet.settle(0).await;
    let messages = fleet.wechat(Method::GET, "/messages", None).await;
    let messages = messages["messages"].as_array().expect("messages");
    for openid in &people {
        let theirs = messages.iter().filter(|message| message["openid"] == openid.as_str());
        let numbers: Vec<_> = theirs.map(|message| message["data"]["character_string1"]["value"].clone()).collect();
        assert_eq!(numbers, MOST_URGENT_FIRST);
    }
}

/// What the story above meets now and then.
#[tokio::test]
async fn a_message_waits_for_its_users_more_urgent_one() {
    let Some(world) = World::new(Kind::Postgres).await else { return };
    world.rule(json!({})).await;
    let (ann, bob) = (world.ready("ann", 2).await, world.ready("bob", 1).await);
    for (id, phone, priority) in [("urgent", &ann, 10), ("anns", &ann, 0), ("bobs", &bob, 0)] {
        let mut event = crate::harness::shipped(id, phone.user_id.as_str());
        event["priority"] = json!(priority);
        assert_eq!(world.post("/v1/events", event).await.status, 202);
    }
    let (db, now) = (world.ctx.db.write(), world.ctx.clock.now());
    // The level of the urgent one was looked at while a call to its user was under way, which has ended since.
    let claimed = async || {
        let lease = Lease { token: uuid::Uuid::now_v7(), until: now };
        let look = Look { app_id: APP, priority: 0, is_highest: false, most: 10, paused_templates: &[], now, lease };
        let statement = claim::statement(DbBackend::Postgres, &look);
        let rows = notification::Entity::find().from_raw_sql(statement).all(db).await.expect("a claim");
        rows.into_iter().map(|row| row.openid).collect::<Vec<_>>()
    };
    assert_eq!(claimed().await, [bob.openid]);
    // One that is put off holds up nobody.
    let later = notification::ActiveModel { due_at: Set(now + Duration::from_mins(1)), ..Default::default() };
    let urgent = notification::Entity::update_many().set(later).filter(notification::Column::Priority.eq(10));
    urgent.exec(db).await.expect("put off");
    assert!(claimed().await.contains(&ann.openid));
    let unclaimed = notification::ActiveModel {
        state: Set(notification::State::Pending),
        lease_token: Set(None),
        lease_until: Set(None),
        ..Default::default()
    };
    notification::Entity::update_many().set(unclaimed).exec(db).await.expect("as before the claims");
    world.finish().await;
}
