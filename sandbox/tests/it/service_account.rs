//! Service accounts: followers and template messages.

use serde_json::{Value, json};
use wechat_sandbox::{App, Format, Kind, Mode, Template, demo_app};

use crate::{
    callback::{Receiver, app_with_callback},
    harness::{SEND, Stage, errcode},
};

const APP_ID: &str = "wxservice0000001";
const SEND_TEMPLATE: &str = "/cgi-bin/message/template/send";

fn app(url: &str) -> App {
    let template = |id: &str, content: &str| Template { id: id.into(), content: content.into(), ..Template::default() };
    App {
        app_id: APP_ID.into(),
        kind: Kind::ServiceAccount,
        secret: "service-secret".into(),
        templates: vec![
            template("typed", "订单:{{thing1.DATA}}\n金额:{{amount2.DATA}}\n"),
            template("old", "{{first.DATA}}\n订单:{{keyword1.DATA}}\n{{remark.DATA}}"),
        ],
        // JSON is asked for, but a service account gets XML.
        ..app_with_callback(url, Mode::Plain, Format::Json)
    }
}

async fn stage() -> (Receiver, Stage) {
    let (receiver, url) = Receiver::start().await;
    (receiver, Stage::with(vec![app(&url), demo_app()], None).await)
}

async fn phone(stage: &Stage, what: &str, body: Value) -> Value {
    stage.post(&format!("/sandbox/apps/{APP_ID}/{what}"), body).await
}

async fn call(stage: &Stage, path: &str, body: Value) -> Value {
    let token = stage.stable_token_of(APP_ID, "service-secret").await;
    stage.post(&format!("{path}?access_token={token}"), body).await
}

async fn read(stage: &Stage, path: &str) -> Value {
    let token = stage.stable_token_of(APP_ID, "service-secret").await;
    stage.get(&format!("{path}access_token={token}")).await
}

fn message() -> Value {
    json!({
        "touser": "oF", "template_id": "typed", "client_msg_id": "m1",
        "data": { "thing1": { "value": "茶" }, "amount2": { "value": "¥8" }, "first": { "value": "gone" } },
    })
}

#[tokio::test]
async fn a_template_message_and_its_receipt() {
    let (receiver, stage) = stage().await;
    assert_eq!(errcode(&call(&stage, SEND_TEMPLATE, message()).await), 40003);
    phone(&stage, "follow", json!({ "openid": "oF", "unionid": "uF" })).await;
    let follow = receiver.wait(1).await[0].body.clone();
    assert!(follow.contains("<Event><![CDATA[subscribe]]></Event><EventKey><![CDATA[]]></EventKey>"), "{follow}");

    let sent = call(&stage, SEND_TEMPLATE, message()).await;
    let msgid = sent["msgid"].as_u64().expect("msgid");
    let receipt = receiver.wait(2).await[1].body.clone();
    let tail = format!(
        "<Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event><MsgID>{msgid}</MsgID><Status><![CDATA[success]]></Status></xml>"
    );
    assert!(receipt.ends_with(&tail), "{receipt}");

    assert_eq!(call(&stage, SEND_TEMPLATE, message()).await["msgid"], msgid, "the same client_msg_id is sent once");
    stage.advance(600).await;
    assert_ne!(call(&stage, SEND_TEMPLATE, message()).await["msgid"], msgid);
    assert_eq!(stage.get(&format!("/sandbox/apps/{APP_ID}/messages")).await["total"], 2);

    receiver.wait(3).await;
    let mut knob = json!({ "receipt": { "mode": "fail", "delay_ms": 0, "error_status": "failed:user block" } });
    let url = stage.at(&format!("/sandbox/apps/{APP_ID}"));
    stage.http.patch(&url).json(&knob).send().await.expect("an answer");
    let mut body = message();
    body["client_msg_id"] = json!("m2");
    call(&stage, SEND_TEMPLATE, body).await;
    assert!(receiver.wait(4).await[3].body.contains("<Status><![CDATA[failed:user block]]></Status>"));

    knob = json!({ "blocked_openids": ["oF"], "linked_mini_programs": ["wxmine"] });
    stage.http.patch(&url).json(&knob).send().await.expect("an answer");
    assert_eq!(errcode(&call(&stage, SEND_TEMPLATE, message()).await), 43019);
    phone(&stage, "unfollow", json!({ "openid": "oF" })).await;
    assert_eq!(errcode(&call(&stage, SEND_TEMPLATE, message()).await), 43004);
    assert!(receiver.wait(5).await[4].body.contains("<![CDATA[unsubscribe]]>"));
}

#[tokio::test]
async fn template_messages_are_checked() {
    let (_receiver, stage) = stage().await;
    phone(&stage, "follow", json!({ "openid": "oF" })).await;
    let url = stage.at(&format!("/sandbox/apps/{APP_ID}"));
    let knob = json!({ "linked_mini_programs": ["wxmine"] });
    stage.http.patch(&url).json(&knob).send().await.expect("an answer");
    for (member, value, expected) in [
        ("template_id", json!(""), 40036),
        ("template_id", json!("none"), 40037),
        ("url", json!("ftp://x"), 40039),
        ("miniprogram", json!({ "appid": "wxother", "pagepath": "index" }), 40013),
        ("miniprogram", json!({ "appid": "wxmine", "pagepath": "index" }), 0),
        ("data", json!({ "thing1": { "value": "茶" } }), 47003),
        (
            "data",
            json!({ "thing1": { "value": "茶" }, "amount2": { "value": "8" }, "remark1": { "value": "x" } }),
            47003,
        ),
    ] {
        let mut body = message();
        body[member] = value.clone();
        assert_eq!(errcode(&call(&stage, SEND_TEMPLATE, body).await), expected, "{member} {value}");
    }
    let old = json!({ "touser": "oF", "template_id": "old", "data": { "other": { "value": "x" } } });
    assert_eq!(errcode(&call(&stage, SEND_TEMPLATE, old).await), 0, "old templates take what they get");

    let own = stage.stable_token().await;
    assert_eq!(errcode(&stage.post(&format!("{SEND_TEMPLATE}?access_token={own}"), message()).await), 48001);
    assert_eq!(errcode(&call(&stage, SEND, message()).await), 48001);
}

#[tokio::test]
async fn followers_are_listed() {
    let (_receiver, stage) = stage().await;
    for openid in ["oF1", "oF2", "oF3"] {
        phone(&stage, "follow", json!({ "openid": openid, "unionid": format!("u{openid}"), "qr_scene": "shop" })).await;
    }
    phone(&stage, "unfollow", json!({ "openid": "oF2" })).await;
    let page = read(&stage, "/cgi-bin/user/get?").await;
    assert_eq!((page["total"].as_u64(), page["count"].as_u64()), (Some(2), Some(2)));
    assert_eq!((&page["data"]["openid"], page["next_openid"].as_str()), (&json!(["oF1", "oF3"]), Some("oF3")));
    let end = read(&stage, "/cgi-bin/user/get?next_openid=oF3&").await;
    assert_eq!((end["count"].as_u64(), end.get("data")), (Some(0), None));

    let one = read(&stage, "/cgi-bin/user/info?openid=oF1&lang=zh_CN&").await;
    assert_eq!((one["subscribe"].as_u64(), one["unionid"].as_str()), (Some(1), Some("uoF1")));
    assert_eq!(one["subscribe_scene"], "ADD_SCENE_QR_CODE");
    let gone = read(&stage, "/cgi-bin/user/info?openid=oF2&").await;
    assert_eq!((gone["subscribe"].as_u64(), gone.get("unionid")), (Some(0), None));
    assert_eq!(errcode(&read(&stage, "/cgi-bin/user/info?openid=oX&").await), 40003);

    let many =
        call(&stage, "/cgi-bin/user/info/batchget", json!({ "user_list": [{ "openid": "oF1" }, { "openid": "oF2" }] }));
    assert_eq!(many.await["user_info_list"].as_array().map(Vec::len), Some(2));
    let too_many: Vec<Value> = (0..101).map(|_| json!({ "openid": "oF1" })).collect();
    assert_eq!(errcode(&call(&stage, "/cgi-bin/user/info/batchget", json!({ "user_list": too_many })).await), 40032);
}

#[tokio::test]
async fn private_templates() {
    let (_receiver, stage) = stage().await;
    let ask = json!({ "template_id_short": "855", "keyword_name_list": ["商品名称", "订单金额"] });
    let added = call(&stage, "/cgi-bin/template/api_add_template", ask).await;
    let id = added["template_id"].as_str().expect("template_id");
    let listed = read(&stage, "/cgi-bin/template/get_all_private_template?").await;
    let listed = listed["template_list"].as_array().expect("a list");
    assert_eq!((listed.len(), listed[2]["template_id"].as_str()), (3, Some(id)));
    assert_eq!(listed[2]["content"], "商品名称:{{thing2.DATA}}\n订单金额:{{amount5.DATA}}\n");
    let gone = json!({ "template_id": id });
    assert_eq!(errcode(&call(&stage, "/cgi-bin/template/del_private_template", gone.clone()).await), 0);
    assert_eq!(errcode(&call(&stage, "/cgi-bin/template/del_private_template", gone).await), 40037);
    let wrong = json!({ "template_id_short": "855", "keyword_name_list": ["没有"] });
    assert_eq!(errcode(&call(&stage, "/cgi-bin/template/api_add_template", wrong).await), 40246);
    assert!(read(&stage, "/cgi-bin/template/get_industry?").await["primary_industry"]["first_class"].is_string());
}
