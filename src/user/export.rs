//! Everything that is known of a person, as they may ask for it (PIPL, article 45): no secret of ours or
//! WeChat's, no other person's data.

use entity::{
    Timestamp, UserId, callback, consent, credit, identity, notification, session,
    user::{self as row},
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait};
use serde_json::json;

use super::lookup::{self, Person};
use crate::{
    audit::{self, Entry},
    context::Context,
    error::Error,
    user_data::phone,
};

/// What is known of a person. Of the user, the phone number is there in clear.
pub struct Export {
    pub user: row::Model,
    pub phone_number: Option<String>,
    pub identities: Vec<identity::Model>,
    pub balances: Vec<credit::Model>,
    pub ledger: Vec<consent::Model>,
    pub notifications: Vec<notification::Model>,
    pub callbacks: Vec<callback::Model>,
    pub sessions: Vec<session::Model>,
    pub at: Timestamp,
}

/// Collects it, of these apps only (None for all; only then with the phone number), and writes down that it was handed out.
pub async fn export(ctx: &Context, id: UserId, app_ids: Option<&[String]>, actor: &str) -> Result<Export, Error> {
    let Person { user, identities } = lookup::get_in(ctx, app_ids, id).await?;
    let (db, at) = (ctx.db.read(), ctx.clock.now());
    let theirs = || {
        let mut query = identity::Entity::of_user(user.id).select_only().column(identity::Column::Id);
        if let Some(app_ids) = app_ids {
            query = query.filter(identity::Column::AppId.is_in(app_ids));
        }
        query.into_query()
    };
    let balances = credit::Entity::find().filter(credit::Column::IdentityId.in_subquery(theirs())).all(db).await?;
    let ledger = consent::Entity::find()
        .filter(consent::Column::IdentityId.in_subquery(theirs()))
        .order_by_asc(consent::Column::Id)
        .all(db)
        .await?;
    let notifications = notification::Entity::find()
        .filter(notification::Column::IdentityId.in_subquery(theirs()))
        .order_by_asc(notification::Column::Id)
        .all(db)
        .await?;
    let sessions = session::Entity::find()
        .filter(session::Column::IdentityId.in_subquery(theirs()))
        .order_by_asc(session::Column::Id)
        .all(db)
        .await?;
    let mut callbacks = Vec::new();
    if !identities.is_empty() {
        let mut about = Condition::any();
        for identity in &identities {
            let one = Condition::all().add(callback::Column::AppId.eq(&identity.app_id));
            about = about.add(one.add(callback::Column::Openid.eq(&identity.openid)));
        }
        callbacks = callback::Entity::find().filter(about).order_by_asc(callback::Column::Id).all(db).await?;
    }
    // It belongs to the person, and may have been told to another app.
    let phone_number = if app_ids.is_none() { phone::of(&ctx.keys, &user)? } else { None };
    let detail = json!({ "notifications": notifications.len(), "callbacks": callbacks.len() });
    let entry = Entry { actor, action: "user.exported", app_id: None, subject: Some(user.id), detail };
    audit::record(ctx.db.write(), entry, at).await?;
    Ok(Export { user, phone_number, identities, balances, ledger, notifications, callbacks, sessions, at })
}
