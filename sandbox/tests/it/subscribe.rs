//! What `wx.requestSubscribeMessage` gives to the client.

use serde_json::{Value, json};
use wechat_sandbox::{App, DEMO_APP_ID, DEMO_TEMPLATE_ID, Template, demo_app};

use crate::harness::{Stage, json_of};

fn app() -> App {
    let mut app = demo_app();
    let copy =
        |id: &str, title: &str, kind| Template { id: id.into(), title: title.into(), kind, ..app.templates[0].clone() };
    let more = [copy("same-title", "订单发货通知", 2), copy("second", "取餐提醒", 2), copy("long", "账单通知", 3)];
    app.templates.extend(more);
    app
}

async fn ask(stage: &Stage, body: Value) -> (u16, Value) {
    let url = stage.at(&format!("/sandbox/apps/{DEMO_APP_ID}/subscribe"));
    let response = stage.http.post(url).json(&body).send().await.expect("an answer");
    (response.status().as_u16(), json_of(response).await)
}

#[tokio::test]
async fn answers_by_template() {
    let stage = Stage::with(vec![app()], None).await;
    let (status, answer) = ask(
        &stage,
        json!({
            "openid": "oA",
            "template_ids": [DEMO_TEMPLATE_ID, "same-title", "second"],
            "answers": { "second": "reject" },
        }),
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(
        answer,
        json!({
            "errMsg": "requestSubscribeMessage:ok",
            DEMO_TEMPLATE_ID: "accept", "same-title": "filter", "second": "reject",
        })
    );
    assert_eq!(stage.credits("oA").await, 1);
    for (answer, credits) in [("acceptWithAudio", 2), ("ban", 2), ("somethingNew", 2)] {
        ask(&stage, json!({ "openid": "oA", "template_ids": [DEMO_TEMPLATE_ID], "answer": answer })).await;
        assert_eq!(stage.credits("oA").await, credits, "{answer}");
    }
    let url = stage.at(&format!("/sandbox/apps/{DEMO_APP_ID}/subscribe?format=results&openid=oB"));
    let results = json_of(stage.http.post(url).send().await.expect("an answer")).await;
    assert_eq!(results, json!({ DEMO_TEMPLATE_ID: "accept", "same-title": "filter", "second": "accept" }));
}

#[tokio::test]
async fn client_errors() {
    let stage = Stage::with(vec![app()], None).await;
    for (ids, expected) in [
        (json!([]), 10001),
        (json!(["none"]), 20001),
        (json!([DEMO_TEMPLATE_ID, "long"]), 20002),
        (json!(["a", "b", "c", "d", "e", "f"]), 20003),
    ] {
        let (status, answer) = ask(&stage, json!({ "template_ids": ids })).await;
        assert_eq!((status, answer["errCode"].as_i64()), (400, Some(expected)), "{answer}");
        assert!(answer["errMsg"].as_str().is_some_and(|text| text.starts_with("requestSubscribeMessage:fail ")));
    }
    let (status, answer) = ask(&stage, json!({ "fail": 20004 })).await;
    assert_eq!((status, answer["errCode"].as_i64()), (400, Some(20004)));
    assert_eq!(ask(&stage, json!({ "unknown_member": 1 })).await.0, 400);
}
