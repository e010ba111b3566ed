//! Faults on the wire.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{SEND, Stage, errcode, message};

/// Sends over a bare socket and gives every byte that comes back before it closes.
async fn bytes_back(stage: &Stage, body: &Value) -> Vec<u8> {
    let token = stage.stable_token().await;
    let body = body.to_string();
    let request =
        format!("POST {SEND}?access_token={token} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut socket = TcpStream::connect(stage.sandbox.addr()).await.expect("a connection");
    socket.write_all(request.as_bytes()).await.expect("written");
    let mut back = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(3), socket.read_to_end(&mut back)).await;
    closed.expect("the simulator closes the socket").ok();
    back
}

#[tokio::test]
async fn dropped_before_or_after_the_work() {
    let stage = Stage::new().await;
    stage.accept("oA", 3).await;
    stage.fault(json!({ "path": SEND, "drop": "before" })).await;
    assert_eq!(bytes_back(&stage, &message("oA")).await, b"");
    assert_eq!(stage.credits("oA").await, 3);

    stage.fault(json!({ "path": SEND, "drop": "after" })).await;
    assert_eq!(bytes_back(&stage, &message("oA")).await, b"");
    assert_eq!(stage.credits("oA").await, 2);
    assert_eq!(stage.look("messages").await["total"], 1);

    // A client sees it as a transport error, and the next call is served.
    stage.fault(json!({ "path": SEND, "drop": "after" })).await;
    let token = stage.stable_token().await;
    let url = stage.at(&format!("{SEND}?access_token={token}"));
    assert!(stage.http.post(url).json(&message("oA")).send().await.is_err());
    assert_eq!(errcode(&stage.send("oA").await), 0);
}

#[tokio::test]
async fn truncated_answers() {
    let stage = Stage::new().await;
    stage.accept("oA", 2).await;
    stage.fault(json!({ "path": SEND, "truncate": 10 })).await;
    let back = String::from_utf8(bytes_back(&stage, &message("oA")).await).expect("text");
    let (head, body) = back.split_once("\r\n\r\n").expect("a head");
    assert_eq!(body, "{\"errcode\"");
    let promised = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    assert!(promised.parse::<usize>().expect("a number") > 10);
    assert_eq!(stage.look("messages").await["total"], 1);
}

#[tokio::test]
async fn ordered_answers() {
    let stage = Stage::new().await;
    stage.accept("oA", 5).await;
    stage.fault(json!({ "path": SEND, "errcode": -1, "times": 2 })).await;
    assert_eq!(errcode(&stage.send("oA").await), -1);
    let second = stage.send("oA").await;
    assert!(second["errmsg"].as_str().is_some_and(|text| text.starts_with("system error rid: ")), "{second}");
    assert_eq!(errcode(&stage.send("oA").await), 0);

    stage.fault(json!({ "path": "/cgi-bin/message/*", "status": 502, "body": "<html>Bad Gateway</html>" })).await;
    let token = stage.stable_token().await;
    let url = stage.at(&format!("{SEND}?access_token={token}"));
    let gateway = stage.http.post(&url).json(&message("oA")).send().await.expect("an answer");
    assert_eq!(gateway.status().as_u16(), 502);
    assert_eq!(gateway.text().await.expect("a body"), "<html>Bad Gateway</html>");

    stage.fault(json!({ "path": SEND, "skip": 1, "times": 0, "errcode": 45009 })).await;
    assert_eq!(errcode(&stage.send("oA").await), 0);
    assert_eq!(errcode(&stage.send("oA").await), 45009);
    assert_eq!(errcode(&stage.send("oA").await), 45009);
    assert_eq!(stage.look("faults").await["faults"].as_array().map(Vec::len), Some(1));
    let url = stage.at(&format!("/sandbox/apps/{}/faults", wechat_sandbox::DEMO_APP_ID));
    stage.http.delete(url).send().await.expect("an answer");
    assert_eq!(errcode(&stage.send("oA").await), 0);

    stage.fault(json!({ "path": "*", "for_seconds": 60, "errcode": -1 })).await;
    let path = "/wxaapi/newtmpl/gettemplate";
    assert_eq!(errcode(&stage.get(path).await), -1);
    stage.advance(60).await;
    assert_eq!(errcode(&stage.get(path).await), 41001);
}

#[tokio::test]
async fn work_goes_on_when_the_caller_hangs_up() {
    let stage = Stage::new().await;
    stage.accept("oA", 1).await;
    stage.fault(json!({ "path": SEND, "delay_ms": 200 })).await;
    let token = stage.stable_token().await;
    let url = stage.at(&format!("{SEND}?access_token={token}"));
    let hasty = stage.http.post(url).timeout(Duration::from_millis(50)).json(&message("oA")).send().await;
    assert!(hasty.is_err());
    for _ in 0..100 {
        if stage.look("messages").await["total"] == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the message never arrived");
}
