//! Proof that the master keys in force are those this database was sealed with, so that a lost or
//! wrong key stops the start instead of losing data later.

use std::collections::HashSet;

use entity::sealing_key as row;
use sea_orm::{ActiveValue::Set, EntityTrait, sea_query::OnConflict};

use crate::{
    context::Context,
    database::Database,
    error::{Code, Error},
    secret::MasterKeys,
};

const CONTEXT: &str = "sealing key";
const PROOF: &[u8] = b"magpie";

/// Refuses to go on when something was sealed here with a key that is not given; remembers new keys.
pub async fn check(ctx: &Context) -> Result<(), Error> {
    let known = verify(&ctx.db, &ctx.keys).await?;
    for key_id in ctx.keys.key_ids().filter(|id| !known.contains(id)) {
        let Some(proof) = ctx.keys.seal_under(&key_id, CONTEXT, PROOF) else { continue };
        let model = row::ActiveModel { key_id: Set(key_id), proof: Set(proof), created_at: Set(ctx.clock.now()) };
        row::Entity::insert(model)
            .on_conflict(OnConflict::column(row::Column::KeyId).do_nothing().to_owned())
            .try_insert()
            .exec_without_returning(ctx.db.write())
            .await?;
    }
    Ok(())
}

/// The same without remembering anything, so it changes nothing; gives the ids of the keys in use here.
pub async fn verify(db: &Database, keys: &MasterKeys) -> Result<HashSet<String>, Error> {
    let known = row::Entity::find().all(db.write()).await?;
    for row in &known {
        if keys.open(CONTEXT, &row.proof).ok().as_deref() != Some(PROOF) {
            let detail = format!(
                "this database holds secrets sealed with master key {}, which is not given; \
                 add it after the newest one in master_key or master_key_file",
                row.key_id
            );
            return Err(Error::new(Code::Internal).detail(detail));
        }
    }
    Ok(known.into_iter().map(|row| row.key_id).collect())
}
