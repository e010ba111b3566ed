//! WeChat's error codes: meaning, verdict, effect on the credit, who should act. From the general
//! error-code table and the tables of each API in WeChat's documents.
//!
//! A code that means something else at one API has an entry of its own there, in `by_api.rs`; it wins
//! over the general one.

mod by_api;

use entity::notification::Reason;

use super::Verdict;

/// One error code.
#[derive(Debug)]
pub struct Entry {
    pub errcode: i64,
    /// How the paths begin at which it means this; empty: everywhere.
    pub apis: &'static [&'static str],
    pub en: &'static str,
    pub zh: &'static str,
    pub verdict: Verdict,
    pub who: Who,
}

impl Entry {
    /// What the code does to the credit that is set aside for the message.
    pub fn credit(&self) -> CreditEffect {
        match self.verdict {
            Verdict::NoCredit => CreditEffect::Zeroed,
            Verdict::DropUser(_) | Verdict::Reject(_) => CreditEffect::Returned,
            _ => CreditEffect::Kept,
        }
    }
}

/// What becomes of a credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreditEffect {
    /// It stays set aside: the message is still to be sent.
    Kept,
    /// The message did not spend it.
    Returned,
    /// WeChat says that there is none: the whole balance is void.
    Zeroed,
}

/// Who should do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Nobody: Magpie handles it.
    Magpie,
    /// The user, in the Mini Program or in WeChat.
    User,
    /// Who wrote the rule, the template or the front end.
    Integrator,
    /// Who runs this server and holds WeChat's console.
    Operator,
}

/// One row a code: verdict, who, English, Chinese.
macro_rules! entries {
    ($($errcode:literal $($apis:ident)? => $verdict:expr, $who:ident, $en:literal, $zh:literal;)*) => {
        &[$(Entry {
            errcode: $errcode,
            apis: entries!(@apis $($apis)?),
            en: $en,
            zh: $zh,
            verdict: $verdict,
            who: crate::wechat::error::Who::$who,
        },)*]
    };
    (@apis) => { &[] };
    (@apis $apis:ident) => { $apis };
}
use entries;

/// Codes that mean the same at every API, sorted.
const GENERAL: &[Entry] = {
    use Verdict::{
        DropUser, NoCredit, Operator as Ops, PauseApp, PauseTemplate, RefreshToken, Reject, Retry, SlowDown, Snooze,
    };
    entries! {
        -1000 => Retry, Magpie, "system busy", "系统繁忙";
        -1 => Retry, Magpie, "system busy", "系统繁忙";
        40001 => RefreshToken, Magpie, "access token invalid or not the newest", "access_token 无效或不是最新的";
        40002 => Ops, Operator, "grant_type refused", "grant_type 不正确";
        40003 => DropUser(Reason::BadOpenid), Integrator, "openid is wrong or of another app", "openid 不正确或不属于该应用";
        40008 => Reject(Reason::BadData), Integrator, "message type refused", "消息类型不合法";
        40013 => Ops, Operator, "AppID is wrong", "AppID 不正确";
        40014 => RefreshToken, Magpie, "access token malformed or unknown", "access_token 不合法";
        40029 => Reject(Reason::BadData), User, "code is wrong or expired", "code 无效或已过期";
        40033 => Reject(Reason::BadData), Integrator, "the request holds escaped or forbidden characters", "请求包含非法字符或 \\u 转义";
        40036 => PauseTemplate, Integrator, "template id has the wrong length", "template_id 长度不正确";
        40037 => PauseTemplate, Integrator, "template id is unknown or deleted", "template_id 不存在或已删除";
        40039 => Reject(Reason::BadPage), Integrator, "the link is refused", "跳转链接不合法";
        40066 => Ops, Operator, "wrong address of an API", "接口地址错误";
        40097 => Reject(Reason::BadData), Integrator, "wrong arguments", "参数错误";
        40125 => Ops, Operator, "AppSecret is wrong", "AppSecret 错误";
        40129 => Reject(Reason::BadData), Integrator, "wrong scene", "scene 不正确";
        40163 => Reject(Reason::BadData), User, "code was used before", "code 已被使用";
        40164 => Ops, Operator, "the caller's IP address is not in the white list", "调用方 IP 不在白名单中";
        40226 => DropUser(Reason::Blocked), User, "high-risk user, login refused", "高风险用户,登录被拦截";
        40243 => Ops, Operator, "the AppSecret is frozen", "AppSecret 已冻结";
        40249 => PauseTemplate, Integrator, "marketing content in the template", "模板含营销内容";
        41001 => Ops, Operator, "access token missing", "缺少 access_token";
        41002 => Ops, Operator, "AppID missing", "缺少 appid";
        41004 => Ops, Operator, "AppSecret missing", "缺少 secret";
        41008 => Reject(Reason::BadData), User, "code missing", "缺少 code";
        41030 => Reject(Reason::BadPage), Integrator, "the page is not in the released version", "page 路径在已发布版本中不存在";
        42001 => RefreshToken, Magpie, "access token expired", "access_token 已过期";
        43001 => Ops, Operator, "the call needs GET", "需要 GET 请求";
        43002 => Ops, Operator, "the call needs POST", "需要 POST 请求";
        43003 => Ops, Operator, "the call needs HTTPS", "需要 HTTPS";
        43004 => DropUser(Reason::NotFollowing), User, "the user does not follow the account", "用户未关注";
        43019 => DropUser(Reason::Blocked), User, "the user blocked the account", "用户已拉黑该账号";
        43101 => NoCredit, User, "the user has not subscribed, has refused, or nothing is left", "用户未订阅、已拒收或次数已用完";
        43104 => DropUser(Reason::BadOpenid), Integrator, "openid belongs to another app", "openid 与 appid 不匹配";
        43106 => Ops, Operator, "the account may not add templates: punished", "账号被处罚,无法添加模板";
        43107 => PauseTemplate, Operator, "the template or the ability is banned", "订阅消息能力或模板被封禁";
        43108 => Snooze, Magpie, "another message to this user is being sent", "正在向该用户发送其他消息";
        43116 => PauseTemplate, Operator, "the template is banned", "模板已被封禁";
        43117 => SlowDown, Magpie, "too many messages to this user", "向该用户发送过于频繁";
        44002 => Ops, Operator, "the body is empty", "POST 数据为空";
        44991 => SlowDown, Magpie, "limit of the minute", "超出分钟级调用限制";
        45009 => PauseApp, Operator, "quota of the day, or of a short window, is used up", "接口调用次数超限";
        45011 => SlowDown, Magpie, "too many calls in a minute", "调用过于频繁";
        45026 => Ops, Operator, "too many templates", "模板数量超出限制";
        45103 => Ops, Operator, "the API is withdrawn", "接口已下线";
        45109 => Ops, Operator, "the API is withdrawn", "接口已下线";
        45168 => Reject(Reason::SensitiveText), Integrator, "the text holds a sensitive word", "内容含敏感词";
        47001 => Ops, Operator, "the body is not JSON", "JSON 格式错误";
        47002 => Ops, Operator, "wrong escapes in the body", "请求转义错误";
        47003 => Reject(Reason::BadData), Integrator, "a value of the message breaks its rule", "模板参数不符合规则";
        48001 => Ops, Operator, "the account may not call this API, or the token is of another kind of account", "无接口权限,或令牌属于其他类型的账号";
        48002 => DropUser(Reason::Blocked), User, "the user refuses messages", "用户拒收消息";
        48004 => Ops, Operator, "the API is banned for this account", "接口已被封禁";
        48006 => Ops, Operator, "quota resets are used up", "清零次数已用完";
        48017 => Ops, Operator, "call through a withdrawn address of WeChat", "使用了已下线的接口 IP";
        50001 => Ops, Operator, "not authorised", "未授权";
        50002 => Ops, Operator, "the account is limited", "账号受限";
        50004 => Ops, Operator, "the account may not use this API", "账号无权使用该接口";
        50005 => DropUser(Reason::NotFollowing), User, "the user does not follow the account", "用户未关注";
        50007 => Ops, Operator, "the account is frozen", "账号已冻结";
        61007 => Ops, Operator, "not authorised, or the token of another account", "未授权或令牌属于其他账号";
        61010 => Reject(Reason::BadOpenid), User, "the user was not in the Mini Program within two hours", "用户两小时内未访问小程序";
        87007 => Reject(Reason::BadData), User, "session_key expired: log in again", "session_key 已过期,请重新登录";
        87008 => Reject(Reason::BadData), Operator, "the signature method is refused", "签名方法不支持";
        87009 => Reject(Reason::BadData), User, "the signature is wrong: session_key is no longer valid, log in again", "签名错误:session_key 已失效,请重新登录";
        89002 => Ops, Operator, "the app is bound to no Open Platform account", "未绑定开放平台账号";
        89501 => Ops, Operator, "an administrator's confirmation of this IP address is pending", "该 IP 等待管理员确认";
        89502 => Ops, Operator, "an administrator's confirmation of this IP address is needed", "该 IP 需要管理员确认";
        89503 => Ops, Operator, "an administrator must confirm this IP address", "需要管理员确认该 IP";
        89504 => Ops, Operator, "an administrator's confirmation of this IP address is needed", "该 IP 需要管理员确认";
        89505 => Ops, Operator, "an administrator's confirmation of this IP address is pending", "该 IP 等待管理员确认";
        89506 => Ops, Operator, "an administrator refused this IP address for 24 hours", "管理员拒绝该 IP,24 小时内不可调用";
        89507 => Ops, Operator, "an administrator refused this IP address for one hour", "管理员拒绝该 IP,1 小时内不可调用";
    }
};

/// Never tried again blindly: what WeChat means by it is not known.
const UNKNOWN: Entry = Entry {
    errcode: 0,
    apis: &[],
    en: "a code that is not in WeChat's documents",
    zh: "微信文档中未列出的错误码",
    verdict: Verdict::Reject(Reason::SystemFailure),
    who: Who::Operator,
};

/// The entry of a code as the API at `path` means it, or the safe default for an unknown one.
pub fn entry(path: &str, errcode: i64) -> &'static Entry {
    let is = |entry: &&Entry| entry.errcode == errcode;
    let here = |entry: &&Entry| entry.apis.iter().any(|api| path.starts_with(api));
    let at_this_api = by_api::BY_API.iter().find(|entry| is(entry) && here(entry));
    at_this_api.or_else(|| GENERAL.iter().find(is)).unwrap_or(&UNKNOWN)
}

/// The whole table by code, for people: the general meaning of a code first, then its meanings at
/// single APIs.
pub fn all() -> Vec<&'static Entry> {
    let mut all: Vec<_> = GENERAL.iter().chain(by_api::BY_API).collect();
    all.sort_by_key(|entry| (entry.errcode, entry.apis.len()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEND: &str = "/cgi-bin/message/subscribe/send";

    #[test]
    fn the_table_is_sorted_without_repeats_and_speaks_both_languages() {
        assert!(GENERAL.windows(2).all(|pair| pair[0].errcode < pair[1].errcode));
        for entry in all() {
            assert!(entry.en.is_ascii() && !entry.zh.is_ascii(), "{entry:?}");
        }
        for entry in by_api::BY_API {
            assert!(entry.apis.iter().all(|api| api.starts_with('/')), "{entry:?}");
            assert_eq!(self::entry(entry.apis[0], entry.errcode).en, entry.en, "hidden by another: {entry:?}");
        }
    }

    #[test]
    fn the_codes_that_decide_most_have_their_verdicts() {
        let verdict = |errcode| entry(SEND, errcode).verdict;
        assert_eq!(verdict(43101), Verdict::NoCredit);
        assert_eq!(verdict(42001), Verdict::RefreshToken);
        assert_eq!(verdict(43108), Verdict::Snooze);
        assert_eq!(verdict(47003), Verdict::Reject(Reason::BadData));
        assert_eq!(verdict(999_999), Verdict::Reject(Reason::SystemFailure));
    }

    #[test]
    fn one_code_may_mean_different_things_at_different_apis() {
        assert_eq!(entry(SEND, 40001).verdict, Verdict::RefreshToken);
        assert_eq!(entry("/cgi-bin/stable_token", 40001).verdict, Verdict::Operator);
        let (login, phone) = (entry("/sns/jscode2session", 40029), entry("/wxa/business/getuserphonenumber", 40029));
        assert_ne!(login.en, phone.en);
        assert_eq!(entry("/wxaapi/newtmpl/gettemplate", 20001).verdict, Verdict::Retry);
        assert_eq!(entry(SEND, 20001).verdict, Verdict::Reject(Reason::SystemFailure), "known elsewhere only");
    }

    #[test]
    fn the_credit_follows_the_verdict() {
        assert_eq!(entry(SEND, 43101).credit(), CreditEffect::Zeroed);
        assert_eq!(entry(SEND, 47003).credit(), CreditEffect::Returned);
        assert_eq!(entry(SEND, 45009).credit(), CreditEffect::Kept);
        assert_eq!(entry(SEND, 999_999).credit(), CreditEffect::Returned);
    }
}
