//! What one request may hold: its head, its body, its depth, its lists; and how long it may take to arrive.

use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{APP, Answer, Kind, TEMPLATE, World, shipped};

/// Everything that comes until the server closes the connection.
async fn until_the_end(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut answer)).await;
    read.expect("the end in time").expect("bytes");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn socket_to(world: &World) -> TcpStream {
    TcpStream::connect(world.base.trim_start_matches("http://")).await.expect("a connection")
}

#[tokio::test]
async fn who_sends_a_byte_now_and_then_is_shown_the_door() {
    let Some(world) = World::with(Kind::Sqlite, "[limits]\nread_timeout = \"300ms\"\n").await else { return };
    let mut socket = socket_to(&world).await;
    let head = "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{";
    socket.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(5), socket.read(&mut answer)).await.expect("an answer in time");
    let answer = String::from_utf8_lossy(&answer[..read.expect("bytes")]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    assert_eq!((&body["code"], &body["retryable"]), (&json!("request_timeout"), &json!(true)));
    world.finish().await;
}

#[tokio::test]
async fn who_sends_a_head_bit_by_bit_is_shown_the_door() {
    let Some(world) = World::with(Kind::Sqlite, "[limits]\nhead_timeout = \"400ms\"\n").await else { return };
    let began = magpie::clock::Stopwatch::start();
    // A byte now and then does not make the time longer.
    let mut socket = socket_to(&world).await;
    let mut dripping = socket_to(&world).await;
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: ").await.expect("sent");
    let drip = async {
        while dripping.write_all(b"G").await.is_ok() && began.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (end, ()) = tokio::join!(until_the_end(&mut socket), drip);
    assert!(!end.contains("200 OK"), "{end}");
    assert!((Duration::from_millis(300)..Duration::from_secs(4)).contains(&began.elapsed()), "{:?}", began.elapsed());
    // Who is quick is answered, one request after the other, and is let go when silent for long.
    let mut socket = socket_to(&world).await;
    let ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2);
    socket.write_all(&ask).await.expect("sent");
    assert_eq!(until_the_end(&mut socket).await.matches("HTTP/1.1 200 OK").count(), 2);
    world.finish().await;
}

#[tokio::test]
async fn heads_are_bounded() {
    let Some(world) = World::new(Kind::Sqlite).await else { return };
    let ask = async |headers: usize, length: usize, address: usize| {
        let mut request = world.http.get(format!("{}/healthz?{}", world.base, "a".repeat(address)));
        for number in 0..headers {
            request = request.header(format!("x-{number}"), "b".repeat(length));
        }
        Answer::read(request.send().await.expect("an answer")).await
    };
    assert_eq!(ask(50, 100, 1_000).await.status, 200);
    for (headers, length, address) in [(70, 1, 0), (2, 9_000, 0), (0, 0, 17_000)] {
        ask(headers, length, address).await.problem(431, "headers_too_large");
    }
    // Beyond what is read at all: more headers than are counted, more bytes than are kept.
    assert_eq!(ask(150, 1, 0).await.status, 431);
    let mut socket = socket_to(&world).await;
    let endless = format!("GET / HTTP/1.1\r\nhost: x\r\nx-a: {}", "b".repeat(70_000));
    socket.write_all(endless.as_bytes()).await.expect("sent");
    let answer = until_the_end(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn depth_and_lists_are_bounded(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let tell = async |id: &str, data: &str, kind: &str| {
        let event = format!(r#"{{"source":"shop","id":"{id}","type":"x","specversion":"1.0","data":{data}}}"#);
        let body = match kind {
            "application/json" => event.replace(r#""specversion":"1.0","#, ""),
            "application/cloudevents-batch+json" => format!("[{event}]"),
            _ => event,
        };
        let request = world.http.post(format!("{}/v1/events", world.base)).bearer_auth(&world.key);
        Answer::read(request.header("content-type", kind).body(body).send().await.expect("an answer")).await
    };
    for (id, kind) in ["application/json", "application/cloudevents+json", "application/cloudevents-batch+json"]
        .into_iter()
        .enumerate()
    {
        let taken = tell(&format!("deep {id}"), &nested(100), kind).await;
        assert_eq!(taken.status, 202, "{taken:?}");
        assert_ne!(taken.body["data"][0]["status"], "refused", "{taken:?}");
        for depth in [200, 100_000] {
            tell("deeper", &nested(depth), kind).await.problem(400, "malformed_json");
        }
    }
    // What is stored so deep can be read, too.
    let stored = tell("deep 0", &nested(100), "application/json").await;
    let path = format!("/v1/events/{}", stored.body["event_id"].as_str().expect("an id"));
    assert_eq!(world.get(&path).await.status, 200);

    let many = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
    let events: Vec<_> = many(101).iter().map(|id| shipped(id, "external:a")).collect();
    world.post("/v1/events", json!(events)).await.problem(400, "invalid_request");
    world.post("/v1/events", json!([])).await.problem(400, "invalid_request");
    let results: serde_json::Map<_, _> = many(21).into_iter().map(|id| (id, json!("accept"))).collect();
    world.report(&ann, "tap", json!(results)).await.problem(400, "invalid_request");
    for list in ["scopes", "app_ids"] {
        let mut key = json!({ "name": "many", "scopes": ["events:write"] });
        key[list] = json!(many(1_000));
        world.post("/v1/keys", key).await.problem(400, "invalid_request");
        let mut key = json!({ "name": "many", "scopes": ["events:write"], "app_ids": [APP] });
        key[list] = json!(vec![key[list][0].clone(); 1_000]);
        world.post("/v1/keys", key).await.problem(400, "invalid_request");
    }
    let fields: serde_json::Map<_, _> = many(1_000).into_iter().map(|key| (key, json!("x"))).collect();
    let letter = json!({ "app_id": APP, "template_id": TEMPLATE, "to": "external:a", "fields": fields });
    let refused = world.post("/v1/notifications", letter.clone()).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    let mut rule = letter;
    rule["name"] = "many".into();
    rule["event_type"] = "x".into();
    rule.as_object_mut().expect("an object").remove("to");
    let refused = world.post("/v1/rules", rule).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    let template = json!({ "tid": "1", "keyword_ids": vec![1; 1_000], "scene": "x" });
    let refused = world.post(&format!("/v1/apps/{APP}/templates"), template).await;
    refused.problem(400, "invalid_request");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn only_who_may_send_long_lists_sends_large_bodies(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let limits = "[limits]\nbody_bytes = 65536\nevents_body_bytes = 200000\n";
    let Some(world) = World::with(kind, limits).await else { return };
    let reader = world.post("/v1/keys", json!({ "name": "reader", "scopes": ["events:read"] })).await.body;
    let with_words = |bytes: usize| {
        let mut event = shipped("1", "external:a");
        event["data"]["more"] = "x".repeat(bytes).into();
        event
    };
    let tell = async |path: &str, bearer: Option<&str>, bytes: usize| {
        world.call(Method::POST, path, bearer, Some(with_words(bytes))).await
    };
    for bearer in [None, Some("mk_made_up"), reader["key"].as_str()] {
        tell("/v1/events", bearer, 100_000).await.problem(413, "payload_too_large");
    }
    tell("/v1/rules", Some(&world.key), 100_000).await.problem(413, "payload_too_large");
    assert_eq!(tell("/v1/events", Some(&world.key), 100_000).await.status, 202);
    assert_eq!(tell("/v1/events/preview", Some(&world.key), 100_000).await.status, 200);
    tell("/v1/events", Some(&world.key), 200_000).await.problem(413, "payload_too_large");
    let request = world.http.post(format!("{}/v1/events", world.base)).json(&with_words(100_000));
    let request = request.header("authorization", format!("bearer {}", world.key));
    assert_eq!(request.send().await.expect("an answer").status(), 202, "the scheme's case does not matter");
    // A body that does not tell its length is read up to the same bound.
    let mut socket = socket_to(&world).await;
    let head = "POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let chunk = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n", 70_000, " ".repeat(70_000));
    socket.write_all(chunk.as_bytes()).await.expect("sent");
    let answer = until_the_end(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    world.finish().await;
}
