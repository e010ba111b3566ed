//! WeChat's error codes: the table as it is served, and a defined outcome for every kind of answer.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Kind, SEND, World, openid};

const LOGIN: &str = "/sns/jscode2session";

#[tokio::test]
async fn the_table_is_public_and_tells_both_languages_and_who_should_act() {
    let Some(world) = World::new(Kind::Sqlite).await else { return };
    let answer = world.call(Method::GET, "/v1/wechat-errors", None, None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let all = answer.body["data"].as_array().expect("a list");
    let of = |errcode: i64| all.iter().filter(|entry| entry["errcode"] == errcode).collect::<Vec<_>>();
    assert_eq!(
        *of(43101)[0],
        json!({
            "errcode": 43101, "apis": [], "verdict": "no_credit", "credit": "zeroed", "who": "user",
            "meaning": {
                "en": "the user has not subscribed, has refused, or nothing is left",
                "zh": "用户未订阅、已拒收或次数已用完",
            },
        })
    );
    let verdicts: Vec<_> = of(40001).iter().map(|entry| entry["verdict"].clone()).collect();
    assert_eq!(verdicts, ["refresh_token", "operator"], "a refused token elsewhere, a wrong secret there");
    assert_eq!(of(40001)[1]["apis"][0], "/cgi-bin/stable_token");
    assert_eq!(of(40029).len(), 3, "in general, at the login, and of a phone number");
    // The codes of the general table in WeChat's documents.
    for errcode in [
        -1, 40002, 40003, 40013, 40014, 40037, 40066, 40125, 40163, 40164, 40226, 40243, 41001, 41030, 42001, 43001,
        43004, 43019, 43104, 43106, 43107, 43108, 44002, 44991, 45009, 45011, 45026, 45109, 45168, 47001, 47003, 48001,
        48002, 48004, 48006, 48017, 50001, 50002, 50005, 50007, 61007, 61010, 76001, 76022, 87009, 89002, 89300, 89503,
        89506, 89507, 200012, 200022,
    ] {
        assert!(!of(errcode).is_empty(), "{errcode} is missing");
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn every_kind_of_answer_to_a_login_has_its_outcome(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let cases: [(Value, u16, &str); 11] = [
        (json!({ "errcode": 40029 }), 400, "login_code_invalid"),
        (json!({ "body": "{\"errcode\":\"40029\",\"errmsg\":\"invalid code\"}" }), 400, "login_code_invalid"),
        (json!({ "errcode": 40125 }), 502, "wechat_app_error"),
        (json!({ "body": "<html>nginx</html>" }), 502, "wechat_bad_answer"),
        (json!({ "status": 502 }), 502, "wechat_bad_answer"),
        (json!({ "body": "{\"openid\":\"o1\",\"session_" }), 502, "wechat_bad_answer"),
        (json!({ "body": "{\"openid\":\"\",\"session_key\":\"a\"}" }), 502, "wechat_bad_answer"),
        (json!({ "body": "{\"openid\":\"o1\",\"session_key\":\" \"}" }), 502, "wechat_bad_answer"),
        (json!({ "body": "{\"openid\":\"o\\u0000\",\"session_key\":\"a\"}" }), 502, "wechat_bad_answer"),
        (json!({ "errcode": 999_999 }), 422, "wechat_refused"),
        (json!({ "errcode": -1 }), 503, "wechat_busy"),
    ];
    for (mut fault, status, code) in cases {
        fault["path"] = LOGIN.into();
        world.wechat("/faults", fault).await;
        let answer = world.log_in_with(&world.code(&openid("ann")).await).await;
        answer.problem(status, code);
    }
    for errmsg in ["invalid code, rid: 6201abcd-12345678-0badcafe", "invalid code hint: [6201abcd-12345678-0badcafe]"] {
        let body = json!({ "errcode": 40029, "errmsg": errmsg }).to_string();
        world.wechat("/faults", json!({ "path": LOGIN, "body": body })).await;
        let answer = world.log_in_with(&world.code(&openid("ann")).await).await;
        let wechat = &answer.problem(400, "login_code_invalid").body["wechat"];
        assert_eq!(
            *wechat,
            json!({ "errcode": 40029, "errmsg": "invalid code", "rid": "6201abcd-12345678-0badcafe" }),
            "{errmsg}"
        );
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn every_kind_of_answer_to_a_message_has_its_outcome(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    for number in 0..6 {
        world.accept(&ann, &format!("tap-{number}")).await;
    }
    let text = "{\"errcode\":\"47003\",\"errmsg\":\"data.thing2.value invalid\"}";
    let cases = [
        (json!({ "body": "<html>nginx</html>" }), "unsure", "unsure"),
        (json!({ "status": 502 }), "unsure", "unsure"),
        (json!({ "body": "{\"errcode\":0,\"errm" }), "unsure", "unsure"),
        (json!({ "body": text }), "failed", "reject"),
        (json!({ "errcode": 999_999 }), "failed", "reject"),
    ];
    for (number, (mut fault, state, outcome)) in cases.into_iter().enumerate() {
        fault["path"] = SEND.into();
        world.wechat("/faults", fault.clone()).await;
        let answer = world.event(&number.to_string(), ann.user_id.as_str()).await;
        let id = answer.body["notifications"][0]["id"].as_str().expect("an id").to_owned();
        world.drain().await;
        let story = world.get(&format!("/v1/notifications/{id}")).await.body;
        assert_eq!(
            (&story["state"], &story["attempts"][0]["outcome"]),
            (&json!(state), &json!(outcome)),
            "{fault} {story}"
        );
    }
    world.finish().await;
}

#[test]
fn every_api_in_use_is_in_the_docs() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_to_string(root.join("docs/wechat-apis.md")).expect("the table of APIs");
    let mut used = 0;
    for file in std::fs::read_dir(root.join("src/wechat")).expect("a folder") {
        let path = file.expect("a file").path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_api = |text: &&str| ["/cgi-bin/", "/wxa", "/sns/"].iter().any(|start| text.starts_with(start));
        for api in code.split('"').filter(is_api) {
            used += 1;
            assert!(docs.contains(&format!(" {api}`")), "{api} of {} is missing", path.display());
        }
    }
    assert!(used >= 18, "{used}");
}
