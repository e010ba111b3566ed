//! `GET /cgi-bin/user/info`: what a service account knows of a follower.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::{Client, Error, subscribe_message::id_text};

/// A person as a service account knows them.
#[derive(Debug, Deserialize)]
pub struct Follower {
    /// 1 while the account is followed; of others WeChat tells nothing more.
    subscribe: Value,
    /// Present when the account is bound to an Open Platform account.
    #[serde(default)]
    unionid: Option<String>,
}

impl Follower {
    /// Whether the account is followed at present.
    pub fn follows(&self) -> bool {
        id_text(&self.subscribe).as_deref() == Some("1")
    }

    /// The same in all apps of the Open Platform account.
    pub fn unionid(&self) -> Option<&str> {
        self.unionid.as_deref().filter(|unionid| !unionid.is_empty())
    }
}

impl Client {
    /// getUserInfo of a service account.
    pub async fn follower(&self, token: &SecretString, openid: &str) -> Result<Follower, Error> {
        let query = [("access_token", token.expose_secret()), ("openid", openid), ("lang", "zh_CN")];
        self.get("/cgi-bin/user/info", &query).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_unionid_is_none() {
        let read = |text: &str| serde_json::from_str::<Follower>(text).expect("an answer");
        let gone = read(r#"{"subscribe":0,"openid":"o1"}"#);
        assert_eq!((gone.follows(), gone.unionid()), (false, None));
        let here = read(r#"{"subscribe":"1","openid":"o1","unionid":"u1","tagid_list":[1]}"#);
        assert_eq!((here.follows(), here.unionid()), (true, Some("u1")));
        assert_eq!(read(r#"{"subscribe":1,"unionid":""}"#).unionid(), None);
    }
}
