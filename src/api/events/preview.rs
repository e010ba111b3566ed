//! What an event would lead to, and the cheapest way to a better end.

use std::{collections::BTreeMap, sync::Arc};

use entity::{notification::Reason, rule::NoCredit};
use poem_openapi::{Enum, Object};

use crate::{
    api::{object::word, request, time::Time},
    event::preview::{Because, Preview, Prospect, Would},
    notification::sentence,
    rule::compiled::Violation,
};

/// What would happen.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub struct PreviewAnswer {
    /// Set when the event is here already: then nothing more would happen.
    duplicate_of: Option<String>,
    /// One prospect for each rule and recipient.
    data: Vec<PreviewItem>,
}

#[derive(Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
enum WouldWord {
    Send,
    /// It would be stored, and something has to happen first.
    Wait,
    Fail,
}

/// What would become of an event for one rule and recipient.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct PreviewItem {
    rule_id: Option<String>,
    recipient: String,
    user_id: Option<String>,
    app_id: String,
    template_id: String,
    would: WouldWord,
    /// A reason of notifications, or `app_paused`, `template_paused`, `scheduled`.
    reason: Option<String>,
    reason_text: Option<String>,
    detail: Option<String>,
    /// The values as they would be sent, as far as they can be computed.
    fields: BTreeMap<String, String>,
    page: Option<String>,
    violations: Vec<PreviewViolation>,
    /// Messages the user will still take, before this one.
    credits: Option<i32>,
    /// When it would be sent, if that is not at once.
    due_at: Option<Time>,
    /// What to do about it.
    fix: Option<String>,
}

/// A part of the message that WeChat would refuse, or that could not be computed.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct PreviewViolation {
    /// The template field, or `when`, `recipients`, `page`.
    field: String,
    value: Option<String>,
    problem: String,
}

impl From<Preview> for PreviewAnswer {
    fn from(preview: Preview) -> Self {
        Self {
            duplicate_of: preview.duplicate_of.map(|id| id.to_string()),
            data: preview.prospects.into_iter().map(item).collect(),
        }
    }
}

fn item(prospect: Prospect) -> PreviewItem {
    let (reason, text) = match prospect.because {
        None => (None, None),
        Some(Because::Reason(reason)) => (Some(word(&reason)), Some(sentence::of(reason))),
        Some(Because::AppPaused) => (Some("app_paused".into()), Some(("The app is paused.", "该应用已暂停发送。"))),
        Some(Because::TemplatePaused) => {
            (Some("template_paused".into()), Some(("The template is paused.", "该模板已暂停发送。")))
        }
        Some(Because::Scheduled) => (Some("scheduled".into()), Some(("It is for a later time.", "将在指定时间发送。"))),
    };
    let said = |pair| request::in_language(pair, ("", "")).0.to_owned();
    PreviewItem {
        rule_id: prospect.rule_id.map(|id| id.to_string()),
        recipient: prospect.recipient,
        user_id: prospect.user_id.map(|id| id.to_string()),
        app_id: prospect.app_id,
        template_id: prospect.template_id,
        would: match prospect.would {
            Would::Send => WouldWord::Send,
            Would::Wait => WouldWord::Wait,
            Would::Fail => WouldWord::Fail,
        },
        reason,
        reason_text: text.map(said),
        detail: prospect.detail,
        fields: Arc::unwrap_or_clone(prospect.fields.0),
        page: prospect.page,
        violations: prospect.violations.into_iter().map(violation).collect(),
        credits: prospect.credits,
        due_at: prospect.due_at.map(Time),
        fix: prospect.because.and_then(|because| fix(because, prospect.no_credit)).map(said),
    }
}

fn violation(Violation { pointer, value, problem }: Violation) -> PreviewViolation {
    let field = pointer.strip_prefix("/fields/").or(pointer.strip_prefix('/')).unwrap_or(&pointer).to_owned();
    PreviewViolation { field, value, problem }
}

/// The cheapest way to a better end: English, Chinese.
fn fix(because: Because, no_credit: NoCredit) -> Option<(&'static str, &'static str)> {
    Some(match because {
        Because::Scheduled => return None,
        Because::AppPaused => (
            "GET /v1/apps/{app_id} tells why it is paused; POST …/resume once that is mended.",
            "原因见 GET /v1/apps/{app_id};处理后调用 POST …/resume 恢复。",
        ),
        Because::TemplatePaused => (
            "Look at GET /v1/apps/{app_id}/templates, mend it at WeChat, then POST …/templates/sync.",
            "查看 GET /v1/apps/{app_id}/templates,在微信后台处理后调用 POST …/templates/sync。",
        ),
        Because::Reason(Reason::NoCredit) if no_credit == NoCredit::Wait => (
            "Nothing: it is sent as soon as the user accepts once more. The front end may ask with wx.requestSubscribeMessage.",
            "无需处理:用户再次同意后即发送。前端可调用 wx.requestSubscribeMessage 请求授权。",
        ),
        Because::Reason(Reason::NoCredit) => (
            "Have the front end ask with wx.requestSubscribeMessage (GET /v1/me/subscriptions/ask), or let the rule wait: \"no_credit\": \"wait\".",
            "请前端调用 wx.requestSubscribeMessage 请求授权(见 GET /v1/me/subscriptions/ask),或将规则设为 \"no_credit\": \"wait\"。",
        ),
        Because::Reason(Reason::UnknownRecipient) => (
            "The user must have logged in once; tell your own id with PUT /v1/users/{user_id}/external-id. The references are in the detail of POST /v1/events.",
            "该用户须先登录过一次;可用 PUT /v1/users/{user_id}/external-id 设置业务系统的用户编号。引用格式见 POST /v1/events。",
        ),
        Because::Reason(Reason::NoIdentity) => ("The user must log in to this app once.", "该用户须先登录一次此应用。"),
        Because::Reason(Reason::BadData) => (
            "Correct what `violations` names: the event's data, or the rule's expressions (filters date, money and truncate help).",
            "请按 violations 修改事件数据或规则表达式(可用 date、money、truncate 过滤器)。",
        ),
        Because::Reason(Reason::BadTemplate) => {
            ("Adapt the rule to its template: PUT /v1/rules/{rule_id}.", "请按模板修改规则:PUT /v1/rules/{rule_id}。")
        }
        Because::Reason(Reason::NotFollowing) => {
            ("The user must follow the service account again.", "用户须重新关注该服务号。")
        }
        Because::Reason(_) => ("See `detail`.", "见 detail。"),
    })
}
