//! Direct notifications: a message without a rule. It is kept as an event of its own kind, so repeats,
//! progress and erasure are those of events; its name is the sender's key and the `Idempotency-Key`.

use std::collections::BTreeMap;

use entity::{
    ApiKeyId, RuleId, Timestamp,
    notification::FieldValues,
    rule::{FieldExpressions, MiniProgramLink, Model, NoCredit, Overflow, Unsure},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde::Serialize;
use uuid::Uuid;

use super::{Accepted, Incoming, accept, apply, repeat, row};
use crate::{
    context::Context,
    error::{Code, Error, FieldError},
    keyword,
    rule::{check, compiled::Message},
    template,
};

/// What the stored event of a direct notification is called.
pub const EVENT_TYPE: &str = "magpie.direct";
/// No business system may name its events like this.
pub const SOURCE: &str = "magpie:";

/// What the API is asked to send.
#[derive(Clone, Debug, Serialize)]
pub struct Letter {
    pub app_id: String,
    pub template_id: String,
    #[serde(skip)]
    pub to: Vec<String>,
    pub fields: FieldValues,
    pub page: Option<String>,
    pub url: Option<String>,
    pub miniprogram: Option<MiniProgramLink>,
    #[serde(skip)]
    pub deliver_at: Option<Timestamp>,
    #[serde(skip)]
    pub ttl_seconds: Option<i64>,
    #[serde(skip)]
    pub priority: Option<i32>,
    pub no_credit: NoCredit,
    pub unsure: Unsure,
    pub overflow: Overflow,
}

/// What takes a rule's place.
#[derive(Clone, Debug)]
pub struct Direct {
    pub policy: Model,
    pub message: Message,
}

/// Sends a message to each recipient. The same key of the same sender gets the first answer again, on any
/// node, as long as events are kept; another body under it is refused.
pub async fn send(
    ctx: &Context,
    sender: ApiKeyId,
    idempotency_key: Option<String>,
    letter: Letter,
) -> Result<Accepted, Error> {
    let id = match idempotency_key {
        Some(key) if key.is_empty() || key.len() > 200 || !key.bytes().all(|byte| byte.is_ascii_graphic()) => {
            return Err(Error::field("Idempotency-Key", "must be 1 to 200 visible ASCII characters"));
        }
        Some(key) => key,
        None => Uuid::now_v7().simple().to_string(),
    };
    let mut incoming = Incoming {
        source: format!("{SOURCE}direct/{sender}"),
        id,
        event_type: EVENT_TYPE.to_owned(),
        time: None,
        subject: None,
        to: letter.to.clone(),
        data: serde_json::to_value(&letter).map_err(|error| Error::new(Code::Internal).because(error))?,
        deliver_at: letter.deliver_at,
        ttl_seconds: letter.ttl_seconds,
        priority: letter.priority,
        direct: None,
        app_ids: None,
    };
    // A repeat is answered before anything is checked: the template may have changed since.
    let first = row::Entity::find()
        .filter(row::Column::Source.eq(&incoming.source))
        .filter(row::Column::SourceId.eq(&incoming.id))
        .one(ctx.db.read())
        .await?;
    if let Some(first) = first {
        return repeat(&first, &incoming).map_err(under_the_key);
    }
    incoming.direct = Some(Box::new(check(ctx, letter).await?));
    let accepted = accept(ctx, vec![incoming]).await.pop();
    accepted.unwrap_or_else(|| Err(Error::new(Code::Internal))).map_err(under_the_key)
}

fn under_the_key(error: Error) -> Error {
    if error.code == Code::EventConflict { Error::new(Code::IdempotencyKeyReused) } else { error }
}

async fn check(ctx: &Context, letter: Letter) -> Result<Direct, Error> {
    let mut faults = apply::check_recipients(&letter.to);
    if letter.to.is_empty() {
        faults.push(FieldError::new("/to", "names nobody"));
    }
    let Some(app) = ctx.app(&letter.app_id) else {
        let known: Vec<_> = ctx.apps().iter().map(|app| app.app_id.clone()).collect();
        faults.push(FieldError::new("/app_id", format!("is no configured app; there are: {}", known.join(", "))));
        return Err(Error::fields(Code::InvalidRequest, faults));
    };
    faults.extend(check::lifetime(letter.ttl_seconds, letter.priority));
    faults.extend(super::check_time(letter.deliver_at, ctx.clock.now()));
    faults.extend(check::links(app.kind, letter.page.as_deref(), letter.url.as_deref(), letter.miniprogram.as_ref()));
    if !faults.is_empty() {
        return Err(Error::fields(Code::InvalidRequest, faults));
    }
    let template_id = template::id_of(ctx, &app, &letter.template_id).await?;
    let mut fields = BTreeMap::new();
    for template in template::require(ctx, &app, &[&template_id]).await? {
        faults.extend(check::keys(&template, letter.fields.0.keys()));
        for field in &template.fields.0 {
            let Some(value) = letter.fields.0.get(&field.key) else { continue };
            match keyword::fit(&field.key, &field.enum_values, value.trim(), letter.overflow) {
                Ok(value) => drop(fields.insert(field.key.clone(), value)),
                Err(problem) => faults.push(FieldError::new(format!("/fields/{}", field.key), problem)),
            }
        }
    }
    if !faults.is_empty() {
        return Err(Error::fields(Code::FieldsInvalid, faults));
    }
    let Letter { app_id, page, url, miniprogram, no_credit, unsure, overflow, .. } = letter;
    let now = ctx.clock.now();
    Ok(Direct {
        message: Message { fields: FieldValues(fields.into()), page, url, miniprogram, violations: Vec::new() },
        policy: Model {
            id: RuleId(Uuid::nil()),
            name: EVENT_TYPE.to_owned(),
            event_type: EVENT_TYPE.to_owned(),
            app_id,
            template_id,
            fields: FieldExpressions(BTreeMap::new()),
            page: None,
            url: None,
            miniprogram: None,
            when: None,
            recipients: None,
            no_credit,
            unsure,
            overflow,
            ttl_seconds: None,
            delay_seconds: None,
            priority: 0,
            enabled: true,
            paused_because: None,
            created_at: now,
            updated_at: now,
        },
    })
}
