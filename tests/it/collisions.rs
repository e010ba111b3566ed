//! What people, WeChat and business systems say at the same moment: transactions wait for each other and none is
//! ended for another one; where one is, nobody notices.

use std::time::Duration;

use entity::{EventId, NotificationId, consent::Source, credit, event, identity, notification};
use magpie::{
    consent,
    notification::{
        act, claim,
        settle::{self, Settlement},
        state::Came,
        sweep,
    },
    user::erase,
    worker,
};
use reqwest::{Method, RequestBuilder};
use rstest::rstest;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter, QuerySelect, Statement,
    TransactionTrait,
    sea_query::{Expr, LockType},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    callbacks::post,
    consent::assert_ledger_adds_up,
    harness::{APP, Answer, Kind, Phone, World},
};

/// To the letter the second comes first; in the order of a language the first.
const TEMPLATES: [&str; 2] =
    ["aa_template_000000000000000000000000000001", "BB_template_000000000000000000000000000002"];

/// A world whose app has both templates.
async fn with_templates(kind: Kind) -> Option<(World, String)> {
    let mut world = World::with(kind, "[session]\naccess_token_ttl = \"100h\"\n").await?;
    let mut app = serde_json::to_value(wechat_sandbox::demo_app()).expect("an app");
    for id in TEMPLATES {
        let template = json!({ "id": id, "title": id, "kind": 2, "content": "内容:{{thing1.DATA}}" });
        app["templates"].as_array_mut().expect("templates").push(template);
    }
    world.sandbox_call(Method::PUT, &format!("/sandbox/apps/{APP}"), Some(app)).await;
    assert_eq!(world.sync().await.status, 200);
    let other = world.second_node().await;
    Some((world, other))
}

/// WeChat's word on both templates, in this order.
fn said(phone: &Phone, (event, word): (&str, &str), order: [&str; 2], at: i64) -> Value {
    let list = order.map(|id| json!({ "TemplateId": id, "SubscribeStatusString": word, "PopupScene": "0" }));
    json!({
        "FromUserName": phone.openid, "CreateTime": at, "MsgType": "event", "Event": event, "List": list,
    })
}

fn report(world: &World, base: &str, phone: &Phone, id: &str) -> RequestBuilder {
    let results = json!({ TEMPLATES[0]: "accept", TEMPLATES[1]: "accept" });
    let request = world.http.post(format!("{base}/v1/me/subscriptions")).bearer_auth(&phone.access_token);
    request.json(&json!({ "report_id": id, "results": results }))
}

/// Makes the requests, all at once.
fn at_once(requests: impl IntoIterator<Item = RequestBuilder>) -> JoinSet<u16> {
    let send = |request: RequestBuilder| async { request.send().await.expect("an answer").status().as_u16() };
    requests.into_iter().map(send).collect()
}

/// How many transactions PostgreSQL ended so that others could go on.
async fn deadlocks(world: &World) -> i64 {
    let db = world.ctx.db.read();
    if world.ctx.db.is_sqlite() {
        return 0;
    }
    let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await.expect("a query");
    row.expect("a row").try_get("", "deadlocks").expect("a number")
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_report_beside_wechats_telling_in_another_order(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some((world, other)) = with_templates(kind).await else { return };
    let mut phones = Vec::new();
    for number in 0..20 {
        phones.push(world.phone(&format!("p{number}")).await);
    }
    for order in [TEMPLATES, [TEMPLATES[1], TEMPLATES[0]]] {
        world.advance(Duration::from_mins(20)).await;
        let at = world.clock.now().0 / 1000;
        for phone in &phones {
            assert_eq!(post(&world, &said(phone, ("subscribe_msg_popup_event", "accept"), order, at)).await, 200);
        }
        let id = format!("tap-{at}");
        let reports = at_once(phones.iter().map(|phone| report(&world, &other, phone, &id)));
        let (here, there) = tokio::join!(worker::step(&world.ctx), worker::step(world.second_context()));
        assert!(here.is_ok() && there.is_ok(), "{here:?} {there:?}");
        assert_eq!(reports.join_all().await, vec![200; phones.len()]);
        world.drain().await;
    }
    for phone in &phones {
        assert_eq!(world.credits(phone).await, 2);
    }
    assert_eq!(deadlocks(&world).await, 0);
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn cancels_beside_a_refusal_in_the_settings(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some((world, other)) = with_templates(kind).await else { return };
    for template in TEMPLATES {
        let rule = json!({ "template_id": template, "fields": { "thing1": "苹果" }, "delay_seconds": 3600 });
        world.rule(rule).await;
    }
    for round in 0..6 {
        let phone = world.phone(&format!("p{round}")).await;
        for tap in 0..6 {
            let answer = report(&world, &world.base, &phone, &tap.to_string()).send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
        }
        let mut ids = Vec::new();
        for number in 0..6 {
            let told = world.event(&format!("{round}-{number}"), phone.user_id.as_str()).await;
            let made = told.body["notifications"].as_array().expect("messages").clone();
            ids.extend(made.iter().map(|row| row["id"].as_str().expect("an id").to_owned()));
        }
        world.advance(Duration::from_secs(2)).await;
        let at = world.clock.now().0 / 1000;
        assert_eq!(post(&world, &said(&phone, ("subscribe_msg_change_event", "reject"), TEMPLATES, at)).await, 200);
        let cancel = |id: &String| {
            world.http.post(format!("{other}/v1/notifications/{id}/cancel")).bearer_auth(&world.key).json(&json!({}))
        };
        let cancels = at_once(ids.iter().rev().map(cancel));
        assert!(worker::step(&world.ctx).await.is_ok());
        let answers = cancels.join_all().await;
        // Those that the refusal has stopped are not to be cancelled any more.
        assert!(answers.iter().all(|status| [200, 409].contains(status)), "{answers:?}");
        assert_eq!(world.credits(&phone).await, 0);
    }
    assert_eq!(deadlocks(&world).await, 0);
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

/// A transaction that holds a person's balance of a template.
async fn holding(world: &World, template: &str) -> DatabaseTransaction {
    let tx = world.ctx.db.write().begin().await.expect("a transaction");
    let balance = credit::Entity::find().filter(credit::Column::TemplateId.eq(template)).lock(LockType::Update);
    assert_eq!(balance.all(&tx).await.expect("a query").len(), 1);
    tx
}

/// Until it waits for a lock.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn balances_are_locked_in_one_order_whatever_the_databases_language(
    #[values(Kind::Postgres, Kind::PostgresInEnglish)] kind: Kind,
) {
    let Some((world, other)) = with_templates(kind).await else { return };
    for template in TEMPLATES {
        let rule = json!({ "template_id": template, "fields": { "thing1": "苹果" }, "delay_seconds": 3600 });
        world.rule(rule).await;
    }
    let ann = world.phone("ann").await;
    for tap in ["1", "2"] {
        assert_eq!(report(&world, &world.base, &ann, tap).send().await.expect("an answer").status(), 200);
    }
    world.event("1", ann.user_id.as_str()).await;
    world.advance(Duration::from_hours(80)).await;
    let theirs = holding(&world, TEMPLATES[1]).await;
    let event = crate::harness::shipped("2", ann.user_id.as_str());
    let event = at_once([world.http.post(format!("{other}/v1/events")).bearer_auth(&world.key).json(&event)]);
    a_moment().await;
    let ctx = world.ctx.clone();
    let sweep = tokio::spawn(async move { sweep::sweep(&ctx).await });
    a_moment().await;
    // The event goes first and finds the other balance free.
    theirs.rollback().await.expect("nothing was changed");
    assert_eq!(event.join_all().await, [202]);
    assert_eq!(sweep.await.expect("no panic").expect("swept").expired, 2);
    assert_eq!(deadlocks(&world).await, 0);
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

/// Somebody else's transaction, such as an operator's by hand, knows no order.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_ended_for_another_transaction_is_done_again() {
    let Some(world) = World::new(Kind::Postgres).await else { return };
    world.rule(json!({ "delay_seconds": 3600 })).await;
    let ann = world.ready("ann", 1).await;
    let id: NotificationId = world.told("1", &ann).await.parse().expect("an id");
    let theirs = world.ctx.db.write().begin().await.expect("a transaction");
    notification::Entity::find_by_id(id).lock(LockType::Update).one(&theirs).await.expect("a query");
    let ctx = world.ctx.clone();
    let cancelled = tokio::spawn(async move { act::cancel(&ctx, id).await });
    a_moment().await;
    // It holds the balance and waits for the message; now each waits for the other.
    credit::Entity::find()
        .lock(LockType::Update)
        .all(&theirs)
        .await
        .expect("the cancel gives way: it began to wait first");
    theirs.rollback().await.expect("nothing was changed");
    let row = cancelled.await.expect("no panic").expect("done again");
    assert_eq!(row.state, notification::State::Cancelled);
    assert_eq!(deadlocks(&world).await, 1);
    assert_eq!(world.credits(&ann).await, 1);
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

/// How an event is answered that is told while somebody else's transaction is under way.
async fn told_during(world: &World, theirs: DatabaseTransaction, to: impl Into<Value>) -> Answer {
    let event = crate::harness::shipped("meanwhile", to);
    let request = world.http.post(format!("{}/v1/events", world.base)).bearer_auth(&world.key).json(&event);
    let answer = tokio::spawn(request.send());
    a_moment().await;
    assert!(!answer.is_finished(), "it waits");
    theirs.commit().await.expect("a commit");
    Answer::read(answer.await.expect("no panic").expect("an answer")).await
}

/// The same, for one who is named by openid: what became of the message.
async fn message_during(world: &World, theirs: DatabaseTransaction, to: &Phone) -> Value {
    let answer = told_during(world, theirs, format!("openid:{APP}/{}", to.openid)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.body["notifications"][0].clone()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_credit_that_is_gone_when_an_event_has_its_turn_is_not_spent(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 1).await;
    let theirs = world.ctx.db.begin().await.expect("a transaction");
    let balance = credit::Entity::find().one(&theirs).await.expect("a query").expect("a balance");
    let (proof, now) = ((Source::Answer, None), world.ctx.clock.now());
    consent::zero(&theirs, balance.identity_id, &balance.template_id, proof, now).await.expect("zeroed");
    let told = message_during(&world, theirs, &ann).await;
    assert_eq!((&told["state"], &told["reason"]), (&json!("failed"), &json!("no_credit")), "{told}");
    assert_eq!(world.credits(&ann).await, 0);
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_would_wait_takes_the_credit_that_is_told_meanwhile(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "no_credit": "wait" })).await;
    let ann = world.ready("ann", 1).await;
    let first = world.told("first", &ann).await;
    world.until(&first, "delivered").await;
    let theirs = world.ctx.db.begin().await.expect("a transaction");
    let one_more = credit::Entity::update_many().col_expr(credit::Column::Credits, Expr::value(1));
    one_more.exec(&theirs).await.expect("a credit");
    let told = message_during(&world, theirs, &ann).await;
    assert_eq!(told["state"], "pending", "{told}");
    assert_eq!(world.credits(&ann).await, 0);
    world.drain().await;
    world.finish().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stored_of_who_is_erased_when_an_event_has_its_turn(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
    #[values(0, 1)] credits: usize,
) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", credits).await;
    let theirs = world.ctx.db.begin().await.expect("a transaction");
    let (of, now) = ((APP, &*ann.openid), world.ctx.clock.now());
    erase::in_app(&world.ctx, &theirs, of, "operator", now).await.expect("erased");
    let told = message_during(&world, theirs, &ann).await;
    assert_eq!((&told["state"], &told["reason"]), (&json!("failed"), &json!("unknown_recipient")), "{told}");
    let stored = notification::Entity::find().all(world.ctx.db.read()).await.expect("a query");
    assert!(stored.is_empty(), "{stored:?}");
    world.finish().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_another_node_stores_meanwhile_is_stored_once(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
    // What reaches nobody is not written alone.
    #[values(None, Some("external:nobody"))] nobody: Option<&str>,
) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 1).await;
    let theirs = world.ctx.db.begin().await.expect("a transaction");
    let row = event::ActiveModel {
        id: Set(EventId(Uuid::now_v7())),
        source: Set("shop".into()),
        source_id: Set("meanwhile".into()),
        event_type: Set("order.shipped".into()),
        time: Set(world.ctx.clock.now()),
        data: Set(json!({})),
        body_hash: Set(vec![0; 32]),
        outcomes: Set(json!([])),
        created_at: Set(world.ctx.clock.now()),
    };
    event::Entity::insert(row).exec_without_returning(&theirs).await.expect("an event");
    let mut to = vec![format!("openid:{APP}/{}", ann.openid)];
    to.extend(nobody.map(str::to_owned));
    told_during(&world, theirs, to).await.problem(422, "event_conflict");
    assert_eq!(world.credits(&ann).await, 1, "nothing was spent");
    let stored = notification::Entity::find().all(world.ctx.db.read()).await.expect("a query");
    assert!(stored.is_empty(), "{stored:?}");
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_does_not_take_along_what_shares_its_commit(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let (ann, bob, cid) = (world.ready("ann", 1).await, world.ready("bob", 1).await, world.ready("cid", 1).await);
    for (id, phone) in [("1", &ann), ("2", &bob)] {
        world.told(id, phone).await;
    }
    let claimed = claim::claim(&world.ctx, APP, 2, &[]).await.expect("a claim").rows;
    assert_eq!(claimed.len(), 2);
    let theirs = world.ctx.db.begin().await.expect("a transaction");
    let balances = credit::Entity::find().all(&theirs).await.expect("a query");
    let of_cid = identity::Entity::of_app(APP, [cid.openid.clone()]).one(&theirs).await.expect("a query");
    let of_cid = of_cid.expect("an identity").id;
    let balance = balances.iter().find(|balance| balance.identity_id == of_cid).expect("a balance");
    let (proof, now) = ((Source::Answer, None), world.ctx.clock.now());
    consent::zero(&theirs, of_cid, &balance.template_id, proof, now).await.expect("zeroed");
    // The first waits for the writer by itself, what comes after it waits for the same turn.
    let mut settled = Vec::new();
    for row in claimed {
        let ctx = world.ctx.clone();
        settled.push(tokio::spawn(async move {
            let came = Came::Accepted { message_id: None };
            settle::settle(&ctx, &[&Settlement { row, came, duration_ms: 1 }]).await.expect("settled")
        }));
        a_moment().await;
    }
    let told = message_during(&world, theirs, &cid).await;
    assert_eq!((&told["state"], &told["reason"]), (&json!("failed"), &json!("no_credit")), "{told}");
    for settled in settled {
        let next = settled.await.expect("no panic").pop().flatten().expect("the lease is ours");
        assert_eq!(next.state, notification::State::Accepted);
    }
    let accepted = notification::Entity::find().filter(notification::Column::State.eq(notification::State::Accepted));
    assert_eq!(accepted.all(world.ctx.db.read()).await.expect("a query").len(), 2);
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}
