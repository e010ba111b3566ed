//! The crypto vectors of the project's reference: samples of WeChat's own pages and of its SDKs.

use magpie::wechat::{
    callback::{cipher, parse, signature_matches},
    user_data::{Sealed, is_signed, session_signature},
};
use serde_json::Value;

const VECTORS: &str = include_str!("../vectors/crypto-vectors.json");

/// Kinds of protocols that Magpie does not speak: the URL check of WeChat at work, and the API security mode.
const OTHER_PROTOCOLS: &[&str] = &["url_verify_encrypted", "api_security_request"];

struct Vector(Value);

impl Vector {
    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} of {}", self.0["id"]))
    }

    fn given(&self, name: &str) -> &str {
        self.text(&format!("/given/{name}"))
    }

    fn accept(&self) -> bool {
        self.0["expect"]["accept"].as_bool().expect("accept")
    }

    /// Whether `signature` is the one over these given parts and the token.
    fn signed(&self, signature: &str, parts: &[&str]) -> bool {
        signature_matches(&self.given("token").to_owned().into(), parts, signature)
    }

    fn opened(&self, sealed: &str) -> Result<Vec<u8>, cipher::Unopenable> {
        cipher::open(&self.given("encoding_aes_key").to_owned().into(), self.given("app_id"), sealed)
    }

    /// False for a kind that nobody here knows.
    fn check(&self) -> bool {
        let id = &self.0["id"];
        match self.text("/kind") {
            "url_verify_plain" => {
                let signed = self.signed(self.given("signature"), &[self.given("timestamp"), self.given("nonce")]);
                assert_eq!(signed, self.accept(), "{id}");
                assert_eq!(self.given("echostr"), self.text("/expect/response_body"), "{id}");
            }
            "push_plain" => {
                let signed = self.signed(self.given("signature"), &[self.given("timestamp"), self.given("nonce")]);
                let read = parse(self.given("body").as_bytes()).is_ok();
                assert_eq!((signed, read), (self.accept(), self.accept()), "{id}");
            }
            "push_secure_decrypt" | "push_secure_reject" => {
                let sealed = self.given("encrypt");
                let parts = [self.given("timestamp"), self.given("nonce"), sealed];
                let signed = self.signed(self.given("msg_signature"), &parts);
                assert_eq!(Some(signed), self.0["expect"]["msg_signature_valid"].as_bool(), "{id}");
                let opened = self.opened(sealed);
                assert_eq!(opened.is_ok(), self.accept(), "{id}: {opened:?}");
                if let Ok(message) = opened {
                    assert_eq!(String::from_utf8_lossy(&message), self.text("/expect/message"), "{id}");
                    assert!(parse(&message).is_ok(), "{id}");
                }
            }
            // Magpie seals nothing: WeChat takes a plain answer. What others sealed must open.
            "encrypt_deterministic" => {
                let sealed = self.text("/expect/encrypt");
                let message = self.opened(sealed).unwrap_or_else(|error| panic!("{id}: {error}"));
                assert_eq!(String::from_utf8_lossy(&message), self.given("message"), "{id}");
                if self.0["expect"]["msg_signature"].is_string() {
                    let parts = [self.given("timestamp"), self.given("nonce"), sealed];
                    assert!(self.signed(self.text("/expect/msg_signature"), &parts), "{id}");
                }
            }
            "sha1_sorted_concat" => {
                let parts = self.0["given"]["parts"].as_array().expect("parts");
                let mut parts: Vec<_> = parts.iter().filter_map(Value::as_str).collect();
                let token = parts.pop().expect("a part").to_owned().into();
                assert!(signature_matches(&token, &parts, self.text("/expect/hex")), "{id}");
            }
            "raw_data_signature" => {
                let key = self.given("session_key").to_owned().into();
                assert!(is_signed(self.given("raw_data"), &key, self.text("/expect/signature")), "{id}");
            }
            "session_hmac_sha256" => {
                let key = self.given("session_key").to_owned().into();
                assert_eq!(session_signature(&key, self.given("message")), self.text("/expect/hex"), "{id}");
            }
            "session_decrypt" | "session_decrypt_reject" => {
                let key = self.given("session_key").to_owned().into();
                let sealed = Sealed::decode(self.given("encrypted_data"), self.given("iv"));
                let opened = sealed.ok().and_then(|sealed| sealed.open(&key, self.given("app_id")).ok());
                let accept = self.text("/kind") == "session_decrypt" && self.0["expect"]["accept"] != false;
                assert_eq!(opened.is_some(), accept, "{id}");
            }
            kind => return OTHER_PROTOCOLS.contains(&kind),
        }
        true
    }
}

#[test]
fn every_vector_passes() {
    let file: Value = serde_json::from_str(VECTORS).expect("JSON");
    let vectors = file["vectors"].as_array().expect("vectors");
    assert!(!vectors.is_empty());
    for vector in vectors.iter().cloned().map(Vector) {
        assert!(vector.check(), "nobody checks the kind {} of {}", vector.0["kind"], vector.0["id"]);
    }
}
