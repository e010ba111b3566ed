//! Steps that many stories of sending take.

use serde_json::{Value, json};

use super::{APP, Answer, Phone, World};

/// Where WeChat takes messages of Mini Programs.
pub const SEND: &str = "/cgi-bin/message/subscribe/send";
/// Where it gives access tokens.
pub const TOKEN: &str = "/cgi-bin/stable_token";

impl World {
    /// A user who accepted so many messages.
    pub async fn ready(&self, name: &str, credits: usize) -> Phone {
        let phone = self.phone(name).await;
        for number in 0..credits {
            assert_eq!(self.accept(&phone, &format!("tap-{number}")).await.status, 200);
        }
        phone
    }

    /// Tells an event with this id of the user; gives the id of the notification that came of it.
    pub async fn told(&self, id: &str, phone: &Phone) -> String {
        let answer = self.event(id, phone.user_id.as_str()).await;
        answer.body["notifications"][0]["id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    }

    /// One notification with its attempts and timeline.
    pub async fn story(&self, id: &str) -> Value {
        self.get(&format!("/v1/notifications/{id}")).await.body
    }

    /// A call that needs a token, and the app's word for how it went.
    pub async fn sync(&self) -> Answer {
        self.post(&format!("/v1/apps/{APP}/templates/sync"), json!({})).await
    }

    /// The app as the list shows it, which asks WeChat nothing.
    pub async fn app(&self) -> Value {
        self.get("/v1/apps").await.body["data"][0].clone()
    }
}
