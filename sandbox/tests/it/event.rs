//! Pushes made to order.

use serde_json::{Value, json};
use wechat_sandbox::{DEMO_APP_ID, Format, Mode};

use crate::{
    callback::{Receiver, app_with_callback},
    harness::Stage,
};

#[tokio::test]
async fn privacy_events_come_from_the_platform() {
    let (receiver, url) = Receiver::start().await;
    let stage = Stage::with(vec![app_with_callback(&url, Mode::Plain, Format::Json)], None).await;
    for event in ["user_authorization_revoke", "user_authorization_cancellation", "user_info_modified"] {
        let posted = stage.phone("events", json!({ "event": event, "openid": "oA" })).await;
        assert_eq!(posted["delivered"], true, "{posted}");
    }
    let posts = receiver.wait(3).await;
    let revoke: Value = serde_json::from_str(&posts[0].body).expect("JSON");
    assert_eq!((revoke["OpenID"].as_str(), revoke["AppID"].as_str()), (Some("oA"), Some(DEMO_APP_ID)));
    assert_ne!(revoke["FromUserName"], "oA");
    assert_eq!(revoke["RevokeInfo"], "8");
}

#[tokio::test]
async fn any_event_and_its_repetition() {
    let (receiver, url) = Receiver::start().await;
    let stage = Stage::with(vec![app_with_callback(&url, Mode::Secure, Format::Xml)], None).await;
    let ask = json!({
        "event": "subscribe_msg_change_event", "openid": "oA", "create_time": 1,
        "fields": { "Extra": "x]]>y" }, "list": [{ "TemplateId": "T1" }, { "TemplateId": "T2" }],
    });
    let posted = stage.phone("events", ask).await;
    let log = stage.look("callbacks").await;
    let plain = log["callbacks"][0]["plain"].as_str().expect("the message");
    assert!(plain.contains("<CreateTime>1</CreateTime>"), "{plain}");
    assert!(plain.contains("<Extra><![CDATA[x]]]]><![CDATA[>y]]></Extra>"), "{plain}");
    assert!(plain.contains("</List><List>"), "{plain}");

    let n = posted["n"].as_u64().expect("a number");
    assert_eq!(stage.phone(&format!("callbacks/{n}/resend"), json!({})).await["delivered"], true);
    let posts = receiver.wait(2).await;
    assert_eq!((&posts[0].body, &posts[0].query), (&posts[1].body, &posts[1].query));
    assert!(stage.phone("callbacks/99/resend", json!({})).await["error"].is_string());
    assert_eq!(stage.phone("callback-check", json!({})).await["ok"], true);
}
