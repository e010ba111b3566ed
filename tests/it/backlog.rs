//! What has gathered while nobody swept is dealt with at once, however much it is.

use entity::{NotificationId, Timestamp, notification};
use magpie::notification::sweep;
use rstest::rstest;
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::harness::{Kind, World};

/// More than two rounds take.
const MANY: u64 = 1_101;

#[rstest]
#[tokio::test]
async fn one_turn_of_the_sweep_takes_all_that_is_due(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "no_credit": "wait" })).await;
    let ann = world.phone("ann").await;
    world.event("1", ann.user_id.as_str()).await;
    let (db, stop) = (world.ctx.db.write(), CancellationToken::new());
    let one = notification::Entity::find().one(db).await.expect("a query").expect("a row");
    let over = Timestamp(world.clock.now().0 - 1);
    let numbers: Vec<_> = (0..MANY).collect();
    for numbers in numbers.chunks(100) {
        let rows = numbers.iter().map(|_| {
            let id = NotificationId(uuid::Uuid::now_v7());
            notification::Model { id, event_id: None, expires_at: over, ..one.clone() }.into_active_model()
        });
        notification::Entity::insert_many(rows).exec_without_returning(db).await.expect("rows");
    }
    let expired = async || {
        let rows = notification::Entity::find().filter(notification::Column::State.eq(notification::State::Expired));
        rows.count(db).await.expect("a count")
    };
    sweep::sweep_all(&world.ctx, &stop).await.expect("swept");
    assert_eq!(expired().await, MANY, "what is not due yet stays");
    // A node that stops leaves the rest to others.
    let change = notification::ActiveModel {
        state: sea_orm::ActiveValue::Set(notification::State::Waiting),
        ..Default::default()
    };
    notification::Entity::update_many().set(change).exec(db).await.expect("waiting again");
    stop.cancel();
    sweep::sweep_all(&world.ctx, &stop).await.expect("stopped");
    assert_eq!(expired().await, 0);
    world.finish().await;
}
