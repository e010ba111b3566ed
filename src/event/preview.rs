//! What an event would lead to, told by the same code that would do it: the plan is made, and nothing of it stored.

use std::collections::HashMap;

use entity::{
    EventId, IdentityId, RuleId, Timestamp, UserId, credit,
    notification::{FieldValues, Reason, State},
    rule::NoCredit,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::{Incoming, apply, check, plan, repeat, row};
use crate::{
    context::Context,
    database::{Lock, rows::padded},
    error::Error,
    pause, revision, rule,
    rule::compiled::Violation,
};

/// What would become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Would {
    Send,
    /// It is stored, and something has to happen first.
    Wait,
    Fail,
}

/// What stands in the way of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// It would fail, or wait for consent.
    Reason(Reason),
    /// Nothing of the app is sent for the time being.
    AppPaused,
    TemplatePaused,
    /// It is for a later time.
    Scheduled,
}

/// What would become of an event for one rule and recipient.
pub struct Prospect {
    pub rule_id: Option<RuleId>,
    pub recipient: String,
    pub user_id: Option<UserId>,
    pub app_id: String,
    pub template_id: String,
    pub would: Would,
    pub because: Option<Because>,
    pub detail: Option<String>,
    /// As far as they could be computed.
    pub fields: FieldValues,
    pub page: Option<String>,
    pub violations: Vec<Violation>,
    /// Messages the user will still take, before this one; None when nobody is known or none are counted.
    pub credits: Option<i32>,
    pub no_credit: NoCredit,
    pub due_at: Option<Timestamp>,
}

/// What would happen now.
pub struct Preview {
    /// Set when the event is here already: then nothing more would happen.
    pub duplicate_of: Option<EventId>,
    pub prospects: Vec<Prospect>,
}

/// Tells what would become of an event; stores and sends nothing.
pub async fn preview(ctx: &Context, event: &Incoming) -> Result<Preview, Error> {
    let now = ctx.clock.now();
    check(event, now)?;
    let stored = row::Entity::find()
        .filter(row::Column::Source.eq(&event.source))
        .filter(row::Column::SourceId.eq(&event.id))
        .one(ctx.db.read())
        .await?;
    let duplicate_of = stored.map(|stored| repeat(&stored, event)).transpose()?.map(|first| first.event_id);
    let revisions = revision::now(ctx).await?;
    let (rules, pauses) = (rule::current(ctx, &revisions).await?, pause::current(ctx, &revisions).await?);
    let events = [(EventId(Uuid::now_v7()), event)];
    let applied = apply::apply(&rules, &events);
    let mut plans = plan::propose(ctx, ctx.db.read(), &applied, &events, (Lock::Open, now)).await?.plans;
    let plan = plans.pop().unwrap_or_default();
    let credits = credits(ctx, &plan).await?;
    let mut prospects = Vec::with_capacity(plan.outcomes.len());
    for (outcome, from) in plan.outcomes.iter().zip(&plan.from) {
        let from = &applied[*from];
        let (app_id, template_id) = (&from.policy.app_id, &from.policy.template_id);
        let message = outcome.id.and_then(|id| plan.notifications.iter().find(|row| row.id == id));
        let due_at = message.map(|row| row.due_at).filter(|at| *at > now);
        let hindrance = if !pauses.is_awake(app_id, now) {
            Some(Because::AppPaused)
        } else if !pauses.may_send(app_id, template_id, now) {
            Some(Because::TemplatePaused)
        } else {
            due_at.map(|_| Because::Scheduled)
        };
        let (would, because) = match (outcome.state, outcome.reason.map(Because::Reason)) {
            (State::Failed, reason) => (Would::Fail, reason),
            (State::Waiting, reason) => (Would::Wait, reason),
            _ if matches!(hindrance, Some(Because::AppPaused | Because::TemplatePaused)) => (Would::Wait, hindrance),
            _ => (Would::Send, hindrance),
        };
        prospects.push(Prospect {
            rule_id: outcome.rule_id,
            recipient: outcome.recipient.clone(),
            user_id: outcome.user_id,
            app_id: app_id.clone(),
            template_id: template_id.clone(),
            would,
            because,
            detail: outcome.detail.clone(),
            fields: from.message.fields.clone(),
            page: from.message.page.clone(),
            violations: from.message.violations.clone(),
            credits: message.and_then(|row| credits.get(&(row.identity_id, row.template_id.clone())).copied()),
            no_credit: from.policy.no_credit,
            due_at,
        });
    }
    prospects.extend(applied.iter().filter_map(|one| crowd(one, pauses.is_awake(&one.policy.app_id, now))));
    Ok(Preview { duplicate_of, prospects })
}

/// Many recipients are one prospect: what each is told is the same.
fn crowd(one: &apply::Applied<'_>, awake: bool) -> Option<Prospect> {
    let crowd = one.crowd.as_ref().filter(|_| one.message.violations.is_empty())?;
    Some(Prospect {
        rule_id: one.rule_id,
        recipient: crowd.to_string(),
        user_id: None,
        app_id: one.policy.app_id.clone(),
        template_id: one.policy.template_id.clone(),
        would: if awake { Would::Send } else { Would::Wait },
        because: (!awake).then_some(Because::AppPaused),
        detail: None,
        fields: one.message.fields.clone(),
        page: one.message.page.clone(),
        violations: Vec::new(),
        credits: None,
        no_credit: one.policy.no_credit,
        due_at: None,
    })
}

/// The balances as they are.
async fn credits(ctx: &Context, plan: &plan::Plan) -> Result<HashMap<(IdentityId, String), i32>, Error> {
    if plan.notifications.is_empty() {
        return Ok(HashMap::new());
    }
    let mut balances: HashMap<_, _> =
        plan.notifications.iter().map(|row| ((row.identity_id, row.template_id.clone()), 0)).collect();
    let rows = credit::Entity::find()
        .filter(credit::Column::IdentityId.is_in(padded(plan.notifications.iter().map(|row| row.identity_id))))
        .all(ctx.db.read())
        .await?;
    balances.extend(rows.into_iter().map(|row| ((row.identity_id, row.template_id), row.credits)));
    Ok(balances)
}
