//! The front end's report of what the user tapped (`wx.requestSubscribeMessage`).

use entity::{
    IdentityId, Timestamp,
    consent::{self as entry, Kind, Source},
    credit,
    notification::{self, Credit, State},
    session, template,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect, TryInsertResult,
    sea_query::{Expr, OnConflict},
};

use super::{MOST_CREDITS, Want, change, entry_of, lock, reserve};
use crate::{
    context::Context,
    error::{Code, Error, FieldError},
    template as templates,
};

/// WeChat's client takes at most five templates a call.
const MOST_RESULTS: usize = 20;

/// One answer of the pop-up.
pub struct Report {
    /// The front end's own id: a repeated report changes nothing.
    pub report_id: String,
    /// Template id → what WeChat's client said.
    pub results: Vec<(String, String)>,
    pub tapped_at: Option<Timestamp>,
}

/// What became of a report.
pub struct Reported {
    pub balances: Vec<credit::Model>,
    /// Results that are none WeChat documents: no credit is counted for them.
    pub ignored: Vec<(String, String)>,
}

/// Enters a report into the ledger. The same `report_id` counts once, whatever it says later.
pub async fn report(ctx: &Context, session: &session::Model, report: &Report) -> Result<Reported, Error> {
    check(report)?;
    let app = ctx.app(&session.app_id).ok_or(Error::new(Code::AppNotFound))?;
    let ids: Vec<_> = report.results.iter().map(|(id, _)| id.as_str()).collect();
    let templates = templates::require(ctx, &app, &ids).await?;
    let now = ctx.clock.now();
    let mut ignored = Vec::new();
    let mut accepted = false;
    let tx = ctx.db.begin().await?;
    for (template_id, result) in &report.results {
        let Some(kind) = kind(result) else {
            ignored.push((template_id.clone(), result.clone()));
            continue;
        };
        let Some(template) = templates.iter().find(|row| row.template_id == *template_id) else { continue };
        if enter(&tx, session.identity_id, (template, kind), report, now).await? && kind == Kind::Accept {
            accepted |= release_waiting(&tx, session.identity_id, template_id, now).await?;
        }
    }
    let balances = super::balances(&tx, session.identity_id).await?;
    tx.commit().await?;
    if accepted {
        ctx.wake.delivery.ring(&session.app_id);
    }
    Ok(Reported { balances, ignored })
}

fn check(report: &Report) -> Result<(), Error> {
    let mut faults = Vec::new();
    if report.report_id.is_empty() || report.report_id.len() > 100 {
        faults.push(FieldError::new("/report_id", "must be 1 to 100 characters, a new one for each tap"));
    }
    if report.results.is_empty() || report.results.len() > MOST_RESULTS {
        faults.push(FieldError::new(
            "/results",
            format!("must hold 1 to {MOST_RESULTS} template ids with their results"),
        ));
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::fields(Code::InvalidRequest, faults)) }
}

fn kind(result: &str) -> Option<Kind> {
    match result {
        "accept" | "acceptWithAudio" | "acceptWithAlert" => Some(Kind::Accept),
        "reject" => Some(Kind::Reject),
        "ban" => Some(Kind::Ban),
        "filter" => Some(Kind::Filter),
        _ => None,
    }
}

/// Whether the entry is new.
async fn enter(
    tx: &DatabaseTransaction,
    identity_id: IdentityId,
    (template, kind): (&template::Model, Kind),
    report: &Report,
    now: Timestamp,
) -> Result<bool, Error> {
    let template_id = template.template_id.as_str();
    let fresh = credit::ActiveModel {
        identity_id: Set(identity_id),
        template_id: Set(template_id.to_owned()),
        kind: Set(template.kind),
        credits: Set(0),
        last_result: Set(kind),
        updated_at: Set(now),
    };
    let keep = OnConflict::columns([credit::Column::IdentityId, credit::Column::TemplateId]).do_nothing().to_owned();
    credit::Entity::insert(fresh).on_conflict(keep).try_insert().exec_without_returning(tx).await?;
    let credits = lock(tx, std::iter::once((identity_id, template_id))).await?;
    let credits = credits.values().map(|(row, _)| row.credits).sum();

    let delta = delta(template.kind, kind, credits);
    let row = entry::ActiveModel {
        report_id: Set(Some(report.report_id.clone())),
        tapped_at: Set(report.tapped_at.unwrap_or(now)),
        ..entry_of(identity_id, template_id, (kind, delta, Source::Report), now)
    };
    let inserted = entry::Entity::insert(row)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .try_insert()
        .exec_without_returning(tx)
        .await?;
    if !matches!(inserted, TryInsertResult::Inserted(count) if count > 0) {
        return Ok(false);
    }
    change(tx, identity_id, template_id, delta, now).await?;
    credit::Entity::update_many()
        .col_expr(credit::Column::LastResult, Expr::value(kind))
        .filter(credit::Column::IdentityId.eq(identity_id))
        .filter(credit::Column::TemplateId.eq(template_id))
        .exec(tx)
        .await?;
    Ok(true)
}

/// An acceptance is worth one message, or switches a long-term template on; a rejection switches it
/// off, and leaves one-time credits alone.
fn delta(template: template::Kind, said: Kind, credits: i32) -> i32 {
    match (template, said) {
        (template::Kind::LongTerm, Kind::Accept) => 1 - credits,
        (template::Kind::LongTerm, Kind::Reject) => -credits,
        (_, Kind::Accept) => (MOST_CREDITS - credits).clamp(0, 1),
        _ => 0,
    }
}

/// Messages that waited for this consent may go, the oldest first.
async fn release_waiting(
    tx: &DatabaseTransaction,
    identity_id: IdentityId,
    template_id: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let waiting = notification::Entity::find()
        .filter(notification::Column::IdentityId.eq(identity_id))
        .filter(notification::Column::TemplateId.eq(template_id))
        .filter(notification::Column::State.eq(State::Waiting))
        .order_by_asc(notification::Column::Id)
        .limit(u64::from(MOST_CREDITS.unsigned_abs()))
        .all(tx)
        .await?;
    let want =
        |row: &notification::Model| Want { identity_id, template_id: template_id.to_owned(), notification_id: row.id };
    let granted = reserve(tx, &waiting.iter().map(want).collect::<Vec<_>>(), now).await?;
    let mut released = false;
    for (row, granted) in waiting.iter().zip(granted) {
        let credit = match granted {
            super::Granted::Reserved => Credit::Reserved,
            super::Granted::Standing => Credit::None,
            super::Granted::No => continue,
        };
        notification::Entity::update_many()
            .set(notification::ActiveModel {
                state: Set(State::Pending),
                credit: Set(credit),
                reason: Set(None),
                due_at: Set(now.max(row.due_at)),
                ..Default::default()
            })
            .filter(notification::Column::Id.eq(row.id))
            .exec(tx)
            .await?;
        released = true;
    }
    Ok(released)
}
