//! Refresh tokens: `session id . generation . MAC`. Nothing but the session row is stored.

use entity::{SessionId, session as row};

use crate::secret::{MasterKeys, base64_url, from_base64_url};

const PURPOSE: &str = "refresh token";

/// What a genuine refresh token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    pub session_id: SessionId,
    pub generation: i32,
}

impl RefreshToken {
    /// The token of the session's current generation.
    pub fn of(session: &row::Model) -> Self {
        Self { session_id: session.id, generation: session.generation }
    }

    pub fn sign(self, keys: &MasterKeys) -> String {
        let claim = format!("{}.{}", self.session_id, self.generation);
        let mac = keys.mac(PURPOSE, claim.as_bytes());
        format!("{claim}.{}", base64_url(&mac))
    }

    /// None unless [`RefreshToken::sign`] made it under one of these keys.
    pub fn verify(token: &str, keys: &MasterKeys) -> Option<Self> {
        let (claim, mac) = token.rsplit_once('.')?;
        if !keys.mac_matches(PURPOSE, claim.as_bytes(), &from_base64_url(mac)?) {
            return None;
        }
        let (session_id, generation) = claim.split_once('.')?;
        Some(Self { session_id: session_id.parse().ok()?, generation: generation.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn keys() -> MasterKeys {
        MasterKeys::parse(&MasterKeys::generate().into()).expect("a key")
    }

    #[test]
    fn only_genuine_tokens_pass() {
        let keys = keys();
        let token = RefreshToken { session_id: SessionId(Uuid::from_u128(5)), generation: 3 };
        let text = token.sign(&keys);
        assert_eq!(RefreshToken::verify(&text, &keys), Some(token));
        assert_eq!(RefreshToken::verify(&text.replace(".3.", ".4."), &keys), None);
        assert_eq!(RefreshToken::verify(&text, &self::keys()), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,120}") {
            prop_assert_eq!(RefreshToken::verify(&text, &keys()), None);
        }
    }
}
