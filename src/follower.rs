//! Followers of service accounts.
//!
//! ```text
//! subscribe, unsubscribe ─▶ user/info (outside of a transaction) ─▶ identity, joined by unionid to its person
//!                                                                   or marked as left, its messages ended
//! ```
//!
//! What counts is what `user/info` says now, not which of two events came last: WeChat repeats events
//! that were not acknowledged, so an old one may come after a newer one.

use std::{sync::Arc, time::Duration};

use entity::{
    IdentityId, Timestamp, callback as callback_row, identity,
    notification::{self, Reason, State},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use crate::{
    access_token::{self, Failed},
    callback,
    config::{App, Kind},
    context::Context,
    error::Error,
    notification::claim::is_one_of,
    user::{self, NewIdentity, erase},
    webhook::outbox,
    wechat::{Verdict, follower::Follower},
};

/// The events this file deals with.
pub const EVENTS: [&str; 2] = ["subscribe", "unsubscribe"];
/// Events dealt with in one turn: each costs a call.
const BATCH: u64 = 50;
/// How long an event waits for WeChat to answer before it is believed as it stands.
const PATIENCE: Duration = Duration::from_mins(10);

/// What is to be written down.
struct News {
    follows: bool,
    unionid: Option<String>,
}

/// Processes the stored events of followers, oldest first; gives how many.
pub async fn process_stored(ctx: &Context) -> Result<usize, Error> {
    let waiting = callback_row::Entity::find()
        .filter(callback_row::Column::ProcessedAt.is_null())
        .filter(callback_row::Column::Event.is_in(EVENTS))
        .order_by_asc(callback_row::Column::ReceivedAt)
        .limit(BATCH)
        .all(ctx.db.read())
        .await?;
    let mut processed = 0;
    for stored in waiting {
        let news = match service_account(ctx, &stored) {
            None => None,
            Some((app, openid)) => match ask(ctx, &app, openid).await {
                Ok(follower) => Some(News { follows: follower.follows(), unionid: unionid(&follower) }),
                // The others would wait for the same answer.
                Err(error) if passes(&error) && ctx.clock.now().since(stored.received_at) < PATIENCE => {
                    tracing::warn!(app.id = %stored.app_id, %error, "follower.unknown_yet");
                    break;
                }
                Err(error) => {
                    tracing::warn!(app.id = %stored.app_id, %error, "follower.unknown");
                    Some(News { follows: stored.event == "subscribe", unionid: None })
                }
            },
        };
        processed += usize::from(process(ctx, &stored, news).await?);
    }
    Ok(processed)
}

fn service_account<'a>(ctx: &Context, stored: &'a callback_row::Model) -> Option<(Arc<App>, &'a str)> {
    let app = ctx.app(&stored.app_id).filter(|app| app.kind == Kind::ServiceAccount)?;
    Some((app, stored.openid.as_deref().filter(|openid| !openid.is_empty())?))
}

fn unionid(follower: &Follower) -> Option<String> {
    follower.unionid().map(str::to_owned)
}

/// Whether another try may get an answer.
fn passes(failed: &Failed) -> bool {
    let Failed::Call(error) = failed else { return true };
    error.refusal().is_none_or(|refusal| {
        !matches!(refusal.verdict(), Verdict::DropUser(_) | Verdict::Reject(_) | Verdict::NoCredit)
    })
}

async fn ask(ctx: &Context, app: &App, openid: &str) -> Result<Follower, Failed> {
    access_token::with(ctx, app, |token| async move { ctx.wechat.follower(&token, openid).await }).await
}

/// One event in one transaction; false when another node was faster.
async fn process(ctx: &Context, stored: &callback_row::Model, news: Option<News>) -> Result<bool, Error> {
    let now = ctx.clock.now();
    let tx = ctx.db.begin().await?;
    if !callback::take(&tx, stored, now).await? {
        return Ok(false);
    }
    if let (Some(news), Some(openid)) = (news, &stored.openid) {
        if news.follows {
            follow(ctx, &tx, (&stored.app_id, openid), news.unionid.as_deref(), now).await?;
        } else {
            leave(ctx, &tx, (&stored.app_id, openid), now).await?;
        }
    }
    // Who left before anything was known of them, or was erased, stays unknown.
    if let Some(openid) = &stored.openid
        && identity::Entity::of_app(&stored.app_id, [openid.clone()]).one(&tx).await?.is_none()
    {
        erase::stranger(&tx, stored.id).await?;
    }
    tx.commit().await?;
    Ok(true)
}

async fn follow(
    ctx: &Context,
    tx: &DatabaseTransaction,
    (app_id, openid): (&str, &str),
    unionid: Option<&str>,
    now: Timestamp,
) -> Result<(), Error> {
    user::lock_persons(tx, unionid.into_iter()).await?;
    let known = identity::Entity::of_app(app_id, [openid.to_owned()]).one(tx).await?;
    if known.is_none() {
        let new = NewIdentity { id: IdentityId(Uuid::now_v7()), app_id, openid, unionid, session_key: None };
        if let Some((identity, _)) = user::add_identity(ctx, tx, new, now).await? {
            tracing::info!(app.id = app_id, user.id = %identity.user_id, "follower.came");
            return Ok(());
        }
    }
    let Some(known) = identity::Entity::of_app(app_id, [openid.to_owned()]).one(tx).await? else { return Ok(()) };
    let mut change = identity::ActiveModel { unfollowed_at: Set(None), ..Default::default() };
    if let Some(unionid) = unionid {
        change.unionid = Set(Some(unionid.to_owned()));
    }
    identity::Entity::update_many().set(change).filter(identity::Column::Id.eq(known.id)).exec(tx).await?;
    if let Some(unionid) = unionid {
        user::join_person(ctx, tx, unionid, known.user_id, now).await?;
    }
    tracing::info!(app.id = app_id, user.id = %known.user_id, "follower.came");
    Ok(())
}

/// What was still to be sent cannot arrive any more.
async fn leave(
    ctx: &Context,
    tx: &DatabaseTransaction,
    (app_id, openid): (&str, &str),
    now: Timestamp,
) -> Result<(), Error> {
    let Some(known) = identity::Entity::of_app(app_id, [openid.to_owned()]).one(tx).await? else { return Ok(()) };
    let left = identity::ActiveModel { unfollowed_at: Set(Some(now)), ..Default::default() };
    identity::Entity::update_many().set(left).filter(identity::Column::Id.eq(known.id)).exec(tx).await?;
    let theirs = Condition::all()
        .add(notification::Column::IdentityId.eq(known.id))
        .add(is_one_of(&[State::Waiting, State::Pending]));
    outbox::all_of(ctx, tx, theirs.clone(), (State::Failed, Reason::NotFollowing), now).await?;
    // A service account's messages hold no credit that could be given back.
    notification::Entity::update_many()
        .set(notification::ActiveModel {
            state: Set(State::Failed),
            reason: Set(Some(Reason::NotFollowing)),
            finished_at: Set(Some(now)),
            ..Default::default()
        })
        .filter(theirs)
        .exec(tx)
        .await?;
    tracing::info!(app.id = app_id, user.id = %known.user_id, "follower.left");
    Ok(())
}
