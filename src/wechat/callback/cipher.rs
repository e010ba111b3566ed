//! Sealed callbacks (消息加解密): AES-256-CBC with WeChat's own padding.
//!
//! ```text
//! key = base64(EncodingAESKey + "="), iv = its first 16 bytes
//! plain = 16 random bytes | length of the message, 4 bytes big-endian | message | AppID | padding
//! ```
//!
//! The padding is PKCS#7 with a block of 32, which a routine for blocks of 16 refuses; and the last
//! character of a real `EncodingAESKey` carries two spare bits, which a strict base64 decoder refuses.

use aes::Aes256;
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use cbc::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::NoPadding};
use secrecy::{ExposeSecret, SecretString};

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const LARGEST_PADDING: u8 = 32;

/// Why a sealed push does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unopenable {
    #[error("the EncodingAESKey is not 43 characters of base64")]
    Key,
    #[error("the sealed text is not base64 of whole blocks")]
    Shape,
    #[error("the padding is wrong: the EncodingAESKey is not the one of WeChat's console")]
    Padding,
    #[error("the lengths inside do not fit")]
    Length,
    #[error("the push is for another app")]
    AppId,
}

/// The message inside a sealed push, if it is for this app.
pub fn open(encoding_aes_key: &SecretString, app_id: &str, sealed: &str) -> Result<Vec<u8>, Unopenable> {
    let key = LENIENT.decode(encoding_aes_key.expose_secret()).map_err(|_| Unopenable::Key)?;
    let key: [u8; 32] = key.try_into().map_err(|_| Unopenable::Key)?;
    let mut text = LENIENT.decode(sealed).map_err(|_| Unopenable::Shape)?;
    if text.is_empty() || text.len() % 16 != 0 {
        return Err(Unopenable::Shape);
    }
    let iv = key.first_chunk::<16>().ok_or(Unopenable::Key)?;
    cbc::Decryptor::<Aes256>::new(&key.into(), iv.into())
        .decrypt_padded::<NoPadding>(&mut text)
        .map_err(|_| Unopenable::Shape)?;
    let text = without_padding(&text)?;
    let (length, rest) = text.get(16..).and_then(|text| text.split_first_chunk::<4>()).ok_or(Unopenable::Length)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Unopenable::Length)?;
    let (message, owner) = rest.split_at_checked(length).ok_or(Unopenable::Length)?;
    if owner == app_id.as_bytes() { Ok(message.to_vec()) } else { Err(Unopenable::AppId) }
}

fn without_padding(text: &[u8]) -> Result<&[u8], Unopenable> {
    let padding = *text.last().ok_or(Unopenable::Padding)?;
    if !(1..=LARGEST_PADDING).contains(&padding) {
        return Err(Unopenable::Padding);
    }
    let (text, end) = text.split_at_checked(text.len().wrapping_sub(padding.into())).ok_or(Unopenable::Padding)?;
    if end.iter().all(|byte| *byte == padding) { Ok(text) } else { Err(Unopenable::Padding) }
}
