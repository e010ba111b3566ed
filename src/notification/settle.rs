//! Settling: what came of the calls, over a slice so that calls that end together share one commit.
//!
//! The row, its credit and its attempt change in one transaction, guarded by the lease token. A lease
//! that was lost is noticed and never overwrites what somebody else did since; but an `unsure` row that
//! nobody has touched still learns the truth from its own late answer.

use std::collections::BTreeMap;

use entity::{
    IdentityId, Timestamp, attempt,
    consent::Source,
    notification::{self as row, Credit, Reason, State},
    rule::NoCredit,
};
use sea_orm::{ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use super::state::{Came, CreditEffect, Hold, Next, Pause, after_call};
use crate::{app_account, consent, context::Context, error::Error, receipt, template};

/// A call that ended.
#[derive(Debug)]
pub struct Settlement {
    /// The row as it was claimed.
    pub row: row::Model,
    pub came: Came,
    pub duration_ms: i32,
}

/// Writes down what came of the calls; gives what each row has become, None where the lease was lost.
pub async fn settle(ctx: &Context, settlements: &[Settlement]) -> Result<Vec<Option<Next>>, Error> {
    let now = ctx.clock.now();
    let tx = ctx.db.begin().await?;
    let mut results = Vec::with_capacity(settlements.len());
    let mut returned = Vec::new();
    let mut zeroed = Vec::new();
    let mut pauses = BTreeMap::new();
    for settlement in settlements {
        let next = after_call(&settlement.row, &settlement.came, now, &ctx.config.delivery, rand::random());
        let ours = write_row(&tx, settlement, &next, now).await?;
        write_attempt(&tx, settlement, &next).await?;
        if !ours {
            results.push(None);
            continue;
        }
        match next.credit {
            CreditEffect::Keep => {}
            CreditEffect::GiveBack => returned.push(&settlement.row),
            CreditEffect::Zero => zeroed.push(&settlement.row),
        }
        if let Some(pause) = &next.pause {
            let template = (*pause == Pause::Template).then_some(settlement.row.template_id.as_str());
            pauses.insert((settlement.row.app_id.as_str(), template), (pause.clone(), words(&settlement.came)));
        }
        results.push(Some(next));
    }
    consent::give_back(&tx, &returned, now).await?;
    for row in zeroed {
        consent::zero(&tx, row.identity_id, &row.template_id, (Source::Answer, Some(row.id)), now).await?;
        stop_others(&tx, row.identity_id, &row.template_id, now).await?;
    }
    for ((app_id, template_id), (pause, because)) in pauses {
        match (pause, template_id) {
            (Pause::App { until, by }, _) => app_account::pause(&tx, app_id, until, &because, by).await?,
            (Pause::Template, Some(template_id)) => template::pause(&tx, app_id, template_id, &because).await?,
            (Pause::Template, None) => {}
        }
    }
    let settled = settlements.iter().map(|settlement| (&*settlement.row.app_id, &*settlement.row.openid));
    receipt::match_held_of(&tx, settled, now).await?;
    tx.commit().await?;
    Ok(results)
}

async fn write_row(
    tx: &DatabaseTransaction,
    settlement: &Settlement,
    next: &Next,
    now: Timestamp,
) -> Result<bool, Error> {
    let mut change = row::ActiveModel {
        state: Set(next.state),
        reason: Set(next.reason),
        due_at: Set(next.due_at),
        attempts_used: Set(next.attempts_used),
        lease_until: Set(None),
        ..Default::default()
    };
    // An unsure row keeps its lease token: its own late answer may still decide it.
    if next.state != State::Unsure {
        change.lease_token = Set(None);
    }
    if next.credit != CreditEffect::Keep {
        change.credit = Set(Credit::Returned);
    }
    match &settlement.came {
        Came::Accepted { message_id } => {
            change.sent_at = Set(Some(now));
            change.message_id = Set(message_id.clone());
        }
        Came::Refused { refusal, .. } if next.state == State::Failed => change.detail = Set(Some(refusal.to_string())),
        _ => {}
    }
    if next.state == State::Failed {
        change.finished_at = Set(Some(now));
    }
    let changed = row::Entity::update_many()
        .set(change)
        .filter(row::Column::Id.eq(settlement.row.id))
        .filter(row::Column::LeaseToken.eq(settlement.row.lease_token))
        .filter(row::Column::State.is_in([State::Sending, State::Unsure]))
        .exec(tx)
        .await?;
    Ok(changed.rows_affected == 1)
}

async fn write_attempt(tx: &DatabaseTransaction, settlement: &Settlement, next: &Next) -> Result<(), Error> {
    let refusal = settlement.came.refusal();
    let errmsg = match &settlement.came {
        Came::Accepted { .. } => None,
        came => Some(words(came)),
    };
    attempt::Entity::update_many()
        .set(attempt::ActiveModel {
            duration_ms: Set(Some(settlement.duration_ms)),
            outcome: Set(Some(next.outcome)),
            errcode: Set(refusal
                .map(|refusal| refusal.errcode)
                .or(matches!(settlement.came, Came::Accepted { .. }).then_some(0))),
            errmsg: Set(errmsg),
            rid: Set(refusal.and_then(|refusal| refusal.rid.clone())),
            ..Default::default()
        })
        .filter(attempt::Column::NotificationId.eq(settlement.row.id))
        .filter(attempt::Column::Number.eq(settlement.row.attempt_number))
        .exec(tx)
        .await?;
    Ok(())
}

/// The user takes no more of this template, so what waits to be sent does not go either.
pub async fn stop_others(
    tx: &DatabaseTransaction,
    identity_id: IdentityId,
    template_id: &str,
    now: Timestamp,
) -> Result<(), Error> {
    for (policy, state, finished_at) in
        [(NoCredit::Fail, State::Failed, Some(now)), (NoCredit::Wait, State::Waiting, None)]
    {
        row::Entity::update_many()
            .set(row::ActiveModel {
                state: Set(state),
                reason: Set(Some(Reason::NoCredit)),
                credit: Set(Credit::Returned),
                finished_at: Set(finished_at),
                ..Default::default()
            })
            .filter(row::Column::IdentityId.eq(identity_id))
            .filter(row::Column::TemplateId.eq(template_id))
            .filter(row::Column::State.eq(State::Pending))
            .filter(row::Column::NoCredit.eq(policy))
            .exec(tx)
            .await?;
    }
    Ok(())
}

/// What came of a call, for the attempt and for the cause of a pause.
pub fn words(came: &Came) -> String {
    match came {
        Came::Accepted { .. } => "ok".into(),
        Came::Refused { refusal, .. } | Came::Limited { refusal, .. } => {
            let entry = refusal.entry();
            format!("{} {} — {} ({})", refusal.errcode, refusal.errmsg, entry.en, entry.zh)
        }
        Came::NotSent => "WeChat cannot be reached".into(),
        Came::Unknown { problem, .. } => problem.clone(),
        Came::NotCalled { because: Hold::Released } => "not called; left to the next claim".into(),
        Came::NotCalled { because: Hold::Token { problem, .. } } => problem.clone(),
    }
}
