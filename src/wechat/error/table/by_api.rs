//! What a code means at single APIs only, or otherwise than elsewhere.

use entity::notification::Reason;

use super::{Entry, Verdict, entries};

const TOKEN: &[&str] = &["/cgi-bin/stable_token", "/cgi-bin/token"];
const LOGIN: &[&str] = &["/sns/jscode2session"];
const PHONE: &[&str] = &["/wxa/business/getuserphonenumber"];
const ENCRYPTED: &[&str] = &["/wxa/business/checkencryptedmsg"];
const PAID_UNIONID: &[&str] = &["/wxa/getpaidunionid"];
const RISK_RANK: &[&str] = &["/wxa/getuserriskrank"];
const SECURITY: &[&str] = &["/wxa/msg_sec_check"];
const SUBSCRIBE_SEND: &[&str] = &["/cgi-bin/message/subscribe/send"];
const TEMPLATE_SEND: &[&str] = &["/cgi-bin/message/template/send"];
const TEMPLATES: &[&str] = &["/wxaapi/newtmpl/"];
const ACCOUNT_TEMPLATES: &[&str] = &["/cgi-bin/template/"];
const FOLLOWERS: &[&str] = &["/cgi-bin/user/"];
const CARD: &[&str] = &["/wxa/set_user_notify", "/wxa/get_user_notify"];
const DYNAMIC: &[&str] = &["/cgi-bin/message/wxopen/"];
const CLEAR: &[&str] = &["/cgi-bin/clear_quota"];
const CLEAR_ONE: &[&str] = &["/cgi-bin/openapi/quota/clear"];
const QUOTA: &[&str] = &["/cgi-bin/openapi/quota/"];
const RID: &[&str] = &["/cgi-bin/openapi/rid/"];
const CALLBACK_CHECK: &[&str] = &["/cgi-bin/callback/check"];

pub(super) const BY_API: &[Entry] = {
    use Verdict::{DropUser, Operator as Ops, PauseApp, PauseTemplate, Reject, Retry, SlowDown};
    entries! {
        40001 TOKEN => Ops, Operator, "AppSecret is wrong, or of another kind of account", "AppSecret 错误,或账号类型不符";
        45009 TOKEN => PauseApp, Operator, "too many access tokens were asked for today", "当日获取 access_token 次数超限";
        45011 TOKEN => SlowDown, Magpie, "too many access tokens were asked for in this minute", "获取 access_token 过于频繁";

        40029 LOGIN => Reject(Reason::BadData), User, "login code is wrong, expired, or of another app", "登录 code 无效、已过期或属于其他小程序";
        40163 LOGIN => Reject(Reason::BadData), User, "login code was used before", "登录 code 已被使用";
        45011 LOGIN => SlowDown, User, "more than 100 logins of this user in a minute", "该用户一分钟内登录超过 100 次";

        40013 PHONE => Reject(Reason::BadData), Integrator, "phone code of another app", "手机号 code 属于其他小程序";
        40029 PHONE => Reject(Reason::BadData), User, "phone code is wrong, expired or used; it is not the code of wx.login", "手机号 code 无效、已过期或已使用(不是 wx.login 的 code)";

        1 ENCRYPTED => Reject(Reason::BadData), Integrator, "no such encrypted data within three days", "三天内没有该加密数据";

        89300 PAID_UNIONID => Reject(Reason::BadData), Integrator, "the order is wrong", "订单无效";

        61080 RISK_RANK => Reject(Reason::BadData), Integrator, "wrong arguments of the risk rank", "风险等级参数错误";
        61081 RISK_RANK => Reject(Reason::BadData), Integrator, "wrong arguments of the risk rank", "风险等级参数错误";
        9410009 RISK_RANK => Reject(Reason::BadData), Integrator, "no risk rank for this user", "无法获取该用户的风险等级";

        87014 SECURITY => Reject(Reason::SensitiveText), User, "the text is risky", "内容含有违法违规内容";

        40037 SUBSCRIBE_SEND => PauseTemplate, Integrator, "template id is wrong, deleted, or of a kind this API does not send", "template_id 错误、已删除,或不适用于该接口";

        40013 TEMPLATE_SEND => Ops, Operator, "the Mini Program the message leads to is not linked to the account", "跳转的小程序未与公众号关联";
        43101 TEMPLATE_SEND => Verdict::NoCredit, User, "the user refuses this message", "用户拒收该消息";

        404 TEMPLATES => Ops, Operator, "there is no such template API", "模板接口不存在";
        20001 TEMPLATES => Retry, Magpie, "system busy", "系统繁忙";
        20002 TEMPLATES => Reject(Reason::BadData), Integrator, "wrong arguments", "参数错误";
        40400 TEMPLATES => Ops, Operator, "there is no such template API", "模板接口不存在";
        200001 TEMPLATES => Retry, Magpie, "system busy", "系统繁忙";
        200002 TEMPLATES => Reject(Reason::BadData), Integrator, "wrong arguments", "参数错误";
        200011 TEMPLATES => Ops, Operator, "the account is banned from subscribe messages", "账号的订阅消息能力被封禁";
        200012 TEMPLATES => Ops, Operator, "too many templates", "模板数量超出限制";
        200013 TEMPLATES => PauseTemplate, Operator, "the template is banned", "模板已被封禁";
        200014 TEMPLATES => Reject(Reason::BadTemplate), Integrator, "unknown template of the library", "模板库中无此 tid";
        200016 TEMPLATES => Reject(Reason::BadData), Integrator, "start is wrong", "start 参数错误";
        200017 TEMPLATES => Reject(Reason::BadData), Integrator, "limit is wrong", "limit 参数错误";
        200018 TEMPLATES => Reject(Reason::BadData), Integrator, "the category ids are missing", "类目 ids 缺失";
        200019 TEMPLATES => Reject(Reason::BadData), Integrator, "the category ids are wrong", "类目 ids 不合法";
        200020 TEMPLATES => Reject(Reason::BadData), Integrator, "the keywords (kidList) are wrong", "关键词列表 kidList 错误";
        200021 TEMPLATES => Reject(Reason::BadData), Integrator, "the description of use (sceneDesc) is wrong", "服务场景描述 sceneDesc 错误";
        200022 TEMPLATES => Reject(Reason::BadTemplate), Integrator, "a template with this title and these keywords is there already", "已存在相同标题与关键词的模板";
        200100 TEMPLATES => Ops, Operator, "this kind of account may not do this", "账号类型不支持";

        40246 ACCOUNT_TEMPLATES => Reject(Reason::BadData), Integrator, "the keywords of the template are wrong", "模板关键词错误";
        40247 ACCOUNT_TEMPLATES => Reject(Reason::BadData), Integrator, "the number of keywords is wrong", "模板关键词数量错误";
        43100 ACCOUNT_TEMPLATES => Ops, Operator, "the industry may be changed once a month", "所属行业每月只能修改一次";
        45027 ACCOUNT_TEMPLATES => Reject(Reason::BadTemplate), Integrator, "the template is of another industry", "模板与所属行业不符";

        40032 FOLLOWERS => Reject(Reason::BadData), Integrator, "the list of openids is too long", "openid 列表过长";

        85431 CARD => Retry, Magpie, "system busy", "系统繁忙";
        85433 CARD => Reject(Reason::BadData), Integrator, "a field of the card is wrong", "卡片字段错误";
        85434 CARD => Reject(Reason::BadData), Integrator, "a field of the card is wrong", "卡片字段错误";
        85435 CARD => Reject(Reason::BadData), Integrator, "a field of the card is wrong", "卡片字段错误";
        85436 CARD => Reject(Reason::BadData), Integrator, "the code of the card is banned", "卡片 code 被封禁";
        85437 CARD => Retry, Magpie, "the code of the card is not found yet", "卡片 code 暂未找到";
        85438 CARD => Reject(Reason::BadData), Integrator, "the code of the card is expired", "卡片 code 已过期";
        85439 CARD => Reject(Reason::BadData), Integrator, "a field of the card is wrong", "卡片字段错误";
        85440 CARD => Reject(Reason::BadData), Integrator, "the state of the card may only move forward", "卡片状态只能向前变更";
        85441 CARD => Reject(Reason::BadData), Integrator, "a field of the card is missing", "缺少卡片字段";
        85442 CARD => Reject(Reason::SensitiveText), Integrator, "the text of the card is refused", "卡片文字未通过审核";
        85443 CARD => Reject(Reason::BadData), Integrator, "a field of the card is malformed", "卡片字段格式错误";
        85444 CARD => Reject(Reason::BadData), Integrator, "pay_info is wrong", "pay_info 校验失败";
        85445 CARD => Reject(Reason::BadData), Integrator, "store_info is wrong", "store_info 校验失败";
        85446 CARD => Reject(Reason::BadData), Integrator, "shipping_list is wrong", "shipping_list 校验失败";
        85447 CARD => Reject(Reason::BadData), Integrator, "product_list is wrong", "product_list 校验失败";
        85448 CARD => Reject(Reason::BadData), Integrator, "the code of the card was used before", "卡片 code 已被使用";
        85449 CARD => Retry, Magpie, "the card is locked by another call", "卡片正被其他调用占用";
        85461 CARD => Ops, Operator, "this kind of card is not open to the account", "账号未开通该类卡片";
        85462 CARD => Ops, Operator, "service cards are not open to the account", "账号未开通服务卡片";
        85470 CARD => Reject(Reason::BadData), Integrator, "a field of the card is malformed", "卡片字段格式错误";
        85471 CARD => Reject(Reason::BadData), Integrator, "the card is not valid UTF-8", "卡片内容不是合法的 UTF-8";

        47501 DYNAMIC => Reject(Reason::BadData), Integrator, "the activity id is wrong", "activity_id 错误";
        47502 DYNAMIC => Reject(Reason::BadData), Integrator, "the state of the activity is wrong", "target_state 错误";
        47503 DYNAMIC => Reject(Reason::BadData), Integrator, "the version type is wrong", "version_type 错误";
        47504 DYNAMIC => Reject(Reason::BadData), Integrator, "the activity id is expired", "activity_id 已过期";

        40013 CLEAR => Ops, Operator, "the AppID is not that of the token", "appid 与令牌不符";
        45009 CLEAR_ONE => Ops, Operator, "the month's 50 resets of single APIs are used up", "本月 50 次单接口清零已用完";
        76021 QUOTA => Ops, Operator, "the path of the API is wrong", "cgi_path 错误";
        76022 QUOTA => Ops, Operator, "the API does not belong to this kind of account", "cgi_path 不属于该账号";
        76001 RID => Reject(Reason::BadData), Operator, "the request id is not found", "rid 不存在";
        76002 RID => Reject(Reason::BadData), Operator, "the request id is malformed", "rid 格式错误";
        76003 RID => Reject(Reason::BadData), Operator, "the request id is of another account", "rid 属于其他账号";
        76004 RID => Reject(Reason::BadData), Operator, "the request id is older than seven days", "rid 已超过七天";

        40201 CALLBACK_CHECK => Ops, Operator, "no callback address is set in WeChat's console", "微信后台未配置消息推送 URL";
        40202 CALLBACK_CHECK => Reject(Reason::BadData), Operator, "wrong action of the check", "action 参数错误";
        40203 CALLBACK_CHECK => Reject(Reason::BadData), Operator, "wrong operator of the check", "check_operator 参数错误";

        61010 SECURITY => DropUser(Reason::BadOpenid), User, "the user was not in the Mini Program within two hours", "用户两小时内未访问小程序";
    }
};
