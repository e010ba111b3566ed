//! A new master key: everything that was sealed under an older one is sealed anew under the newest, so
//! that the older one can be taken away.
//!
//! ```text
//! all nodes know [old, new] ─▶ all nodes know [new, old], new writes use it ─▶ `magpie rotate-master-key`
//!   ─▶ [new]
//! ```
//!
//! It works in batches beside running nodes: a row that changes meanwhile was written under the newest key
//! anyway. It may be stopped and run again; what is done is passed over.

use std::{fmt, time::Duration};

use entity::{api_key, identity, sealing_key, signing_key as signing_rows, user, webhook};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;

use crate::{
    api_key as keys,
    audit::{self, Entry},
    context::Context,
    error::{Code, Error},
    revision::{self, Of},
    signing_key,
    user::session_key_context,
    user_data::phone,
    webhook::signature::secret_context,
};

/// Rows of one read; each is written by itself.
const BATCH: u64 = 256;
/// Walks through everything at most.
const PASSES: usize = 4;
/// Leaves the database to others between batches.
const BREATH: Duration = Duration::from_millis(5);

/// What was sealed anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    pub session_keys: u64,
    pub phone_numbers: u64,
    pub signing_secrets: u64,
    pub signing_keys: u64,
    pub webhook_secrets: u64,
}

impl fmt::Display for Resealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} session keys, {} phone numbers, {} signing secrets, {} signing keys, {} webhook secrets",
            self.session_keys, self.phone_numbers, self.signing_secrets, self.signing_keys, self.webhook_secrets
        )
    }
}

/// Seals everything under the newest master key and forgets the older ones, if nothing of theirs is left.
pub async fn rotate(ctx: &Context, actor: &str) -> Result<Resealed, Error> {
    let mut done = Resealed::default();
    // A pass that finds nothing proves that nobody seals with an older key any more.
    let mut over = false;
    for _ in 0..PASSES {
        let pass = Resealed {
            session_keys: session_keys(ctx).await?,
            phone_numbers: phone_numbers(ctx).await?,
            signing_secrets: signing_secrets(ctx).await?,
            signing_keys: signing_keys(ctx).await?,
            webhook_secrets: webhook_secrets(ctx).await?,
        };
        done.session_keys += pass.session_keys;
        done.phone_numbers += pass.phone_numbers;
        done.signing_secrets += pass.signing_secrets;
        done.signing_keys += pass.signing_keys;
        done.webhook_secrets += pass.webhook_secrets;
        over = pass == Resealed::default();
        if over {
            break;
        }
    }
    if !over {
        let detail = "a node still seals with an older master key: start all nodes with the newest key first in \
                      master_key or master_key_file, then run this again";
        return Err(Error::new(Code::StateConflict).detail(detail));
    }
    forget_older(ctx).await?;
    let detail = json!({
        "session_keys": done.session_keys, "phone_numbers": done.phone_numbers,
        "signing_secrets": done.signing_secrets, "signing_keys": done.signing_keys,
        "webhook_secrets": done.webhook_secrets,
    });
    let entry = Entry { actor, action: "master_key.rotated", app_id: None, subject: None, detail };
    audit::record(ctx.db.write(), entry, ctx.clock.now()).await?;
    Ok(done)
}

/// The value under the newest key; None when it is already.
fn anew(ctx: &Context, context: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    if ctx.keys.is_newest(sealed) {
        return Ok(None);
    }
    let plain = ctx.keys.open(context, sealed)?;
    Ok(Some(ctx.keys.seal(context, &plain)))
}

async fn session_keys(ctx: &Context) -> Result<u64, Error> {
    use identity::Column::{Id, SessionKey};
    let (mut after, mut done) = (None, 0);
    loop {
        let mut query = identity::Entity::find().filter(SessionKey.is_not_null()).order_by_asc(Id).limit(BATCH);
        if let Some(after) = after {
            query = query.filter(Id.gt(after));
        }
        let rows = query.all(ctx.db.read()).await?;
        let Some(last) = rows.last() else { return Ok(done) };
        after = Some(last.id);
        for row in &rows {
            let Some(old) = &row.session_key else { continue };
            let Some(new) = anew(ctx, &session_key_context(row.id), old)? else { continue };
            done += identity::Entity::update_many()
                .set(identity::ActiveModel { session_key: Set(Some(new)), ..Default::default() })
                .filter(Id.eq(row.id))
                .filter(SessionKey.eq(old.clone()))
                .exec(ctx.db.write())
                .await?
                .rows_affected;
        }
        tokio::time::sleep(BREATH).await;
    }
}

async fn phone_numbers(ctx: &Context) -> Result<u64, Error> {
    use user::Column::{Id, Phone};
    let (mut after, mut done) = (None, 0);
    loop {
        let mut query = user::Entity::find().filter(Phone.is_not_null()).order_by_asc(Id).limit(BATCH);
        if let Some(after) = after {
            query = query.filter(Id.gt(after));
        }
        let rows = query.all(ctx.db.read()).await?;
        let Some(last) = rows.last() else { return Ok(done) };
        after = Some(last.id);
        for row in &rows {
            let Some(old) = &row.phone else { continue };
            let Some(new) = anew(ctx, &phone::seal_context(row.id), old)? else { continue };
            let number = phone::of(&ctx.keys, row)?.unwrap_or_default();
            let index = phone::index(&ctx.keys, &number);
            done += user::Entity::update_many()
                .set(user::ActiveModel { phone: Set(Some(new)), phone_index: Set(Some(index)), ..Default::default() })
                .filter(Id.eq(row.id))
                .filter(Phone.eq(old.clone()))
                .exec(ctx.db.write())
                .await?
                .rows_affected;
        }
        tokio::time::sleep(BREATH).await;
    }
}

/// There are few keys, so they are read at once.
async fn signing_secrets(ctx: &Context) -> Result<u64, Error> {
    let mut done = 0;
    for row in api_key::Entity::find().all(ctx.db.read()).await? {
        let Some(new) = anew(ctx, &keys::signing_secret_context(row.id), &row.signing_secret)? else { continue };
        let change = api_key::ActiveModel { signing_secret: Set(new), ..Default::default() };
        let of = api_key::Entity::update_many().set(change).filter(api_key::Column::Id.eq(row.id));
        done += of.exec(ctx.db.write()).await?.rows_affected;
    }
    // The nodes remember the keys with their secrets.
    revision::raise(ctx.db.write(), Of::ApiKey).await?;
    Ok(done)
}

async fn signing_keys(ctx: &Context) -> Result<u64, Error> {
    let mut done = 0;
    for row in signing_rows::Entity::find().all(ctx.db.read()).await? {
        let Some(new) = anew(ctx, signing_key::SEALED_FOR, &row.private_key)? else { continue };
        let change = signing_rows::ActiveModel { private_key: Set(new), ..Default::default() };
        let of = signing_rows::Entity::update_many().set(change).filter(signing_rows::Column::Kid.eq(row.kid));
        done += of.exec(ctx.db.write()).await?.rows_affected;
    }
    Ok(done)
}

/// The present secret of an endpoint and the one before.
async fn webhook_secrets(ctx: &Context) -> Result<u64, Error> {
    use webhook::Column::{Id, PreviousSecret, Secret};
    let mut done = 0;
    for row in webhook::Entity::find().all(ctx.db.read()).await? {
        let context = secret_context(row.id);
        if let Some(new) = anew(ctx, &context, &row.secret)? {
            let change = webhook::ActiveModel { secret: Set(new), ..Default::default() };
            let of = webhook::Entity::update_many().set(change).filter(Id.eq(row.id)).filter(Secret.eq(row.secret));
            done += of.exec(ctx.db.write()).await?.rows_affected;
        }
        let Some(old) = row.previous_secret else { continue };
        if let Some(new) = anew(ctx, &context, &old)? {
            let change = webhook::ActiveModel { previous_secret: Set(Some(new)), ..Default::default() };
            let of = webhook::Entity::update_many().set(change).filter(Id.eq(row.id)).filter(PreviousSecret.eq(old));
            done += of.exec(ctx.db.write()).await?.rows_affected;
        }
    }
    Ok(done)
}

/// From now on Magpie starts without the older keys.
async fn forget_older(ctx: &Context) -> Result<(), Error> {
    let newest = ctx.keys.key_ids().next().ok_or(Error::new(Code::Internal))?;
    sealing_key::Entity::delete_many().filter(sealing_key::Column::KeyId.ne(newest)).exec(ctx.db.write()).await?;
    Ok(())
}
