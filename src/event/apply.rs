//! Which rules events meet, whom they name and what they say.

use std::{collections::HashSet, fmt};

use entity::{EventId, RuleId, rule};
use minijinja::{Value, context, value::Serde};

use super::Incoming;
use crate::{
    clock::rfc3339,
    error::FieldError,
    recipient::Recipient,
    rule::compiled::{CompiledRule, Message, split_recipients},
};

/// More recipients than this are notified by the worker, one portion after the other.
pub const MOST_AT_ONCE: usize = 100;
/// More recipients than this are to be told in several events.
pub const MOST_RECIPIENTS: usize = 100_000;
/// Everybody who agreed to the template.
pub const CONSENTED: &str = "audience:consented";

/// A rule that applies to an event, or a direct notification, with the message it makes.
pub(super) struct Applied<'a> {
    /// The event's place among those that are accepted together.
    pub event: usize,
    /// What decides the life of the message.
    pub policy: &'a rule::Model,
    /// None for a direct notification.
    pub rule_id: Option<RuleId>,
    /// One empty reference when nobody is named: that is an outcome too.
    pub to: Vec<String>,
    /// Those who are too many to be notified at once; then `to` is empty, or holds one word for all of them when
    /// the message cannot be made.
    pub crowd: Option<Crowd>,
    pub message: Message,
}

/// Recipients for the worker.
pub(super) struct Crowd {
    pub named: Vec<String>,
    /// Whether everybody is meant who agreed to the template.
    pub consented: bool,
}

/// Faults of the recipients as they are written.
pub(super) fn check_recipients(to: &[String]) -> Vec<FieldError> {
    let mut faults: Vec<_> = to
        .iter()
        .enumerate()
        .filter(|(_, text)| *text != CONSENTED)
        .filter_map(|(index, text)| Some(FieldError::new(format!("/to/{index}"), Recipient::parse(text).err()?)))
        .collect();
    if to.len() > MOST_RECIPIENTS {
        faults.push(FieldError::new(
            "/to",
            format!("holds {} recipients; send at most {MOST_RECIPIENTS} in one event", to.len()),
        ));
    }
    faults
}

/// Applies the rules; a direct notification brings its own.
pub(super) fn apply<'a>(rules: &'a [CompiledRule], events: &[(EventId, &'a Incoming)]) -> Vec<Applied<'a>> {
    let mut applied = Vec::new();
    for (index, (_, event)) in events.iter().enumerate() {
        if let Some(direct) = &event.direct {
            let (policy, message) = (&direct.policy, direct.message.clone());
            applied.push(of_limited_size(index, policy, None, (event.to.clone(), message)));
            continue;
        }
        let of_type: Vec<_> = rules.iter().filter(|rule| concerns(rule, event)).collect();
        if of_type.is_empty() {
            continue;
        }
        let scope = scope(event);
        for rule in of_type {
            // A condition that cannot be computed must not pass for one that is false.
            let message = match rule.applies(&scope) {
                Ok(false) => continue,
                Ok(true) => rule.message(&scope),
                Err(fault) => Message::broken(fault),
            };
            let found = match rule.recipients(&scope) {
                Ok(Some(to)) => (to, message),
                Ok(None) => (named(event), message),
                Err(fault) => (Vec::new(), Message::broken(fault)),
            };
            applied.push(of_limited_size(index, &rule.row, Some(rule.row.id), found));
        }
    }
    applied
}

/// A key for some apps only reaches nobody in the others.
fn concerns(rule: &CompiledRule, event: &Incoming) -> bool {
    rule.row.event_type == event.event_type
        && event.app_ids.as_ref().is_none_or(|app_ids| app_ids.contains(&rule.row.app_id))
}

fn of_limited_size(
    event: usize,
    policy: &rule::Model,
    rule_id: Option<RuleId>,
    (to, mut message): (Vec<String>, Message),
) -> Applied<'_> {
    let mut once = HashSet::new();
    let mut to: Vec<_> = to.into_iter().filter(|reference| once.insert(reference.clone())).collect();
    let consented = once.contains(CONSENTED);
    // More than one event may have is told, not cut.
    if to.len() > MOST_RECIPIENTS {
        let reason = format!("{} recipients; at most {MOST_RECIPIENTS} in one event", to.len());
        message = Message::broken(FieldError::new("/recipients", reason));
        to.clear();
    }
    if consented || to.len() > MOST_AT_ONCE {
        if let Some(because) = &policy.paused_because {
            message = Message::broken(FieldError::new("", format!("the rule is paused: {because}")));
        }
        to.retain(|reference| reference != CONSENTED);
        let crowd = Crowd { named: to, consented };
        // All of them would fail for the same reason: that is told once.
        let to = if message.violations.is_empty() { Vec::new() } else { vec![crowd.to_string()] };
        return Applied { event, policy, rule_id, to, crowd: Some(crowd), message };
    }
    if to.is_empty() {
        to.push(String::new());
    }
    Applied { event, policy, rule_id, to, crowd: None, message }
}

impl fmt::Display for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.named.len(), self.consented) {
            (0, _) => f.write_str(CONSENTED),
            (named, true) => write!(f, "{named} recipients, {CONSENTED}"),
            (named, false) => write!(f, "{named} recipients"),
        }
    }
}

/// Whom the event itself names: `to`, or else its subject.
fn named(event: &Incoming) -> Vec<String> {
    match &event.subject {
        Some(subject) if event.to.is_empty() => split_recipients(subject),
        _ => event.to.clone(),
    }
}

/// What expressions see; `rule/compiled.rs` names the same parts.
fn scope(event: &Incoming) -> Value {
    context! {
        id => &event.id,
        source => &event.source,
        type => &event.event_type,
        subject => &event.subject,
        time => event.time.map(rfc3339),
        data => Value::from(Serde(&event.data)),
    }
}
