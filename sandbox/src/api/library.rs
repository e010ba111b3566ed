//! Browsing the public library (getCategory, getPubTemplateTitleList, getPubTemplateKeyWordsById).

use serde_json::{Value, json};

use super::{
    Answer, Call, ok,
    public_library::{CATEGORIES, TEMPLATES, find},
    refusal::refuse,
};
use crate::account::Account;

const LARGEST_PAGE: usize = 30;

/// `GET /wxaapi/newtmpl/getcategory`.
pub(super) fn categories(_call: &Call, _account: &mut Account) -> Answer {
    let mut answer = ok();
    answer["data"] = CATEGORIES.iter().map(|(id, name)| json!({ "id": id, "name": name })).collect();
    Ok(answer.into())
}

/// `GET /wxaapi/newtmpl/getpubtemplatetitles`.
pub(super) fn titles(call: &Call, _account: &mut Account) -> Answer {
    let Some(ids) = call.param("ids") else {
        return refuse(200018);
    };
    let mut wanted = Vec::new();
    for id in ids.split(',') {
        match id.trim().parse::<u64>() {
            Ok(id) if CATEGORIES.iter().any(|(known, _)| *known == id) => wanted.push(id),
            _ => return refuse(200019),
        }
    }
    let Some(Ok(start)) = call.param("start").map(str::parse::<usize>) else {
        return refuse(200016);
    };
    let limit = call.param("limit").and_then(|limit| limit.parse::<usize>().ok());
    let Some(limit) = limit.filter(|limit| (1..=LARGEST_PAGE).contains(limit)) else {
        return refuse(200017);
    };

    let found: Vec<Value> = TEMPLATES
        .iter()
        .filter(|template| wanted.contains(&template.category))
        .map(|template| {
            json!({
                "tid": template.tid.parse::<u64>().unwrap_or_default(),
                "title": template.title,
                "type": template.kind,
                "categoryId": template.category.to_string(),
            })
        })
        .collect();
    let mut answer = ok();
    answer["count"] = json!(found.len());
    answer["data"] = found.into_iter().skip(start).take(limit).collect();
    Ok(answer.into())
}

/// `GET /wxaapi/newtmpl/getpubtemplatekeywords`.
pub(super) fn keywords(call: &Call, _account: &mut Account) -> Answer {
    let Some(tid) = call.param("tid") else {
        return refuse(200002);
    };
    let Some(template) = find(tid) else {
        return refuse(200014);
    };
    let data: Vec<Value> = template
        .keywords
        .iter()
        .map(|keyword| {
            json!({ "kid": keyword.kid, "name": keyword.name, "example": keyword.example, "rule": keyword.rule })
        })
        .collect();
    let mut answer = ok();
    answer["count"] = json!(data.len());
    answer["data"] = json!(data);
    Ok(answer.into())
}
