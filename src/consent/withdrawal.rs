//! The user refuses a template in the message settings (`subscribe_msg_change_event`).

use entity::{
    ConsentId, IdentityId, Timestamp,
    consent::{self as entry, Kind, Source},
    credit,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, sea_query::Expr,
};

use super::{change, entry_of, lock, write};
use crate::{
    context::Context,
    error::Error,
    webhook::{kind::Kind as told, outbox},
};

/// One refusal.
pub struct Withdrawal<'a> {
    /// The same for the same telling: it is entered once.
    pub id: ConsentId,
    pub identity_id: IdentityId,
    pub template_id: &'a str,
    /// To the second.
    pub said_at: Timestamp,
}

/// Enters a refusal: no credit is left, and a long-term template is off. One that is older than the
/// newest acceptance came too late and takes nothing. Gives whether it counts.
pub async fn withdraw(
    ctx: &Context,
    tx: &DatabaseTransaction,
    said: &Withdrawal<'_>,
    now: Timestamp,
) -> Result<bool, Error> {
    let balances = lock(tx, std::iter::once((said.identity_id, said.template_id))).await?;
    if entry::Entity::find_by_id(said.id).one(tx).await?.is_some() {
        return Ok(false);
    }
    let newest = entry::Entity::find()
        .filter(entry::Column::IdentityId.eq(said.identity_id))
        .filter(entry::Column::TemplateId.eq(said.template_id))
        .filter(entry::Column::Kind.eq(Kind::Accept))
        .order_by_desc(entry::Column::TappedAt)
        .one(tx)
        .await?;
    let second = |at: Timestamp| at.0.div_euclid(1000);
    let overtaken = newest.is_some_and(|accept| second(accept.tapped_at) > second(said.said_at));
    let left: i32 = if overtaken { 0 } else { balances.values().map(|row| row.credits).sum() };
    if left > 0 {
        change(tx, said.identity_id, said.template_id, -left, now).await?;
    }
    let cancelled = entry::ActiveModel {
        id: Set(said.id),
        tapped_at: Set(said.said_at),
        ..entry_of(said.identity_id, said.template_id, (Kind::Cancel, -left, Source::Change), now)
    };
    write(tx, vec![cancelled]).await?;
    if !overtaken {
        outbox::consent(ctx, tx, (said.identity_id, said.template_id), told::UserUnsubscribed, now).await?;
        credit::Entity::update_many()
            .col_expr(credit::Column::LastResult, Expr::value(Kind::Cancel))
            .filter(credit::Column::IdentityId.eq(said.identity_id))
            .filter(credit::Column::TemplateId.eq(said.template_id))
            .exec(tx)
            .await?;
    }
    Ok(!overtaken)
}
