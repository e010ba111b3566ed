//! Proof that the master keys in force are those this database was sealed with, so that a lost or
//! wrong key stops the start instead of losing data later.

use std::collections::HashMap;

use entity::sealing_key as row;
use sea_orm::{ActiveValue::Set, EntityTrait, sea_query::OnConflict};

use crate::{
    context::Context,
    error::{Code, Error},
};

const CONTEXT: &str = "sealing key";
const PROOF: &[u8] = b"magpie";

/// Refuses to go on when something was sealed here with a key that is not given; remembers new keys.
pub async fn check(ctx: &Context) -> Result<(), Error> {
    let known: HashMap<_, _> =
        row::Entity::find().all(ctx.db.write()).await?.into_iter().map(|row| (row.key_id, row.proof)).collect();
    for (key_id, proof) in &known {
        if ctx.keys.open(CONTEXT, proof).ok().as_deref() != Some(PROOF) {
            let detail = format!(
                "this database holds secrets sealed with master key {key_id}, which is not given; \
                 add it after the newest one in master_key or master_key_file"
            );
            return Err(Error::new(Code::Internal).detail(detail));
        }
    }
    for key_id in ctx.keys.key_ids().filter(|id| !known.contains_key(id)) {
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
