//! Webhooks: what we tell business systems (Standard Webhooks 1.0). Order is not promised; each message comes at
//! least once, under the same `webhook-id` however often.
//!
//! ```text
//! something changes ─▶ outbox: a row for each endpoint that wants it, in the transaction of the change ─▶ bell
//!   worker ─▶ claim under a lease ─▶ signed POST ─▶ 2xx: delivered
//!                                              ├─▶ 410: endpoint off, what waits for it failed
//!                                              └─▶ anything else: pending, later and later; at last failed
//! ```
//!
//! | file | duty |
//! | --- | --- |
//! | `kind.rs` | what there is to tell, and who wants which of it |
//! | `outbox.rs` | rows for notifications and for people; nothing at all while nobody listens |
//! | `endpoint.rs` | endpoints made, changed, deleted; their secrets rotated |
//! | `address.rs` | which addresses may be called: no internal one, whatever name leads there |
//! | `signature.rs` | secrets and signatures |
//! | `call.rs` | one call, bounded in time and size |
//! | `claim.rs` `settle.rs` | due rows under a lease; what came of the calls |
//! | `sentence.rs` | problems in words |
//! | `deliveries.rs` | listed, sent again by hand, a test, forgotten |

pub mod address;
pub mod call;
pub mod claim;
pub mod deliveries;
pub mod endpoint;
pub mod kind;
pub mod outbox;
pub mod sentence;
pub mod settle;
pub mod signature;

use std::{sync::Arc, time::Duration};

use entity::{
    WebhookId,
    webhook::{self as row, EventTypes},
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::{
    context::Context,
    error::Error,
    revision::{self, Of, Remembered},
};
use kind::Kind;

/// Endpoints at most, of all business systems together: each costs a row for everything it wants to know, and a look
/// by every worker now and then.
pub const MOST_ENDPOINTS: u64 = 200;

/// How long a claimed delivery belongs to its node, beyond the time one call may take.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// What every node remembers of an enabled endpoint. Its address and secrets are read when it is called.
#[derive(Debug)]
pub struct Listener {
    pub id: WebhookId,
    event_types: EventTypes,
    /// None for all.
    app_ids: Option<Vec<String>>,
}

impl Listener {
    /// Whether it is to be told something of this kind about one of these apps.
    fn wants(&self, kind: Kind, app_ids: &[&str]) -> bool {
        let about = |mine: &Vec<String>| mine.iter().any(|id| app_ids.contains(&id.as_str()));
        kind.is_one_of(&self.event_types.0) && self.app_ids.as_ref().is_none_or(about)
    }
}

/// The enabled endpoints, as this node saw them within the last second. They are remembered, so asking costs
/// nothing; what must be read is read by `db`: a transaction that waited for a second connection could wait for
/// itself.
async fn listeners(ctx: &Context, db: &impl ConnectionTrait) -> Result<Arc<Vec<Listener>>, Error> {
    let revisions = revision::lately(ctx, db).await?;
    ctx.memory::<Remembered<Vec<Listener>>>().get((Of::Webhook, &revisions), || read(db)).await
}

/// The same, outside a transaction.
pub async fn current(ctx: &Context) -> Result<Arc<Vec<Listener>>, Error> {
    listeners(ctx, ctx.db.read()).await
}

async fn read(db: &impl ConnectionTrait) -> Result<Vec<Listener>, Error> {
    let enabled = row::Entity::find().filter(row::Column::Enabled.eq(true)).order_by_asc(row::Column::Id);
    let listener =
        |row: row::Model| Listener { id: row.id, event_types: row.event_types, app_ids: row.app_ids.map(|ids| ids.0) };
    Ok(enabled.all(db).await?.into_iter().map(listener).collect())
}
