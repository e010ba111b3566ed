//! What a rule must satisfy before it is stored, each fault named by its pointer.

use std::collections::BTreeSet;

use entity::{RuleId, Timestamp, rule::MiniProgramLink, template};
use uuid::Uuid;

use super::{Definition, compiled::CompiledRule, model};
use crate::{
    config::Kind,
    context::Context,
    error::{Code, Error, FieldError},
    template as templates,
};

/// The longest time a message may wait.
pub const MOST_SECONDS: i64 = 30 * 86_400;

/// Refuses a rule that can never work; a template named by its title gets its id.
pub(super) async fn check(ctx: &Context, definition: &mut Definition) -> Result<(), Error> {
    let mut faults = shape(definition);
    let Some(app) = ctx.app(&definition.app_id) else {
        let known: Vec<_> = ctx.apps().iter().map(|app| app.app_id.clone()).collect();
        faults.push(FieldError::new("/app_id", format!("is no configured app; there are: {}", known.join(", "))));
        return Err(Error::fields(Code::RuleInvalid, faults));
    };
    faults.extend(links(
        app.kind,
        definition.page.as_deref(),
        definition.url.as_deref(),
        definition.miniprogram.as_ref(),
    ));
    definition.template_id = templates::id_of(ctx, &app, &definition.template_id).await?;
    let templates = templates::require(ctx, &app, &[&definition.template_id]).await?;
    for template in &templates {
        faults.extend(keys(template, definition.fields.0.keys()));
        let row = model(RuleId(Uuid::nil()), copy(definition), Timestamp(0), Timestamp(0));
        faults.extend(CompiledRule::faults(row, &template.fields));
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::fields(Code::RuleInvalid, faults)) }
}

fn shape(definition: &Definition) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let mut wrong = |pointer: &str, reason: &str| faults.push(FieldError::new(pointer, reason));
    if definition.name.trim().is_empty() || definition.name.chars().count() > 100 {
        wrong("/name", "must be 1 to 100 characters");
    }
    if definition.event_type.is_empty() || definition.event_type.len() > 200 {
        wrong("/event_type", "must be 1 to 200 characters, such as order.shipped");
    }
    if definition.delay_seconds.is_some_and(|delay| !(0..=MOST_SECONDS).contains(&delay)) {
        wrong("/delay_seconds", "must be 0 to 2592000 (30 days)");
    }
    faults.extend(lifetime(definition.ttl_seconds, Some(definition.priority)));
    faults
}

/// Faults of how long and how urgently a message is to be sent.
pub fn lifetime(ttl_seconds: Option<i64>, priority: Option<i32>) -> Vec<FieldError> {
    let mut faults = Vec::new();
    if ttl_seconds.is_some_and(|ttl| !(1..=MOST_SECONDS).contains(&ttl)) {
        faults.push(FieldError::new("/ttl_seconds", "must be 1 to 2592000 (30 days)"));
    }
    if priority.is_some_and(|priority| !(-100..=100).contains(&priority)) {
        faults.push(FieldError::new("/priority", "must be -100 to 100; higher goes first"));
    }
    faults
}

/// Faults of where the message leads: each kind of app has its own way.
pub fn links(
    kind: Kind,
    page: Option<&str>,
    url: Option<&str>,
    miniprogram: Option<&MiniProgramLink>,
) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let mut wrong = |pointer: &str, reason: &str| faults.push(FieldError::new(pointer, reason));
    if page.is_some_and(|page| page.starts_with('/')) {
        wrong("/page", "must not begin with a slash: WeChat wants pages/order/index?id=1");
    }
    match kind {
        Kind::MiniProgram => {
            for (pointer, given) in [("/url", url.is_some()), ("/miniprogram", miniprogram.is_some())] {
                if given {
                    wrong(pointer, "is for service accounts; a subscribe message leads to `page`");
                }
            }
        }
        Kind::ServiceAccount if page.is_some() => {
            wrong("/page", "is for Mini Programs; a template message leads to `miniprogram` or `url`");
        }
        Kind::ServiceAccount => {}
    }
    faults
}

/// Every field of the template and no other.
pub fn keys<'a>(template: &template::Model, given: impl Iterator<Item = &'a String>) -> Vec<FieldError> {
    let wanted: BTreeSet<_> = template.fields.0.iter().map(|field| field.key.as_str()).collect();
    let given: BTreeSet<_> = given.map(String::as_str).collect();
    let list = wanted.iter().copied().collect::<Vec<_>>().join(", ");
    let unknown = given.difference(&wanted);
    let missing = wanted.difference(&given);
    unknown
        .map(|key| FieldError::new(format!("/fields/{key}"), format!("is no field of the template; it has: {list}")))
        .chain(missing.map(|key| FieldError::new(format!("/fields/{key}"), "is missing: WeChat wants every field")))
        .collect()
}

fn copy(d: &Definition) -> Definition {
    Definition {
        name: d.name.clone(),
        event_type: d.event_type.clone(),
        app_id: d.app_id.clone(),
        template_id: d.template_id.clone(),
        fields: d.fields.clone(),
        page: d.page.clone(),
        url: d.url.clone(),
        miniprogram: d.miniprogram.clone(),
        when: d.when.clone(),
        recipients: d.recipients.clone(),
        ..*d
    }
}
