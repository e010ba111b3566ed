//! Calls that leave: to the configured host and nowhere else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use magpie::{app, config::Config, login};
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::harness::{APP, Kind, World};

/// A server that answers everything with these bytes; gives its address and how often it was called.
async fn answering(text: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(text.as_bytes()).await;
        }
    });
    (address, calls)
}

#[rstest]
#[tokio::test]
async fn a_redirect_is_not_followed(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let session = "{\"openid\":\"oFromElsewhere\",\"session_key\":\"AAAAAAAAAAAAAAAAAAAAAA==\"}";
    let length = session.len();
    let elsewhere = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{session}");
    let (elsewhere, reached) = answering(elsewhere).await;
    let away =
        format!("HTTP/1.1 302 Found\r\nlocation: {elsewhere}/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let (astray, called) = answering(away).await;
    let config = world.configuration().replace(&world.sandbox.url(), &astray);
    let config = Config::from_toml(&config).expect("a configuration");
    let ctx = app::build(config, world.clock.clone()).await.expect("a context");
    let refused = login::log_in(&ctx, APP, "a-code", "1.2.3.4").await.err().expect("refused");
    assert_eq!(refused.code.as_str(), "wechat_bad_answer", "{refused}");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(called.load(Ordering::SeqCst) > 0);
    assert_eq!(reached.load(Ordering::SeqCst), 0, "the AppSecret would have gone to a stranger");
    ctx.db.close().await.expect("closed");
    world.finish().await;
}

#[rstest]
#[case("http://api.weixin.qq.com", "plain http")]
#[case("http://169.254.169.254", "plain http")]
#[case("ftp://127.0.0.1", "http:// or https://")]
fn plain_http_is_for_this_machine_only(#[case] base_url: &str, #[case] reason: &str) {
    let refused = Config::from_toml(&format!("[wechat]\nbase_url = {base_url:?}\n")).expect_err("refused");
    assert!(refused.to_string().contains(reason), "{refused}");
}
