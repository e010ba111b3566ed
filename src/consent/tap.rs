//! One tap of a user, as the front end reports it and as WeChat tells it.
//!
//! ```text
//! report ─┐                               ┌─ its twin is here: the entry counts nothing, both know each other
//!         ├─▶ balance locked ─▶ entry ────┤
//! popup ──┘                               └─ alone: it counts
//! ```
//!
//! Both tell of one tap, in any order and on any node; either may be missing: a front end may go offline, and no
//! pop-up is shown where the user keeps the choice. So they are matched one to one by the time of the tap.

use std::time::Duration;

use entity::{
    ConsentId, IdentityId, Timestamp,
    consent::{self as entry, Kind, Source},
    credit, template,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, TryInsertResult,
    sea_query::{Expr, OnConflict},
};

use super::{MOST_CREDITS, change, entry_of, lock};
use crate::{
    context::Context,
    error::Error,
    webhook::{self, outbox},
};

/// How far apart the two tellings of one tap may place it: phones' clocks are not exact, and a report without a
/// time is dated when it arrives.
pub const WINDOW: Duration = Duration::from_mins(5);

/// One answer of the user about one template.
pub(super) struct Tap {
    pub id: ConsentId,
    pub identity_id: IdentityId,
    pub kind: Kind,
    pub source: Source,
    pub report_id: Option<String>,
    pub tapped_at: Timestamp,
}

/// Enters a tap into the ledger; false when it is there already.
pub(super) async fn enter(
    ctx: &Context,
    tx: &DatabaseTransaction,
    template: &template::Model,
    tap: &Tap,
    now: Timestamp,
) -> Result<bool, Error> {
    let (identity_id, template_id) = (tap.identity_id, template.template_id.as_str());
    let fresh = credit::ActiveModel {
        identity_id: Set(identity_id),
        template_id: Set(template_id.to_owned()),
        kind: Set(template.kind),
        credits: Set(0),
        last_result: Set(tap.kind),
        updated_at: Set(now),
    };
    let keep = OnConflict::columns([credit::Column::IdentityId, credit::Column::TemplateId]).do_nothing().to_owned();
    credit::Entity::insert(fresh).on_conflict(keep).try_insert().exec_without_returning(tx).await?;
    let credits = lock(tx, std::iter::once((identity_id, template_id))).await?;
    let credits = credits.values().map(|row| row.credits).sum();

    let near = near(tx, tap, template_id).await?;
    let twin = twin(&near, tap);
    let counts = twin.is_none() && !is_overtaken(tx, tap, template).await?;
    let delta = if counts { delta(template.kind, tap.kind, credits) } else { 0 };
    let row = entry::ActiveModel {
        id: Set(tap.id),
        report_id: Set(tap.report_id.clone()),
        tapped_at: Set(tap.tapped_at),
        twin: Set(twin),
        ..entry_of(identity_id, template_id, (tap.kind, delta, tap.source), now)
    };
    let inserted = entry::Entity::insert(row)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .try_insert()
        .exec_without_returning(tx)
        .await?;
    if !matches!(inserted, TryInsertResult::Inserted(count) if count > 0) {
        return Ok(false);
    }
    if let Some(twin) = twin {
        entry::Entity::update_many()
            .col_expr(entry::Column::Twin, Expr::value(tap.id))
            .filter(entry::Column::Id.eq(twin))
            .exec(tx)
            .await?;
        return Ok(true);
    }
    change(tx, identity_id, template_id, delta, now).await?;
    if counts {
        let told = match (template.kind, tap.kind) {
            (_, Kind::Accept) => Some(webhook::kind::Kind::UserSubscribed),
            // A one-time template that is not taken this time says nothing of the next.
            (template::Kind::LongTerm, Kind::Reject) => Some(webhook::kind::Kind::UserUnsubscribed),
            _ => None,
        };
        if let Some(told) = told {
            outbox::consent(ctx, tx, (identity_id, template_id), told, now).await?;
        }
        credit::Entity::update_many()
            .col_expr(credit::Column::LastResult, Expr::value(tap.kind))
            .filter(credit::Column::IdentityId.eq(identity_id))
            .filter(credit::Column::TemplateId.eq(template_id))
            .exec(tx)
            .await?;
    }
    Ok(true)
}

/// What the other source tells of taps near this one, without a twin yet.
async fn near(tx: &DatabaseTransaction, tap: &Tap, template_id: &str) -> Result<Vec<entry::Model>, Error> {
    let other = if tap.source == Source::Report { Source::Popup } else { Source::Report };
    let rows = entry::Entity::find()
        .filter(entry::Column::IdentityId.eq(tap.identity_id))
        .filter(entry::Column::TemplateId.eq(template_id))
        .filter(entry::Column::Source.eq(other))
        .filter(entry::Column::Kind.eq(tap.kind))
        .filter(entry::Column::Twin.is_null())
        .filter(entry::Column::TappedAt.between(tap.tapped_at - WINDOW, tap.tapped_at + WINDOW))
        .all(tx)
        .await?;
    Ok(rows)
}

/// The nearest in time; of two that are equally near the older.
fn twin(near: &[entry::Model], tap: &Tap) -> Option<ConsentId> {
    let distance = |row: &entry::Model| (row.tapped_at.0.abs_diff(tap.tapped_at.0), row.tapped_at, row.id);
    near.iter().min_by_key(|row| distance(row)).map(|row| row.id)
}

/// Whether something that came after the tap took away what it gave: a report may have waited on an offline
/// phone. The phone's clock is not WeChat's, so a report close to it is believed.
async fn is_overtaken(tx: &DatabaseTransaction, tap: &Tap, template: &template::Model) -> Result<bool, Error> {
    if tap.kind != Kind::Accept {
        return Ok(false);
    }
    let after = if tap.source == Source::Report { tap.tapped_at + WINDOW } else { tap.tapped_at + SECOND };
    let mut takes = vec![Kind::Cancel, Kind::Zeroed];
    if template.kind == template::Kind::LongTerm {
        takes.push(Kind::Reject);
    }
    let later = entry::Entity::find()
        .filter(entry::Column::IdentityId.eq(tap.identity_id))
        .filter(entry::Column::TemplateId.eq(&template.template_id))
        .filter(entry::Column::Kind.is_in(takes))
        .filter(entry::Column::TappedAt.gt(after))
        .one(tx)
        .await?;
    Ok(later.is_some())
}

/// WeChat tells times to the second.
const SECOND: Duration = Duration::from_secs(1);

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
