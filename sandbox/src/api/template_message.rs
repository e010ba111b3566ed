//! A service account's template message (发送模板消息).

use serde_json::{Map, Value, json};

use super::{
    Answer, Call, Done,
    call::text,
    data::{invalid, render, value_of},
    keyword::{check, is_typed},
    ok,
    refusal::{Refusal, refuse, refuse_with},
    subscribe_message::{check_words, message_data},
};
use crate::{
    account::{Account, Message},
    config::Template,
    knobs::ReceiptMode,
    push::Event,
};

/// How long a `client_msg_id` is remembered.
const REMEMBERED: i64 = 600;
/// No longer shown, and dropped without a word.
const WITHDRAWN: &[&str] = &["first", "remark"];

/// `POST /cgi-bin/message/template/send`.
pub(super) fn send(call: &Call, account: &mut Account) -> Answer {
    let body = call.object()?;
    let openid = text(&body, "touser").filter(|openid| account.people.contains_key(*openid));
    let Some(openid) = openid else {
        return refuse(40003);
    };
    let Some(template_id) = text(&body, "template_id") else {
        return refuse(40036);
    };
    let Some(template) = account.template(template_id).cloned() else {
        return refuse(40037);
    };
    if account.knobs.banned_templates.contains(&template.id) {
        return refuse_with(43116, "this template is banned");
    }
    if account.person(openid).follow.is_none() {
        return refuse(43004);
    }
    if account.knobs.blocked_openids.iter().any(|blocked| blocked == openid) {
        return refuse(43019);
    }
    check_links(&body, account)?;
    let data = message_data(&body)?;
    check_data(data, &template)?;
    check_words(data, account)?;

    let now = call.now();
    let client_id = text(&body, "client_msg_id");
    let person = account.person(openid);
    person.client_messages.retain(|_, (at, _)| now - *at < REMEMBERED);
    if let Some((_, msgid)) = client_id.and_then(|id| person.client_messages.get(id)) {
        // Sent already: the same answer, and no second message.
        return Ok(success(*msgid).into());
    }
    let msgid = account.next_msgid(call.now_ms);
    if let Some(id) = client_id {
        account.person(openid).client_messages.insert(id.to_owned(), (now, msgid));
    }
    let failed = account.knobs.receipt.mode == ReceiptMode::Fail;
    if !failed {
        account.arrive(Message {
            msgid,
            openid: openid.to_owned(),
            title: template.title.clone(),
            text: render(data, &template),
            time: now,
            time_ms: call.now_ms,
            sent: body.clone(),
        });
    }
    let status = match (failed, &account.knobs.receipt.error_status) {
        (false, _) => "success",
        (true, Some(status)) => status.as_str(),
        (true, None) => "failed: system failed",
    };
    let receipt =
        Event::about(openid, "TEMPLATESENDJOBFINISH").field("MsgID", msgid.to_string()).field("Status", status);
    Ok(Done { body: success(msgid), receipt: Some(receipt) })
}

fn success(msgid: u64) -> Value {
    let mut answer = ok();
    answer["msgid"] = json!(msgid);
    answer
}

fn check_links(body: &Map<String, Value>, account: &Account) -> Result<(), Refusal> {
    if text(body, "url").is_some_and(|url| !(url.starts_with("http://") || url.starts_with("https://"))) {
        return refuse(40039);
    }
    let Some(target) = body.get("miniprogram").filter(|target| !target.is_null()) else {
        return Ok(());
    };
    let app_id = target.get("appid").and_then(Value::as_str).unwrap_or_default();
    let linked = account.knobs.linked_mini_programs.as_ref().is_none_or(|linked| linked.iter().any(|id| id == app_id));
    if app_id.is_empty() || !linked { refuse(40013) } else { Ok(()) }
}

/// Typed keywords of category templates are checked as in subscribe messages; the free ones of old
/// templates may be absent.
fn check_data(data: &Map<String, Value>, template: &Template) -> Result<(), Refusal> {
    let keywords = template.keywords();
    for keyword in keywords.iter().filter(|keyword| !WITHDRAWN.contains(keyword)) {
        match value_of(data, keyword) {
            Some(value) if check(keyword, value, template.values_of(keyword)).is_ok() => {}
            None if !is_typed(keyword) && !data.contains_key(*keyword) => {}
            _ => return invalid(keyword),
        }
    }
    let strict = keywords.iter().any(|keyword| is_typed(keyword));
    let unknown = data.keys().find(|key| !keywords.contains(&key.as_str()) && !WITHDRAWN.contains(&key.as_str()));
    match unknown {
        Some(key) if strict => invalid(key),
        _ => Ok(()),
    }
}
