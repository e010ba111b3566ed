//! The app's own templates (getMessageTemplateList, addMessageTemplate, deleteMessageTemplate).

use serde_json::{Value, json};

use super::{Answer, Call, call::text, ok, public_library, refusal::refuse};
use crate::{account::Account, config::Template, random};

const MOST_TEMPLATES: usize = 25;
const LONGEST_SCENE: usize = 15;

/// `GET /wxaapi/newtmpl/gettemplate`.
pub(super) fn list(_call: &Call, account: &mut Account) -> Answer {
    let data: Vec<Value> = account.templates().map(describe).collect();
    Ok(json!({ "errcode": 0, "errmsg": "ok", "data": data }).into())
}

fn describe(template: &Template) -> Value {
    let mut described = json!({
        "priTmplId": template.id,
        "title": template.title,
        "content": template.content,
        "example": template.example,
        "type": template.kind,
    });
    if !template.enum_values.is_empty() {
        let values = template.enum_values.iter().map(|(keyword, values)| {
            json!({ "keywordCode": format!("{}.DATA", keyword.trim_end_matches(".DATA")), "enumValueList": values })
        });
        described["keywordEnumValueList"] = values.collect();
    }
    described
}

/// `POST /wxaapi/newtmpl/addtemplate`.
pub(super) fn add(call: &Call, account: &mut Account) -> Answer {
    let body = call.object()?;
    let Some(public) = text(&body, "tid").and_then(public_library::find) else {
        return refuse(200014);
    };
    let Some(kids) = chosen(body.get("kidList")) else {
        return refuse(200020);
    };
    let Some(keywords) = public.keywords_of(&kids) else {
        return refuse(200020);
    };
    let scene = text(&body, "sceneDesc").unwrap_or_default();
    if scene.chars().count() > LONGEST_SCENE {
        return refuse(200021);
    }
    let template = public.template(random::text(43), &keywords);
    if account.templates().any(|one| one.title == template.title && one.content == template.content) {
        return refuse(200022);
    }
    if account.templates().count() >= MOST_TEMPLATES {
        return refuse(200012);
    }
    let mut answer = ok();
    answer["priTmplId"] = json!(template.id);
    account.added.push(template);
    Ok(answer.into())
}

/// Two to five different keyword numbers, in the wanted order.
fn chosen(kid_list: Option<&Value>) -> Option<Vec<u64>> {
    let kids: Vec<u64> = kid_list?.as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?;
    let unique = kids.iter().enumerate().all(|(at, kid)| !kids[..at].contains(kid));
    ((2..=5).contains(&kids.len()) && unique).then_some(kids)
}

/// `POST /wxaapi/newtmpl/deltemplate`.
pub(super) fn delete(call: &Call, account: &mut Account) -> Answer {
    let body = call.object()?;
    let Some(id) = text(&body, "priTmplId") else {
        return refuse(200002);
    };
    if account.delete_template(id) { Ok(ok().into()) } else { refuse(200014) }
}
