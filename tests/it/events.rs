//! From an event to messages: rules, recipients, duplicates, outcomes.

use magpie::recipient::{
    Recipient,
    ahead::{self, Wanted},
};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{APP, Kind, TEMPLATE, World, shipped};

#[rstest]
#[tokio::test]
async fn the_main_job_end_to_end(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "page": "pages/order?no={{ data.no }}" })).await;
    let ann = world.phone("ann").await;
    let report = world.accept(&ann, "tap-1").await;
    assert_eq!(report.body["data"][0]["credits"], 1, "{report:?}");

    let answer = world.event("42", ann.user_id.as_str()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.body["status"], "accepted");
    let outcome = &answer.body["notifications"][0];
    assert_eq!((&outcome["state"], &outcome["user_id"]), (&json!("pending"), &json!(ann.user_id)));
    let id = outcome["id"].as_str().expect("an id");
    assert_eq!(world.credits(&ann).await, 0, "the credit is set aside at once");

    world.until(id, "delivered").await;
    let messages = world.messages(&ann.openid).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0]["page"], "pages/order?no=NO.42");
    assert_eq!(messages[0]["data"]["thing2"]["value"], "红富士苹果");

    let story = world.get(&format!("/v1/notifications/{id}")).await.body;
    assert_eq!(story["attempts"][0]["outcome"], "accepted");
    assert_eq!(story["attempts"][0]["errcode"], 0);
    let moments: Vec<_> = story["timeline"].as_array().expect("moments").iter().map(|m| m["what"].clone()).collect();
    for what in ["created", "consent_reserved", "attempt", "accepted", "receipt", "delivered"] {
        assert!(moments.contains(&json!(what)), "{what} is missing in {moments:?}");
    }
    let inbox = world.call(Method::GET, "/v1/me/notifications", Some(&ann.access_token), None).await;
    assert_eq!(inbox.body["data"][0]["id"], id);
    let event = world.get(&format!("/v1/events/{}", answer.body["event_id"].as_str().expect("an id"))).await;
    assert_eq!(event.body["states"], json!({ "delivered": 1 }));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_event_told_twice_is_one_event(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut world) = World::new(kind).await else { return };
    let other = world.second_node().await;
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    for tap in ["tap-1", "tap-2", "tap-3"] {
        world.accept(&ann, tap).await;
    }
    // Told to two nodes at once, four times each.
    let tell = |base: String| {
        let world = &world;
        let body = shipped("42", ann.user_id.as_str());
        async move { world.call_at(&base, Method::POST, "/v1/events", Some(&world.key), Some(body)).await }
    };
    let bases = [&world.base, &other, &world.base, &other].map(Clone::clone);
    let [a, b, c, d] = bases.map(tell);
    let answers = <[_; 4]>::from(tokio::join!(a, b, c, d));
    let accepted = answers.iter().filter(|answer| answer.body["status"] == "accepted").count();
    assert_eq!(accepted, 1, "{answers:?}");
    for answer in &answers {
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.body["notifications"], answers[0].body["notifications"]);
        assert_eq!(answer.body["event_id"], answers[0].body["event_id"]);
    }
    assert_eq!(world.credits(&ann).await, 2, "one credit was set aside");

    // Later the first answer is given again, whatever has happened since.
    world.drain().await;
    let late = world.event("42", ann.user_id.as_str()).await;
    assert_eq!(late.body["status"], "duplicate");
    assert_eq!(late.body["notifications"], answers[0].body["notifications"]);
    world.event("42", "external:somebody-else").await.problem(422, "event_conflict");
    assert_eq!(world.messages(&ann.openid).await.len(), 1);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn every_recipient_has_an_outcome(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let rule = world.rule(json!({})).await;
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    world.accept(&ann, "tap-1").await;
    let by_openid = format!("openid:{APP}/{}", ann.openid);
    let to = json!([ann.user_id, by_openid, bob.user_id, "external:nobody", "unionid:nobody"]);
    let answer = world.event("42", to).await;
    let outcomes = answer.body["notifications"].as_array().expect("outcomes");
    let told: Vec<_> = outcomes.iter().map(|o| (o["state"].as_str(), o["reason"].as_str())).collect();
    assert_eq!(
        told,
        [
            (Some("pending"), None),
            // The same person by another name: the same message.
            (Some("pending"), None),
            (Some("failed"), Some("no_credit")),
            (Some("failed"), Some("unknown_recipient")),
            (Some("failed"), Some("unknown_recipient")),
        ],
        "{answer:?}"
    );
    assert_eq!(outcomes[0]["id"], outcomes[1]["id"]);
    assert!(outcomes.iter().all(|outcome| outcome["rule_id"] == rule["id"]));
    world.drain().await;
    assert_eq!(world.messages(&ann.openid).await.len(), 1);

    let empty = world.post("/v1/events", json!({ "source": "shop", "id": "43", "type": "order.shipped" })).await;
    assert_eq!(empty.body["notifications"][0]["reason"], "unknown_recipient", "{empty:?}");
    let silent = world.post("/v1/events", json!({ "source": "shop", "id": "44", "type": "nobody.listens" })).await;
    assert_eq!((silent.status.as_u16(), &silent.body["notifications"]), (202, &json!([])));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn cloud_events_in_structured_mode(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap-1").await;
    let send = async |event: Value| {
        let request = world.http.post(format!("{}/v1/events", world.base)).bearer_auth(&world.key);
        let request = request.header("content-type", "application/cloudevents+json; charset=utf-8");
        let response = request.body(event.to_string()).send().await.expect("an answer");
        (response.status().as_u16(), response.json::<Value>().await.expect("JSON"))
    };
    let mut event = json!({
        "specversion": "1.0", "id": "42", "source": "/shop", "type": "order.shipped",
        "time": "2026-01-02T11:04:05+08:00", "subject": ann.user_id, "datacontenttype": "application/json",
        "data": { "no": "NO.42", "item": "苹果", "at": "2026年1月2日 11:04" }, "traceparent": "00-1-2-00",
    });
    let (status, body) = send(event.clone()).await;
    assert_eq!((status, &body["notifications"][0]["state"]), (202, &json!("pending")), "{body}");
    let stored = world.get(&format!("/v1/events/{}", body["event_id"].as_str().expect("an id"))).await;
    assert_eq!(stored.body["time"], "2026-01-02T03:04:05.000Z");

    event["id"] = "43".into();
    event["to"] = "external:a, external:b".into();
    let (_, body) = send(event.clone()).await;
    assert_eq!(body["notifications"].as_array().map(Vec::len), Some(2), "{body}");
    event["specversion"] = "0.3".into();
    let (status, body) = send(event).await;
    assert_eq!((status, &body["errors"][0]["pointer"]), (400, &json!("/specversion")));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn rules_are_checked_when_they_are_saved(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let answer = world
        .post(
            "/v1/rules",
            json!({
                "name": "Wrong", "event_type": "order.shipped", "app_id": APP, "template_id": TEMPLATE,
                "fields": { "thing2": "{{ data.item", "character_string1": "中文", "thing9": "x" },
                "when": "data.amount >", "page": "/pages/order", "priority": 1000,
            }),
        )
        .await;
    let errors = answer.problem(422, "rule_invalid").body["errors"].as_array().expect("errors");
    let pointers: Vec<_> = errors.iter().filter_map(|error| error["pointer"].as_str()).collect();
    for pointer in [
        "/fields/thing2",
        "/fields/character_string1",
        "/fields/thing9",
        "/fields/time3",
        "/when",
        "/page",
        "/priority",
    ] {
        assert!(pointers.contains(&pointer), "{pointer} is missing in {pointers:?}");
    }
    let unknown = json!({ "name": "W", "event_type": "a", "app_id": APP, "template_id": "nope", "fields": {} });
    let answer = world.post("/v1/rules", unknown).await;
    assert!(answer.problem(422, "template_not_found").body["detail"].as_str().expect("a text").contains(TEMPLATE));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_changed_rule_counts_at_once_on_every_node(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut world) = World::new(kind).await else { return };
    let other = world.second_node().await;
    let rule = world.rule(json!({ "when": "data.no == 'NO.42'" })).await;
    let path = format!("/v1/rules/{}", rule["id"].as_str().expect("an id"));
    let tell = async |id: &str| {
        let body = Some(shipped(id, "external:nobody"));
        let answer = world.call_at(&other, Method::POST, "/v1/events", Some(&world.key), body).await;
        answer.body["notifications"].as_array().map(Vec::len)
    };
    assert_eq!(tell("1").await, Some(1));
    let mut changed = rule.clone();
    for key in ["id", "created_at", "updated_at"] {
        changed.as_object_mut().expect("an object").remove(key);
    }
    changed["when"] = "data.no == 'another'".into();
    let answer = world.call(Method::PUT, &path, Some(&world.key), Some(changed)).await;
    assert_eq!((answer.status.as_u16(), &answer.body["when"]), (200, &json!("data.no == 'another'")), "{answer:?}");
    assert_eq!(tell("2").await, Some(0));
    assert_eq!(world.call(Method::DELETE, &path, Some(&world.key), None).await.status, 204);
    world.get(&path).await.problem(404, "not_found");
    assert_eq!(world.get("/v1/rules").await.body["data"], json!([]));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn text_that_does_not_fit_is_cut_or_refused_by_name(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "event_type": "cut" })).await;
    world.rule(json!({ "event_type": "refuse", "overflow": "refuse" })).await;
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap-1").await;
    let tell = async |kind: &str, data: Value| {
        let event = json!({ "source": "shop", "id": kind, "type": kind, "to": ann.user_id, "data": data });
        world.post("/v1/events", event).await.body["notifications"][0].clone()
    };
    let long = json!({ "no": "1", "item": "一".repeat(30), "at": "2026-01-02 10:00" });
    let refused = tell("refuse", long.clone()).await;
    assert_eq!((&refused["state"], &refused["reason"]), (&json!("failed"), &json!("bad_data")), "{refused}");
    assert!(refused["detail"].as_str().expect("a text").contains("thing2"), "{refused}");
    let cut = tell("cut", long).await;
    assert_eq!(cut["state"], "pending", "{cut}");
    world.drain().await;
    let sent = world.messages(&ann.openid).await;
    assert_eq!(sent[0]["data"]["thing2"]["value"], format!("{}…", "一".repeat(19)));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn more_people_than_one_statement_takes_are_found(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    let named = |openid: String| Recipient::Openid { app_id: APP.to_owned(), openid };
    let mut recipients: Vec<_> = (0..12_000).map(|number| named(format!("nobody-{number}"))).collect();
    recipients.push(named(ann.openid.clone()));
    let wanted = recipients.iter().map(|recipient| Wanted { recipient, app_id: APP, template_id: "any" });
    let (people, seen) = ahead::look(world.ctx.db.read(), wanted).await.expect("a look");
    assert_eq!((people.len(), seen.len()), (1, 1));
    assert_eq!(people[&named(ann.openid.clone())].user_id.to_string(), ann.user_id);
    world.finish().await;
}
