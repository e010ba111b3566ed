//! What a rule must satisfy before it is stored, each fault named by its pointer.

use std::collections::BTreeSet;

use entity::{RuleId, Timestamp, template};
use uuid::Uuid;

use super::{Definition, compiled::CompiledRule, model};
use crate::{
    config::Kind,
    context::Context,
    error::{Code, Error, FieldError},
    keyword, template as templates,
};

/// Refuses a rule that can never work; a template named by its title gets its id.
pub(super) async fn check(ctx: &Context, definition: &mut Definition) -> Result<(), Error> {
    let mut faults = shape(definition);
    let Some(app) = ctx.app(&definition.app_id) else {
        let known: Vec<_> = ctx.apps().iter().map(|app| app.app_id.clone()).collect();
        faults.push(FieldError::new("/app_id", format!("is no configured app; there are: {}", known.join(", "))));
        return Err(Error::fields(Code::RuleInvalid, faults));
    };
    if app.kind == Kind::MiniProgram {
        for (pointer, given) in [("/url", definition.url.is_some()), ("/miniprogram", definition.miniprogram.is_some())]
        {
            if given {
                faults.push(FieldError::new(pointer, "is for service accounts; a subscribe message leads to `page`"));
            }
        }
    }
    if app.kind == Kind::ServiceAccount && definition.page.is_some() {
        faults
            .push(FieldError::new("/page", "is for Mini Programs; a template message leads to `miniprogram` or `url`"));
    }
    definition.template_id = templates::id_of(ctx, &app, &definition.template_id).await?;
    let templates = templates::require(ctx, &app, &[&definition.template_id]).await?;
    for template in &templates {
        faults.extend(against_template(definition, template));
    }
    if let Err(unparsable) = CompiledRule::new(model(RuleId(Uuid::nil()), copy(definition), Timestamp(0), Timestamp(0)))
    {
        faults.extend(unparsable);
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
    if definition.page.as_ref().is_some_and(|page| page.starts_with('/')) {
        wrong("/page", "must not begin with a slash: WeChat wants pages/order/index?id=1");
    }
    if definition.ttl_seconds.is_some_and(|ttl| !(1..=30 * 86_400).contains(&ttl)) {
        wrong("/ttl_seconds", "must be 1 to 2592000 (30 days)");
    }
    if definition.delay_seconds.is_some_and(|delay| !(0..=30 * 86_400).contains(&delay)) {
        wrong("/delay_seconds", "must be 0 to 2592000 (30 days)");
    }
    if !(-100..=100).contains(&definition.priority) {
        wrong("/priority", "must be -100 to 100; higher goes first");
    }
    faults
}

/// Every field of the template and no other, and no literal that can never fit.
fn against_template(definition: &Definition, template: &template::Model) -> Vec<FieldError> {
    let wanted: BTreeSet<_> = template.fields.0.iter().map(|field| field.key.as_str()).collect();
    let given: BTreeSet<_> = definition.fields.0.keys().map(String::as_str).collect();
    let list = wanted.iter().copied().collect::<Vec<_>>().join(", ");
    let unknown = given.difference(&wanted);
    let missing = wanted.difference(&given);
    let mut faults: Vec<_> = unknown
        .map(|key| FieldError::new(format!("/fields/{key}"), format!("is no field of the template; it has: {list}")))
        .chain(missing.map(|key| FieldError::new(format!("/fields/{key}"), "is missing: WeChat wants every field")))
        .collect();
    for (key, source) in definition.fields.0.iter().filter(|(_, source)| !source.contains(['{', '}'])) {
        if let Err(problem) = keyword::fit(key, source.trim(), definition.overflow) {
            faults.push(FieldError::new(format!("/fields/{key}"), problem));
        }
    }
    faults
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
