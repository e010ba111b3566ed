//! Sending a subscribe message (sendMessage, 发送订阅消息).

use serde_json::{Map, Value, json};

use super::{
    Answer, Call, Done,
    call::text,
    data::{check_data, render},
    ok,
    refusal::{Refusal, refuse, refuse_with},
};
use crate::{
    account::{Account, Message},
    config::LONG_TERM,
    knobs::ReceiptMode,
    push::Event,
};

/// `POST /cgi-bin/message/subscribe/send`.
pub(super) fn send(call: &Call, account: &mut Account) -> Answer {
    let body = call.object()?;
    let openid = text(&body, "touser").filter(|openid| account.people.contains_key(*openid));
    let Some(openid) = openid else {
        return refuse(40003);
    };
    let template = text(&body, "template_id").and_then(|id| account.template(id)).cloned();
    let Some(template) = template else {
        return refuse(40037);
    };
    if account.knobs.banned_templates.contains(&template.id) {
        return refuse(43107);
    }
    let data = message_data(&body)?;
    check_data(data, &template)?;
    check_words(data, account)?;
    check_page(&body, account)?;
    check_choice(&body, "miniprogram_state", &["developer", "trial", "formal"])?;
    check_choice(&body, "lang", &["zh_CN", "en_US", "zh_HK", "zh_TW"])?;

    let credit = account.person(openid).credit(&template.id);
    if template.kind == LONG_TERM {
        if !credit.long_term {
            return refuse(43101);
        }
    } else if credit.one_time == 0 {
        return refuse(43101);
    }
    if call.contended {
        return refuse(43108);
    }
    if template.kind != LONG_TERM {
        account.person(openid).credit(&template.id).one_time -= 1;
    }

    let msgid = account.next_msgid(call.now_ms);
    let failed = account.knobs.receipt.mode == ReceiptMode::Fail;
    if !failed {
        account.arrive(Message {
            msgid,
            openid: openid.to_owned(),
            title: template.title.clone(),
            text: render(data, &template),
            time: call.now(),
            time_ms: call.now_ms,
            sent: body.clone(),
        });
    }
    let receipt = receipt(account, openid, &template.id, msgid, failed);
    let mut answer = ok();
    if !account.knobs.omit_msgid {
        answer["msgid"] = json!(msgid);
    }
    Ok(Done { body: answer, receipt: Some(receipt) })
}

fn receipt(account: &Account, openid: &str, template_id: &str, msgid: u64, failed: bool) -> Event {
    let knob = &account.knobs.receipt;
    let code = if failed { knob.error_code.unwrap_or(1) } else { 0 };
    let status = if failed { knob.error_status.as_deref().unwrap_or("system failed") } else { "success" };
    Event::about(openid, "subscribe_msg_sent_event").entry(&[
        ("TemplateId", template_id.to_owned()),
        ("MsgID", msgid.to_string()),
        ("ErrorCode", code.to_string()),
        ("ErrorStatus", status.to_owned()),
    ])
}

/// `data` must be an object; a JSON text inside a string is a common mistake.
pub(super) fn message_data(body: &Map<String, Value>) -> Result<&Map<String, Value>, Refusal> {
    match body.get("data") {
        Some(Value::Object(data)) => Ok(data),
        Some(_) => refuse(47001),
        None => refuse_with(47003, "argument invalid! data invalid"),
    }
}

pub(super) fn check_words(data: &Map<String, Value>, account: &Account) -> Result<(), Refusal> {
    let hit = data
        .values()
        .filter_map(|item| item.get("value")?.as_str())
        .any(|value| account.knobs.sensitive_words.iter().any(|word| value.contains(word.as_str())));
    if hit { refuse(45168) } else { Ok(()) }
}

fn check_page(body: &Map<String, Value>, account: &Account) -> Result<(), Refusal> {
    let page = match body.get("page") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::String(page)) => page,
        Some(_) => return refuse(41030),
    };
    if page.starts_with('/') || !has_page(account, page) {
        return refuse(41030);
    }
    Ok(())
}

pub(super) fn has_page(account: &Account, page: &str) -> bool {
    let path = page.split_once('?').map_or(page, |(path, _)| path);
    !account.knobs.missing_pages.iter().any(|missing| missing == path || missing == page)
}

fn check_choice(body: &Map<String, Value>, name: &str, choices: &[&str]) -> Result<(), Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(choice)) if choices.contains(&choice.as_str()) => Ok(()),
        Some(_) => refuse_with(40097, format!("invalid args {name}")),
    }
}
