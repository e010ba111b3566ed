//! `POST /wxa/business/getuserphonenumber`: the code of the phone-number button for the number.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Client, Error, subscribe_message::id_text};

#[derive(Serialize)]
struct Request<'a> {
    code: &'a str,
    openid: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    phone_info: PhoneInfo,
}

/// A phone number as WeChat knows it.
#[derive(Deserialize)]
pub struct PhoneInfo {
    /// With the country code when it is a foreign one.
    #[serde(rename = "phoneNumber")]
    number: String,
    #[serde(rename = "purePhoneNumber")]
    pub pure_number: String,
    /// A text or a number; newer answers may lack it.
    #[serde(default, rename = "countryCode")]
    country_code: Option<Value>,
    watermark: Watermark,
}

#[derive(Deserialize)]
struct Watermark {
    appid: String,
}

impl Client {
    /// getPhoneNumber. The code lives five minutes, works once and only for this user's openid.
    pub async fn phone_number(&self, token: &SecretString, openid: &str, code: &str) -> Result<PhoneInfo, Error> {
        let query = [("access_token", token.expose_secret())];
        let answer: Answer = self.post("/wxa/business/getuserphonenumber", &query, &Request { code, openid }).await?;
        Ok(answer.phone_info)
    }
}

impl PhoneInfo {
    /// Whether the number was given to this app.
    pub fn is_for(&self, app_id: &str) -> bool {
        self.watermark.appid == app_id
    }

    /// `86`, without a plus; China's where WeChat tells none.
    pub fn country_code(&self) -> String {
        let told = self.country_code.as_ref().and_then(id_text).map(|code| digits(&code));
        let prefix = || self.number.strip_suffix(self.pure_number.as_str()).map(digits);
        told.filter(|code| !code.is_empty())
            .or_else(|| prefix().filter(|code| !code.is_empty()))
            .unwrap_or_else(|| "86".into())
    }

    /// The number as ITU-T E.164 writes it: `+8613800000001`.
    pub fn e164(&self) -> String {
        format!("+{}{}", self.country_code(), digits(&self.pure_number))
    }
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> PhoneInfo {
        serde_json::from_str(text).expect("an answer")
    }

    #[test]
    fn the_country_is_told_as_text_as_number_or_not_at_all() {
        for (number, country) in [
            ("13800000001", r#","countryCode":"86""#),
            ("13800000001", r#","countryCode":86"#),
            ("13800000001", ""),
            ("+8613800000001", ""),
            ("13800000001", r#","countryCode":null"#),
        ] {
            let phone = info(&format!(
                r#"{{"phoneNumber":"{number}","purePhoneNumber":"13800000001"{country},"watermark":{{"timestamp":1,"appid":"wx1"}}}}"#
            ));
            assert_eq!((phone.e164().as_str(), phone.country_code().as_str()), ("+8613800000001", "86"));
            assert!(phone.is_for("wx1") && !phone.is_for("wx2"));
        }
        let foreign =
            info(r#"{"phoneNumber":"+852 51234567","purePhoneNumber":"51234567","watermark":{"appid":"wx1"}}"#);
        assert_eq!(foreign.e164(), "+85251234567");
    }
}
