//! Open data of the Mini Program's client (开放数据校验与解密), and the check of a `session_key`.
//!
//! ```text
//! rawData:       signature = sha1(rawData + session_key), both as text
//! encryptedData: AES-128-CBC, PKCS#7, key = base64(session_key), iv = base64(iv); JSON with a watermark
//! checksession:  signature = hmac_sha256(key = session_key as text, "")
//! ```

use aes::Aes128;
use base64::{Engine, engine::general_purpose::STANDARD};
use cbc::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use super::{Client, Error};
use crate::secret::{hex, hmac_sha256};

/// WeChat's code for a `session_key` that is no longer the user's.
const SESSION_KEY_REFUSED: i64 = 87009;

/// Encrypted data as the client gave it, decoded.
pub struct Sealed {
    iv: [u8; 16],
    text: Vec<u8>,
}

/// Why encrypted data does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unopenable {
    /// Mostly the sign of another `session_key` than the one the data was made with.
    #[error("the data does not open under this session_key")]
    WrongKey,
    #[error("the data is for another app")]
    AppId,
}

/// Which of the two texts is not what the client's API gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misshapen {
    EncryptedData,
    Iv,
}

impl Sealed {
    /// Decodes `encryptedData` and `iv`.
    pub fn decode(encrypted_data: &str, iv: &str) -> Result<Self, Misshapen> {
        let iv = STANDARD.decode(iv).ok().and_then(|iv| iv.try_into().ok()).ok_or(Misshapen::Iv)?;
        let text = STANDARD.decode(encrypted_data).map_err(|_| Misshapen::EncryptedData)?;
        if text.is_empty() || text.len() % 16 != 0 {
            return Err(Misshapen::EncryptedData);
        }
        Ok(Self { iv, text })
    }

    /// The data, if it is of this app.
    pub fn open(self, session_key: &SecretString, app_id: &str) -> Result<Map<String, Value>, Unopenable> {
        let key = STANDARD.decode(session_key.expose_secret()).map_err(|_| Unopenable::WrongKey)?;
        let key: [u8; 16] = key.try_into().map_err(|_| Unopenable::WrongKey)?;
        let mut text = self.text;
        let plain = cbc::Decryptor::<Aes128>::new(&key.into(), &self.iv.into())
            .decrypt_padded::<Pkcs7>(&mut text)
            .map_err(|_| Unopenable::WrongKey)?;
        let Ok(Value::Object(data)) = serde_json::from_slice(plain) else { return Err(Unopenable::WrongKey) };
        let owner = data.get("watermark").and_then(|watermark| watermark.get("appid")).and_then(Value::as_str);
        if owner == Some(app_id) { Ok(data) } else { Err(Unopenable::AppId) }
    }
}

/// Whether the client made `signature` of `raw_data`, compared in constant time. `raw_data` must be the
/// very text the client gave: one that was parsed and written again differs.
pub fn is_signed(raw_data: &str, session_key: &SecretString, signature: &str) -> bool {
    let signed = Sha1::new().chain_update(raw_data).chain_update(session_key.expose_secret());
    hex(&signed.finalize()).as_bytes().ct_eq(signature.as_bytes()).into()
}

/// A user's signature of `message`: the key is the base64 text itself, not what it stands for.
pub fn session_signature(session_key: &SecretString, message: &str) -> String {
    hex(&hmac_sha256(session_key.expose_secret().as_bytes(), message.as_bytes()))
}

#[derive(Deserialize)]
struct Nothing {}

impl Client {
    /// checkSessionKey: whether this is still the user's `session_key`.
    pub async fn check_session(
        &self,
        token: &SecretString,
        openid: &str,
        session_key: &SecretString,
    ) -> Result<bool, Error> {
        let signature = session_signature(session_key, "");
        let query = [
            ("access_token", token.expose_secret()),
            ("openid", openid),
            ("signature", &signature),
            ("sig_method", "hmac_sha256"),
        ];
        match self.get::<Nothing>("/wxa/checksession", &query).await {
            Ok(_) => Ok(true),
            Err(Error::Refused(refusal)) if refusal.errcode == SESSION_KEY_REFUSED => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
