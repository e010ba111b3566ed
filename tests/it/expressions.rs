//! The language of a rule's expressions: what could end a node is not saved, what nobody meant is not sent.

use rstest::rstest;
use sea_orm::{ActiveModelTrait, EntityTrait, IntoActiveModel, Set};
use serde_json::{Value, json};

use crate::harness::{APP, Kind, TEMPLATE, World};

fn rule(changes: Value) -> Value {
    let mut body = json!({
        "name": "Order shipped", "event_type": "order.shipped", "app_id": APP, "template_id": TEMPLATE,
        "fields": { "character_string1": "{{ data.no }}", "thing2": "{{ data.item }}", "time3": "{{ data.at }}" },
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        match value.as_object().filter(|_| key == "fields") {
            Some(fields) => body[key].as_object_mut().expect("fields").extend(fields.clone()),
            None => body[key] = value.clone(),
        }
    }
    body
}

#[rstest]
#[tokio::test]
async fn an_expression_that_could_end_a_node_is_not_saved(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let bombs = [
        (format!("{{{{ data{} }}}}", ".a".repeat(1_000)), "at most 1000"),
        (format!("{{{{ 1{} }}}}", " ~ 1".repeat(1_000)), "at most 1000"),
        (format!("{{{{ data.a{} }}}}", "|upper".repeat(1_000)), "at most 1000"),
        (format!("{{{{ {}1{} }}}}", "(".repeat(400), ")".repeat(400)), "in each other"),
        (format!("{{{{ data{} }}}}", ".a".repeat(400)), "levels"),
        ("{{ 'a' * 1000000000 }}".to_owned(), "takes numbers"),
        (
            "{% set ns = namespace(s='a') %}{% for x in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}".into(),
            "tags",
        ),
        ("{% set a = data.a ~ data.a %}{% set a = a ~ a %}{{ a }}".into(), "tags"),
        ("{% for x in range(data.n) %}{{ x|indent(1000000000) }}{% endfor %}".into(), "no filter"),
        ("{{ data.list|batch(1000000000) }}".into(), "no filter"),
        ("{{ '%1000000000d'|format(1) }}".into(), "no filter"),
        ("{{ data|tojson(1000000000) }}".into(), "no filter"),
        ("{% macro m() %}{{ m() }}{% endmacro %}".into(), "statement"),
    ];
    for (bomb, says) in &bombs {
        for (part, pointer) in [("thing2", "/fields/thing2"), ("page", "/page"), ("recipients", "/recipients")] {
            let changes = if part == "thing2" { json!({ "fields": { part: bomb } }) } else { json!({ part: bomb }) };
            let answer = world.post("/v1/rules", rule(changes)).await;
            let errors = answer.problem(422, "rule_invalid").body["errors"].as_array().expect("errors");
            let said = errors.iter().any(|error| {
                error["pointer"] == pointer && error["reason"].as_str().is_some_and(|reason| reason.contains(says))
            });
            assert!(said, "{bomb}: {answer:?}");
        }
    }
    for when in ["'a' * 1000000000 == 'a'", &"not ".repeat(200), &format!("data{}", ".a".repeat(1_000))] {
        let answer = world.post("/v1/rules", rule(json!({ "when": when }))).await;
        assert_eq!(answer.problem(422, "rule_invalid").body["errors"][0]["pointer"], "/when", "{answer:?}");
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn memory_has_an_end_also_when_the_event_brings_it(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.ready("ann", 1).await;
    for expression in [
        "{{ data.item|replace('x', data.item) }}",
        "{{ data.list|join(data.item) }}",
        "{% for a in data.list %}{% for b in data.list %}{{ data.item ~ data.item }}{% endfor %}{% endfor %}",
        "{{ range(data.n)|join }}",
        "{{ data.item }}",
    ] {
        world.rule(rule(json!({ "fields": { "thing2": expression } }))).await;
    }
    let data = json!({ "no": "NO.42", "at": "2026-01-02 10:00", "n": 1_000_000_000, "item": "x".repeat(200_000),
        "list": vec![1; 20_000] });
    let event = json!({ "source": "shop", "id": "1", "type": "order.shipped", "to": ann.user_id, "data": data });
    let answer = world.post("/v1/events", event).await;
    let outcomes = answer.body["notifications"].as_array().expect("outcomes");
    assert_eq!(outcomes.len(), 5, "{answer:?}");
    for outcome in outcomes {
        assert_eq!((&outcome["state"], &outcome["reason"]), (&json!("failed"), &json!("bad_data")), "{outcome}");
        assert!(outcome["detail"].as_str().is_some_and(|detail| detail.contains("/fields/thing2")), "{outcome}");
    }
    assert_eq!(world.credits(&ann).await, 1);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_nobody_meant_to_say_is_not_sent(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.ready("ann", 1).await;
    for overflow in ["truncate", "refuse"] {
        world.rule(rule(json!({ "overflow": overflow }))).await;
    }
    world.rule(rule(json!({ "fields": { "thing2": "{{ '苹果' ~ data.item }}" } }))).await;
    let event = |id: &str, item: Value| {
        json!({ "source": "shop", "id": id, "type": "order.shipped", "to": ann.user_id,
            "data": { "no": "NO.42", "at": "2026-01-02 10:00", "item": item } })
    };
    for (item, says) in
        [(Value::Null, "default(\"…\", true)"), (json!(["苹果"]), "join"), (json!({ "name": "苹果" }), "value.name")]
    {
        let preview = world.post("/v1/events/preview", event(&item.to_string(), item.clone())).await;
        for told in preview.body["data"].as_array().expect("prospects") {
            assert_eq!((&told["would"], &told["reason"]), (&json!("fail"), &json!("bad_data")), "{told}");
            assert_eq!(told["violations"][0]["field"], "thing2", "{told}");
            assert!(told["violations"][0]["problem"].as_str().is_some_and(|problem| problem.contains(says)), "{told}");
        }
        let answer = world.post("/v1/events", event(&item.to_string(), item)).await;
        let outcomes = answer.body["notifications"].as_array().expect("outcomes");
        assert_eq!(outcomes.len(), 3, "{answer:?}");
        for outcome in outcomes {
            assert_eq!((&outcome["state"], &outcome["reason"]), (&json!("failed"), &json!("bad_data")), "{outcome}");
        }
    }
    assert_eq!(world.credits(&ann).await, 1, "no credit was spent");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn nobody_is_called_none(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.ready("ann", 1).await;
    let path = format!("/v1/users/{}/external-id", ann.user_id);
    let named = json!({ "external_id": "None" });
    assert_eq!(world.call(reqwest::Method::PUT, &path, Some(&world.key), Some(named)).await.status, 200);
    world.rule(rule(json!({ "recipients": "external:{{ data.buyer }}" }))).await;
    world.rule(rule(json!({ "recipients": "{{ 'external:' ~ data.buyer }}" }))).await;
    let data = json!({ "no": "NO.42", "at": "2026-01-02 10:00", "item": "苹果", "buyer": null });
    let event = json!({ "source": "shop", "id": "1", "type": "order.shipped", "data": data });
    let answer = world.post("/v1/events", event).await;
    let outcomes = answer.body["notifications"].as_array().expect("outcomes");
    assert_eq!(outcomes.len(), 2, "{answer:?}");
    for outcome in outcomes {
        assert_eq!((&outcome["state"], &outcome["user_id"]), (&json!("failed"), &Value::Null), "{outcome}");
        let detail = outcome["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("/recipients") && detail.contains("null"), "{outcome}");
    }
    assert_eq!(world.credits(&ann).await, 1);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_text_is_not_more_than_a_number(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.ready("ann", 1).await;
    world.rule(rule(json!({ "name": "plain", "when": "data.amount > 100" }))).await;
    world.rule(rule(json!({ "name": "read", "when": "data.amount|float > 100" }))).await;
    let preview = async |amount: Value| {
        let data = json!({ "no": "NO.42", "at": "2026-01-02 10:00", "item": "苹果", "amount": amount });
        let event = json!({ "source": "shop", "id": "1", "type": "order.shipped", "to": ann.user_id, "data": data });
        let answer = world.post("/v1/events/preview", event).await;
        let told = answer.body["data"].as_array().unwrap_or_else(|| panic!("{answer:?}")).iter();
        told.map(|told| {
            let problem = told["violations"][0]["problem"].as_str().unwrap_or_default().to_owned();
            (told["would"].as_str().expect("a word").to_owned(), problem)
        })
        .collect::<Vec<_>>()
    };
    let told = preview(json!("50")).await;
    assert!(matches!(&told[..], [(would, problem)] if would == "fail" && problem.contains("value|float")), "{told:?}");
    let told = preview(json!("many")).await;
    assert!(matches!(&told[..], [_, (would, problem)] if would == "fail" && problem.contains("no number")), "{told:?}");
    assert_eq!(preview(json!("150")).await.len(), 2);
    assert_eq!(preview(json!(50)).await.len(), 0);
    assert_eq!(preview(json!(150)).await[0].0, "send");
    world.finish().await;
}

/// Stored by an earlier version, which took more.
#[rstest]
#[tokio::test]
async fn a_stored_rule_that_is_taken_no_more_says_so(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut world) = World::new(kind).await else { return };
    let ann = world.ready("ann", 1).await;
    let old = world.rule(rule(json!({ "name": "old" }))).await;
    let mut row = entity::rule::Entity::find().one(world.ctx.db.read()).await.expect("a read").expect("a rule");
    row.fields.0.insert("thing2".into(), format!("{{{{ data{} }}}}", ".a".repeat(100_000)));
    let mut changed = row.clone().into_active_model();
    changed.fields = Set(row.fields);
    let tx = world.ctx.db.begin().await.expect("a transaction");
    changed.update(&tx).await.expect("an update");
    tx.commit().await.expect("a commit");
    world.rule(rule(json!({ "name": "new" }))).await;
    let answer = world.event("1", ann.user_id.as_str()).await;
    let outcomes = answer.body["notifications"].as_array().expect("outcomes");
    let states: Vec<_> = outcomes.iter().map(|outcome| (&outcome["state"], &outcome["reason"])).collect();
    assert_eq!(states, [(&json!("failed"), &json!("bad_data")), (&json!("pending"), &Value::Null)], "{answer:?}");
    assert!(outcomes[0]["detail"].as_str().is_some_and(|detail| detail.contains("at most 1000")), "{answer:?}");
    // A node starts with it, and it can be mended.
    let other = world.second_node().await;
    let path = format!("/v1/rules/{}", old["id"].as_str().expect("an id"));
    let mended = Some(rule(json!({ "name": "old" })));
    let answer = world.call_at(&other, reqwest::Method::PUT, &path, Some(&world.key), mended).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut ready = world.event("2", ann.user_id.as_str()).await.body["notifications"].clone();
    assert!(ready.as_array_mut().is_some_and(|all| all.iter().all(|one| one["reason"] == "no_credit")), "{ready}");
    world.drain().await;
    world.finish().await;
}
