//! The limit of WeChat's minute: the app goes slower, and bit by bit fast again.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use entity::notification;
use magpie::clock::Stopwatch;
use rstest::rstest;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::json;

use crate::harness::{Kind, SEND, World};

const PER_MINUTE: i64 = 20;
const PEOPLE: i64 = 50;

/// What the worker logs on this thread, where all of a story's tasks run.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn heard(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }

    /// The paces so far, in calls a second.
    fn paces(&self) -> Vec<u32> {
        let text = String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned();
        let told = text.lines().filter(|line| line.contains("delivery.pace"));
        told.filter_map(|line| line.rsplit_once("per_second=")?.1.trim().parse().ok()).collect()
    }
}

/// A moment passes, on the clock that is moved by hand as well.
async fn moment(world: &World) {
    const MOMENT: Duration = Duration::from_millis(20);
    tokio::time::sleep(MOMENT).await;
    world.clock.advance(MOMENT);
}

/// Waits until WeChat was asked so often; gives how long that took.
async fn until_called(world: &World, calls: i64) -> Duration {
    let began = Stopwatch::start();
    loop {
        let now = world.calls_of(SEND).await;
        if now >= calls {
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_mins(1), "{now} calls, not {calls}");
        moment(world).await;
    }
}

#[rstest]
#[tokio::test]
async fn an_app_slows_down_at_the_minutes_limit_and_recovers(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let log = Log::default();
    let _heard = log.heard();
    world.rule(json!({})).await;
    let mut to = Vec::new();
    for number in 0..PEOPLE {
        let phone = world.phone(&format!("p{number}")).await;
        world.accept(&phone, "first").await;
        world.accept(&phone, "second").await;
        to.push(json!(phone.user_id));
    }
    world.knobs(json!({ "quotas": { SEND: { "per_minute": PER_MINUTE } } })).await;
    let worker = world.work();
    let told = world.event("1", json!(to)).await;
    assert_eq!(told.body["notifications"].as_array().map(Vec::len), Some(50), "{told:?}");
    until_called(&world, PER_MINUTE + 1).await;
    // Everybody else waits for the next minute, and no attempt is lost.
    let waiting = async || {
        let rows = notification::Entity::find().filter(notification::Column::State.eq(notification::State::Pending));
        let rows = rows.filter(notification::Column::AttemptsUsed.eq(0)).count(world.ctx.db.read());
        rows.await.expect("a count")
    };
    let began = Stopwatch::start();
    while log.paces().is_empty() || waiting().await != 30 {
        assert!(began.elapsed() < Duration::from_secs(20), "{} wait, {:?}", waiting().await, log.paces());
        moment(&world).await;
    }
    let slow = log.paces()[0];
    assert!(slow <= 25, "half of the fifty that went through in the first second: {slow}");
    let met = world.calls_of(SEND).await;
    assert!(met <= PEOPLE, "each was tried once at most");

    // The next minute has room for all. They go out at the pace, although all are due.
    world.knobs(json!({ "quotas": {} })).await;
    world.advance(Duration::from_secs(100)).await;
    let took = until_called(&world, met + 30).await;
    let burst = 1 + slow / 10;
    let least = Duration::from_secs(1) * (30 - burst) / slow;
    assert!(took > least.mul_f64(0.7), "{took:?} for 30 messages at {slow} a second");

    // Without another refusal the pace doubles after a while.
    let began = Stopwatch::start();
    let mut number = 2;
    while !log.paces().iter().any(|pace| *pace >= slow * 2) {
        assert!(began.elapsed() < Duration::from_secs(40), "it stays slow: {:?}", log.paces());
        for _ in 0..15 {
            moment(&world).await;
        }
        if number < 2 + PEOPLE {
            world.event(&number.to_string(), to[usize::try_from(number).expect("small") - 2].clone()).await;
            number += 1;
        }
    }
    world.ctx.stop.cancel();
    worker.await.expect("the worker ends");
    world.finish().await;
}
