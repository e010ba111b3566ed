//! Which of WeChat's hosts a call goes to when one cannot be reached, directly or through a proxy.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use magpie::{
    config::Config,
    wechat::{self, Client, access_token::StableToken},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use wechat_sandbox::{DEMO_SECRET, Sandbox, demo_app};

use crate::harness::APP;

async fn sandbox_at(listen: &str) -> Sandbox {
    let listen = listen.parse().expect("an address");
    let config = wechat_sandbox::Config { listen, apps: vec![demo_app()], state_file: None };
    Sandbox::start(config).await.expect("the simulator starts")
}

/// A listener that answers each connection with the same bytes and closes it; counts them.
async fn broken(answer: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, count)
}

fn client(wechat: &str) -> Client {
    let config = Config::from_toml(&format!("[wechat]\n{wechat}")).expect("a configuration");
    Client::new(&config).expect("a client")
}

async fn token(client: &Client) -> Result<StableToken, wechat::Error> {
    client.stable_token(APP, &DEMO_SECRET.into(), false).await
}

#[tokio::test]
async fn a_host_without_tls_is_remembered_and_tried_again_later() {
    let twin = sandbox_at("127.0.0.1:0").await;
    // It speaks no TLS, so no connection comes about.
    let (address, tried) = broken("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let client =
        client(&format!("base_url = \"https://{address}\"\nfallback_url = {:?}\nfallback_for = \"400ms\"", twin.url()));
    for _ in 0..5 {
        assert!(token(&client).await.is_ok());
    }
    assert_eq!(tried.load(Ordering::SeqCst), 1, "the twin is asked at once after the first failure");
    tokio::time::sleep(Duration::from_millis(450)).await;
    let (a, b, c) = tokio::join!(token(&client), token(&client), token(&client));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(tried.load(Ordering::SeqCst), 2, "one call tries the first host again, the others do not wait for it");
    twin.stop().await;
}

#[tokio::test]
async fn the_first_host_is_used_again_when_it_is_back() {
    let (twin, first) = (sandbox_at("127.0.0.1:0").await, sandbox_at("127.0.0.1:0").await);
    let address = first.url();
    first.stop().await;
    let client = client(&format!("base_url = {address:?}\nfallback_url = {:?}\nfallback_for = \"300ms\"", twin.url()));
    assert!(token(&client).await.is_ok());
    let first = sandbox_at(address.trim_start_matches("http://")).await;
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert!(token(&client).await.is_ok());
    twin.stop().await;
    assert!(token(&client).await.is_ok(), "all calls go to the first host again");
    // While the first rests, a twin that cannot be reached leads back to the first.
    first.stop().await;
    assert!(matches!(token(&client).await, Err(wechat::Error::NotSent(_))));
    let first = sandbox_at(address.trim_start_matches("http://")).await;
    assert!(token(&client).await.is_ok());
    first.stop().await;
}

#[tokio::test]
async fn a_proxy_that_fails_has_sent_nothing() {
    let host = "base_url = \"https://api.weixin.qq.com\"";
    // Nobody listens; or it refuses to make the tunnel, as for a wrong password.
    let closed = client(&format!("{host}\nproxy = \"http://user:pass3@127.0.0.1:1\""));
    let (address, asked) = broken("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").await;
    let refusing = client(&format!("{host}\nfallback_url = \"\"\nproxy = \"http://user:pass3@{address}\""));
    for client in [closed, refusing] {
        let error = token(&client).await.expect_err("no way out");
        assert!(matches!(error, wechat::Error::NotSent(_)), "{error:?}");
        let told = format!("{error} {error:?}");
        assert!(!told.contains("pass3") && !told.contains(DEMO_SECRET), "{told}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
