//! What events lead to: whom, with what text, and whether there is a credit.

use std::collections::{BTreeSet, HashMap};

use entity::{
    EventId, NotificationId, Timestamp,
    notification::{self, Credit, Reason, State},
    rule::NoCredit,
};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{Incoming, Outcome, apply::Applied};
use crate::{
    consent::{self, Granted, Reservations, Seen, Want},
    context::Context,
    database::Lock,
    error::Error,
    notification::{
        claim::{Lease, born_claimed},
        draft::{Draft, draft},
        lane::{Claimed, Handover, lanes},
    },
    pause::Pauses,
    recipient::{self, Identity, Person, Recipient, ahead::Wanted},
    rule::compiled::Violation,
};

/// What one event leads to.
#[derive(Default)]
pub(super) struct Plan {
    pub outcomes: Vec<Outcome>,
    /// For each outcome the place of what it was applied from.
    pub from: Vec<usize>,
    pub notifications: Vec<notification::Model>,
}

impl Plan {
    fn tell(&mut self, from: usize, outcome: Outcome) {
        self.outcomes.push(outcome);
        self.from.push(from);
    }
}

/// What is to be stored for events, in their order, with the credits that are set aside.
pub(super) struct Proposed {
    pub plans: Vec<Plan>,
    pub reservations: Reservations,
}

impl Proposed {
    /// Whether a message waits for a credit: if one is told before that is stored, the message would miss it.
    pub fn waits(&self) -> bool {
        self.plans.iter().flat_map(|plan| &plan.notifications).any(|row| row.state == State::Waiting)
    }
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

/// One message that may come to be.
struct Candidate<'a> {
    /// The place of what was applied.
    from: usize,
    applied: &'a Applied<'a>,
    reference: &'a str,
    recipient: Result<Recipient, String>,
}

impl<'a> Candidate<'a> {
    fn of(from: usize, applied: &'a Applied<'a>, reference: &'a str) -> Self {
        Self { from, applied, reference, recipient: Recipient::parse(reference) }
    }
}

/// Makes the messages and sets their credits aside as `consent::set_aside` does; nothing is stored yet. Queries and
/// reservations are made for all events together.
pub(super) async fn propose(
    ctx: &Context,
    db: &impl ConnectionTrait,
    applied: &[Applied<'_>],
    events: &[(EventId, &Incoming)],
    (lock, now): (Lock, Timestamp),
) -> Result<Proposed, Error> {
    let candidates: Vec<_> = applied
        .iter()
        .enumerate()
        .flat_map(|(from, one)| one.to.iter().map(move |to| Candidate::of(from, one, to)))
        .collect();
    let wanted = candidates.iter().filter_map(|candidate| {
        let (recipient, policy) = (candidate.recipient.as_ref().ok()?, candidate.applied.policy);
        Some(Wanted { recipient, app_id: &policy.app_id, template_id: &policy.template_id })
    });
    let (people, seen) = match lock {
        Lock::Open => recipient::ahead::look(db, wanted).await?,
        Lock::Held => (recipient::resolve(db, wanted.map(|one| (one.recipient, one.app_id)), lock).await?, Seen::new()),
    };

    let mut plans: Vec<Plan> = events.iter().map(|_| Plan::default()).collect();
    let mut once = HashMap::new();
    let mut wants = Vec::new();
    for candidate in &candidates {
        let event = candidate.applied.event;
        let plan = &mut plans[event];
        let identity = match find_identity(candidate, &people) {
            Ok(identity) => identity,
            Err(outcome) => {
                plan.tell(candidate.from, outcome);
                continue;
            }
        };
        // Two references to one person are one message.
        let message = (event, candidate.applied.rule_id, identity.id);
        if let Some(index) = once.get(&message) {
            let first: &Outcome = &plan.outcomes[*index];
            let again = Outcome { recipient: candidate.reference.to_owned(), ..first.clone() };
            plan.tell(candidate.from, again);
            continue;
        }
        once.insert(message, plan.outcomes.len());
        let row = row(ctx, candidate.applied, identity, events[event], now);
        if row.state == State::Pending {
            let want =
                Want { identity_id: row.identity_id, template_id: row.template_id.clone(), notification_id: row.id };
            wants.push((event, plan.notifications.len(), want));
        }
        plan.tell(candidate.from, outcome(candidate, &row));
        if plan.notifications.is_empty() {
            // Nearly all events are for one person, and a list begins with room for four.
            plan.notifications.reserve_exact(candidate.applied.to.len());
        }
        plan.notifications.push(row);
    }
    let reservations = reserve(db, &mut plans, wants, seen, (lock, now)).await?;
    Ok(Proposed { plans, reservations })
}

/// Claims what can be sent at once for this node; the rest queues.
pub(super) fn begin(ctx: &Context, mut plans: Vec<Plan>, pauses: &Pauses, now: Timestamp) -> Planned {
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

fn find_identity<'a>(
    candidate: &Candidate<'_>,
    people: &'a HashMap<Recipient, Person>,
) -> Result<&'a Identity, Outcome> {
    let Applied { policy, rule_id, message, .. } = candidate.applied;
    let nobody = |reason, user_id, detail: Option<String>| Outcome {
        id: None,
        rule_id: *rule_id,
        recipient: candidate.reference.to_owned(),
        user_id,
        state: State::Failed,
        reason: Some(reason),
        detail,
    };
    let recipient = match &candidate.recipient {
        Ok(recipient) => recipient,
        Err(_) if candidate.applied.crowd.is_some() => {
            let reason = if policy.paused_because.is_some() { Reason::BadTemplate } else { Reason::BadData };
            return Err(nobody(reason, None, Some(explain(candidate.applied))));
        }
        Err(_) if candidate.reference.is_empty() && !message.violations.is_empty() => {
            return Err(nobody(Reason::UnknownRecipient, None, Some(explain(candidate.applied))));
        }
        Err(problem) => return Err(nobody(Reason::UnknownRecipient, None, Some(problem.clone()))),
    };
    let Some(person) = people.get(recipient) else {
        return Err(nobody(Reason::UnknownRecipient, None, None));
    };
    // Erased between two statements of this transaction: what names the person is not kept.
    if person.identities.is_empty() {
        return Err(Outcome { recipient: recipient::ERASED.into(), ..nobody(Reason::UnknownRecipient, None, None) });
    }
    let of_app = person.identities.iter().rfind(|identity| identity.app_id == policy.app_id);
    of_app.ok_or_else(|| nobody(Reason::NoIdentity, Some(person.user_id), None))
}

fn row(
    ctx: &Context,
    applied: &Applied<'_>,
    identity: &Identity,
    (event_id, event): (EventId, &Incoming),
    now: Timestamp,
) -> notification::Model {
    let policy = applied.policy;
    let seconds = |seconds: i64| std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let ttl = event.ttl_seconds.or(policy.ttl_seconds);
    let mut row = draft(Draft {
        id: NotificationId(Uuid::now_v7()),
        identity,
        template_id: &policy.template_id,
        no_credit: policy.no_credit,
        unsure: policy.unsure,
        priority: event.priority.unwrap_or(policy.priority),
        // A time that was asked for stands in for the rule's delay.
        due_at: event.deliver_at.map_or(now + seconds(policy.delay_seconds.unwrap_or(0)), |at| at.max(now)),
        time_to_live: ttl.map_or(ctx.config.delivery.time_to_live, seconds),
        now,
    });
    row.event_id = Some(event_id);
    row.rule_id = applied.rule_id;
    if let Some(because) = &policy.paused_because {
        fail(&mut row, Reason::BadTemplate, Some(format!("the rule is paused: {because}")), now);
    } else if applied.message.violations.is_empty() {
        row.fields = applied.message.fields.clone();
        row.page.clone_from(&applied.message.page);
        row.url.clone_from(&applied.message.url);
        row.miniprogram.clone_from(&applied.message.miniprogram);
    } else {
        fail(&mut row, Reason::BadData, Some(explain(applied)), now);
    }
    row
}

/// Gives each message its credit, or parks or fails it as its rule says.
async fn reserve(
    db: &impl ConnectionTrait,
    plans: &mut [Plan],
    wants: Vec<(usize, usize, Want)>,
    mut seen: Seen,
    (lock, now): (Lock, Timestamp),
) -> Result<Reservations, Error> {
    let (places, wants): (Vec<_>, Vec<_>) =
        wants.into_iter().map(|(event, index, want)| ((event, index), want)).unzip();
    let of = wants.iter().map(|want| (want.identity_id, want.template_id.as_str()));
    consent::see(db, of, lock, &mut seen).await?;
    let (granted, reservations) = consent::set_aside(db, &wants, &seen, now).await?;
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
    Ok(reservations)
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
        rule_id: candidate.applied.rule_id,
        recipient: candidate.reference.to_owned(),
        user_id: Some(row.user_id),
        state: row.state,
        reason: row.reason,
        detail: row.detail.clone(),
    }
}

/// What is wrong with the message: the rule and each field.
fn explain(applied: &Applied<'_>) -> String {
    let each = |violation: &Violation| format!("{}: {}", violation.pointer, violation.problem);
    let parts: Vec<_> = applied.message.violations.iter().map(each).collect();
    match applied.rule_id {
        Some(_) => format!("rule “{}”, {}", applied.policy.name, parts.join("; ")),
        None => parts.join("; "),
    }
}
