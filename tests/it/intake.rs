//! How events come in: batches, CloudEvents' binary mode, times and priorities; messages without a rule.

use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{APP, Answer, Kind, TEMPLATE, World, shipped};

const BATCH: &str = "application/cloudevents-batch+json";

async fn send(world: &World, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answer {
    let mut request = world.http.post(format!("{}/v1/events", world.base)).bearer_auth(&world.key);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::read(request.body(body).send().await.expect("an answer")).await
}

fn cloud_event(id: &str, to: &str) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "shop", "type": "order.shipped", "to": to,
        "data": shipped(id, to)["data"] })
}

#[rstest]
#[tokio::test]
async fn each_event_of_a_batch_has_its_own_answer(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    for tap in ["a", "b"] {
        world.accept(&ann, tap).await;
    }
    let first = cloud_event("1", &ann.user_id);
    let mut changed = first.clone();
    changed["data"]["item"] = "梨".into();
    let mut untyped = first.clone();
    untyped.as_object_mut().expect("an object").remove("type");
    let old = json!({ "specversion": "0.3", "id": "9", "source": "shop", "type": "order.shipped" });
    let events =
        json!([first, first, changed, untyped, old, 7, cloud_event("2", "bob"), cloud_event("3", &ann.user_id)]);
    let answer = send(&world, &[("content-type", BATCH)], events.to_string()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let told: Vec<_> = answer.body["data"]
        .as_array()
        .expect("answers")
        .iter()
        .map(|item| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let problem = &item["problem"];
            (text(&item["status"]), text(&problem["code"]), text(&problem["errors"][0]["pointer"]))
        })
        .collect();
    let expected = [
        ("accepted", "", ""),
        ("duplicate", "", ""),
        ("refused", "event_conflict", ""),
        ("refused", "invalid_request", "/3/type"),
        ("refused", "invalid_request", "/4/specversion"),
        ("refused", "invalid_request", "/5"),
        ("refused", "invalid_request", "/6/to/0"),
        ("accepted", "", ""),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect();
    assert_eq!(told, expected, "{answer:?}");
    assert_eq!(answer.body["data"][0]["event_id"], answer.body["data"][1]["event_id"]);
    assert_eq!(answer.body["data"][2]["problem"]["status"], 422);
    assert_eq!(answer.body["data"][7]["notifications"][0]["state"], "pending", "{answer:?}");

    // A plain list, and a repeat of what is stored already.
    let plain = json!([shipped("4", "external:nobody"), shipped("4", "external:nobody")]);
    let answer = world.post("/v1/events", plain.clone()).await;
    assert_eq!(answer.body["data"][0]["status"], "accepted", "{answer:?}");
    assert_eq!(answer.body["data"][1]["status"], "duplicate");
    assert_eq!(world.post("/v1/events", plain).await.body["data"][0]["status"], "duplicate");

    for wrong in [json!([]), Value::Array(vec![json!({}); 101])] {
        world.post("/v1/events", wrong).await.problem(400, "invalid_request");
    }
    let many: Vec<_> = (0..100).map(|n| shipped(&format!("many-{n}"), "external:nobody")).collect();
    let answer = world.post("/v1/events", Value::Array(many)).await;
    let accepted = answer.body["data"].as_array().expect("answers").iter().filter(|item| item["status"] == "accepted");
    assert_eq!(accepted.count(), 100);
    world.drain().await;
    assert_eq!(world.messages(&ann.openid).await.len(), 2);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn cloud_events_in_binary_mode(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "page": "pages/{{ subject }}" })).await;
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap").await;
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("ce-specversion", "1.0"),
        ("ce-id", "42"),
        ("ce-source", "/shop"),
        ("ce-type", "order.shipped"),
        ("ce-time", "2026-01-02T11:04:05+08:00"),
        ("ce-subject", "%E8%AE%A2%E5%8D%95"),
        ("ce-to", ann.user_id.as_str()),
        ("ce-priority", "7"),
    ];
    let data = shipped("42", "x")["data"].to_string();
    let answer = send(&world, &headers, data.clone()).await;
    assert_eq!((answer.status.as_u16(), &answer.body["status"]), (202, &json!("accepted")), "{answer:?}");
    let id = answer.body["notifications"][0]["id"].as_str().expect("an id");
    assert_eq!(world.get(&format!("/v1/notifications/{id}")).await.body["page"], "pages/订单");
    let event = world.get(&format!("/v1/events/{}", answer.body["event_id"].as_str().expect("an id"))).await;
    assert_eq!((&event.body["id"], &event.body["data"]["no"]), (&json!("42"), &json!("NO.42")));
    assert_eq!(event.body["time"], "2026-01-02T03:04:05.000Z");
    // The same event in structured mode is the same event.
    let structured = json!({ "specversion": "1.0", "id": "42", "source": "/shop", "type": "order.shipped",
        "time": "2026-01-02T03:04:05Z", "subject": "订单", "to": ann.user_id, "priority": 7,
        "data": shipped("42", "x")["data"] });
    let again = send(&world, &[("content-type", "application/cloudevents+json")], structured.to_string()).await;
    assert_eq!(again.body["status"], "duplicate", "{again:?}");

    let without = |name: &str| headers.into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>();
    let refused = send(&world, &without("ce-type"), data.clone()).await;
    assert_eq!(refused.problem(400, "invalid_request").body["errors"][0]["pointer"], "ce-type");
    let mut late = without("ce-time");
    late.push(("ce-time", "yesterday"));
    let refused = send(&world, &late, data).await;
    assert_eq!(refused.problem(400, "invalid_request").body["errors"][0]["pointer"], "ce-time");
    send(&world, &headers, "{").await.problem(400, "malformed_json");
    world.drain().await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_event_may_say_when_how_long_and_how_urgent(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "delay_seconds": 30, "ttl_seconds": 1000 })).await;
    let ann = world.phone("ann").await;
    for tap in ["a", "b", "c"] {
        world.accept(&ann, tap).await;
    }
    let tell = async |id: &str, changes: Value| {
        let mut event = shipped(id, ann.user_id.as_str());
        event.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
        world.post("/v1/events", event).await
    };
    let id_of = |answer: &Answer| answer.body["notifications"][0]["id"].as_str().expect("an id").to_owned();
    let at = |seconds| magpie::clock::rfc3339(world.clock.now() + Duration::from_secs(seconds));
    let later = id_of(&tell("later", json!({ "deliver_at": at(600), "ttl_seconds": 60 })).await);
    let brief = id_of(&tell("brief", json!({ "deliver_at": at(0), "ttl_seconds": 5, "priority": 5 })).await);
    let story = world.get(&format!("/v1/notifications/{later}")).await.body;
    assert_eq!((&story["due_at"], &story["expires_at"]), (&json!(at(600)), &json!(at(660))), "{story}");
    world.drain().await;
    world.until(&brief, "delivered").await;
    assert_eq!(world.state(&later).await, "pending", "its time has not come");
    world.advance(Duration::from_mins(10)).await;
    world.until(&later, "delivered").await;

    // A time that has passed is now; the same id with another time is another event.
    let past = tell("past", json!({ "deliver_at": "2020-01-01T00:00:00Z" })).await;
    world.until(&id_of(&past), "delivered").await;
    tell("past", json!({ "deliver_at": "2020-01-02T00:00:00Z" })).await.problem(422, "event_conflict");
    let wrong = tell("wrong", json!({ "deliver_at": at(31 * 86_400), "ttl_seconds": 0, "priority": 101 })).await;
    let pointers: Vec<_> = wrong.problem(400, "invalid_request").body["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .filter_map(|error| error["pointer"].as_str())
        .collect();
    assert_eq!(pointers, ["/ttl_seconds", "/priority", "/deliver_at"]);
    world.finish().await;
}

fn letter(to: impl Into<Value>) -> Value {
    json!({
        "app_id": APP, "template_id": TEMPLATE, "to": to.into(), "page": "pages/order?no=NO.42",
        "fields": { "character_string1": "NO.42", "thing2": "红富士苹果", "time3": "2026年1月2日 11:04" },
    })
}

async fn send_letter(world: &World, base: &str, key: Option<&str>, body: &Value) -> Answer {
    let mut request = world.http.post(format!("{base}/v1/notifications")).bearer_auth(&world.key).json(body);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    Answer::read(request.send().await.expect("an answer")).await
}

#[rstest]
#[tokio::test]
async fn a_message_needs_no_rule(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    world.accept(&ann, "tap").await;
    let to = json!([ann.user_id, bob.user_id, format!("openid:{APP}/{}", ann.openid), "external:nobody"]);
    let answer = send_letter(&world, &world.base, None, &letter(to)).await;
    assert_eq!((answer.status.as_u16(), &answer.body["status"]), (202, &json!("accepted")), "{answer:?}");
    let outcomes = answer.body["notifications"].as_array().expect("outcomes");
    let told: Vec<_> = outcomes.iter().map(|o| (o["state"].as_str(), o["reason"].as_str())).collect();
    assert_eq!(
        told,
        [
            (Some("pending"), None),
            (Some("failed"), Some("no_credit")),
            (Some("pending"), None),
            (Some("failed"), Some("unknown_recipient")),
        ]
    );
    assert_eq!(outcomes[0]["id"], outcomes[2]["id"], "one person is told once");
    let id = outcomes[0]["id"].as_str().expect("an id");
    world.until(id, "delivered").await;
    let messages = world.messages(&ann.openid).await;
    assert_eq!((messages.len(), &messages[0]["page"]), (1, &json!("pages/order?no=NO.42")));
    let story = world.get(&format!("/v1/notifications/{id}")).await.body;
    assert_eq!(story["rule_id"], Value::Null);
    let progress = world.get(&format!("/v1/events/{}", answer.body["event_id"].as_str().expect("an id"))).await;
    assert_eq!(progress.body["states"], json!({ "delivered": 1, "failed": 1 }), "{progress:?}");
    // Without a key each request is a message of its own.
    world.accept(&ann, "tap-2").await;
    let second = send_letter(&world, &world.base, None, &letter(ann.user_id.as_str())).await;
    assert_ne!(second.body["event_id"], answer.body["event_id"]);
    world.drain().await;
    assert_eq!(world.messages(&ann.openid).await.len(), 2);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_letter_is_checked_before_it_is_stored(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap").await;
    let refuse = async |changes: Value, status: u16, code: &str| {
        let mut body = letter(ann.user_id.as_str());
        for (key, value) in changes.as_object().expect("an object") {
            body[key] = value.clone();
        }
        let answer = send_letter(&world, &world.base, Some("key"), &body).await;
        let errors = answer.problem(status, code).body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().filter_map(|error| error["pointer"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let fields = json!({ "character_string1": "订单", "thing2": "一".repeat(21), "thing9": "x" });
    assert_eq!(
        refuse(json!({ "fields": fields }), 422, "fields_invalid").await,
        ["/fields/thing9", "/fields/time3", "/fields/character_string1", "/fields/thing2"]
    );
    assert_eq!(refuse(json!({ "to": ["bob"], "page": "/p" }), 400, "invalid_request").await, ["/to/0", "/page"]);
    assert_eq!(refuse(json!({ "to": [] }), 400, "invalid_request").await, ["/to"]);
    assert_eq!(refuse(json!({ "app_id": "wxnobody" }), 400, "invalid_request").await, ["/app_id"]);
    assert_eq!(refuse(json!({ "colour": 1 }), 400, "invalid_request").await, ["/colour"]);
    refuse(json!({ "template_id": "nope" }), 422, "template_not_found").await;
    assert_eq!(world.credits(&ann).await, 1, "nothing was reserved");

    // What was refused has not used up the key; too long a text may be cut on request.
    let mut body = letter(ann.user_id.as_str());
    (body["fields"]["thing2"], body["overflow"]) = (json!("一".repeat(21)), json!("truncate"));
    let answer = send_letter(&world, &world.base, Some("key"), &body).await;
    assert_eq!(answer.body["notifications"][0]["state"], "pending", "{answer:?}");
    world.drain().await;
    assert_eq!(world.messages(&ann.openid).await[0]["data"]["thing2"]["value"], format!("{}…", "一".repeat(19)));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_same_key_sends_once(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut world) = World::new(kind).await else { return };
    let other = world.second_node().await;
    let ann = world.phone("ann").await;
    for tap in ["a", "b", "c"] {
        world.accept(&ann, tap).await;
    }
    let body = letter(ann.user_id.as_str());
    let bases = [&world.base, &other, &world.base, &other];
    let [a, b, c, d] = bases.map(|base| send_letter(&world, base, Some("k-1"), &body));
    let answers = <[_; 4]>::from(tokio::join!(a, b, c, d));
    for answer in &answers {
        assert_eq!((answer.status.as_u16(), &answer.body), (202, &answers[0].body), "{answers:?}");
    }
    let first = answers.iter().filter(|answer| !answer.headers.contains_key("idempotency-replayed")).count();
    assert_eq!(first, 1, "{answers:?}");
    world.drain().await;
    world.advance(Duration::from_hours(24)).await;
    let late = send_letter(&world, &other, Some("k-1"), &body).await;
    assert_eq!((&late.body, late.headers["idempotency-replayed"].to_str().ok()), (&answers[0].body, Some("true")));
    let mut changed = body.clone();
    changed["fields"]["thing2"] = "梨".into();
    send_letter(&world, &other, Some("k-1"), &changed).await.problem(422, "idempotency_key_reused");
    let mut longer = body.clone();
    longer["ttl_seconds"] = 60.into();
    send_letter(&world, &world.base, Some("k-1"), &longer).await.problem(422, "idempotency_key_reused");
    send_letter(&world, &world.base, Some(&"k".repeat(201)), &body).await.problem(400, "invalid_request");

    // Keys are each sender's own.
    let scopes = ["notifications:write".to_owned()];
    let key = magpie::api_key::create(&world.ctx, "second", &scopes, None).await.expect("a key");
    let key = secrecy::ExposeSecret::expose_secret(&key.key).to_owned();
    let request = world.http.post(format!("{}/v1/notifications", world.base)).bearer_auth(&key);
    let response = request.header("idempotency-key", "k-1").json(&body).send().await.expect("an answer");
    let theirs = Answer::read(response).await;
    assert_ne!(theirs.body["event_id"], answers[0].body["event_id"], "{theirs:?}");
    world.drain().await;
    assert_eq!(world.messages(&ann.openid).await.len(), 2);

    // Nobody tells events under names that stand for letters.
    let forged = json!({ "source": "magpie:direct/x", "id": "1", "type": "magpie.direct", "to": ann.user_id });
    world.post("/v1/events", forged).await.problem(400, "invalid_request");
    let reader = magpie::api_key::create(&world.ctx, "r", &["events:write".to_owned()], None).await.expect("a key");
    let reader = secrecy::ExposeSecret::expose_secret(&reader.key).to_owned();
    world.call(Method::POST, "/v1/notifications", Some(&reader), Some(body)).await.problem(403, "insufficient_scope");
    world.finish().await;
}
