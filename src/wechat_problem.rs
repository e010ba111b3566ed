//! What a failed call to WeChat means for who asked for it.

use std::time::Duration;

use crate::{
    access_token::Failed,
    error::{Code, Error, WeChatWords},
    wechat::{self, Refusal, Verdict},
};

/// WeChat's own words, for `wechat` of the problem.
pub fn words(refusal: &Refusal) -> WeChatWords {
    WeChatWords { errcode: refusal.errcode, errmsg: refusal.errmsg.clone(), rid: refusal.rid.clone() }
}

/// Why code2Session gave no session.
pub fn of_login(error: &wechat::Error) -> Error {
    match error.refusal().map(|refusal| refusal.errcode) {
        Some(40029 | 41008) => with_words(Code::LoginCodeInvalid, error),
        Some(40163) => with_words(Code::LoginCodeUsed, error),
        Some(40226) => with_words(Code::LoginRefused, error),
        Some(45011) => with_words(Code::LoginTooOften, error).retry_after(Duration::from_mins(1)),
        _ => of_call(error),
    }
}

/// Why getPhoneNumber gave no number.
pub fn of_phone(error: &wechat::Error) -> Error {
    match error.refusal().map(|refusal| refusal.errcode) {
        // 40003: the code of another user.
        Some(40029 | 40003) => with_words(Code::PhoneCodeInvalid, error),
        Some(40013) => with_words(Code::PhoneCodeOfOtherApp, error),
        Some(45011) => with_words(Code::PhoneTooOften, error).retry_after(Duration::from_mins(1)),
        _ => of_call(error),
    }
}

/// Why a call that needs an access token failed. Without one, the cause is named at once.
pub fn of_failed(failed: &Failed) -> Error {
    match failed {
        Failed::Refused(breaker) => {
            Error::new(Code::WechatAppError).wechat(Some(words(&breaker.refusal))).detail(breaker.to_string())
        }
        Failed::NoToken(error) | Failed::Call(error) => of_call(error),
    }
}

/// Why WeChat tells nothing of a failed call.
pub fn of_rid(failed: &Failed) -> Error {
    let Failed::Call(error) = failed else { return of_failed(failed) };
    match error.refusal() {
        Some(refusal @ Refusal { errcode: 76002, .. }) => {
            Error::field("rid", meaning(refusal)).wechat(Some(words(refusal)))
        }
        Some(refusal @ Refusal { errcode: 76001 | 76003 | 76004, .. }) => {
            with_words(Code::NotFound, error).detail(meaning(refusal))
        }
        _ => of_call(error),
    }
}

/// Why a call on behalf of an operator or an integrator failed.
pub fn of_call(error: &wechat::Error) -> Error {
    match error {
        wechat::Error::Refused(refusal) => match refusal.verdict() {
            Verdict::Retry => with_words(Code::WechatBusy, error).retry_after(Duration::from_secs(1)),
            Verdict::SlowDown => with_words(Code::WechatBusy, error).retry_after(Duration::from_mins(1)),
            Verdict::Operator | Verdict::RefreshToken | Verdict::PauseApp => {
                with_words(Code::WechatAppError, error).detail(meaning(refusal))
            }
            _ => with_words(Code::WechatRefused, error).detail(meaning(refusal)),
        },
        wechat::Error::NotSent(_) => failed(Code::WechatUnreachable, error),
        wechat::Error::NoAnswer(_) => failed(Code::WechatTimeout, error),
        wechat::Error::Garbled { .. } => failed(Code::WechatBadAnswer, error),
    }
}

/// What the table says of it.
fn meaning(refusal: &Refusal) -> String {
    let entry = refusal.entry();
    format!("The code means: {} ({}).", entry.en, entry.zh)
}

fn with_words(code: Code, error: &wechat::Error) -> Error {
    Error::new(code).wechat(error.refusal().map(words))
}

/// The cause is told in the log; the caller may try again at once with a new code.
fn failed(code: Code, error: &wechat::Error) -> Error {
    Error::new(code).because(error.to_string()).retry_after(Duration::from_secs(1))
}
