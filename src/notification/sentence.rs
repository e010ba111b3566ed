//! Reasons in words, for people.

use entity::notification::Reason;

/// What a reason means and what to do: English, Chinese.
pub fn of(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::NoCredit => (
            "The user has not agreed to receive this message, or all consents are used up. Ask again with wx.requestSubscribeMessage.",
            "用户未同意接收该消息,或授权次数已用完。请再次调用 wx.requestSubscribeMessage。",
        ),
        Reason::Refused => ("The user refuses messages of this template.", "用户拒收该模板的消息。"),
        Reason::NotFollowing => ("The user does not follow the service account.", "用户未关注该服务号。"),
        Reason::Blocked => ("The user has blocked the account.", "用户已拉黑该账号。"),
        Reason::BadOpenid => ("WeChat does not know this openid in this app.", "微信不认识该应用下的此 openid。"),
        Reason::BadTemplate => ("The template is unknown or deleted.", "模板不存在或已删除。"),
        Reason::BadData => (
            "A field's value breaks the rule of its keyword type; the detail names it.",
            "字段值不符合关键词类型的规则,详见 detail。",
        ),
        Reason::BadPage => {
            ("The page is not in the released version of the Mini Program.", "页面路径在已发布的小程序版本中不存在。")
        }
        Reason::SensitiveText => ("The text holds a sensitive word.", "内容含敏感词。"),
        Reason::AttemptsExhausted => ("WeChat could not take it in any of the tries.", "多次尝试后微信仍未接收。"),
        Reason::UnknownOutcome => (
            "Nobody knows whether WeChat took it, and the rule does not send twice.",
            "无法确定微信是否已接收,且规则不允许重复发送。",
        ),
        Reason::AppError => ("The app's configuration is at fault.", "应用配置有误。"),
        Reason::SystemFailure => ("WeChat took it and then failed to deliver it.", "微信已接收但下发失败。"),
        Reason::UnknownRecipient => ("Nobody is known by this reference.", "找不到该引用对应的用户。"),
        Reason::NoIdentity => ("The user has never been in this app.", "该用户从未使用过此应用。"),
    }
}
