//! The work, the same for every contender: logins, and events that each become one message.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};

use crate::{
    Result,
    contender::Contender,
    http::Answer,
    load::{Request, Work},
    upstream,
};

/// The Mini Program of the run.
pub const APP: &str = "wxbench0000000001";

/// Nothing of a run may repeat: neither a code nor an event's id.
fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The openid of the user with this number.
pub fn openid(user: usize) -> String {
    format!("o{user:027}")
}

/// Logins of so many users, one after the other, again and again.
pub struct Logins {
    run: u64,
    users: usize,
    /// The access tokens of the users, when they are kept.
    tokens: Option<Mutex<Vec<Arc<str>>>>,
}

impl Logins {
    pub fn new(users: usize) -> Self {
        Self { run: unique(), users, tokens: None }
    }

    /// The same, keeping the access token of each.
    pub fn keeping_tokens(users: usize) -> Self {
        Self { tokens: Some(Mutex::new(vec!["".into(); users])), ..Self::new(users) }
    }

    pub fn tokens(&self) -> Vec<Arc<str>> {
        self.tokens.as_ref().and_then(|tokens| tokens.lock().ok()).map(|tokens| tokens.clone()).unwrap_or_default()
    }
}

impl Work for Logins {
    fn request(&self, index: usize) -> Request {
        // The stub of WeChat reads the openid out of the code.
        let code = format!("{}.{}-{index}", openid(index % self.users), self.run);
        let body = format!(r#"{{"code":"{code}"}}"#);
        Request { path: format!("/v1/apps/{APP}/login"), bearer: None, body: body.into() }
    }

    fn answered(&self, index: usize, answer: &Answer) -> Result<()> {
        if !answer.status.is_success() {
            return Err(answer.json().err().unwrap_or_else(|| "a login failed".into()));
        }
        if let Some(tokens) = &self.tokens {
            let token = answer.json()?["access_token"].as_str().unwrap_or_default().into();
            tokens.lock().map_err(|_| "a caller panicked")?[index % self.users] = token;
        }
        Ok(())
    }
}

/// Each user agrees to one message.
pub struct Consents(pub Vec<Arc<str>>);

impl Work for Consents {
    fn request(&self, index: usize) -> Request {
        let body = json!({ "report_id": format!("report-{index}"), "results": { upstream::TEMPLATE: "accept" } });
        Request {
            path: "/v1/me/subscriptions".into(),
            bearer: self.0.get(index).cloned(),
            body: body.to_string().into(),
        }
    }
}

/// Events, each for one user and with a label by which its message is known upstream.
pub struct Events {
    run: u64,
    users: usize,
    bearer: Option<Arc<str>>,
    /// The numbers of those that were accepted, when they are kept.
    accepted: Option<Mutex<Vec<usize>>>,
}

impl Events {
    pub fn new(contender: &Contender, users: usize) -> Self {
        Self { run: unique(), users, bearer: contender.bearer.clone(), accepted: None }
    }

    /// The same, remembering which were accepted.
    pub fn keeping_account(contender: &Contender, users: usize) -> Self {
        Self { accepted: Some(Mutex::default()), ..Self::new(contender, users) }
    }

    pub fn label(&self, index: usize) -> String {
        format!("r{}-{index}", self.run)
    }

    /// The labels of the events that were accepted.
    pub fn accepted(&self) -> Vec<String> {
        let accepted = self.accepted.as_ref().and_then(|accepted| accepted.lock().ok());
        accepted.iter().flat_map(|accepted| accepted.iter()).map(|index| self.label(*index)).collect()
    }

    fn event(&self, index: usize) -> Value {
        let label = self.label(index);
        json!({
            "source": "bench", "id": label, "type": "order.shipped",
            "to": format!("openid:{APP}/{}", openid(index % self.users)),
            "data": { "no": label, "item": "红富士苹果", "at": "2026年1月2日 11:04" },
        })
    }
}

impl Work for Events {
    fn request(&self, index: usize) -> Request {
        Request { path: "/v1/events".into(), bearer: self.bearer.clone(), body: self.event(index).to_string().into() }
    }

    fn answered(&self, index: usize, answer: &Answer) -> Result<()> {
        if answer.status != hyper::StatusCode::ACCEPTED {
            return Err(answer.json().err().unwrap_or_else(|| "an event was not accepted".into()));
        }
        if let Some(accepted) = &self.accepted {
            accepted.lock().map_err(|_| "a caller panicked")?.push(index);
        }
        Ok(())
    }
}

/// The rule that turns an event into a message.
pub fn rule() -> Value {
    json!({
        "name": "Order shipped", "event_type": "order.shipped", "app_id": APP, "template_id": upstream::TEMPLATE,
        "fields": { "character_string1": "{{ data.no }}", "thing2": "{{ data.item }}", "time3": "{{ data.at }}" },
    })
}
