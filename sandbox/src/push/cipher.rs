//! WeChat's cryptography, written here by hand and on purpose not shared with any client.

use aes::cipher::{
    BlockModeEncrypt as _, KeyIvInit as _,
    block_padding::{NoPadding, Pkcs7},
};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// The block PKCS#7 pads to in pushes, twice the block of AES.
const PAD_BLOCK: usize = 32;

/// Many real keys have spare bits in their 43rd character that strict decoders refuse.
const KEY_ALPHABET: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// SHA-1 of the parts in byte order, joined; lower-case hexadecimal.
pub(crate) fn sign(parts: &[&str]) -> String {
    let mut parts = parts.to_vec();
    parts.sort_unstable();
    hex(&Sha1::digest(parts.concat()))
}

/// `Encrypt` of a push: AES-256-CBC over 16 random bytes, the length, the message and the AppID.
/// `None` when the key is not 43 characters of Base64.
pub(super) fn encrypt_push(encoding_aes_key: &str, random: [u8; 16], message: &str, app_id: &str) -> Option<String> {
    let key: [u8; 32] = KEY_ALPHABET.decode(encoding_aes_key).ok()?.try_into().ok()?;
    let iv: [u8; 16] = key[..16].try_into().ok()?;
    let mut plain = random.to_vec();
    plain.extend(u32::try_from(message.len()).ok()?.to_be_bytes());
    plain.extend(message.as_bytes());
    plain.extend(app_id.as_bytes());
    let pad = PAD_BLOCK - plain.len() % PAD_BLOCK;
    plain.extend(std::iter::repeat_n(u8::try_from(pad).ok()?, pad));
    let length = plain.len();
    let cipher = cbc::Encryptor::<aes::Aes256>::new(&key.into(), &iv.into());
    cipher.encrypt_padded::<NoPadding>(&mut plain, length).ok()?;
    Some(STANDARD.encode(plain))
}

/// `encryptedData` of an open-data component: AES-128-CBC under the session key. `None` when the
/// session key is not 16 bytes of Base64.
pub(crate) fn encrypt_user_data(session_key: &str, iv: [u8; 16], data: &str) -> Option<String> {
    let key: [u8; 16] = STANDARD.decode(session_key).ok()?.try_into().ok()?;
    let cipher = cbc::Encryptor::<aes::Aes128>::new(&key.into(), &iv.into());
    Some(STANDARD.encode(cipher.encrypt_padded_vec::<Pkcs7>(data.as_bytes())))
}

/// `signature` of `rawData`: SHA-1 over the text and the session key as text.
pub(crate) fn raw_data_signature(raw_data: &str, session_key: &str) -> String {
    hex(&Sha1::digest([raw_data.as_bytes(), session_key.as_bytes()].concat()))
}

/// `signature` of checkSessionKey and its kin: HMAC-SHA256 keyed with the Base64 text.
pub(crate) fn session_signature(session_key: &str, message: &str) -> String {
    // HMAC takes a key of any length; an empty signature matches nothing.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(session_key.as_bytes()) else {
        return String::new();
    };
    mac.update(message.as_bytes());
    hex(&mac.finalize().into_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{encrypt_push, raw_data_signature, session_signature, sign};

    #[test]
    fn signs_as_the_official_url_check() {
        assert_eq!(sign(&["AAAAA", "1714036504", "1514711492"]), "f464b24fc39322e44b38aa78f5edd27bd1441696");
        assert_eq!(sign(&["b", "c", "a"]), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    #[test]
    fn encrypts_as_the_official_sample() {
        let encrypted = encrypt_push(
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            *b"707722b803182950",
            r#"{"demo_resp":"good luck"}"#,
            "wxba5fad812f8e6fb9",
        );
        let expected = "ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ==";
        assert_eq!(encrypted.as_deref(), Some(expected));
        assert_eq!(sign(&["AAAAA", "1713424427", "415670741", expected]), "1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1");
    }

    #[test]
    fn takes_a_key_with_spare_bits() {
        let encrypted = encrypt_push(
            "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
            *b"aaaabbbbccccdddd",
            "我是中文abcd123",
            "wxb11529c136998cb6",
        );
        let expected = "jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg==";
        assert_eq!(encrypted.as_deref(), Some(expected));
    }

    /// A content that is a multiple of 32 already gets a whole block of padding.
    #[test]
    fn pads_a_full_block() {
        let message = r#"{"ToUserName":"gh_builder0001","FromUserName":"oBuilderOpenId0000000000001","CreateTime":1760000000,"MsgType":"event","Event":"debug_demo","p":"xxxxxxxx"}"#;
        let encrypted = encrypt_push(
            "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
            *b"abcdefghijklmnop",
            message,
            "wx0123456789abcdef",
        );
        let expected = "734H5rOppjjhWnfkswouTPzn2C43p6/idgcH9PaPx6K86WIJOnSXGDZMpI34wDvVimC2ySkW02psLrkTMpJ/7RUy+QKdDWPvFmdHD4MD6ldT53j40s3TW1xrr3oT5NbvfYEJ5ezq8ipFuPyWe3QXBVFoq8L1tE/qhT+rXEMYsQC2GlzCw34K6O9azDU8aQcF8UP2GBH6iXWaDtmyBBJUDQ26HCn9WUNCwDMH0GdTS94fJzAb0FHkJNQ3Umvwnt647NiHtBmZLbqTuhghgGq6ig3dK2/TU9wRZgpopWG8EsY=";
        assert_eq!(encrypted.as_deref(), Some(expected));
        assert_eq!(
            sign(&["buildertoken", "1760000000", "99887766", expected]),
            "0ac95c8d5057038f859311fb55ade67ae73d6d65"
        );
    }

    #[test]
    fn signs_user_data_with_the_key_as_text() {
        let raw_data = r#"{"nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong","country":"CN","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/1vZvI39NWFQ9XM4LtQpFrQJ1xlgZxx3w7bQxKARol6503Iuswjjn6nIGBiaycAjAtpujxyzYsrztuuICqIM5ibXQ/0"}"#;
        assert_eq!(
            raw_data_signature(raw_data, "HyVFkGl5F5OQWJZZaNzBBg=="),
            "75e81ceda165f4ffa64f4068af58c64b8f54b88c"
        );
        assert_eq!(
            session_signature("o0q0otL8aEzpcZL/FT9WsQ==", r#"{"foo":"bar"}"#),
            "654571f79995b2ce1e149e53c0a33dc39c0a74090db514261454e8dbe432aa0b"
        );
        assert_eq!(
            session_signature("tiihtNczf5v6AKRyjwEUhQ==", ""),
            "7154f9f8b4b76b92f541cbf0e37d48840fa06e5e42da92a6f80168a1516a4735"
        );
    }
}
