//! A business system that is told things: a listener that keeps what came and answers as it is told.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use magpie::secret::hmac_sha256;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub headers: HashMap<String, String>,
    pub text: String,
    pub body: Value,
}

impl Seen {
    /// As the specification says, told anew: HMAC-SHA256 of id, time and body under the secret's bytes.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let secret = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
        assert_eq!(secret.len(), 32);
        let signed = format!("{}.{}.{}", self.headers["webhook-id"], self.headers["webhook-timestamp"], self.text);
        let expected = format!("v1,{}", STANDARD.encode(hmac_sha256(&secret, signed.as_bytes())));
        self.headers["webhook-signature"].split(' ').any(|signature| signature == expected)
    }
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    answers: VecDeque<String>,
    always: Option<String>,
    /// Answers wait until it is released.
    held: bool,
}

pub struct Receiver {
    pub url: String,
    state: Arc<Mutex<State>>,
    came: Arc<Notify>,
    released: Arc<Notify>,
}

/// An HTTP answer with this status and these further header lines.
pub fn answering(status: u16, headers: &str) -> String {
    format!("HTTP/1.1 {status} x\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n")
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Receiver {
    /// It answers 204 unless told otherwise.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let (state, came, released) =
            (Arc::<Mutex<State>>::default(), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let receiver = Self { url, state: state.clone(), came: came.clone(), released: released.clone() };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (state, came, released) = (state.clone(), came.clone(), released.clone());
                tokio::spawn(async move { serve(socket, &state, &came, &released).await });
            }
        });
        receiver
    }

    pub fn seen(&self) -> Vec<Seen> {
        locked(&self.state).seen.clone()
    }

    /// What came, by type.
    pub fn types(&self) -> Vec<String> {
        let mut types: Vec<_> =
            self.seen().iter().map(|one| one.body["type"].as_str().unwrap_or_default().to_owned()).collect();
        types.sort_unstable();
        types
    }

    pub fn will_answer(&self, answer: String) {
        locked(&self.state).answers.push_back(answer);
    }

    pub fn always_answers(&self, answer: String) {
        locked(&self.state).always = Some(answer);
    }

    pub fn hold(&self) {
        locked(&self.state).held = true;
    }

    pub fn release(&self) {
        locked(&self.state).held = false;
        self.released.notify_waiters();
    }

    /// Waits until so much came.
    pub async fn until(&self, count: usize) {
        let waiting = async {
            loop {
                let came = self.came.notified();
                if self.seen().len() >= count {
                    return;
                }
                came.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{} of {count} came", self.seen().len());
    }
}

async fn serve(socket: TcpStream, state: &Mutex<State>, came: &Notify, released: &Notify) {
    let mut reader = BufReader::new(socket);
    let (mut line, mut headers) = (String::new(), HashMap::new());
    while reader.read_line(&mut line).await.is_ok_and(|read| read > 2) {
        if let Some((name, value)) = line.trim_end().split_once(": ") {
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        line.clear();
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    if length == 0 || reader.read_exact(&mut body).await.is_err() {
        return;
    }
    let text = String::from_utf8(body).expect("text");
    let seen = Seen { headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text };
    let answer = {
        let mut state = locked(state);
        state.seen.push(seen);
        state.answers.pop_front().or_else(|| state.always.clone()).unwrap_or_else(|| answering(204, ""))
    };
    came.notify_waiters();
    loop {
        let waiting = released.notified();
        if !locked(state).held {
            break;
        }
        waiting.await;
    }
    let _ = reader.get_mut().write_all(answer.as_bytes()).await;
}
