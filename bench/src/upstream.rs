//! A stand-in for WeChat that costs next to nothing, in a process of its own: it takes every message,
//! after a chosen latency, and remembers when it saw which.
//!
//! A message is known by its label, the value of its first field; the openid of a login stands in its code.
//! How it is asked is in `upstream/control.rs`.

mod control;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming};
use tokio::sync::Notify;

pub use control::{Push, Upstream};

use crate::{Result, child, clock, http};

/// The one template of the account, as the rule and the floor fill it.
pub const TEMPLATE: &str = "bench_template_000000000000000000000000001";
const TEMPLATES: &str = r#"{"errcode":0,"errmsg":"ok","data":[{"priTmplId":"bench_template_000000000000000000000000001",
    "title":"订单发货通知","content":"订单号:{{character_string1.DATA}}\n商品:{{thing2.DATA}}\n时间:{{time3.DATA}}\n",
    "example":"","type":2}]}"#;
const TOKEN: &str =
    r#"{"access_token":"bench_access_token_0123456789012345678901234567890123456789","expires_in":7200}"#;
const LABEL: &str = r#""character_string1":{"value":""#;

/// What was pushed since the last reset.
#[derive(Default)]
struct Book {
    pushes: Mutex<Pushes>,
    arrived: Notify,
    latency_ms: AtomicU64,
}

#[derive(Default)]
struct Pushes {
    seen: Vec<Push>,
    labels: std::collections::HashSet<String>,
}

/// Serves until the process that started this one is gone.
pub fn run() -> Result<()> {
    child::end_with_parent();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let book = Arc::new(Book::default());
    runtime.block_on(http::serve(move |request| answer(book.clone(), request)))
}

async fn answer(book: Arc<Book>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    match path {
        "/cgi-bin/message/subscribe/send" => {
            let body = http::body(request).await;
            let number = book.record(&body);
            book.wait_a_while().await;
            http::json(StatusCode::OK, format!(r#"{{"errcode":0,"errmsg":"ok","msgid":{number}}}"#))
        }
        "/sns/jscode2session" => {
            let openid = value(query, "js_code").and_then(|code| code.split('.').next()).unwrap_or_default();
            http::json(StatusCode::OK, format!(r#"{{"openid":"{openid}","session_key":"MDEyMzQ1Njc4OWFiY2RlZg=="}}"#))
        }
        "/cgi-bin/stable_token" => http::json(StatusCode::OK, TOKEN),
        "/wxaapi/newtmpl/gettemplate" => http::json(StatusCode::OK, TEMPLATES),
        "/bench/wait" => {
            let wanted = value(query, "labels").and_then(|number| number.parse().ok()).unwrap_or(0);
            http::json(StatusCode::OK, book.wait_for(wanted).await.to_string())
        }
        "/bench/pushes" => http::json(StatusCode::OK, book.pushes_as_json()),
        "/bench/reset" => {
            let latency = value(query, "latency_ms").and_then(|number| number.parse().ok()).unwrap_or(0);
            book.latency_ms.store(latency, Ordering::Relaxed);
            *book.pushes.lock().unwrap_or_else(PoisonError::into_inner) = Pushes::default();
            http::json(StatusCode::OK, "{}")
        }
        _ => http::json(StatusCode::NOT_FOUND, r#"{"errcode":-1,"errmsg":"the benchmark has no such call"}"#),
    }
}

impl Book {
    /// Enters a message; gives its number, from which its id is made.
    fn record(&self, body: &[u8]) -> u64 {
        let at = clock::unix_nanos();
        let text = std::str::from_utf8(body).unwrap_or_default();
        let label = text.split_once(LABEL).and_then(|(_, rest)| rest.split('"').next()).unwrap_or("unlabelled");
        let mut pushes = self.pushes.lock().unwrap_or_else(PoisonError::into_inner);
        pushes.labels.insert(label.to_owned());
        pushes.seen.push(Push { label: label.to_owned(), at });
        drop(pushes);
        self.arrived.notify_waiters();
        at
    }

    async fn wait_a_while(&self) {
        let latency = self.latency_ms.load(Ordering::Relaxed);
        if latency > 0 {
            tokio::time::sleep(Duration::from_millis(latency)).await;
        }
    }

    /// Comes back when so many different messages were seen; gives when the last one came.
    async fn wait_for(&self, wanted: usize) -> u64 {
        loop {
            let arrived = self.arrived.notified();
            {
                let pushes = self.pushes.lock().unwrap_or_else(PoisonError::into_inner);
                if pushes.labels.len() >= wanted {
                    return pushes.seen.last().map_or(0, |push| push.at);
                }
            }
            arrived.await;
        }
    }

    fn pushes_as_json(&self) -> String {
        let pushes = self.pushes.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_string(&pushes.seen).unwrap_or_default()
    }
}

fn value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::Book;

    #[test]
    fn a_message_is_known_by_its_label() {
        let book = Book::default();
        book.record(
            r#"{"touser":"o1","data":{"character_string1":{"value":"r1-7"},"thing2":{"value":"苹果"}}}"#.as_bytes(),
        );
        book.record(b"{}");
        let seen: Vec<_> = book.pushes.lock().expect("no panic").seen.iter().map(|push| push.label.clone()).collect();
        assert_eq!(seen, ["r1-7", "unlabelled"]);
    }

    #[tokio::test]
    async fn waiting_counts_messages_not_calls() {
        let book = Book::default();
        let push = |label: &str| book.record(format!(r#"{{"character_string1":{{"value":"{label}"}}}}"#).as_bytes());
        push("a");
        push("a");
        let both = async { tokio::join!(book.wait_for(2), async { push("b") }) };
        let (last, pushed) = tokio::time::timeout(std::time::Duration::from_secs(5), both).await.expect("in time");
        assert_eq!(last, pushed);
        assert_eq!(book.pushes.lock().expect("no panic").seen.len(), 3);
    }
}
