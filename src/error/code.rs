//! The stable codes: what a program may branch on. A code never changes its meaning; its sentences
//! may.

macro_rules! codes {
    ($($name:ident $text:literal $retryable:literal
        $title_en:literal $title_zh:literal
        $help_en:literal $help_zh:literal;)*) => {
        /// A stable code of a problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $title_en] $name,)*
        }

        impl Code {
            /// All codes, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as it stands in the answer.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether the same request may succeed later.
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* }
            }

            /// What is wrong, in a few words: English, Chinese.
            pub fn title(self) -> (&'static str, &'static str) {
                match self { $(Self::$name => ($title_en, $title_zh),)* }
            }

            /// The way out: English, Chinese.
            pub fn help(self) -> (&'static str, &'static str) {
                match self { $(Self::$name => ($help_en, $help_zh),)* }
            }
        }
    };
}

codes! {
    InvalidRequest "invalid_request" false
        "The request is not valid" "请求无效"
        "Correct what `errors` names and send it again." "请按 errors 中的说明修改后重新发送。";
    MalformedJson "malformed_json" false
        "The body is not valid JSON of the expected shape" "请求体不是符合要求的 JSON"
        "Send JSON in UTF-8 as the API document describes." "请按接口文档发送 UTF-8 编码的 JSON。";
    RouteNotFound "route_not_found" false
        "There is no such address" "地址不存在"
        "See /docs for all addresses." "所有地址见 /docs。";
    MethodNotAllowed "method_not_allowed" false
        "This address does not take this method" "该地址不支持此方法"
        "See /docs for the methods of each address." "各地址支持的方法见 /docs。";
    PayloadTooLarge "payload_too_large" false
        "The body is too large" "请求体过大"
        "Send less at once; the limit is limits.body_bytes of the configuration, for lists of recipients limits.events_body_bytes." "请减少单次发送的内容;上限为配置项 limits.body_bytes,含接收者名单的请求为 limits.events_body_bytes。";
    HeadersTooLarge "headers_too_large" false
        "The address or the headers are too large" "请求地址或请求头过大"
        "Send fewer and shorter headers; what is long belongs into the body." "请减少并缩短请求头;较长的内容应放在请求体中。";
    RequestTimeout "request_timeout" true
        "The body did not arrive in time" "请求体未能及时到达"
        "Send it again; the limit is limits.read_timeout of the configuration." "请重新发送;时限为配置项 limits.read_timeout。";
    UnsupportedMediaType "unsupported_media_type" false
        "The body's media type is not supported" "不支持的媒体类型"
        "Send `Content-Type: application/json`." "请使用 Content-Type: application/json。";
    RateLimited "rate_limited" true
        "Too many requests" "请求过于频繁"
        "Wait as long as Retry-After says." "请按 Retry-After 指示的时间等待后重试。";
    MissingCredentials "missing_credentials" false
        "Nobody is signed in" "缺少凭证"
        "Send `Authorization: Bearer …` with an access token or an API key." "请在 Authorization: Bearer 中携带访问令牌或 API 密钥。";
    InvalidToken "invalid_token" false
        "The access token is not valid" "访问令牌无效"
        "Refresh it, or log in again." "请刷新令牌或重新登录。";
    InvalidApiKey "invalid_api_key" false
        "The API key is not valid" "API 密钥无效"
        "Check the key; make one with `magpie key create`." "请检查密钥;可用 magpie key create 创建。";
    InsufficientScope "insufficient_scope" false
        "The API key may not do this" "API 密钥权限不足"
        "Use a key that has the scope named in the detail." "请使用具有所需权限范围的密钥。";
    AppNotAllowed "app_not_allowed" false
        "The API key is for other apps" "API 密钥不适用于该应用"
        "Use a key for this app, or for all apps." "请使用适用于该应用或全部应用的密钥。";
    InvalidSignature "invalid_signature" false
        "The request is not signed by a live key" "请求签名无效"
        "Sign webhook-id, webhook-timestamp and the body to the letter with the signing secret (whsec_…), as Standard Webhooks say." "请按 Standard Webhooks 规范,用签名密钥(whsec_…)对 webhook-id、webhook-timestamp 与原始请求体签名。";
    SignedIdReused "signed_id_reused" false
        "Another request was signed with this webhook-id" "该 webhook-id 已用于其他内容"
        "Give each request its own id; a repeat must be the same to the letter." "请为每个请求使用新的 id;重复发送的内容必须完全一致。";
    InvalidRefreshToken "invalid_refresh_token" false
        "The refresh token is not valid" "刷新令牌无效"
        "Log in again with a new code of wx.login." "请重新调用 wx.login 登录。";
    SessionEnded "session_ended" false
        "The session has ended" "会话已结束"
        "Log in again with a new code of wx.login." "请重新调用 wx.login 登录。";
    UserBanned "user_banned" false
        "This user may not log in" "该用户已被禁止登录"
        "An operator has banned the user and can lift the ban." "运维已禁止该用户登录,可由运维解除。";
    AppNotFound "app_not_found" false
        "There is no such app" "应用不存在"
        "Use an AppID of the configuration; GET /v1/apps lists them." "请使用配置中的 AppID;GET /v1/apps 可列出。";
    LoginCodeInvalid "login_code_invalid" false
        "WeChat does not know this login code" "登录 code 无效或已过期"
        "Call wx.login again and send the new code within five minutes, to the same AppID." "请重新调用 wx.login,并在五分钟内将新 code 发给同一 AppID。";
    LoginCodeUsed "login_code_used" false
        "This login code was used before" "登录 code 已被使用"
        "Call wx.login again; a code works once." "请重新调用 wx.login;code 只能使用一次。";
    LoginRefused "login_refused" false
        "WeChat refuses this user as high-risk" "高风险用户,微信拒绝登录"
        "Nothing can be done here; the user may contact WeChat." "此处无法处理;用户可联系微信。";
    LoginTooOften "login_too_often" true
        "This user logs in too often" "该用户登录过于频繁"
        "Wait a minute, then call wx.login again." "请等待一分钟后重新调用 wx.login。";
    SessionKeyStale "session_key_stale" false
        "The key of the user's WeChat session is stale" "session_key 已失效"
        "Log in again with a new code of wx.login, then ask the user for the data anew." "请重新调用 wx.login 登录,然后重新获取加密数据。";
    UserDataRefused "user_data_refused" false
        "The client's data is not genuine" "客户端数据校验失败"
        "Send what the client's API gave, to the letter and to its own app." "请将客户端接口返回的内容原样发送给同一应用。";
    PhoneCodeInvalid "phone_code_invalid" false
        "WeChat does not know this phone number code for this user" "手机号 code 无效、已过期或不属于该用户"
        "Ask the user to tap the phone-number button again; its code is not that of wx.login, lives five minutes and works once." "请让用户重新点击获取手机号按钮;该 code 不同于 wx.login 的 code,五分钟内有效且只能使用一次。";
    PhoneCodeOfOtherApp "phone_code_of_other_app" false
        "The phone number code belongs to another app" "手机号 code 属于其他应用"
        "Send the code to the app whose button gave it." "请将 code 发送给产生它的应用。";
    PhoneTooOften "phone_too_often" true
        "Phone numbers are asked for too often" "获取手机号过于频繁"
        "Wait a minute, then send the code again; it is not spent." "请等待一分钟后重试;code 尚未消耗。";
    WechatBusy "wechat_busy" true
        "WeChat is busy" "微信系统繁忙"
        "Try again in a moment; a code is probably not spent." "请稍后重试;code 很可能尚未消耗。";
    WechatTimeout "wechat_timeout" true
        "WeChat did not answer in time" "微信响应超时"
        "Nobody knows whether WeChat did it; a code may be spent, so get a new one." "无法确定微信是否已处理;code 可能已消耗,请重新获取 code。";
    WechatUnreachable "wechat_unreachable" true
        "WeChat cannot be reached" "无法连接微信"
        "Try again in a moment; if it stays so, the operator should run `magpie doctor`." "请稍后重试;若持续出现,请运维运行 magpie doctor。";
    WechatBadAnswer "wechat_bad_answer" true
        "WeChat's answer cannot be understood" "微信的响应无法解析"
        "Try again in a moment; a code may be spent, so get a new one." "请稍后重试;code 可能已消耗,请重新获取 code。";
    WechatAppError "wechat_app_error" false
        "WeChat refuses the app's configuration" "微信拒绝该应用的配置"
        "The operator must check AppID, AppSecret, IP white list and rights of the app." "请运维检查该应用的 AppID、AppSecret、IP 白名单与接口权限。";
    WechatRefused "wechat_refused" false
        "WeChat refuses the call" "微信拒绝了该调用"
        "`wechat` holds WeChat's own words." "详见 wechat 字段中的微信原文。";
    CallbackRefused "callback_refused" false
        "The callback is not signed by WeChat" "回调签名无效"
        "Check callback_token, encoding_aes_key and callback_mode against WeChat's console." "请核对微信后台的 Token、EncodingAESKey 与加密方式。";
    EventConflict "event_conflict" false
        "Another event has this source and id" "相同 source 与 id 的事件内容不同"
        "Give the event its own id; a repeat must be the same to the letter." "请为事件使用新的 id;重复发送的内容必须完全一致。";
    IdempotencyKeyReused "idempotency_key_reused" false
        "This Idempotency-Key was used with another body" "该 Idempotency-Key 已用于内容不同的请求"
        "Use a new key for a new message; a repeat must be the same to the letter." "新的消息请使用新的键;重复发送的内容必须完全一致。";
    FieldsInvalid "fields_invalid" false
        "The values do not fit the template" "字段取值与模板不符"
        "Correct what `errors` names." "请按 errors 中的说明修改。";
    RuleInvalid "rule_invalid" false
        "The rule does not fit its template" "规则与模板不符"
        "Correct what `errors` names." "请按 errors 中的说明修改。";
    TemplateNotFound "template_not_found" false
        "The app has no such template" "该应用没有此模板"
        "Use one of the templates named in the detail, or sync them." "请使用 detail 中列出的模板,或先同步模板。";
    NotFound "not_found" false
        "There is no such thing" "对象不存在"
        "Check the id." "请检查 id。";
    StateConflict "state_conflict" false
        "Its state does not allow this" "当前状态不允许此操作"
        "Look at its state first." "请先查看其状态。";
    DatabaseUnavailable "database_unavailable" true
        "The database cannot be reached" "数据库不可用"
        "Try again in a moment." "请稍后重试。";
    Internal "internal" true
        "Something went wrong here" "服务器内部错误"
        "Try again; if it stays so, give the request id to the operator." "请重试;若持续出现,请将 request_id 提供给运维。";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Code;

    #[test]
    fn codes_are_unique_and_speak_both_languages() {
        let codes: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(!code.title().1.is_ascii(), "{code:?} lacks Chinese");
            assert!(!code.help().1.is_ascii(), "{code:?} lacks Chinese");
        }
    }
}
