//! Template management with the public library.

use serde_json::{Value, json};
use wechat_sandbox::DEMO_TEMPLATE_ID;

use crate::harness::{Stage, errcode, message};

async fn list(stage: &Stage) -> Vec<Value> {
    let token = stage.stable_token().await;
    let answer = stage.get(&format!("/wxaapi/newtmpl/gettemplate?access_token={token}")).await;
    assert_eq!(errcode(&answer), 0);
    answer["data"].as_array().expect("a list").clone()
}

async fn manage(stage: &Stage, path: &str, body: Value) -> Value {
    let token = stage.stable_token().await;
    stage.post(&format!("/wxaapi/newtmpl/{path}?access_token={token}"), body).await
}

async fn browse(stage: &Stage, what: &str) -> Value {
    let token = stage.stable_token().await;
    stage.get(&format!("/wxaapi/newtmpl/{what}&access_token={token}")).await
}

#[tokio::test]
async fn a_template_is_added_used_and_deleted() {
    let stage = Stage::new().await;
    let first = list(&stage).await;
    assert_eq!((first.len(), first[0]["priTmplId"].as_str()), (1, Some(DEMO_TEMPLATE_ID)));
    assert_eq!(first[0]["type"], 2);
    assert!(first[0].get("keywordEnumValueList").is_none());

    let added = manage(&stage, "addtemplate", json!({ "tid": "4021", "kidList": [3, 1], "sceneDesc": "缴费" })).await;
    let id = added["priTmplId"].as_str().expect("priTmplId").to_owned();
    assert_eq!(id.len(), 43);
    let all = list(&stage).await;
    assert_eq!(all[1]["content"], "账单状态:{{enum_string3.DATA}}\n账单金额:{{amount1.DATA}}\n");
    assert_eq!(
        all[1]["keywordEnumValueList"],
        json!([{ "keywordCode": "enum_string3.DATA", "enumValueList": ["待缴费", "已缴费", "已逾期"] }])
    );

    stage.phone("subscribe", json!({ "openid": "oA", "template_ids": [id], "popup": false })).await;
    let mut body = message("oA");
    body["template_id"] = json!(id);
    body["data"] = json!({ "enum_string3": { "value": "待缴费" }, "amount1": { "value": "¥5.20" } });
    assert_eq!(errcode(&stage.send_body(&body).await), 0);
    body["data"]["enum_string3"]["value"] = json!("未知");
    assert_eq!(errcode(&stage.send_body(&body).await), 47003);

    for gone in [id.as_str(), DEMO_TEMPLATE_ID] {
        assert_eq!(errcode(&manage(&stage, "deltemplate", json!({ "priTmplId": gone })).await), 0);
    }
    assert!(list(&stage).await.is_empty());
    assert_eq!(errcode(&manage(&stage, "deltemplate", json!({ "priTmplId": id })).await), 200014);
    assert_eq!(errcode(&stage.send("oA").await), 40037);
}

#[tokio::test]
async fn what_addtemplate_refuses() {
    let stage = Stage::new().await;
    for (body, expected) in [
        (json!({ "tid": "0", "kidList": [1, 2] }), 200014),
        (json!({ "tid": "855", "kidList": [1] }), 200020),
        (json!({ "tid": "855", "kidList": [1, 1] }), 200020),
        (json!({ "tid": "855", "kidList": [1, 99] }), 200020),
        (json!({ "tid": "855", "kidList": [1, 2], "sceneDesc": "一二三四五六七八九十一二三四五六" }), 200021),
        (json!({ "tid": "855", "kidList": [1, 2, 3] }), 200022),
    ] {
        assert_eq!(errcode(&manage(&stage, "addtemplate", body.clone()).await), expected, "{body}");
    }
    // The demo template is the first of the 25 an app may have.
    let kids = [1, 2, 3, 4, 5, 6, 7];
    let pairs = kids.iter().flat_map(|a| kids.iter().filter(move |b| *b != a).map(move |b| json!([a, b])));
    for pair in pairs.take(24) {
        assert_eq!(errcode(&manage(&stage, "addtemplate", json!({ "tid": "855", "kidList": pair })).await), 0);
    }
    assert_eq!(errcode(&manage(&stage, "addtemplate", json!({ "tid": "1128", "kidList": [1, 2] })).await), 200012);
}

#[tokio::test]
async fn browsing() {
    let stage = Stage::new().await;
    let categories = browse(&stage, "getcategory?").await;
    assert_eq!(categories["data"][0], json!({ "id": 616, "name": "电商平台" }));
    let titles = browse(&stage, "getpubtemplatetitles?ids=616,670&start=1&limit=30").await;
    assert_eq!(titles["count"], 2);
    assert_eq!(titles["data"], json!([{ "tid": 1128, "title": "取餐提醒", "type": 2, "categoryId": "670" }]));
    let keywords = browse(&stage, "getpubtemplatekeywords?tid=855").await;
    assert_eq!(keywords["data"][1], json!({ "kid": 2, "name": "商品名称", "example": "明前龙井茶", "rule": "thing" }));
    for (what, expected) in [
        ("getpubtemplatetitles?start=0&limit=1", 200018),
        ("getpubtemplatetitles?ids=1&start=0&limit=1", 200019),
        ("getpubtemplatetitles?ids=616&limit=1", 200016),
        ("getpubtemplatetitles?ids=616&start=0&limit=31", 200017),
        ("getpubtemplatekeywords?", 200002),
        ("getpubtemplatekeywords?tid=1", 200014),
    ] {
        assert_eq!(errcode(&browse(&stage, what).await), expected, "{what}");
    }
}
