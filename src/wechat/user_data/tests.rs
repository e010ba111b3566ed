//! The vectors are WeChat's own examples and those of well-known libraries.

use proptest::prelude::*;
use sha2::Sha256;

use super::*;

fn key(text: &str) -> SecretString {
    text.to_owned().into()
}

#[test]
fn wechats_example_of_a_signed_text_is_signed() {
    let raw_data = "{\"nickName\":\"Band\",\"gender\":1,\"language\":\"zh_CN\",\"city\":\"Guangzhou\",\"province\":\"Gua\
        ngdong\",\"country\":\"CN\",\"avatarUrl\":\"http://wx.qlogo.cn/mmopen/vi_32/1vZvI39NWFQ9XM4LtQpFrQJ1\
        xlgZxx3w7bQxKARol6503Iuswjjn6nIGBiaycAjAtpujxyzYsrztuuICqIM5ibXQ/0\"}";
    let key = key("HyVFkGl5F5OQWJZZaNzBBg==");
    assert!(is_signed(raw_data, &key, "75e81ceda165f4ffa64f4068af58c64b8f54b88c"));
    assert!(!is_signed(&format!("{raw_data} "), &key, "75e81ceda165f4ffa64f4068af58c64b8f54b88c"));
    assert!(!is_signed(raw_data, &key, ""));
}

#[test]
fn a_session_signature_takes_the_key_as_text() {
    let signature = session_signature(&key("o0q0otL8aEzpcZL/FT9WsQ=="), r#"{"foo":"bar"}"#);
    assert_eq!(signature, "654571f79995b2ce1e149e53c0a33dc39c0a74090db514261454e8dbe432aa0b");
    let signature = session_signature(&key("tiihtNczf5v6AKRyjwEUhQ=="), "");
    assert_eq!(signature, "7154f9f8b4b76b92f541cbf0e37d48840fa06e5e42da92a6f80168a1516a4735");
}

const DEMO_APP: &str = "wx4f4bc4dec97d474b";
const DEMO_KEY: &str = "tiihtNczf5v6AKRyjwEUhQ==";
const DEMO_IV: &str = "r7BXXKkLb8qrSNn05n0qiA==";
const DEMO_DATA: &str = "CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+3hVb\
    JSRgv+4lGOETKUQz6OYStslQ142dNCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6/1Xx1COx\
    Fvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn/Hz7saL8xz+W//FRAUid1OksQaQx4CMs8LOddcQhULW4\
    ucetDf96JcR3g0gfRK4PC7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns/8wR2SiRS7MNACwT\
    yrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYVoKlaRv85IfVunYzO0IKXsyl7JCUjCpoG20f0a04COwfneQAGGwd5\
    oa+T8yO5hzuyDb/XcxxmK01EpqOyuxINew==";

fn demo() -> Sealed {
    Sealed::decode(DEMO_DATA, DEMO_IV).expect("well shaped")
}

#[test]
fn tencents_demo_opens_to_the_letter() {
    let data = demo().open(&key(DEMO_KEY), DEMO_APP).expect("opens");
    assert_eq!(data["openId"], "oGZUI0egBJY1zhBYw2KhdUfwVJJE");
    assert_eq!(data["watermark"]["timestamp"], 1477314187);
    // The members keep their order, so the text is the very one that was sealed.
    let text = Value::Object(data).to_string();
    assert_eq!(hex(&Sha256::digest(&text)), "3237d8a5dbd413523c194882c7156544d8a06e2afcc97383cc300c17bd09391b");
}

#[test]
fn data_of_another_app_or_another_session_is_refused() {
    assert_eq!(demo().open(&key(DEMO_KEY), "wx0000000000000000"), Err(Unopenable::AppId));
    assert_eq!(demo().open(&key("HyVFkGl5F5OQWJZZaNzBBg=="), DEMO_APP), Err(Unopenable::WrongKey));
    for no_key in ["", "dGlueQ==", "not base64"] {
        assert_eq!(demo().open(&key(no_key), DEMO_APP), Err(Unopenable::WrongKey));
    }
    let stale = "BY6VOgcWbwGcyrunK0ECWI8rnDsT69DucZ+M78tc1aL9aM/3bEAHFYd4fu7kRjWhD4YfjObw44T9vUqKyHIjbKs6hvtEasZZEIW3\
        5x4a91xVgN48ZqZ7MTQqUlP13kDUlkuwYh+/8g8yceu4kNbjowYrhihx+SV7CfjKCveJ7TSepr5Z7aLv1o+rfeelfOwn++WN/YoQ\
        suZ6S3L4fWlWe5DAAUnFUI6cJvxxCohVzbrVXhyH2AqQdSjH2WnMYFeaGFIbcoxMznlk7oEwFn+hBj63dyT/swdYQfEdzuyCBmKX\
        y8d6l1RKVX6Y65coTD8kIlbr+FKsqYrXVUIUBSwehqYuOdhYWZ9Bntl5DWU1oqzAPCnMn2cAIoQpQPKP7IGSxMOvCNAMhVXbE7Bv\
        nWuVuGF+AM5tXAa9IVUhcMImGwLQqm4iV5uBd+5OcFObh3A4VJk9iBCBWSkBHa/rV9CVoY0bFv2F9/2Hv82++Ybl274=";
    let stale = Sealed::decode(stale, "TarMFjnzHVxy8pdS93wQbw==").expect("well shaped");
    assert_eq!(stale.open(&key("7MG7jbTToVVRWRXVA885rg=="), "wx0000000000000000"), Err(Unopenable::WrongKey));
}

#[test]
fn what_the_clients_api_never_gives_is_named() {
    assert_eq!(Sealed::decode(DEMO_DATA, "AAAA").err(), Some(Misshapen::Iv));
    for wrong in ["", "AAAA", "no base64!"] {
        assert_eq!(Sealed::decode(wrong, DEMO_IV).err(), Some(Misshapen::EncryptedData));
    }
}

proptest! {
    #[test]
    fn no_input_makes_it_panic(data in ".{0,80}", iv in ".{0,30}", session_key in ".{0,30}", signature in ".{0,50}") {
        let session_key = key(&session_key);
        prop_assert!(!is_signed(&data, &session_key, &signature));
        if let Ok(sealed) = Sealed::decode(&data, &iv) {
            prop_assert!(sealed.open(&session_key, DEMO_APP).is_err());
        }
    }

    #[test]
    fn made_up_data_never_opens(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let whole_blocks = STANDARD.encode(&bytes[..bytes.len() - bytes.len() % 16]);
        if let Ok(sealed) = Sealed::decode(&whole_blocks, DEMO_IV) {
            prop_assert!(sealed.open(&key(DEMO_KEY), DEMO_APP).is_err());
        }
    }
}
