//! Session keys and what is read with them; phone numbers.

use aes::cipher::{BlockModeDecrypt as _, KeyIvInit as _, block_padding::Pkcs7};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use wechat_sandbox::{App, DEMO_APP_ID, demo_app};

use crate::harness::{Stage, errcode};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes16(text: &Value) -> [u8; 16] {
    STANDARD.decode(text.as_str().expect("text")).expect("base64").try_into().expect("16 bytes")
}

#[tokio::test]
async fn encrypted_data_opens_with_the_session_key() {
    let stage = Stage::new().await;
    let url = stage.at(&format!("/sandbox/apps/{DEMO_APP_ID}/encrypted-data"));
    let early = stage.http.post(url).json(&json!({ "openid": "oA", "data": {} })).send().await.expect("an answer");
    assert_eq!(early.status().as_u16(), 409);

    let session = stage.log_in("oA").await;
    let key = session["session_key"].as_str().expect("a key");
    let sealed = stage.phone("encrypted-data", json!({ "openid": "oA", "data": { "nickName": "小明" } })).await;
    let mut data = STANDARD.decode(sealed["encryptedData"].as_str().expect("text")).expect("base64");
    let cipher =
        cbc::Decryptor::<aes::Aes128>::new(&bytes16(&session["session_key"]).into(), &bytes16(&sealed["iv"]).into());
    let plain = cipher.decrypt_padded::<Pkcs7>(&mut data).expect("padding");
    let plain: Value = serde_json::from_slice(plain).expect("JSON");
    assert_eq!((plain["nickName"].as_str(), plain["watermark"]["appid"].as_str()), (Some("小明"), Some(DEMO_APP_ID)));
    let raw = sealed["rawData"].as_str().expect("text");
    assert_eq!(sealed["signature"], hex(&Sha1::digest(format!("{raw}{key}"))));
}

#[tokio::test]
async fn session_keys_are_checked_and_reset() {
    let stage = Stage::new().await;
    let token = stage.stable_token().await;
    let session = stage.log_in("oA").await;
    let sign = |key: &Value| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_str().expect("a key").as_bytes()).expect("any length");
        mac.update(b"");
        hex(&mac.finalize().into_bytes())
    };
    let ask = |path: &str, signature: &str, method: &str| {
        format!("/wxa/{path}?access_token={token}&openid=oA&signature={signature}&sig_method={method}")
    };
    let signature = sign(&session["session_key"]);
    assert_eq!(errcode(&stage.get(&ask("checksession", &signature, "hmac_sha256")).await), 0);
    assert_eq!(errcode(&stage.get(&ask("checksession", "00", "hmac_sha256")).await), 87009);
    assert_eq!(errcode(&stage.get(&ask("checksession", &signature, "md5")).await), 87008);

    let reset = stage.get(&ask("resetusersessionkey", &signature, "hmac_sha256")).await;
    assert_eq!(reset["openid"], "oA");
    assert_eq!(errcode(&stage.get(&ask("checksession", &signature, "hmac_sha256")).await), 87009);
    let signature = sign(&reset["session_key"]);
    assert_eq!(errcode(&stage.get(&ask("checksession", &signature, "hmac_sha256")).await), 0);
}

#[tokio::test]
async fn phone_numbers_by_code() {
    let other = App { app_id: "wxother".into(), secret: "other".into(), ..demo_app() };
    let stage = Stage::with(vec![demo_app(), other], None).await;
    let path = format!("/wxa/business/getuserphonenumber?access_token={}", stage.stable_token().await);
    let code = async |ask: Value| stage.phone("phone-code", ask).await["code"].as_str().expect("a code").to_owned();

    let first = code(json!({ "openid": "oA" })).await;
    assert_eq!(errcode(&stage.post(&path, json!({ "code": first, "openid": "oB" })).await), 40003);
    let answer = stage.post(&path, json!({ "code": first, "openid": "oA" })).await;
    assert_eq!(answer["phone_info"]["phoneNumber"], "13800000001");
    assert_eq!(answer["phone_info"]["watermark"]["appid"], DEMO_APP_ID);
    assert_eq!(errcode(&stage.post(&path, json!({ "code": first })).await), 40029);

    let foreign = code(json!({ "phone_number": "5550100", "country_code": "1" })).await;
    let answer = stage.post(&path, json!({ "code": foreign })).await;
    assert_eq!(answer["phone_info"]["phoneNumber"], "+15550100");
    assert_eq!(answer["phone_info"]["purePhoneNumber"], "5550100");

    let late = code(json!({})).await;
    stage.advance(301).await;
    assert_eq!(errcode(&stage.post(&path, json!({ "code": late })).await), 40029);
    let elsewhere = stage.post("/sandbox/apps/wxother/phone-code", json!({})).await;
    assert_eq!(errcode(&stage.post(&path, json!({ "code": elsewhere["code"] })).await), 40013);
}
