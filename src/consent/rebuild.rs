//! Brings the balances back to what the ledger adds up to. They never differ by Magpie's own doing; a restored
//! backup or a hand in the database may have made them.

use std::collections::BTreeMap;

use entity::{
    IdentityId,
    consent::{self as entry, Kind},
    credit, identity, template,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, OnConflict},
};

use super::{lock, padded, release};
use crate::{context::Context, error::Error};

/// Identities dealt with in one transaction.
const BATCH: u64 = 200;

/// What a rebuild found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    pub balances: usize,
    pub corrected: usize,
}

/// Compares all balances with the ledger and corrects those that differ. Safe while messages are sent.
pub async fn rebuild(ctx: &Context) -> Result<Rebuilt, Error> {
    let mut rebuilt = Rebuilt::default();
    let mut after: Option<IdentityId> = None;
    loop {
        let mut query = identity::Entity::find().order_by_asc(identity::Column::Id).limit(BATCH);
        if let Some(after) = after {
            query = query.filter(identity::Column::Id.gt(after));
        }
        let identities = query.all(ctx.db.read()).await?;
        let Some(last) = identities.last() else { return Ok(rebuilt) };
        after = Some(last.id);
        some(ctx, &identities, &mut rebuilt).await?;
    }
}

async fn some(ctx: &Context, identities: &[identity::Model], rebuilt: &mut Rebuilt) -> Result<(), Error> {
    let now = ctx.clock.now();
    let ids = || padded(identities.iter().map(|identity| identity.id));
    let tx = ctx.db.begin().await?;
    let known = credit::Entity::find().filter(credit::Column::IdentityId.is_in(ids())).all(&tx).await?;
    let mut of = known.iter().map(|row| (row.identity_id, row.template_id.as_str())).collect::<Vec<_>>();
    of.sort_unstable();
    // The ledger is read after the lock, so that nothing is written to it meanwhile.
    let balances = lock(&tx, of.into_iter()).await?;
    let entries = entry::Entity::find()
        .filter(entry::Column::IdentityId.is_in(ids()))
        .order_by_asc(entry::Column::Id)
        .all(&tx)
        .await?;
    let mut sums: BTreeMap<(IdentityId, String), (i32, Option<Kind>)> =
        balances.keys().map(|key| (key.clone(), (0, None))).collect();
    for row in entries {
        let (sum, said) = sums.entry((row.identity_id, row.template_id)).or_default();
        *sum += row.delta;
        if !matches!(row.kind, Kind::Reserved | Kind::Returned | Kind::Zeroed | Kind::Expired) {
            *said = Some(row.kind);
        }
    }
    rebuilt.balances += sums.len();
    for ((identity_id, template_id), (sum, said)) in sums {
        let balance = balances.get(&(identity_id, template_id.clone())).map(|row| row.credits);
        if balance == Some(sum) {
            continue;
        }
        let app_id = identities.iter().find(|identity| identity.id == identity_id).map(|row| row.app_id.clone());
        let of = (app_id.unwrap_or_default(), template_id.clone());
        let kind = template::Entity::find_by_id(of).one(&tx).await?.map_or(template::Kind::OneTime, |row| row.kind);
        let row = credit::ActiveModel {
            identity_id: Set(identity_id),
            template_id: Set(template_id.clone()),
            kind: Set(kind),
            credits: Set(sum),
            last_result: Set(said.unwrap_or(Kind::Accept)),
            updated_at: Set(now),
        };
        let counted = OnConflict::columns([credit::Column::IdentityId, credit::Column::TemplateId])
            .values([(credit::Column::Credits, Expr::value(sum)), (credit::Column::UpdatedAt, Expr::value(now))])
            .to_owned();
        credit::Entity::insert(row).on_conflict(counted).exec_without_returning(&tx).await?;
        tracing::warn!(identity.id = %identity_id, template.id = template_id, ?balance, sum, "credit.corrected");
        rebuilt.corrected += 1;
        release::waiting(&tx, std::iter::once((identity_id, template_id.as_str())), now).await?;
    }
    tx.commit().await?;
    Ok(())
}
