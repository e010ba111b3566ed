//! The ledger and the balances of a person who is erased.

use entity::{IdentityId, consent as entry, credit};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use super::{balances, lock};
use crate::error::Error;

/// Deletes what is known of an identity's consent. Who wants one of its balances waits, and then finds none.
pub async fn forget(tx: &DatabaseTransaction, identity_id: IdentityId) -> Result<(), Error> {
    let known = balances(tx, identity_id).await?;
    lock(tx, known.iter().map(|row| (identity_id, row.template_id.as_str()))).await?;
    entry::Entity::delete_many().filter(entry::Column::IdentityId.eq(identity_id)).exec(tx).await?;
    credit::Entity::delete_many().filter(credit::Column::IdentityId.eq(identity_id)).exec(tx).await?;
    Ok(())
}
