//! What events lead to: which rules, whom, with what text, and whether there is a credit.

use std::collections::{BTreeSet, HashMap, HashSet};

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
    notification::{
        claim::{Lease, born_claimed},
        draft::{Draft, draft},
        lane::{Claimed, Handover, lanes},
    },
    pause::Pauses,
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

/// What counts when events are accepted.
pub(super) struct Now<'a> {
    pub rules: &'a [CompiledRule],
    pub pauses: &'a Pauses,
    pub at: Timestamp,
}

/// What events that are accepted together lead to.
pub(super) struct Planned {
    pub plans: Vec<Plan>,
    /// The messages that this node sends at once: their lanes are free.
    claimed: Vec<(Claimed, Handover)>,
    /// The apps with messages that are to be claimed.
    queued: BTreeSet<String>,
}

impl Planned {
    /// After the commit: hands over what this node sends, rings for the rest; gives the outcomes.
    pub fn send(self, ctx: &Context) -> Vec<Vec<Outcome>> {
        for (claimed, handover) in self.claimed {
            handover.give(claimed);
        }
        for app_id in &self.queued {
            lanes(ctx).of(app_id).set_pending(true);
            ctx.wake.delivery.ring(app_id);
        }
        self.plans.into_iter().map(|plan| plan.outcomes).collect()
    }
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
    Now { rules, pauses, at: now }: Now<'_>,
    events: &[(EventId, &Incoming)],
) -> Result<Planned, Error> {
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
    Ok(begin(ctx, plans, pauses, now))
}

/// Claims what can be sent at once for this node; the rest queues.
fn begin(ctx: &Context, mut plans: Vec<Plan>, pauses: &Pauses, now: Timestamp) -> Planned {
    let (mut claimed, mut queued) = (Vec::new(), BTreeSet::new());
    let (lanes, lease) = (lanes(ctx), Lease::new(ctx, now));
    let pending = plans.iter_mut().flat_map(|plan| &mut plan.notifications).filter(|row| row.state == State::Pending);
    for row in pending {
        let may_go = row.due_at <= now && pauses.may_send(&row.app_id, &row.template_id, now);
        let ticket = may_go.then(|| lanes.take_for_new(ctx, &row.app_id, row.identity_id)).flatten();
        if let Some((ticket, handover)) = ticket {
            born_claimed(row, lease, now);
            claimed.push((Claimed { row: row.clone(), ticket }, handover));
        } else {
            queued.insert(row.app_id.clone());
        }
    }
    Planned { plans, claimed, queued }
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

/// A key for some apps only reaches nobody in the others.
fn concerns(rule: &CompiledRule, event: &Incoming) -> bool {
    rule.row.event_type == event.event_type
        && event.app_ids.as_ref().is_none_or(|app_ids| app_ids.contains(&rule.row.app_id))
}

fn apply<'a>(rules: &'a [CompiledRule], events: &[(EventId, &Incoming)]) -> Vec<Applied<'a>> {
    let mut applied = Vec::new();
    for (index, (_, event)) in events.iter().enumerate() {
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
    // Erased between two statements of this transaction: what names the person is not kept.
    if person.identities.is_empty() {
        return Err(Outcome { recipient: recipient::ERASED.into(), ..nobody(Reason::UnknownRecipient, None, None) });
    }
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
