//! Secrets of endpoints, and what they sign: `webhook-id . webhook-timestamp . body` under HMAC-SHA256, as Standard
//! Webhooks say. While a secret is replaced the old and the new one sign side by side.

use base64::{Engine, engine::general_purpose::STANDARD};
use entity::{Timestamp, WebhookId, webhook::Model};
use secrecy::SecretString;

use crate::{
    context::Context,
    error::Error,
    secret::{hmac_sha256, random},
};

/// The context a secret is sealed with: it opens for its own endpoint only.
pub fn secret_context(id: WebhookId) -> String {
    format!("webhook secret of {id}")
}

/// A new secret: sealed, and as it is shown this once.
pub(super) fn new_secret(ctx: &Context, id: WebhookId) -> (Vec<u8>, SecretString) {
    let secret: [u8; 32] = random();
    (ctx.keys.seal(&secret_context(id), &secret), format!("whsec_{}", STANDARD.encode(secret)).into())
}

/// The header `webhook-signature`: by the newest secret, and by the one before while that is still valid.
pub(super) fn header(
    ctx: &Context,
    endpoint: &Model,
    (id, at, body): (&str, Timestamp, &str),
) -> Result<String, Error> {
    let previous =
        endpoint.previous_secret.as_ref().filter(|_| endpoint.previous_until.is_some_and(|until| until > at));
    let mut signatures = Vec::new();
    for sealed in [Some(&endpoint.secret), previous].into_iter().flatten() {
        let secret = ctx.keys.open(&secret_context(endpoint.id), sealed)?;
        signatures.push(sign(&secret, id, seconds(at), body));
    }
    Ok(signatures.join(" "))
}

fn sign(secret: &[u8], id: &str, seconds: i64, body: &str) -> String {
    let signed = format!("{id}.{seconds}.{body}");
    format!("v1,{}", STANDARD.encode(hmac_sha256(secret, signed.as_bytes())))
}

/// `webhook-timestamp`: seconds since 1970.
pub(super) fn seconds(at: Timestamp) -> i64 {
    at.0.div_euclid(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn the_public_example_is_signed_as_published() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let signature = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
