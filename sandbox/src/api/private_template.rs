//! A service account's templates (模板消息: 获取模板列表, 获得模板ID, 删除模板, 获取行业信息).

use serde_json::{Value, json};

use super::{Answer, Call, call::text, ok, public_library, refusal::refuse};
use crate::{account::Account, random};

const MOST_TEMPLATES: usize = 25;
const INDUSTRY: (&str, &str) = ("IT科技", "互联网|电子商务");

/// `GET /cgi-bin/template/get_all_private_template`.
pub(super) fn list(_call: &Call, account: &mut Account) -> Answer {
    let templates: Vec<Value> = account
        .templates()
        .map(|template| {
            json!({
                "template_id": template.id,
                "title": template.title,
                "primary_industry": INDUSTRY.0,
                "deputy_industry": INDUSTRY.1,
                "content": template.content,
                "example": template.example,
            })
        })
        .collect();
    Ok(json!({ "template_list": templates }).into())
}

/// `POST /cgi-bin/template/api_add_template`: a category template by number and keyword names.
pub(super) fn add(call: &Call, account: &mut Account) -> Answer {
    let body = call.object()?;
    let Some(public) = text(&body, "template_id_short").and_then(public_library::find) else {
        return refuse(40037);
    };
    let names: Option<Vec<&str>> = body
        .get("keyword_name_list")
        .and_then(Value::as_array)
        .and_then(|names| names.iter().map(Value::as_str).collect());
    let keywords = names.filter(|names| !names.is_empty()).and_then(|names| public.keywords_named(&names));
    let Some(keywords) = keywords else {
        return refuse(40246);
    };
    if account.templates().count() >= MOST_TEMPLATES {
        return refuse(45026);
    }
    let template = public.template(random::text(43), &keywords);
    let mut answer = ok();
    answer["template_id"] = json!(template.id);
    account.added.push(template);
    Ok(answer.into())
}

/// `POST /cgi-bin/template/del_private_template`.
pub(super) fn delete(call: &Call, account: &mut Account) -> Answer {
    let body = call.object()?;
    let known = text(&body, "template_id").is_some_and(|id| account.delete_template(id));
    if known { Ok(ok().into()) } else { refuse(40037) }
}

/// `GET /cgi-bin/template/get_industry`.
pub(super) fn industry(_call: &Call, _account: &mut Account) -> Answer {
    let one = json!({ "first_class": INDUSTRY.0, "second_class": INDUSTRY.1 });
    Ok(json!({ "primary_industry": one, "secondary_industry": one }).into())
}
