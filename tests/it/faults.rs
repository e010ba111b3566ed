//! Whatever happens to a node, the database or WeChat: every accepted message is accounted for, none is
//! lost, none comes twice.

use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use sea_orm::{ConnectionTrait, Database};
use serde_json::json;

use crate::{
    databases::{self, Kind},
    fleet::Fleet,
    gate::Gate,
};

/// Short times, so that what was under way is decided within the story.
const QUICK: &str = "[delivery]\nrequest_timeout = \"2s\"\nlease = \"4s\"\nunsure_deadline = \"5s\"\n";

async fn until_arrived(fleet: &Fleet, messages: usize) {
    for _ in 0..3_000 {
        if fleet.arrived().await >= messages {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{messages} messages do not arrive\n{}", fleet.log());
}

#[rstest]
#[tokio::test]
async fn killed_in_the_middle_of_thousands_of_pushes(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut fleet) = Fleet::new(kind, &format!("{QUICK}concurrency = 32\n")).await else { return };
    let node = fleet.start(&[]).await;
    let people = fleet.people(node, 300, 7).await;
    let delay = json!({ "path": "/cgi-bin/message/subscribe/send", "times": 0, "delay_ms": 60 });
    fleet.wechat(Method::POST, "/faults", Some(delay)).await;
    let mut accepted = 0;
    for number in 0..7 {
        for some in people.chunks(100) {
            accepted += fleet.order_of(some, number).await;
        }
    }
    assert_eq!(accepted, 2_100);
    until_arrived(&fleet, 200).await;
    fleet.end(node, "-KILL").await;
    let node = fleet.start(&[]).await;
    fleet.settle(node).await;
    let account = fleet.account(node).await;
    account.balances(accepted);
    let unknown = account.of("failed(unknown_outcome)");
    assert!(unknown > 0 && unknown <= 200, "what was under way is known to be unknown: {account:?}");
    assert_eq!(account.of("accepted") + unknown, accepted, "{account:?}");
}

#[rstest]
#[tokio::test]
async fn killed_between_the_call_and_its_settle(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut fleet) = Fleet::new(kind, QUICK).await else { return };
    let node = fleet.start(&[]).await;
    let people = fleet.people(node, 20, 1).await;
    // WeChat does its work and keeps its answer back for a moment.
    let late = json!({ "path": "/cgi-bin/message/subscribe/send", "times": 0, "delay_ms": 1500, "truncate": 100_000 });
    fleet.wechat(Method::POST, "/faults", Some(late)).await;
    let accepted = fleet.order_of(&people, 1).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    fleet.end(node, "-KILL").await;
    let node = fleet.start(&[]).await;
    fleet.settle(node).await;
    let account = fleet.account(node).await;
    account.balances(accepted);
    assert_eq!(
        account.of("failed(unknown_outcome)"),
        20,
        "each is said to be unknown, none is sent again: {account:?}"
    );
}

#[tokio::test]
async fn two_nodes_restarted_in_turn_under_load() {
    let Some(mut fleet) = Fleet::new(Kind::Postgres, QUICK).await else { return };
    let first = fleet.start(&[]).await;
    let people = fleet.people(first, 100, 12).await;
    fleet.start(&[]).await;
    let mut accepted = 0;
    for number in 0..12 {
        // One goes while messages are under way, another one comes in its place.
        if number % 3 == 1 {
            let gone = fleet.nodes.len() - 2;
            assert!(fleet.end(gone, "-TERM").await.success(), "{}", fleet.log());
            fleet.nodes.remove(gone);
            fleet.start(&[]).await;
        }
        accepted += fleet.order_of(&people, number).await;
    }
    fleet.settle(0).await;
    let account = fleet.account(0).await;
    account.balances(accepted);
    assert_eq!((account.of("accepted"), accepted), (1_200, 1_200), "{account:?}");
}

#[tokio::test]
async fn the_work_of_a_dead_node_is_taken_over_within_a_lease() {
    let Some(mut fleet) = Fleet::new(Kind::Postgres, QUICK).await else { return };
    // The one that answers does no work; the other one does nothing else.
    let api = fleet.start(&["--roles", "api"]).await;
    let worker = fleet.start(&["--roles", "worker"]).await;
    let people = fleet.people(api, 100, 2).await;
    assert_eq!(fleet.call(worker, Method::GET, "/v1/rules", None).await.expect("an answer").0, 404);
    let mut accepted = fleet.order_of(&people, 1).await;
    until_arrived(&fleet, 100).await;
    fleet.end(worker, "-KILL").await;
    accepted += fleet.order_of(&people, 2).await;
    fleet.start(&["--roles", "worker"]).await;
    fleet.settle(api).await;
    let account = fleet.account(api).await;
    account.balances(accepted);
    assert!(account.of("accepted") >= 100 && accepted == 200, "{account:?}");
}

#[tokio::test]
async fn an_idle_node_is_woken_by_another_one() {
    let Some(mut fleet) = Fleet::new(Kind::Postgres, QUICK).await else { return };
    let api = fleet.start(&["--roles", "api"]).await;
    fleet.start(&["--roles", "worker"]).await;
    let people = fleet.people(api, 12, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The period alone would take a second on average for each of them.
    let began = magpie::clock::Stopwatch::start();
    for (number, person) in people.iter().enumerate() {
        fleet.order_of(std::slice::from_ref(person), number).await;
        until_arrived(&fleet, number + 1).await;
    }
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test]
async fn connections_to_the_database_are_cut_again_and_again() {
    let Some(mut fleet) = Fleet::new(Kind::Postgres, QUICK).await else { return };
    let node = fleet.start(&[]).await;
    let people = fleet.people(node, 100, 6).await;
    let admin = Database::connect(&fleet.database.url).await.expect("a connection");
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut accepted = 0;
    for number in 0..6 {
        let (told, ()) = tokio::join!(fleet.order_of(&people, number), async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            admin.execute_unprepared(cut).await.expect("connections are cut");
        });
        accepted += told;
    }
    admin.close().await.expect("the end");
    fleet.settle(node).await;
    let account = fleet.account(node).await;
    account.balances(accepted);
    assert_eq!(accepted, 600);
    fleet.end(node, "-TERM").await;
}

#[tokio::test]
async fn postgresql_crashes_and_comes_back() {
    let Some(database) = databases::server_alone().await else { return };
    // The tests' servers do not wait for the disk; what they promise must survive here.
    let admin = Database::connect(&database.url).await.expect("a connection");
    admin.execute_unprepared("ALTER DATABASE postgres SET synchronous_commit = on").await.expect("it waits");
    admin.close().await.expect("the end");
    let mut fleet = Fleet::on(database, QUICK).await;
    let node = fleet.start(&[]).await;
    let people = fleet.people(node, 100, 4).await;
    let mut accepted = 0;
    for number in 0..4 {
        let (told, ()) = tokio::join!(fleet.order_of(&people, number), crash(&fleet.database.url));
        accepted += told;
    }
    fleet.settle(node).await;
    let account = fleet.account(node).await;
    account.balances(accepted);
    assert_eq!(accepted, 400);
    fleet.end(node, "-TERM").await;
}

/// How long PostgreSQL is away: longer than leases, deadlines and the waiting for a connection. By hand it was
/// tried with minutes.
const AWAY: Duration = Duration::from_secs(20);

#[tokio::test]
async fn postgresql_is_away_for_long() {
    let Some(mut database) = databases::create(Kind::Postgres).await else { return };
    let authority = database.url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).expect("an address").0;
    let server = authority.rsplit('@').next().unwrap_or(authority).to_owned();
    let mut gate = Gate::before(&server).await;
    database.url = database.url.replacen(&server, &gate.address.to_string(), 1);
    let mut fleet = Fleet::on(database, QUICK).await;
    let node = fleet.start(&[]).await;
    let people = fleet.people(node, 60, 3).await;
    // Some messages are on their way to WeChat when it goes, and some have not begun.
    let slow = json!({ "path": "/cgi-bin/message/subscribe/send", "times": 0, "delay_ms": 400 });
    fleet.wechat(Method::POST, "/faults", Some(slow)).await;
    let mut accepted = fleet.order_of(&people, 0).await;
    accepted += fleet.order_of(&people, 1).await;
    until_arrived(&fleet, 20).await;
    gate.close();
    let away = magpie::clock::Stopwatch::start();
    let mut refused = 0;
    while away.elapsed() < AWAY {
        let asked = magpie::clock::Stopwatch::start();
        let (status, problem) = fleet.tell(node, &people, 2).await.expect("an answer");
        assert_eq!((status, &problem["code"]), (503, &json!("database_unavailable")), "{problem}");
        assert_eq!(problem["retryable"], true);
        assert!(asked.elapsed() < Duration::from_secs(20), "it takes {:?} to say so", asked.elapsed());
        refused += 1;
        let health = async |path: &str| fleet.call(node, Method::GET, path, None).await.map(|(status, _)| status);
        assert_eq!((health("/healthz").await, health("/readyz").await), (Some(200), Some(503)));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(refused > 1);
    gate.open().await;
    accepted += fleet.order_of(&people, 2).await;
    fleet.settle(node).await;
    let account = fleet.account(node).await;
    account.balances(accepted);
    assert_eq!(accepted, 180);
    // What WeChat answered meanwhile was kept until it could be written down, long after the leases. Of unknown outcome
    // is at most what was claimed as the connection went, and never called for.
    assert!(account.unnoticed.is_empty(), "{account:?}");
    assert_eq!(account.of("accepted") + account.of("failed(unknown_outcome)"), accepted, "{account:?}");
    fleet.end(node, "-TERM").await;
}

/// Kills one of its processes the hard way: PostgreSQL then ends all others, recovers and starts anew.
async fn crash(url: &str) {
    tokio::time::sleep(Duration::from_millis(40)).await;
    let Ok(admin) = Database::connect(url).await else { return };
    let kill =
        "DO $do$ BEGIN EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid()); END $do$";
    assert!(admin.execute_unprepared(kill).await.is_err(), "nobody lives to answer");
}

#[tokio::test]
async fn a_full_disk_refuses_events_and_loses_none() {
    let Some(mut fleet) = Fleet::new(Kind::Sqlite, QUICK).await else { return };
    let node = fleet.start(&[]).await;
    let people = fleet.people(node, 40, 6).await;
    fleet.end(node, "-TERM").await;
    let folder = fleet.database.url.trim_start_matches("sqlite://").split('?').next().unwrap_or_default().to_owned();
    let blocks = std::fs::metadata(folder).expect("the database").len() / 1024 + 64;
    // Nothing can be written beyond here; the shell ignores the signal that would say so.
    let node = fleet.start_after(&format!("trap '' XFSZ; ulimit -S -f {blocks}")).await;
    let mut accepted = 0;
    let mut refused = 0;
    for number in 0..6 {
        match fleet.try_order(node, &people, number).await {
            Some(202) => accepted += people.len(),
            Some(500..) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 0, "the disk was to be full");
    // Room again: the same orders are told once more.
    let pid = fleet.nodes[node].child.id().expect("it runs");
    let mut prlimit = tokio::process::Command::new("prlimit");
    let unlimited =
        prlimit.args(["--pid", &pid.to_string(), "--fsize=unlimited"]).status().await.expect("prlimit runs");
    assert!(unlimited.success());
    for number in 0..6 {
        fleet.order_of(&people, number).await;
    }
    fleet.settle(node).await;
    // What was told to be taken is there for everybody, and after a start.
    fleet.account(node).await.balances(240);
    fleet.end(node, "-KILL").await;
    let node = fleet.start(&[]).await;
    fleet.account(node).await.balances(240);
    assert!(accepted < 240);
}

/// A message of the app with this number, to its demo user; gives the time until it arrived.
async fn arrives_in(fleet: &Fleet, node: usize, person: &[String], number: usize, before: usize) -> Duration {
    let began = magpie::clock::Stopwatch::start();
    assert_eq!(fleet.try_order(node, person, number).await, Some(202));
    until_arrived(fleet, before + 1).await;
    began.elapsed()
}

#[rstest]
#[tokio::test]
async fn a_failing_wechat_is_left_alone_and_the_backlog_goes_out_evenly(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let delivery = format!("{QUICK}back_off_initial = \"100ms\"\nback_off_max = \"500ms\"\nmax_attempts = 100\n");
    let Some(mut fleet) = Fleet::new(kind, &delivery).await else { return };
    let node = fleet.start(&[]).await;
    let people = fleet.people(node, 300, 1).await;
    let busy = json!({ "path": "/cgi-bin/message/subscribe/send", "times": 0, "errcode": -1 });
    fleet.wechat(Method::POST, "/faults", Some(busy)).await;
    let mut accepted = 0;
    for some in people.chunks(100) {
        accepted += fleet.order_of(some, 1).await;
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    let calls = fleet.calls_of("/cgi-bin/message/subscribe/send").await;
    // Each message would be tried about eight times in four seconds without the breaker.
    assert!(calls < 600, "{calls} calls are a storm");
    fleet.wechat(Method::DELETE, "/faults", None).await;
    fleet.settle(node).await;
    let account = fleet.account(node).await;
    account.balances(accepted);
    assert_eq!(account.of("accepted"), 300, "{account:?}");
}

#[tokio::test]
async fn a_message_to_an_idle_node_is_on_its_way_at_once() {
    let Some(mut fleet) = Fleet::new(Kind::Sqlite, QUICK).await else { return };
    let node = fleet.start(&[]).await;
    let person = fleet.people(node, 1, 5).await;
    for number in 0..5 {
        // A debug build on a busy machine; the benchmark measures the real thing.
        let span = arrives_in(&fleet, node, &person, number, number).await;
        assert!(span < Duration::from_secs(1), "{span:?}: it waited for a period");
    }
}

#[rstest]
#[tokio::test]
async fn an_orderly_stop_leaves_nothing_under_way_and_a_second_signal_ends_at_once(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(mut fleet) = Fleet::new(kind, QUICK).await else { return };
    let node = fleet.start(&[]).await;
    let people = fleet.people(node, 100, 2).await;
    let slow = json!({ "path": "/cgi-bin/message/subscribe/send", "times": 0, "delay_ms": 700 });
    fleet.wechat(Method::POST, "/faults", Some(slow)).await;
    let mut accepted = fleet.order_of(&people, 1).await;
    assert!(fleet.end(node, "-TERM").await.success());
    let node = fleet.start(&[]).await;
    let account = fleet.account(node).await;
    assert_eq!((account.of("sending"), account.of("unsure")), (0, 0), "{account:?}");
    fleet.settle(node).await;
    accepted += fleet.order_of(&people, 2).await;
    fleet.signal(node, "-TERM").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fleet.end(node, "-TERM").await.code(), Some(130), "at once");
    let node = fleet.start(&[]).await;
    fleet.settle(node).await;
    let account = fleet.account(node).await;
    account.balances(accepted);
    assert_eq!(account.of("accepted") + account.of("failed(unknown_outcome)"), 200, "{account:?}");
}

#[tokio::test]
async fn a_node_whose_clock_is_wrong_follows_the_databases() {
    let Some(world) = crate::harness::World::new(Kind::Postgres).await else { return };
    let wrong = magpie::clock::Clock::system();
    wrong.agree_with(wrong.now() + Duration::from_hours(1));
    let skewed = wrong.now();
    let ctx = world.context_with(wrong).await;
    let away = skewed.since(ctx.clock.now());
    assert!(away > Duration::from_mins(59), "it still goes by its own clock: {away:?}");
    ctx.db.close().await.expect("the end");
    world.finish().await;
}
