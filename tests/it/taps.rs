//! One tap, told by the front end and by WeChat: neither telling is lost, and none counts twice.

use std::time::Duration;

use entity::{
    Timestamp, consent,
    consent::{Kind as Said, Source},
};
use magpie::{consent::rebuild::rebuild, notification::act, worker};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use reqwest::Method;
use rstest::rstest;
use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder};
use serde_json::{Value, json};

use crate::{
    callbacks::post,
    consent::assert_ledger_adds_up,
    harness::{APP, Kind, Phone, TEMPLATE, World},
};

/// Where a sign-in outlasts the story.
async fn patient(kind: Kind) -> Option<World> {
    World::with(kind, "[session]\naccess_token_ttl = \"100h\"\n").await
}

/// WeChat's event of a tap.
fn popup(phone: &Phone, at: Timestamp, status: &str) -> Value {
    json!({
        "FromUserName": phone.openid, "CreateTime": at.0 / 1000, "MsgType": "event",
        "Event": "subscribe_msg_popup_event",
        "List": { "TemplateId": TEMPLATE, "SubscribeStatusString": status, "PopupScene": "0" },
    })
}

async fn report_at(world: &World, phone: &Phone, report_id: &str, at: Timestamp) {
    let body = json!({ "report_id": report_id, "results": { TEMPLATE: "accept" },
        "tapped_at": magpie::clock::rfc3339(at) });
    let answer = world.call(Method::POST, "/v1/me/subscriptions", Some(&phone.access_token), Some(body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn popup_at(world: &World, phone: &Phone, at: Timestamp) {
    assert_eq!(post(world, &popup(phone, at, "accept")).await, 200);
    world.drain().await;
}

async fn ledger(world: &World) -> Vec<consent::Model> {
    let query = consent::Entity::find().order_by_asc(consent::Column::Id);
    query.all(world.ctx.db.read()).await.expect("entries")
}

#[rstest]
#[tokio::test]
async fn two_tellings_of_one_tap_are_one_credit(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = patient(kind).await else { return };
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    let now = world.clock.now();
    // The report first, then the other way round, some seconds apart.
    report_at(&world, &ann, "1", now).await;
    world.advance(Duration::from_secs(4)).await;
    popup_at(&world, &ann, now).await;
    popup_at(&world, &bob, now).await;
    report_at(&world, &bob, "1", now + Duration::from_secs(2)).await;
    assert_eq!((world.credits(&ann).await, world.credits(&bob).await), (1, 1));
    let entries = ledger(&world).await;
    assert_eq!(entries.len(), 4, "both tellings are kept");
    for entry in &entries {
        let twin = entries.iter().find(|other| Some(other.id) == entry.twin).expect("a twin");
        assert_eq!((twin.twin, entry.delta + twin.delta), (Some(entry.id), 1));
        assert_ne!(twin.source, entry.source);
    }
    // What is told once counts, whoever tells it; the same telling again does not.
    let later = now + Duration::from_mins(20);
    world.advance(Duration::from_mins(20)).await;
    popup_at(&world, &ann, later).await;
    report_at(&world, &bob, "2", later).await;
    assert_eq!((world.credits(&ann).await, world.credits(&bob).await), (2, 2));
    popup_at(&world, &ann, later).await;
    report_at(&world, &bob, "2", later).await;
    assert_eq!((world.credits(&ann).await, world.credits(&bob).await), (2, 2));
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn taps_close_together_are_matched_one_to_one(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = patient(kind).await else { return };
    let ann = world.phone("ann").await;
    let start = world.clock.now();
    let at = |seconds| start + Duration::from_secs(seconds);
    world.advance(Duration::from_hours(1)).await;
    // Three taps; the phone was offline, and WeChat's telling of the second is lost.
    popup_at(&world, &ann, at(0)).await;
    popup_at(&world, &ann, at(60)).await;
    for (id, seconds) in [("c", 61), ("a", 1), ("b", 30)] {
        report_at(&world, &ann, id, at(seconds)).await;
    }
    assert_eq!(world.credits(&ann).await, 3);
    // "Always keep this choice": three reports, no event.
    for (id, seconds) in [("d", 900), ("e", 901), ("f", 902)] {
        report_at(&world, &ann, id, at(seconds)).await;
    }
    assert_eq!(world.credits(&ann).await, 6);
    // The times are too far apart to be one tap.
    report_at(&world, &ann, "g", at(1800)).await;
    popup_at(&world, &ann, at(1800 + 301)).await;
    assert_eq!(world.credits(&ann).await, 8);
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn both_tellings_at_the_same_moment_on_two_nodes(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut world) = patient(kind).await else { return };
    let other = world.second_node().await;
    let mut phones = Vec::new();
    for number in 0..12 {
        phones.push(world.phone(&format!("p{number}")).await);
    }
    let now = world.clock.now();
    for phone in &phones {
        assert_eq!(post(&world, &popup(phone, now, "accept")).await, 200);
    }
    let report = async |phone: &Phone| {
        let body = json!({ "report_id": "tap", "results": { TEMPLATE: "accept" } });
        let answer = world.call_at(&other, Method::POST, "/v1/me/subscriptions", Some(&phone.access_token), Some(body));
        assert_eq!(answer.await.status, 200);
    };
    let reports = async {
        for phone in &phones {
            report(phone).await;
        }
    };
    let ((), here, there) = tokio::join!(reports, worker::step(&world.ctx), worker::step(world.second_context()));
    assert!(here.is_ok() && there.is_ok());
    world.drain().await;
    for phone in &phones {
        assert_eq!(world.credits(phone).await, 1);
    }
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_was_taken_since_a_tap_stays_taken(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = patient(kind).await else { return };
    let ann = world.phone("ann").await;
    let start = world.clock.now();
    report_at(&world, &ann, "1", start).await;
    world.advance(Duration::from_hours(1)).await;
    let mut refused = popup(&ann, world.clock.now(), "reject");
    refused["Event"] = "subscribe_msg_change_event".into();
    assert_eq!(post(&world, &refused).await, 200);
    world.drain().await;
    assert_eq!(world.credits(&ann).await, 0);
    world.advance(Duration::from_hours(1)).await;
    // An offline phone tells late of a tap before the refusal; so does WeChat.
    report_at(&world, &ann, "2", start + Duration::from_mins(20)).await;
    popup_at(&world, &ann, start + Duration::from_mins(40)).await;
    assert_eq!(world.credits(&ann).await, 0);
    // A phone whose clock is ahead does not tap in the future.
    report_at(&world, &ann, "3", world.clock.now() + Duration::from_hours(9)).await;
    popup_at(&world, &ann, world.clock.now()).await;
    assert_eq!(world.credits(&ann).await, 1);
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

const NEWS: &str = "news_template_00000000000000000000000000001";

#[rstest]
#[tokio::test]
async fn a_long_term_template_is_switched_on_and_off(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = patient(kind).await else { return };
    let mut app = serde_json::to_value(wechat_sandbox::demo_app()).expect("an app");
    let template = json!({ "id": NEWS, "title": "通知", "kind": 3, "content": "内容:{{thing1.DATA}}" });
    app["templates"].as_array_mut().expect("templates").push(template);
    world.sandbox_call(Method::PUT, &format!("/sandbox/apps/{APP}"), Some(app)).await;
    assert_eq!(world.post(&format!("/v1/apps/{APP}/templates/sync"), json!({})).await.status, 200);
    let ann = world.phone("ann").await;
    let tell = async |status: &str, event: &str| {
        world.advance(Duration::from_secs(2)).await;
        let mut said = popup(&ann, world.clock.now(), status);
        (said["Event"], said["List"]["TemplateId"]) = (event.into(), NEWS.into());
        assert_eq!(post(&world, &said).await, 200);
        world.drain().await;
        world.credits(&ann).await
    };
    let (tapped, changed) = ("subscribe_msg_popup_event", "subscribe_msg_change_event");
    // Any number of acceptances is on; each refusal is off.
    assert_eq!(tell("accept", tapped).await, 1);
    assert_eq!(tell("accept", tapped).await, 1);
    world.report(&ann, "tap", json!({ NEWS: "accept" })).await;
    assert_eq!(world.credits(&ann).await, 1);
    assert_eq!(tell("reject", tapped).await, 0);
    assert_eq!(tell("accept", tapped).await, 1);
    assert_eq!(tell("reject", changed).await, 0);
    // A late telling of what was refused since switches nothing on.
    report_late(&world, &ann).await;
    assert_eq!(world.credits(&ann).await, 0);
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

async fn report_late(world: &World, phone: &Phone) {
    world.advance(Duration::from_mins(30)).await;
    let at = magpie::clock::rfc3339(world.clock.now() - Duration::from_mins(45));
    let body = json!({ "report_id": "late", "results": { NEWS: "accept" }, "tapped_at": at });
    let answer = world.call(Method::POST, "/v1/me/subscriptions", Some(&phone.access_token), Some(body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[rstest]
#[tokio::test]
async fn wechats_word_alone_releases_what_waits(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = patient(kind).await else { return };
    world.rule(json!({ "no_credit": "wait" })).await;
    let ann = world.phone("ann").await;
    let answer = world.event("1", ann.user_id.as_str()).await;
    let id = answer.body["notifications"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(world.state(&id).await, "waiting");
    // The simulator tells of the tap; the front end's report is lost.
    world.wechat("/subscribe?format=results", json!({ "openid": ann.openid })).await;
    world.until(&id, "delivered").await;
    let stranger = json!({ "FromUserName": "oNobody", "CreateTime": 1, "MsgType": "event",
        "Event": "subscribe_msg_popup_event", "List": [{ "TemplateId": "T", "SubscribeStatusString": "accept" }] });
    assert_eq!(post(&world, &stranger).await, 200);
    let unknown = json!({ "FromUserName": ann.openid, "CreateTime": 1, "MsgType": "event",
        "Event": "subscribe_msg_popup_event", "List": [{ "TemplateId": "T", "SubscribeStatusString": "accept" },
            { "TemplateId": TEMPLATE, "SubscribeStatusString": "pondered" }] });
    assert_eq!(post(&world, &unknown).await, 200);
    world.drain().await;
    assert_eq!(world.credits(&ann).await, 0);
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_balances_are_rebuilt_from_the_ledger(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = patient(kind).await else { return };
    let mut phones = Vec::new();
    for number in 0..3 {
        let phone = world.phone(&format!("p{number}")).await;
        for tap in 0..=number {
            report_at(&world, &phone, &tap.to_string(), world.clock.now()).await;
        }
        phones.push(phone);
    }
    let found = rebuild(&world.ctx).await.expect("a rebuild");
    assert_eq!((found.balances, found.corrected), (3, 0));
    let db = world.ctx.db.write();
    db.execute_unprepared("UPDATE credit SET credits = 50 WHERE credits = 2").await.expect("a change by hand");
    db.execute_unprepared("DELETE FROM credit WHERE credits = 3").await.expect("a change by hand");
    let found = rebuild(&world.ctx).await.expect("a rebuild");
    assert_eq!((found.balances, found.corrected), (3, 2));
    for (number, phone) in phones.iter().enumerate() {
        assert_eq!(usize::try_from(world.credits(phone).await), Ok(number + 1));
    }
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

/// Something that may happen to a user's consent.
#[derive(Clone, Debug)]
enum Happening {
    Report {
        word: &'static str,
        seconds_ago: u64,
        again: bool,
    },
    Popup {
        accept: bool,
        seconds_ago: u64,
    },
    Refusal {
        seconds_ago: u64,
    },
    Event,
    Cancel,
    /// WeChat says that nothing is left (43101).
    Deliver {
        refused: bool,
    },
    Wait {
        seconds: u64,
    },
}

fn happening() -> impl Strategy<Value = Happening> {
    let ago = || prop_oneof![0..10_u64, 0..4000_u64];
    let word = prop::sample::select(vec!["accept", "accept", "accept", "reject", "ban", "filter", "acceptWithAudio"]);
    prop_oneof![
        4 => (word, ago(), any::<bool>())
            .prop_map(|(word, seconds_ago, again)| Happening::Report { word, seconds_ago, again }),
        3 => (any::<bool>(), ago()).prop_map(|(accept, seconds_ago)| Happening::Popup { accept, seconds_ago }),
        1 => ago().prop_map(|seconds_ago| Happening::Refusal { seconds_ago }),
        4 => Just(Happening::Event),
        1 => Just(Happening::Cancel),
        2 => any::<bool>().prop_map(|refused| Happening::Deliver { refused }),
        2 => (1..2000_u64).prop_map(|seconds| Happening::Wait { seconds }),
    ]
}

async fn happens(world: &World, phone: &Phone, step: usize, what: &Happening) {
    let ago = |seconds: u64| world.clock.now() - Duration::from_secs(seconds);
    match what {
        Happening::Report { word, seconds_ago, again } => {
            let body = json!({ "report_id": if *again { "again".to_owned() } else { format!("r{step}") },
                "results": { TEMPLATE: word }, "tapped_at": magpie::clock::rfc3339(ago(*seconds_ago)) });
            let report = world.call(Method::POST, "/v1/me/subscriptions", Some(&phone.access_token), Some(body)).await;
            assert_eq!(report.status, 200, "{report:?}");
        }
        Happening::Popup { accept, seconds_ago } => {
            let status = if *accept { "accept" } else { "reject" };
            post(world, &popup(phone, ago(*seconds_ago), status)).await;
            world.drain().await;
        }
        Happening::Refusal { seconds_ago } => {
            let mut refused = popup(phone, ago(*seconds_ago), "reject");
            refused["Event"] = "subscribe_msg_change_event".into();
            post(world, &refused).await;
            world.drain().await;
        }
        Happening::Event => drop(world.event(&format!("{}-{step}", phone.openid), phone.user_id.as_str()).await),
        Happening::Cancel => {
            let rows = entity::notification::Entity::find().all(world.ctx.db.read()).await.expect("rows");
            for row in rows.iter().filter(|row| row.user_id.to_string() == phone.user_id) {
                let _ = act::cancel(&world.ctx, row.id).await;
            }
        }
        Happening::Deliver { refused } => {
            if *refused {
                let refuse = json!({ "path": "/cgi-bin/message/subscribe/send", "times": 1, "errcode": 43101 });
                world.wechat("/faults", refuse).await;
            }
            world.drain().await;
        }
        Happening::Wait { seconds } => world.advance(Duration::from_secs(*seconds)).await,
    }
}

#[rstest]
#[tokio::test]
async fn whatever_happens_the_balance_is_the_ledgers_sum(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = patient(kind).await else { return };
    world.rule(json!({ "no_credit": "wait", "ttl_seconds": 3000 })).await;
    let mut runner = TestRunner::default();
    for history in 0..6 {
        let phone = world.phone(&format!("h{history}")).await;
        let happenings = prop::collection::vec(happening(), 20..30).new_tree(&mut runner).expect("a history").current();
        for (step, what) in happenings.iter().enumerate() {
            happens(&world, &phone, step, what).await;
            assert_ledger_adds_up(&world).await;
            let credits = world.credits(&phone).await;
            assert!((0..=100).contains(&credits), "{credits} after {:#?}", &happenings[..=step]);
        }
        // No tap counts more than once, and no message takes what nobody gave.
        let entries = ledger(&world).await;
        let of_taps = |entry: &&consent::Model| matches!(entry.source, Source::Report | Source::Popup);
        for entry in entries.iter().filter(of_taps) {
            let twin = entries.iter().find(|other| Some(other.id) == entry.twin);
            let both = entry.delta + twin.map_or(0, |twin| twin.delta);
            assert!((0..=1).contains(&both), "{entry:?} and {twin:?} in {happenings:#?}");
            assert!(entry.delta == 0 || entry.kind == Said::Accept, "{entry:?}");
        }
    }
    let found = rebuild(&world.ctx).await.expect("a rebuild");
    assert_eq!(found.corrected, 0);
    world.finish().await;
}
