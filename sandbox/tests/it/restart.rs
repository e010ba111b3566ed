//! What outlives a restart, and what a stop leaves behind.

use serde_json::json;
use wechat_sandbox::{DEMO_APP_ID, Sandbox, demo_app};

use crate::harness::{Stage, errcode};

#[tokio::test]
async fn the_state_file_keeps_the_world() {
    let path = std::env::temp_dir().join(format!("wechat-sandbox-{}.json", std::process::id()));
    let stage = Stage::with(vec![demo_app()], Some(path.clone())).await;
    stage.accept("oA", 2).await;
    stage.advance(100).await;
    let token = stage.stable_token().await;
    assert_eq!(errcode(&stage.send("oA").await), 0);
    stage.sandbox.stop().await;

    let stage = Stage::with(vec![demo_app()], Some(path.clone())).await;
    assert_eq!(stage.stable_token().await, token);
    assert_eq!(stage.credits("oA").await, 1);
    assert_eq!(stage.look("messages").await["total"], 1);
    assert_eq!(stage.get("/sandbox/clock").await["offset_seconds"], 100);
    assert_eq!(errcode(&stage.send("oA").await), 0);
    // Dropping is a stop too.
    drop(stage);

    let stage = Stage::with(vec![demo_app()], Some(path.clone())).await;
    assert_eq!(stage.credits("oA").await, 0);
    drop(stage);
    std::fs::remove_file(path).expect("the state file");
}

#[tokio::test]
async fn nothing_listens_after_stop_or_drop() {
    for by_drop in [false, true] {
        let stage = Stage::new().await;
        stage.get("/sandbox/clock").await;
        let addr = stage.sandbox.addr();
        if by_drop {
            drop(stage.sandbox);
        } else {
            stage.sandbox.stop().await;
        }
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(addr).await.is_err() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(tokio::net::TcpStream::connect(addr).await.is_err());
    }
}

#[tokio::test]
async fn apps_are_checked_and_made() {
    let mut app = demo_app();
    app.callback = Some(wechat_sandbox::Callback {
        url: "http://localhost/".into(),
        token: "token".into(),
        encoding_aes_key: Some("short".into()),
        ..Default::default()
    });
    let config = wechat_sandbox::Config { apps: vec![app], ..Default::default() };
    assert!(Sandbox::start(config).await.is_err());

    let stage = Stage::new().await;
    let url = stage.at("/sandbox/apps/wxnew");
    let made = stage.http.put(&url).json(&json!({ "secret": "s", "original_id": "gh_new" })).send().await;
    assert_eq!(made.expect("an answer").status().as_u16(), 200);
    assert!(!stage.stable_token_of("wxnew", "s").await.is_empty());
    let wrong = stage.http.put(&url).json(&json!({ "app_id": "wxelse" })).send().await;
    assert_eq!(wrong.expect("an answer").status().as_u16(), 400);
    let missing = stage.get("/sandbox/apps/wxnone").await;
    assert!(missing["error"].is_string());
    let text = stage.http.get(stage.at("/sandbox")).send().await.expect("an answer").text().await.expect("text");
    assert!(text.contains("login-code"));
    assert_eq!(stage.get(&format!("/sandbox/apps/{DEMO_APP_ID}")).await["app"]["kind"], "mini_program");
}
