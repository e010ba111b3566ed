//! Settling: what came of the calls, over a slice so that calls that end together share one commit.
//!
//! The row, its credit and its attempt change in one transaction, guarded by the lease token. A lease
//! that was lost is noticed and never overwrites what somebody else did since; but an `unsure` row that
//! nobody has touched still learns the truth from its own late answer.

use std::collections::{BTreeMap, HashSet};

use entity::{
    IdentityId, NotificationId, Timestamp, attempt,
    consent::Source,
    notification::{self as row, Credit, Reason, State},
    rule::NoCredit,
};
use sea_orm::{
    ActiveEnum, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, Value,
};

use super::{
    attempts,
    claim::is_one_of,
    state::{Came, CreditEffect, Hold, Next, Pause, after_call},
};
use crate::{
    app_account, consent,
    context::Context,
    database::{
        again,
        rows::{Rows, padded},
    },
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
    if is_plain(ctx, settlements, now).await? {
        return settle_plain(ctx, settlements, nexts, now).await;
    }
    again(|| Box::pin(settle_any(ctx, settlements, nexts.clone(), now))).await
}

/// Whether WeChat took all of them and nothing is to be written but their rows, which is how nearly all end.
async fn is_plain(ctx: &Context, settlements: &[&Settlement], now: Timestamp) -> Result<bool, Error> {
    let in_time = in_time(ctx, now);
    let taken = |Settlement { row, came, .. }: &&Settlement| {
        matches!(came, Came::Accepted { .. }) && row.lease_until.is_some_and(|until| in_time < until)
    };
    Ok(settlements.iter().all(taken) && !outbox::is_told_of(ctx, State::Accepted).await?)
}

/// Settles those by one statement, which is a transaction by itself: what follows must not have it done again.
async fn settle_plain(
    ctx: &Context,
    settlements: &[&Settlement],
    nexts: Vec<Next>,
    now: Timestamp,
) -> Result<Vec<Option<Next>>, Error> {
    let (ours, receipts_wait) = again(|| write_plain(ctx, settlements, now)).await?;
    let (settled, lost): (Vec<_>, Vec<_>) =
        settlements.iter().zip(&nexts).partition(|(settlement, _)| ours.contains(&settlement.row.id));
    if receipts_wait {
        let of = || settled.iter().map(|(settlement, _)| (&*settlement.row.app_id, &*settlement.row.openid));
        if let Err(error) = again(|| Box::pin(match_receipts(ctx, of(), now))).await {
            // The sweep looks at them once more.
            tracing::warn!(%error, "notification.receipts_wait");
        }
    }
    let mut others = Vec::new().into_iter();
    if !lost.is_empty() {
        // What became of the calls whose leases were lost is written beside them.
        let (lost, lost_nexts): (Vec<_>, Vec<_>) = lost.into_iter().map(|(lost, next)| (*lost, next.clone())).unzip();
        others = again(|| Box::pin(settle_any(ctx, &lost, lost_nexts.clone(), now))).await?.into_iter();
    }
    let next = |(settlement, next): (&&Settlement, Next)| {
        if ours.contains(&settlement.row.id) { Some(next) } else { others.next().flatten() }
    };
    Ok(settlements.iter().zip(nexts).map(next).collect())
}

/// Gives the rows whose leases were still ours, and whether receipts wait.
async fn write_plain(
    ctx: &Context,
    settlements: &[&Settlement],
    now: Timestamp,
) -> Result<(HashSet<NotificationId>, bool), Error> {
    let mut rows = taken(now);
    for Settlement { row, came, duration_ms } in settlements {
        rows.push(told(row, came.message_id(), *duration_ms));
    }
    if ctx.db.is_sqlite() {
        return write_plain_on_sqlite(ctx, settlements, rows, now).await;
    }
    let sql = format!("{WRITE_TAKEN} RETURNING id, {RECEIPTS_WAIT}");
    let statement = rows.with(now - receipt::HELD_FOR).statement(ctx.db.write().get_database_backend(), &sql)?;
    let (mut ours, mut receipts_wait) = (HashSet::with_capacity(settlements.len()), false);
    for row in ctx.db.planned_once().query_all_raw(statement).await? {
        ours.insert(row.try_get("", "id")?);
        receipts_wait |= row.try_get::<bool>("", "receipts_wait")?;
    }
    Ok((ours, receipts_wait))
}

/// Under one commit with what else waits for the one writer. Where not all of it can be written none of it is, and each
/// is looked at by `settle_any`.
async fn write_plain_on_sqlite(
    ctx: &Context,
    settlements: &[&Settlement],
    rows: Rows,
    now: Timestamp,
) -> Result<(HashSet<NotificationId>, bool), Error> {
    let mut writes = ctx.db.writes();
    writes.change(rows, WRITE_TAKEN)?;
    if !ctx.db.write_alone(writes).await? {
        return Ok((HashSet::new(), false));
    }
    let ours = settlements.iter().map(|settlement| settlement.row.id).collect();
    // All is written: what cannot be looked up now must not have it done again.
    Ok((ours, receipt::is_any_held(ctx, now).await.unwrap_or(true)))
}

async fn match_receipts<'a>(
    ctx: &Context,
    settled: impl Iterator<Item = (&'a str, &'a str)>,
    now: Timestamp,
) -> Result<(), Error> {
    let tx = ctx.db.begin().await?;
    receipt::match_held_of(ctx, &tx, settled, now).await?;
    Ok(tx.commit().await?)
}

/// Settles whatever came of the calls.
async fn settle_any(
    ctx: &Context,
    settlements: &[&Settlement],
    nexts: Vec<Next>,
    now: Timestamp,
) -> Result<Vec<Option<Next>>, Error> {
    let tx = ctx.db.begin().await?;
    let unspent = settlements.iter().zip(&nexts).filter(|(_, next)| next.credit != CreditEffect::Keep);
    consent::hold(&tx, unspent.map(|(settlement, _)| &settlement.row)).await?;
    let ours = write_rows(&tx, settlements, &nexts, now).await?;
    write_attempts(&tx, settlements, &nexts, &ours, in_time(ctx, now)).await?;
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
    let released = consent::give_back(&tx, &returned, now).await?;
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
    ctx.wake.delivery.ring_each(&released);
    Ok(results)
}

/// Leases that end later are surely ours: clocks of nodes differ a little, and the sweep may be another node's.
fn in_time(ctx: &Context, now: Timestamp) -> Timestamp {
    now + ctx.config.delivery.request_timeout
}

/// A message that WeChat took: most of all there is to settle, so only what differs is bound.
const WRITE_TAKEN: &str = "UPDATE notification SET
    state = 'accepted', reason = NULL, attempts_used = attempts_used + 1, lease_until = NULL, lease_token = NULL,
    sent_at = $same, message_id = v_message_id, attempt_ms = v_attempt_ms
FROM v WHERE id = v_id AND lease_token = v_token AND state IN ('sending', 'unsure')";

/// What is not told stays as it is. An unsure row keeps its lease token: its own late answer may still
/// decide it.
const WRITE_OTHERS: &str = "UPDATE notification SET
    state = v_state, reason = v_reason, due_at = v_due_at, attempts_used = v_attempts_used, lease_until = NULL,
    lease_token = CASE WHEN v_state = 'unsure' THEN lease_token END,
    credit = COALESCE(v_credit, credit), detail = COALESCE(v_detail, detail),
    finished_at = COALESCE(v_finished_at, finished_at)
FROM v WHERE id = v_id AND lease_token = v_token AND state IN ('sending', 'unsure')";

/// Whether receipts wait for a message that can be told, be it one of these.
const RECEIPTS_WAIT: &str =
    "EXISTS (SELECT 1 FROM receipt WHERE notification_id IS NULL AND received_at > $same) AS receipts_wait";

/// The rows of `WRITE_TAKEN`.
fn taken(now: Timestamp) -> Rows {
    Rows::of(&["v_id", "v_token", "v_message_id", "v_attempt_ms"]).with(now)
}

fn told(row: &row::Model, message_id: Option<&String>, duration_ms: i32) -> [Value; 4] {
    [row.id.into(), row.lease_token.into(), message_id.cloned().into(), duration_ms.into()]
}

/// Gives the rows whose leases were still ours.
async fn write_rows(
    tx: &DatabaseTransaction,
    settlements: &[&Settlement],
    nexts: &[Next],
    now: Timestamp,
) -> Result<HashSet<NotificationId>, Error> {
    let mut taken = taken(now);
    let mut others = Rows::of(&[
        "v_id",
        "v_token",
        "v_state",
        "v_reason",
        "v_due_at",
        "v_attempts_used",
        "v_credit",
        "v_detail",
        "v_finished_at",
    ]);
    for (Settlement { row, came, duration_ms }, next) in settlements.iter().zip(nexts) {
        if let Came::Accepted { message_id } = came {
            taken.push(told(row, message_id.as_ref(), *duration_ms));
            continue;
        }
        let detail = match came {
            Came::Refused { refusal, .. } if next.state == State::Failed => Some(refusal.to_string()),
            _ => None,
        };
        others.push([
            row.id.into(),
            row.lease_token.into(),
            next.state.to_value().into(),
            next.reason.map(|reason| reason.to_value()).into(),
            next.due_at.into(),
            next.attempts_used.into(),
            (next.credit != CreditEffect::Keep).then(|| Credit::Returned.to_value()).into(),
            detail.into(),
            (next.state == State::Failed).then_some(now).into(),
        ]);
    }
    let mut ours = HashSet::with_capacity(settlements.len());
    for (rows, sql) in [(taken, WRITE_TAKEN), (others, WRITE_OTHERS)] {
        if !rows.is_empty() {
            let statement = rows.statement(tx.get_database_backend(), &format!("{sql} RETURNING id"))?;
            for row in tx.query_all_raw(statement).await? {
                ours.insert(row.try_get("", "id")?);
            }
        }
    }
    Ok(ours)
}

/// A message that was taken needs no more than its row, unless the sweep may have told of its call first.
/// WeChat's words are kept only while the lease is ours: they may name a person who was erased meanwhile.
async fn write_attempts(
    tx: &DatabaseTransaction,
    settlements: &[&Settlement],
    nexts: &[Next],
    ours: &HashSet<NotificationId>,
    in_time: Timestamp,
) -> Result<(), Error> {
    let mut attempts = Vec::new();
    for (Settlement { row, came, duration_ms }, next) in settlements.iter().zip(nexts) {
        let (ours, accepted) = (ours.contains(&row.id), matches!(came, Came::Accepted { .. }));
        if accepted && ours && row.lease_until.is_some_and(|until| in_time < until) {
            continue;
        }
        let refusal = came.refusal();
        attempts.push(attempt::Model {
            notification_id: row.id,
            number: row.attempt_number,
            started_at: row.attempt_at.unwrap_or(row.created_at),
            duration_ms: Some(*duration_ms),
            outcome: Some(next.outcome),
            errcode: refusal.map(|refusal| refusal.errcode).or(accepted.then_some(0)),
            errmsg: (!accepted && ours).then(|| words(came)),
            rid: refusal.filter(|_| ours).and_then(|refusal| refusal.rid.clone()),
        });
    }
    attempts::write(tx, attempts).await
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
            .filter(is_one_of(&[State::Pending]))
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
