//! Secrets at rest: sealing under the master keys, MACs, random tokens.
//!
//! A sealed value is `version 1 | key id 4 | nonce 12 | AES-256-GCM ciphertext and tag`, with a
//! context as associated data, so that a value copied into another row does not open. Several master
//! keys may be in force while they are rotated: the first seals, all of them open.

use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{Aead, Generate, KeyInit, Payload},
};
use base64::{Engine, engine::general_purpose};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const VERSION: u8 = 1;
const KEY_ID: usize = 4;
const NONCE: usize = 12;

/// Why the master keys were refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("master key {0} is not base64 of 32 bytes; make one with: openssl rand -base64 32")]
    NotAKey(usize),
    #[error("master key {0} is not random (a repeated or counted byte); make one with: openssl rand -base64 32")]
    Weak(usize),
    #[error("no master key is given; make one with: openssl rand -base64 32")]
    Missing,
}

/// A sealed value that does not open: an unknown key, another context, or damage.
#[derive(Debug, thiserror::Error)]
#[error("a sealed value does not open (key {key_id})")]
pub struct Unsealable {
    /// The id of the master key it was sealed with, as [`MasterKeys::key_ids`] names them.
    pub key_id: String,
}

/// The master keys, newest first. Cannot be printed.
pub struct MasterKeys(Vec<MasterKey>);

struct MasterKey {
    id: [u8; KEY_ID],
    bytes: [u8; 32],
    cipher: Aes256Gcm,
}

impl MasterKeys {
    /// Reads keys in base64, separated by white space or commas, newest first.
    pub fn parse(text: &SecretString) -> Result<Self, KeyError> {
        let words = text.expose_secret().split([',', ' ', '\n', '\r', '\t']);
        let keys = words
            .filter(|word| !word.is_empty())
            .enumerate()
            .map(|(index, word)| MasterKey::parse(word, index + 1))
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(KeyError::Missing) } else { Ok(Self(keys)) }
    }

    /// A new key in base64, for `magpie dev` and the advice in messages.
    pub fn generate() -> String {
        general_purpose::STANDARD.encode(random::<32>())
    }

    /// The public ids of the keys, newest first.
    pub fn key_ids(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|key| hex(&key.id))
    }

    /// Encrypts under the newest key. `context` says what the value is and to whom it belongs.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Vec<u8> {
        seal_with(&self.0[0], context, plain)
    }

    /// The same under the key with this id; None when it is not in force.
    pub fn seal_under(&self, key_id: &str, context: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.0.iter().find(|key| hex(&key.id) == key_id)?;
        Some(seal_with(key, context, plain))
    }

    /// Decrypts what [`MasterKeys::seal`] made with the same context.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let id = sealed.get(1..1 + KEY_ID).unwrap_or_default();
        let unsealable = || Unsealable { key_id: hex(id) };
        if sealed.first() != Some(&VERSION) || sealed.len() < 1 + KEY_ID + NONCE {
            return Err(unsealable());
        }
        let key = self.0.iter().find(|key| key.id == id).ok_or_else(unsealable)?;
        let (nonce, ciphertext) = sealed[1 + KEY_ID..].split_at(NONCE);
        let nonce = Nonce::try_from(nonce).map_err(|_| unsealable())?;
        let payload = Payload { msg: ciphertext, aad: context.as_bytes() };
        key.cipher.decrypt(&nonce, payload).map_err(|_| unsealable())
    }

    /// Whether the newest key sealed it.
    pub fn is_newest(&self, sealed: &[u8]) -> bool {
        sealed.get(1..1 + KEY_ID) == Some(&self.0[0].id)
    }

    /// HMAC-SHA256 under a key derived from the newest master key for this purpose.
    pub fn mac(&self, purpose: &str, data: &[u8]) -> [u8; 32] {
        mac_with(&self.0[0], purpose, data)
    }

    /// What `mac` gave or gives under each of the keys, the newest first: what an older key indexed is found, too.
    pub fn macs(&self, purpose: &str, data: &[u8]) -> Vec<Vec<u8>> {
        self.0.iter().map(|key| mac_with(key, purpose, data).to_vec()).collect()
    }

    /// Whether `tag` is the MAC of `data` under any of the keys, in constant time.
    pub fn mac_matches(&self, purpose: &str, data: &[u8], tag: &[u8]) -> bool {
        self.0.iter().fold(false, |found, key| found | bool::from(mac_with(key, purpose, data).as_slice().ct_eq(tag)))
    }
}

impl MasterKey {
    fn parse(word: &str, number: usize) -> Result<Self, KeyError> {
        let decoded = general_purpose::STANDARD.decode(word).map_err(|_| KeyError::NotAKey(number))?;
        let bytes: [u8; 32] = decoded.try_into().map_err(|_| KeyError::NotAKey(number))?;
        let step = bytes[1].wrapping_sub(bytes[0]);
        if bytes.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == step) {
            return Err(KeyError::Weak(number));
        }
        let digest = Sha256::digest(bytes);
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&digest[..KEY_ID]);
        Ok(Self { id, bytes, cipher: Aes256Gcm::new(&bytes.into()) })
    }
}

fn seal_with(key: &MasterKey, context: &str, plain: &[u8]) -> Vec<u8> {
    let nonce = Nonce::generate();
    let ciphertext = key
        .cipher
        .encrypt(&nonce, Payload { msg: plain, aad: context.as_bytes() })
        .expect("AES-GCM encrypts anything shorter than 64 GiB");
    [&[VERSION], &key.id[..], &nonce[..], &ciphertext[..]].concat()
}

fn mac_with(key: &MasterKey, purpose: &str, data: &[u8]) -> [u8; 32] {
    let derived = hmac_sha256(&key.bytes, purpose.as_bytes());
    hmac_sha256(&derived, data)
}

/// HMAC-SHA256 (RFC 2104).
pub fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// SHA-256 of the data.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

/// Random bytes from the operating system's generator.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes);
    bytes
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Base64 for tokens and keys: the URL alphabet without padding (RFC 4648 section 5).
pub fn base64_url(bytes: &[u8]) -> String {
    general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads what [`base64_url`] writes.
pub fn from_base64_url(text: &str) -> Option<Vec<u8>> {
    general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &[String]) -> MasterKeys {
        MasterKeys::parse(&text.join("\n").into()).expect("keys")
    }

    #[test]
    fn a_sealed_value_opens_in_its_own_context_only() {
        let keys = keys(&[MasterKeys::generate()]);
        let sealed = keys.seal("identity 1", b"session key");
        assert_eq!(keys.open("identity 1", &sealed).expect("opens"), b"session key");
        assert!(keys.open("identity 2", &sealed).is_err());
        let mut damaged = sealed.clone();
        *damaged.last_mut().expect("not empty") ^= 1;
        assert!(keys.open("identity 1", &damaged).is_err());
        for length in 0..sealed.len() {
            assert!(keys.open("identity 1", &sealed[..length]).is_err());
        }
    }

    #[test]
    fn an_old_key_opens_while_it_is_listed() {
        let (old, new) = (MasterKeys::generate(), MasterKeys::generate());
        let sealed = keys(std::slice::from_ref(&old)).seal("x", b"kept");
        let tag = keys(std::slice::from_ref(&old)).mac("y", b"data");
        let both = keys(&[new.clone(), old]);
        assert_eq!(both.open("x", &sealed).expect("opens"), b"kept");
        assert!(both.mac_matches("y", b"data", &tag));
        let unsealable = keys(&[new]).open("x", &sealed).expect_err("its key is gone");
        assert_eq!(Some(unsealable.key_id), both.key_ids().last());
    }

    #[test]
    fn weak_and_broken_keys_are_refused_with_the_cure() {
        for text in
            ["", "short", &general_purpose::STANDARD.encode([7; 32]), &general_purpose::STANDARD.encode([1; 31])]
        {
            let error = MasterKeys::parse(&text.to_owned().into()).err().expect("refused");
            assert!(error.to_string().contains("openssl rand -base64 32"), "{error}");
        }
    }
}
