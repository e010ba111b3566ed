//! What events lead to: which rules, whom, with what text, and whether there is a credit.

use std::collections::{HashMap, HashSet};

use entity::{
    EventId, NotificationId, Timestamp, identity,
    notification::{self, Credit, FieldValues, Reason, State},
    rule::NoCredit,
};
use minijinja::{Value, context, value::Serde};
use sea_orm::DatabaseTransaction;
use uuid::Uuid;

use super::{Incoming, Outcome};
use crate::{
    clock::rfc3339,
    consent::{self, Granted, Want},
    context::Context,
    error::{Error, FieldError},
    notification::draft::{Draft, draft},
    recipient::{self, Person, Recipient},
    rule::compiled::{CompiledRule, Rendered, split_recipients},
};

/// More recipients than this are to be told in several events.
pub(super) const MOST_RECIPIENTS: usize = 100;

/// What one event leads to.
#[derive(Default)]
pub(super) struct Plan {
    pub outcomes: Vec<Outcome>,
    pub notifications: Vec<notification::Model>,
}

/// Faults of the recipients as they are written.
pub(super) fn check_recipients(to: &[String]) -> Vec<FieldError> {
    let mut faults: Vec<_> = to
        .iter()
        .enumerate()
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

/// One message that may come to be.
struct Candidate<'a> {
    event: usize,
    rule: &'a CompiledRule,
    reference: String,
    recipient: Result<Recipient, String>,
    message: &'a Result<Rendered, FieldError>,
}

/// Applies the rules to the events. Queries and reservations are made for all of them together.
pub(super) async fn plan(
    ctx: &Context,
    tx: &DatabaseTransaction,
    rules: &[CompiledRule],
    events: &[(EventId, &Incoming)],
    now: Timestamp,
) -> Result<Vec<Plan>, Error> {
    let applied = apply(rules, events);
    let candidates: Vec<_> = applied.iter().flat_map(Applied::candidates).collect();
    let recipients = candidates.iter().filter_map(|candidate| candidate.recipient.as_ref().ok());
    let people = recipient::resolve(tx, recipients).await?;

    let mut plans: Vec<Plan> = events.iter().map(|_| Plan::default()).collect();
    let mut seen = HashMap::new();
    let mut wants = Vec::new();
    for candidate in &candidates {
        let plan = &mut plans[candidate.event];
        let identity = match find_identity(candidate, &people) {
            Ok(identity) => identity,
            Err(outcome) => {
                plan.outcomes.push(outcome);
                continue;
            }
        };
        // Two references to one person are one message.
        let once = (candidate.event, candidate.rule.row.id, identity.id);
        if let Some(index) = seen.get(&once) {
            let first: &Outcome = &plan.outcomes[*index];
            plan.outcomes.push(Outcome { recipient: candidate.reference.clone(), ..first.clone() });
            continue;
        }
        seen.insert(once, plan.outcomes.len());
        let row = row(ctx, candidate, identity, events[candidate.event].0, now);
        if row.state == State::Pending {
            let want =
                Want { identity_id: row.identity_id, template_id: row.template_id.clone(), notification_id: row.id };
            wants.push((candidate.event, plan.notifications.len(), want));
        }
        plan.outcomes.push(outcome(candidate, &row));
        plan.notifications.push(row);
    }
    reserve(tx, &mut plans, wants, now).await?;
    Ok(plans)
}

/// A rule that applies to an event, with the message it makes.
struct Applied<'a> {
    event: usize,
    rule: &'a CompiledRule,
    to: Vec<String>,
    message: Result<Rendered, FieldError>,
}

impl<'a> Applied<'a> {
    fn candidates(&'a self) -> impl Iterator<Item = Candidate<'a>> {
        self.to.iter().map(|reference| Candidate {
            event: self.event,
            rule: self.rule,
            reference: reference.clone(),
            recipient: Recipient::parse(reference),
            message: &self.message,
        })
    }
}

fn apply<'a>(rules: &'a [CompiledRule], events: &[(EventId, &Incoming)]) -> Vec<Applied<'a>> {
    let mut applied = Vec::new();
    for (index, (_, event)) in events.iter().enumerate() {
        let of_type: Vec<_> = rules.iter().filter(|rule| rule.row.event_type == event.event_type).collect();
        if of_type.is_empty() {
            continue;
        }
        let scope = scope(event);
        for rule in of_type {
            // A condition that cannot be computed must not pass for one that is false.
            let message = match rule.applies(&scope) {
                Ok(false) => continue,
                Ok(true) => rule.message(&scope),
                Err(fault) => Err(fault),
            };
            let computed = rule.recipients(&scope);
            let (to, message) = match computed {
                Ok(Some(to)) => (to, message),
                Ok(None) => (named(event), message),
                Err(fault) => (vec![String::new()], Err(fault)),
            };
            let mut once = HashSet::new();
            let mut to: Vec<_> = to.into_iter().filter(|reference| once.insert(reference.clone())).collect();
            // Nobody is named: that is an outcome too.
            if to.is_empty() {
                to.push(String::new());
            }
            // More than one event may have is told, not cut.
            let too_many = FieldError::new(
                "/recipients",
                format!("{} recipients; at most {MOST_RECIPIENTS} in one event", to.len()),
            );
            let (to, message) =
                if to.len() > MOST_RECIPIENTS { (vec![String::new()], Err(too_many)) } else { (to, message) };
            applied.push(Applied { event: index, rule, to, message });
        }
    }
    applied
}

/// Whom the event itself names: `to`, or else its subject.
fn named(event: &Incoming) -> Vec<String> {
    match &event.subject {
        Some(subject) if event.to.is_empty() => split_recipients(subject),
        _ => event.to.clone(),
    }
}

/// What expressions see.
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

fn find_identity<'a>(
    candidate: &Candidate<'_>,
    people: &'a HashMap<Recipient, Person>,
) -> Result<&'a identity::Model, Outcome> {
    let nobody = |reason, user_id, detail: Option<String>| Outcome {
        id: None,
        rule_id: candidate.rule.row.id,
        recipient: candidate.reference.clone(),
        user_id,
        state: State::Failed,
        reason: Some(reason),
        detail,
    };
    let recipient = match (&candidate.recipient, candidate.message) {
        (Ok(recipient), _) => recipient,
        (Err(_), Err(fault)) if candidate.reference.is_empty() => {
            return Err(nobody(Reason::UnknownRecipient, None, Some(explain(fault))));
        }
        (Err(problem), _) => return Err(nobody(Reason::UnknownRecipient, None, Some(problem.clone()))),
    };
    let Some(person) = people.get(recipient) else {
        return Err(nobody(Reason::UnknownRecipient, None, None));
    };
    let of_app = person.identities.iter().rfind(|identity| identity.app_id == candidate.rule.row.app_id);
    of_app.ok_or_else(|| nobody(Reason::NoIdentity, Some(person.user_id), None))
}

fn row(
    ctx: &Context,
    candidate: &Candidate<'_>,
    identity: &identity::Model,
    event_id: EventId,
    now: Timestamp,
) -> notification::Model {
    let rule = &candidate.rule.row;
    let seconds = |seconds: i64| std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let mut row = draft(Draft {
        id: NotificationId(Uuid::now_v7()),
        identity,
        template_id: &rule.template_id,
        no_credit: rule.no_credit,
        unsure: rule.unsure,
        priority: rule.priority,
        due_at: now + seconds(rule.delay_seconds.unwrap_or(0)),
        time_to_live: rule.ttl_seconds.map_or(ctx.config.delivery.time_to_live, seconds),
        now,
    });
    row.event_id = Some(event_id);
    row.rule_id = Some(rule.id);
    match (candidate.message, &rule.paused_because) {
        (_, Some(because)) => fail(&mut row, Reason::BadTemplate, Some(format!("the rule is paused: {because}")), now),
        (Ok(rendered), None) => {
            row.fields = FieldValues(rendered.fields.0.clone());
            row.page.clone_from(&rendered.page);
            row.url.clone_from(&rendered.url);
            row.miniprogram.clone_from(&rendered.miniprogram);
        }
        (Err(fault), None) => fail(&mut row, Reason::BadData, Some(explain(fault)), now),
    }
    row
}

/// Gives each message its credit, or parks or fails it as its rule says.
async fn reserve(
    tx: &DatabaseTransaction,
    plans: &mut [Plan],
    wants: Vec<(usize, usize, Want)>,
    now: Timestamp,
) -> Result<(), Error> {
    let (places, wants): (Vec<_>, Vec<_>) =
        wants.into_iter().map(|(event, index, want)| ((event, index), want)).unzip();
    let granted = consent::reserve(tx, &wants, now).await?;
    for ((event, index), granted) in places.into_iter().zip(granted) {
        let plan = &mut plans[event];
        let row = &mut plan.notifications[index];
        match (granted, row.no_credit) {
            (Granted::Reserved, _) => row.credit = Credit::Reserved,
            (Granted::Standing, _) => {}
            (Granted::No, NoCredit::Wait) => {
                row.state = State::Waiting;
                row.reason = Some(Reason::NoCredit);
            }
            (Granted::No, NoCredit::Fail) => fail(row, Reason::NoCredit, None, now),
        }
        for outcome in plan.outcomes.iter_mut().filter(|outcome| outcome.id == Some(row.id)) {
            outcome.state = row.state;
            outcome.reason = row.reason;
        }
    }
    Ok(())
}

fn fail(row: &mut notification::Model, reason: Reason, detail: Option<String>, now: Timestamp) {
    row.state = State::Failed;
    row.reason = Some(reason);
    row.detail = detail;
    row.finished_at = Some(now);
}

fn outcome(candidate: &Candidate<'_>, row: &notification::Model) -> Outcome {
    Outcome {
        id: Some(row.id),
        rule_id: candidate.rule.row.id,
        recipient: candidate.reference.clone(),
        user_id: Some(row.user_id),
        state: row.state,
        reason: row.reason,
        detail: row.detail.clone(),
    }
}

fn explain(fault: &FieldError) -> String {
    format!("{}: {}", fault.pointer, fault.reason)
}
