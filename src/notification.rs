//! Notifications: one message for one identity. The row is the job.
//!
//! | file | duty |
//! | --- | --- |
//! | `state.rs` | the state machine: what an answer, a receipt or the passing of time makes of a row |
//! | `draft.rs` | a new row |
//! | `lane.rs` | how many calls of an app may begin now: slots, pace, breaker |
//! | `claim.rs` | due rows become `sending` under a lease |
//! | `settle.rs` | what came of the calls, guarded by the lease token |
//! | `sweep.rs` | leases that ran out, unknown outcomes at their deadline, expiry |
//! | `attempts.rs` | the calls made for a row |
//! | `act.rs` | cancel, replay |
//! | `sentence.rs` | reasons in words |

pub mod act;
pub mod attempts;
pub mod claim;
pub mod draft;
pub mod lane;
pub mod sentence;
pub mod settle;
pub mod state;
pub mod sweep;

use entity::{
    EventId, NotificationId, Timestamp, UserId, attempt, consent,
    notification::{self as row, Reason, State},
    receipt,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::{
    context::Context,
    error::{Code, Error},
};

/// What to list.
#[derive(Default)]
pub struct Filter {
    pub state: Option<State>,
    pub reason: Option<Reason>,
    pub user_id: Option<UserId>,
    pub app_id: Option<String>,
    /// Only of these apps.
    pub app_ids: Option<Vec<String>>,
    pub template_id: Option<String>,
    pub event_id: Option<EventId>,
    pub created_after: Option<Timestamp>,
    pub created_before: Option<Timestamp>,
}

/// Everything known about one notification.
pub struct Story {
    pub row: row::Model,
    pub attempts: Vec<attempt::Model>,
    pub receipts: Vec<receipt::Model>,
    pub consents: Vec<consent::Model>,
}

/// Notifications older than `before`, newest first.
pub async fn list(
    ctx: &Context,
    filter: &Filter,
    before: Option<NotificationId>,
    limit: u64,
) -> Result<Vec<row::Model>, Error> {
    use row::Column::{AppId, CreatedAt, EventId, Id, Reason, State, TemplateId, UserId};
    let mut query = row::Entity::find().order_by_desc(Id).limit(limit);
    if let Some(before) = before {
        query = query.filter(Id.lt(before));
    }
    let conditions = [
        filter.state.map(|state| State.eq(state)),
        filter.reason.map(|reason| Reason.eq(reason)),
        filter.user_id.map(|id| UserId.eq(id)),
        filter.app_id.as_ref().map(|id| AppId.eq(id)),
        filter.app_ids.as_ref().map(|ids| AppId.is_in(ids)),
        filter.template_id.as_ref().map(|id| TemplateId.eq(id)),
        filter.event_id.map(|id| EventId.eq(id)),
        filter.created_after.map(|at| CreatedAt.gte(at)),
        filter.created_before.map(|at| CreatedAt.lt(at)),
    ];
    for condition in conditions.into_iter().flatten() {
        query = query.filter(condition);
    }
    Ok(query.all(ctx.db.read()).await?)
}

/// A notification with its attempts, receipts and ledger entries.
pub async fn get(ctx: &Context, id: NotificationId) -> Result<Story, Error> {
    let db = ctx.db.read();
    let row = row::Entity::find_by_id(id).one(db).await?;
    let row = row.ok_or_else(|| Error::new(Code::NotFound).detail(format!("There is no notification {id}.")))?;
    let attempts = attempts::of(db, &row).await?;
    let receipts = receipt::Entity::find()
        .filter(receipt::Column::NotificationId.eq(id))
        .order_by_asc(receipt::Column::Id)
        .all(db)
        .await?;
    let consents = consent::Entity::find()
        .filter(consent::Column::IdentityId.eq(row.identity_id))
        .filter(consent::Column::TemplateId.eq(&row.template_id))
        .filter(consent::Column::NotificationId.eq(id))
        .order_by_asc(consent::Column::Id)
        .all(db)
        .await?;
    Ok(Story { row, attempts, receipts, consents })
}
