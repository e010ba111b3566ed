//! Settling: what came of the calls, over a slice so that calls that end together share one commit.
//!
//! The row, its credit and its attempt change in one transaction, guarded by the lease token. A lease
//! that was lost is noticed and never overwrites what somebody else did since; but an `unsure` row that
//! nobody has touched still learns the truth from its own late answer.

use std::collections::{BTreeMap, HashSet};

use entity::{
    IdentityId, NotificationId, Timestamp,
    consent::Source,
    notification::{self as row, Credit, Reason, State},
    rule::NoCredit,
};
use sea_orm::{
    ActiveEnum, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
};

use super::state::{Came, CreditEffect, Hold, Next, Pause, after_call};
use crate::{
    app_account, consent,
    context::Context,
    database::rows::{Rows, padded},
    error::Error,
    receipt, template,
    webhook::outbox,
};

/// A call that ended.
#[derive(Debug)]
pub struct Settlement {
    /// The row as it was claimed.
    pub row: row::Model,
    pub came: Came,
    pub duration_ms: i32,
}

/// Writes down what came of the calls; gives what each row has become, None where the lease was lost.
pub async fn settle(ctx: &Context, settlements: &[&Settlement]) -> Result<Vec<Option<Next>>, Error> {
    let now = ctx.clock.now();
    let nexts: Vec<_> = settlements
        .iter()
        .map(|settlement| after_call(&settlement.row, &settlement.came, now, &ctx.config.delivery, rand::random()))
        .collect();
    let tx = ctx.db.begin().await?;
    let ours = write_rows(&tx, settlements, &nexts, now).await?;
    write_attempts(&tx, settlements, &nexts, &ours).await?;
    let mut results = Vec::with_capacity(settlements.len());
    let mut returned = Vec::new();
    let mut zeroed = Vec::new();
    let mut pauses = BTreeMap::new();
    for (settlement, next) in settlements.iter().zip(nexts) {
        if !ours.contains(&settlement.row.id) {
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
    let told: Vec<_> = zeroed.iter().map(|row| (row.identity_id, row.template_id.as_str(), Some(row.id))).collect();
    if !told.is_empty() {
        consent::zero_all(&tx, &told, Source::Answer, now).await?;
        stop_others(ctx, &tx, told.iter().map(|(identity_id, template_id, _)| (*identity_id, *template_id)), now)
            .await?;
    }
    for ((app_id, template_id), (pause, because)) in pauses {
        match (pause, template_id) {
            (Pause::App { until, by }, _) => app_account::pause(&tx, app_id, until, &because, by).await?,
            (Pause::Template, Some(template_id)) => template::pause(&tx, app_id, template_id, &because).await?,
            (Pause::Template, None) => {}
        }
    }
    let became = settlements.iter().zip(&results).filter_map(|(s, next)| Some((&s.row, next.as_ref()?)));
    outbox::notifications(ctx, &tx, became.map(|(row, next)| (row, next.state, next.reason)), now).await?;
    let settled = settlements.iter().map(|settlement| (&*settlement.row.app_id, &*settlement.row.openid));
    receipt::match_held_of(ctx, &tx, settled, now).await?;
    tx.commit().await?;
    Ok(results)
}

/// What is not told stays as it is. An unsure row keeps its lease token: its own late answer may still
/// decide it.
const WRITE_ROWS: &str = "UPDATE notification SET
    state = v_state, reason = v_reason, due_at = v_due_at, attempts_used = v_attempts_used, lease_until = NULL,
    lease_token = CASE WHEN v_state = 'unsure' THEN lease_token END,
    credit = COALESCE(v_credit, credit), sent_at = COALESCE(v_sent_at, sent_at),
    message_id = CASE WHEN v_sent_at IS NULL THEN message_id ELSE v_message_id END,
    detail = COALESCE(v_detail, detail), finished_at = COALESCE(v_finished_at, finished_at)
FROM v WHERE id = v_id AND lease_token = v_token AND state IN ('sending', 'unsure') RETURNING id";

/// Gives the rows whose leases were still ours.
async fn write_rows(
    tx: &DatabaseTransaction,
    settlements: &[&Settlement],
    nexts: &[Next],
    now: Timestamp,
) -> Result<HashSet<NotificationId>, Error> {
    let mut rows = Rows::of(&[
        "v_id",
        "v_token",
        "v_state",
        "v_reason",
        "v_due_at",
        "v_attempts_used",
        "v_credit",
        "v_sent_at",
        "v_message_id",
        "v_detail",
        "v_finished_at",
    ]);
    for (Settlement { row, came, .. }, next) in settlements.iter().zip(nexts) {
        let (sent_at, message_id) = match came {
            Came::Accepted { message_id } => (Some(now), message_id.clone()),
            _ => (None, None),
        };
        let detail = match came {
            Came::Refused { refusal, .. } if next.state == State::Failed => Some(refusal.to_string()),
            _ => None,
        };
        rows.push([
            row.id.into(),
            row.lease_token.into(),
            next.state.to_value().into(),
            next.reason.map(|reason| reason.to_value()).into(),
            next.due_at.into(),
            next.attempts_used.into(),
            (next.credit != CreditEffect::Keep).then(|| Credit::Returned.to_value()).into(),
            sent_at.into(),
            message_id.into(),
            detail.into(),
            (next.state == State::Failed).then_some(now).into(),
        ]);
    }
    let written = tx.query_all_raw(rows.statement(tx.get_database_backend(), WRITE_ROWS)).await?;
    Ok(written.iter().map(|row| row.try_get("", "id")).collect::<Result<_, _>>()?)
}

const WRITE_ATTEMPTS: &str = "UPDATE attempt SET
    duration_ms = v_duration_ms, outcome = v_outcome, errcode = v_errcode, errmsg = v_errmsg, rid = v_rid
FROM v WHERE notification_id = v_id AND number = v_number";

/// WeChat's words are kept only while the lease is ours: they may name a person who was erased meanwhile.
async fn write_attempts(
    tx: &DatabaseTransaction,
    settlements: &[&Settlement],
    nexts: &[Next],
    ours: &HashSet<NotificationId>,
) -> Result<(), Error> {
    let mut rows = Rows::of(&["v_id", "v_number", "v_duration_ms", "v_outcome", "v_errcode", "v_errmsg", "v_rid"]);
    for (Settlement { row, came, duration_ms }, next) in settlements.iter().zip(nexts) {
        let refusal = came.refusal();
        let accepted = matches!(came, Came::Accepted { .. });
        rows.push([
            row.id.into(),
            row.attempt_number.into(),
            (*duration_ms).into(),
            next.outcome.to_value().into(),
            refusal.map(|refusal| refusal.errcode).or(accepted.then_some(0)).into(),
            (!accepted && ours.contains(&row.id)).then(|| words(came)).into(),
            refusal.filter(|_| ours.contains(&row.id)).and_then(|refusal| refusal.rid.clone()).into(),
        ]);
    }
    tx.execute_raw(rows.statement(tx.get_database_backend(), WRITE_ATTEMPTS)).await?;
    Ok(())
}

/// These users take no more of these templates, so what waits to be sent does not go either.
pub async fn stop_others<'a>(
    ctx: &Context,
    tx: &DatabaseTransaction,
    of: impl Iterator<Item = (IdentityId, &'a str)>,
    now: Timestamp,
) -> Result<(), Error> {
    let mut by_template: BTreeMap<&str, Vec<IdentityId>> = BTreeMap::new();
    for (identity_id, template_id) in of {
        by_template.entry(template_id).or_default().push(identity_id);
    }
    outbox::stopped(ctx, tx, &by_template, now).await?;
    let policies = [(NoCredit::Fail, State::Failed, Some(now)), (NoCredit::Wait, State::Waiting, None)];
    for ((template_id, identities), (policy, state, finished_at)) in
        by_template.iter().flat_map(|each| policies.map(|policy| (each, policy)))
    {
        row::Entity::update_many()
            .set(row::ActiveModel {
                state: Set(state),
                reason: Set(Some(Reason::NoCredit)),
                credit: Set(Credit::Returned),
                finished_at: Set(finished_at),
                ..Default::default()
            })
            .filter(row::Column::IdentityId.is_in(padded(identities.iter().copied())))
            .filter(row::Column::TemplateId.eq(*template_id))
            // Bound, so that the index of the identities is taken, not one of all that is pending.
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
