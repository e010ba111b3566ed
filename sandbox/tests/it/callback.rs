//! Pushes in all modes and formats, read by a little receiver of our own.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aes::cipher::{BlockModeDecrypt as _, KeyIvInit as _, block_padding::NoPadding};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use poem::{Endpoint, Request, Response, Server, http::StatusCode, listener::TcpAcceptor};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use wechat_sandbox::{App, Callback, DEMO_APP_ID, DEMO_TEMPLATE_ID, Format, Mode, demo_app};

use crate::harness::Stage;

const TOKEN: &str = "pushtoken";
/// Its last character has spare bits, as real keys do.
const KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";

#[derive(Clone, Debug)]
pub struct Received {
    pub query: Vec<(String, String)>,
    pub body: String,
}

impl Received {
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An app's callback URL. Answers `success`, unless other answers are queued.
#[derive(Clone, Default)]
pub struct Receiver {
    posts: Arc<Mutex<Vec<Received>>>,
    answers: Arc<Mutex<Vec<(u16, String)>>>,
}

impl Endpoint for Receiver {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let query: Vec<(String, String)> = request.params()?;
        let body = request.take_body().into_string().await?;
        if let Some((_, echo)) = query.iter().find(|(name, _)| name == "echostr") {
            return Ok(Response::builder().body(echo.clone()));
        }
        self.posts.lock().expect("unpoisoned").push(Received { query, body });
        let mut answers = self.answers.lock().expect("unpoisoned");
        let (status, answer) = if answers.is_empty() { (200, "success".into()) } else { answers.remove(0) };
        Ok(Response::builder().status(StatusCode::from_u16(status).expect("a status")).body(answer))
    }
}

impl Receiver {
    pub async fn start() -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/callback", listener.local_addr().expect("an address"));
        let receiver = Self::default();
        let server = Server::new_with_acceptor(TcpAcceptor::from_tokio(listener).expect("an acceptor"));
        tokio::spawn(server.run(receiver.clone()));
        (receiver, url)
    }

    pub fn answer_next(&self, status: u16, text: &str) {
        self.answers.lock().expect("unpoisoned").push((status, text.into()));
    }

    pub fn count(&self) -> usize {
        self.posts.lock().expect("unpoisoned").len()
    }

    /// Waits for that many posts and gives all there are.
    pub async fn wait(&self, count: usize) -> Vec<Received> {
        for _ in 0..300 {
            if self.count() >= count {
                return self.posts.lock().expect("unpoisoned").clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{count} posts expected, got {:?}", self.posts.lock().expect("unpoisoned"));
    }
}

pub fn app_with_callback(url: &str, mode: Mode, format: Format) -> App {
    App {
        callback: Some(Callback {
            url: url.into(),
            token: TOKEN.into(),
            encoding_aes_key: Some(KEY.into()),
            mode,
            format,
        }),
        ..demo_app()
    }
}

fn sha1_sorted(parts: &[&str]) -> String {
    let mut parts = parts.to_vec();
    parts.sort_unstable();
    Sha1::digest(parts.concat()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Opens `Encrypt` and gives the message and the AppID behind it.
fn open(encrypted: &str) -> (String, String) {
    // The spare bits of the 43rd character are dropped by making them zero.
    let key: [u8; 32] = STANDARD.decode(format!("{}E=", &KEY[..42])).expect("a key").try_into().expect("32 bytes");
    let iv: [u8; 16] = key[..16].try_into().expect("16 bytes");
    let mut data = STANDARD.decode(encrypted).expect("base64");
    assert_eq!(data.len() % 32, 0);
    let cipher = cbc::Decryptor::<aes::Aes256>::new(&key.into(), &iv.into());
    let plain = cipher.decrypt_padded::<NoPadding>(&mut data).expect("whole blocks").to_vec();
    let pad = usize::from(*plain.last().expect("not empty"));
    assert!((1..=32).contains(&pad) && plain[plain.len() - pad..].iter().all(|byte| usize::from(*byte) == pad));
    let content = &plain[16..plain.len() - pad];
    let length = u32::from_be_bytes(content[..4].try_into().expect("4 bytes")) as usize;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (text(&content[4..4 + length]), text(&content[4 + length..]))
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    text.split_once(from)?.1.split_once(to).map(|(inner, _)| inner)
}

/// Checks the signatures and gives the message as the app would understand it.
fn verify(post: &Received, mode: Mode, format: Format) -> String {
    let part = |name| post.query(name).unwrap_or_else(|| panic!("{name} missing in {post:?}"));
    let (timestamp, nonce) = (part("timestamp"), part("nonce"));
    assert_eq!(part("signature"), sha1_sorted(&[TOKEN, timestamp, nonce]));
    assert_eq!(part("openid"), "oA");
    if mode == Mode::Plain {
        assert!(post.query("encrypt_type").is_none() && post.query("msg_signature").is_none());
        return post.body.clone();
    }
    let encrypted = match format {
        Format::Json => {
            let body: Value = serde_json::from_str(&post.body).expect("JSON");
            body["Encrypt"].as_str().expect("Encrypt").to_owned()
        }
        Format::Xml => between(&post.body, "<Encrypt><![CDATA[", "]]></Encrypt>").expect("Encrypt").to_owned(),
    };
    assert_eq!(part("encrypt_type"), "aes");
    assert_eq!(part("msg_signature"), sha1_sorted(&[TOKEN, timestamp, nonce, &encrypted]));
    assert_eq!(post.body.contains("FromUserName"), mode == Mode::Compatible);
    let (message, app_id) = open(&encrypted);
    assert_eq!(app_id, DEMO_APP_ID);
    message
}

#[tokio::test]
async fn every_mode_and_format() {
    for mode in [Mode::Plain, Mode::Compatible, Mode::Secure] {
        for format in [Format::Json, Format::Xml] {
            let (receiver, url) = Receiver::start().await;
            let stage = Stage::with(vec![app_with_callback(&url, mode, format)], None).await;
            stage.phone("subscribe", json!({ "openid": "oA" })).await;
            let popup = verify(&receiver.wait(1).await[0], mode, format);
            let msgid = stage.send("oA").await["msgid"].as_u64().expect("msgid").to_string();
            stage.advance(1).await;
            let sent = verify(&receiver.wait(2).await[1], mode, format);
            stage.phone("refuse", json!({ "openid": "oA", "template_id": DEMO_TEMPLATE_ID })).await;
            let change = verify(&receiver.wait(3).await[2], mode, format);
            match format {
                Format::Json => json_shapes(&popup, &sent, &change, &msgid),
                Format::Xml => xml_shapes(&popup, &sent, &change, &msgid),
            }
        }
    }
}

fn json_shapes(popup: &str, sent: &str, change: &str, msgid: &str) {
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let popup = parse(popup);
    assert_eq!(popup["ToUserName"], demo_app().original_id);
    assert_eq!((popup["FromUserName"].as_str(), popup["MsgType"].as_str()), (Some("oA"), Some("event")));
    assert_eq!(popup["Event"], "subscribe_msg_popup_event");
    assert_eq!(
        popup["List"],
        json!({ "TemplateId": DEMO_TEMPLATE_ID, "SubscribeStatusString": "accept", "PopupScene": "0" })
    );
    let sent = parse(sent);
    assert_eq!(
        sent["List"],
        json!({ "TemplateId": DEMO_TEMPLATE_ID, "MsgID": msgid, "ErrorCode": "0", "ErrorStatus": "success" })
    );
    let change = parse(change);
    assert_eq!(change["List"], json!({ "TemplateId": DEMO_TEMPLATE_ID, "SubscribeStatusString": "reject" }));
}

fn xml_shapes(popup: &str, sent: &str, change: &str, msgid: &str) {
    assert!(popup.starts_with("<xml><ToUserName><![CDATA["), "{popup}");
    assert!(popup.contains("<SubscribeMsgPopupEvent><List><TemplateId><![CDATA["), "{popup}");
    assert!(sent.contains(&format!("<MsgID>{msgid}</MsgID><ErrorCode>0</ErrorCode>")), "{sent}");
    assert!(sent.contains("</List></SubscribeMsgSentEvent>"), "{sent}");
    assert!(change.contains("<SubscribeMsgChangeEvent><List>"), "{change}");
}

#[tokio::test]
async fn a_push_is_repeated_until_success_three_times_at_most() {
    let (receiver, url) = Receiver::start().await;
    let stage = Stage::with(vec![app_with_callback(&url, Mode::Secure, Format::Json)], None).await;
    stage.knobs(json!({ "callback_retry_ms": 10 })).await;
    receiver.answer_next(500, "");
    receiver.answer_next(200, "failure");
    stage.phone("subscribe", json!({ "openid": "oA" })).await;
    let posts = receiver.wait(3).await;
    assert!(posts.iter().all(|post| post.body == posts[0].body));

    for _ in 0..4 {
        receiver.answer_next(503, "");
    }
    stage.phone("subscribe", json!({ "openid": "oA" })).await;
    receiver.wait(6).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(receiver.count(), 6);
    let log = stage.look("callbacks").await;
    let log = log["callbacks"].as_array().expect("a list");
    assert_eq!(log.len(), 2);
    assert_eq!((log[0]["delivered"].as_bool(), log[1]["delivered"].as_bool()), (Some(true), Some(false)));
    let statuses: Vec<u64> =
        log[0]["tries"].as_array().expect("tries").iter().filter_map(|one| one["status"].as_u64()).collect();
    assert_eq!(statuses, [500, 200, 200]);
    assert_eq!(log[0]["tries"][1]["answer"], "failure");
    assert!(log[0]["plain"].as_str().is_some_and(|plain| plain.contains("subscribe_msg_popup_event")));
}
