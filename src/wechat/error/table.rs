//! WeChat's error codes: meaning, verdict, who should act. From the general error-code table and the
//! tables of each API in WeChat's documents.

use entity::notification::Reason;

use super::Verdict;

/// One error code.
#[derive(Debug)]
pub struct Entry {
    pub errcode: i64,
    pub en: &'static str,
    pub zh: &'static str,
    pub verdict: Verdict,
    pub who: Who,
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

const fn entry_of(errcode: i64, verdict: Verdict, who: Who, en: &'static str, zh: &'static str) -> Entry {
    Entry { errcode, en, zh, verdict, who }
}

/// Sorted by code.
pub const TABLE: &[Entry] = {
    use Verdict::{
        DropUser, NoCredit, Operator as Ops, PauseApp, PauseTemplate, RefreshToken, Reject, Retry, SlowDown, Snooze,
    };
    use Who::{Integrator, Magpie, Operator, User};
    use entry_of as e;
    &[
        e(-1000, Retry, Magpie, "system busy", "系统繁忙"),
        e(-1, Retry, Magpie, "system busy", "系统繁忙"),
        e(
            40001,
            RefreshToken,
            Magpie,
            "access token refused, or the AppSecret is wrong",
            "access_token 无效或 AppSecret 错误",
        ),
        e(40002, Ops, Operator, "grant_type refused", "grant_type 不正确"),
        e(
            40003,
            DropUser(Reason::BadOpenid),
            Integrator,
            "openid is wrong or of another app",
            "openid 不正确或不属于该应用",
        ),
        e(40008, Reject(Reason::BadData), Integrator, "message type refused", "消息类型不合法"),
        e(40013, Ops, Operator, "AppID is wrong", "AppID 不正确"),
        e(40014, RefreshToken, Magpie, "access token malformed or unknown", "access_token 不合法"),
        e(40029, Reject(Reason::BadData), User, "code is wrong or expired", "code 无效或已过期"),
        e(
            40033,
            Reject(Reason::BadData),
            Integrator,
            "the request holds escaped or forbidden characters",
            "请求包含非法字符或 \\u 转义",
        ),
        e(40036, PauseTemplate, Integrator, "template id has the wrong length", "template_id 长度不正确"),
        e(40037, PauseTemplate, Integrator, "template id is unknown or deleted", "template_id 不存在或已删除"),
        e(40039, Reject(Reason::BadPage), Integrator, "the link is refused", "跳转链接不合法"),
        e(40066, Ops, Operator, "wrong address of an API", "接口地址错误"),
        e(40097, Reject(Reason::BadData), Integrator, "wrong arguments", "参数错误"),
        e(40125, Ops, Operator, "AppSecret is wrong", "AppSecret 错误"),
        e(40129, Reject(Reason::BadData), Integrator, "wrong scene", "scene 不正确"),
        e(40163, Reject(Reason::BadData), User, "code was used before", "code 已被使用"),
        e(40164, Ops, Operator, "the caller's IP address is not in the white list", "调用方 IP 不在白名单中"),
        e(40226, DropUser(Reason::Blocked), User, "high-risk user, login refused", "高风险用户,登录被拦截"),
        e(40243, Ops, Operator, "the AppSecret is frozen", "AppSecret 已冻结"),
        e(40249, PauseTemplate, Integrator, "marketing content in the template", "模板含营销内容"),
        e(41001, Ops, Operator, "access token missing", "缺少 access_token"),
        e(41002, Ops, Operator, "AppID missing", "缺少 appid"),
        e(41004, Ops, Operator, "AppSecret missing", "缺少 secret"),
        e(41008, Reject(Reason::BadData), User, "code missing", "缺少 code"),
        e(
            41030,
            Reject(Reason::BadPage),
            Integrator,
            "the page is not in the released version",
            "page 路径在已发布版本中不存在",
        ),
        e(42001, RefreshToken, Magpie, "access token expired", "access_token 已过期"),
        e(43001, Ops, Operator, "the call needs GET", "需要 GET 请求"),
        e(43002, Ops, Operator, "the call needs POST", "需要 POST 请求"),
        e(43003, Ops, Operator, "the call needs HTTPS", "需要 HTTPS"),
        e(43004, DropUser(Reason::NotFollowing), User, "the user does not follow the account", "用户未关注"),
        e(43019, DropUser(Reason::Blocked), User, "the user blocked the account", "用户已拉黑该账号"),
        e(
            43101,
            NoCredit,
            User,
            "the user has not subscribed, has refused, or nothing is left",
            "用户未订阅、已拒收或次数已用完",
        ),
        e(43104, DropUser(Reason::BadOpenid), Integrator, "openid belongs to another app", "openid 与 appid 不匹配"),
        e(43106, Ops, Operator, "the account may not add templates: punished", "账号被处罚,无法添加模板"),
        e(43107, PauseTemplate, Operator, "the template or the ability is banned", "订阅消息能力或模板被封禁"),
        e(43108, Snooze, Magpie, "another message to this user is being sent", "正在向该用户发送其他消息"),
        e(43116, PauseTemplate, Operator, "the template is banned", "模板已被封禁"),
        e(43117, SlowDown, Magpie, "too many messages to this user", "向该用户发送过于频繁"),
        e(44002, Ops, Operator, "the body is empty", "POST 数据为空"),
        e(44991, SlowDown, Magpie, "limit of the minute", "超出分钟级调用限制"),
        e(45009, PauseApp, Operator, "quota of the day, or of a short window, is used up", "接口调用次数超限"),
        e(45011, SlowDown, Magpie, "too many calls in a minute", "调用过于频繁"),
        e(45026, Ops, Operator, "too many templates", "模板数量超出限制"),
        e(45168, Reject(Reason::SensitiveText), Integrator, "the text holds a sensitive word", "内容含敏感词"),
        e(47001, Ops, Operator, "the body is not JSON", "JSON 格式错误"),
        e(47002, Ops, Operator, "wrong escapes in the body", "请求转义错误"),
        e(47003, Reject(Reason::BadData), Integrator, "a value of the message breaks its rule", "模板参数不符合规则"),
        e(48001, Ops, Operator, "the account may not call this API", "无接口权限"),
        e(48002, DropUser(Reason::Blocked), User, "the user refuses messages", "用户拒收消息"),
        e(48004, Ops, Operator, "the API is banned for this account", "接口已被封禁"),
        e(48006, Ops, Operator, "quota resets are used up", "清零次数已用完"),
        e(48017, Ops, Operator, "call through a withdrawn address of WeChat", "使用了已下线的接口 IP"),
        e(50001, Ops, Operator, "not authorised", "未授权"),
        e(50002, Ops, Operator, "the account is limited", "账号受限"),
        e(50004, Ops, Operator, "the account may not use this API", "账号无权使用该接口"),
        e(50005, DropUser(Reason::NotFollowing), User, "the user does not follow the account", "用户未关注"),
        e(50007, Ops, Operator, "the account is frozen", "账号已冻结"),
        e(61007, Ops, Operator, "not authorised, or the token of another account", "未授权或令牌属于其他账号"),
        e(87007, Reject(Reason::BadData), User, "the session has ended", "会话已过期"),
        e(87009, Reject(Reason::BadData), User, "the session_key is no longer the user's", "session_key 已失效"),
        e(89501, Ops, Operator, "an administrator must confirm this IP address", "等待管理员确认 IP"),
        e(89503, Ops, Operator, "an administrator must confirm this IP address", "需要管理员确认 IP"),
        e(89505, Ops, Operator, "an administrator must confirm this IP address", "等待管理员确认 IP"),
        e(
            89506,
            Ops,
            Operator,
            "an administrator refused this IP address for 24 hours",
            "管理员拒绝该 IP,24 小时内不可调用",
        ),
        e(
            89507,
            Ops,
            Operator,
            "an administrator refused this IP address for one hour",
            "管理员拒绝该 IP,1 小时内不可调用",
        ),
        e(200_011, Ops, Operator, "the account is banned from subscribe messages", "账号的订阅消息能力被封禁"),
        e(200_012, Ops, Operator, "too many templates", "模板数量超出限制"),
        e(200_013, PauseTemplate, Operator, "the template is banned", "模板已被封禁"),
        e(200_014, Reject(Reason::BadTemplate), Integrator, "unknown template of the library", "模板库中无此 tid"),
        e(200_100, Ops, Operator, "this kind of account may not do this", "账号类型不支持"),
    ]
};

/// Never tried again blindly: what WeChat means by it is not known.
const UNKNOWN: Entry = entry_of(
    0,
    Verdict::Reject(Reason::SystemFailure),
    Who::Operator,
    "a code that is not in WeChat's documents",
    "微信文档中未列出的错误码",
);

/// The entry of a code, or the safe default for an unknown one.
pub fn entry(errcode: i64) -> &'static Entry {
    TABLE.iter().find(|entry| entry.errcode == errcode).unwrap_or(&UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_without_repeats() {
        assert!(TABLE.windows(2).all(|pair| pair[0].errcode < pair[1].errcode));
    }

    #[test]
    fn the_codes_that_decide_most_have_their_verdicts() {
        assert_eq!(entry(43101).verdict, Verdict::NoCredit);
        assert_eq!(entry(42001).verdict, Verdict::RefreshToken);
        assert_eq!(entry(43108).verdict, Verdict::Snooze);
        assert_eq!(entry(47003).verdict, Verdict::Reject(Reason::BadData));
        assert_eq!(entry(999_999).verdict, Verdict::Reject(Reason::SystemFailure));
    }
}
