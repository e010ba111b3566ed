//! People, as business systems and operators see them.

use entity::{UserId, consent as consent_rows};
use poem::web::Data;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
    types::Example,
};
use serde::Deserialize;

use super::{
    Tag,
    body::Body,
    export::UserExport,
    me::{Balance, balance},
    object::ConsentKind,
    page::{self, Page},
    principal::Key,
    problem::Failure,
    time::Time,
};
use crate::{
    consent,
    context::Context,
    user::{
        ban, erase, export,
        lookup::{self, Filter, Person},
    },
};

pub struct UsersApi;

/// A person.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct User {
    id: String,
    /// What you call this person: address messages to `external:…`.
    external_id: Option<String>,
    created_at: Time,
    /// Since when the user may not log in.
    banned_at: Option<Time>,
    banned_because: Option<String>,
    identities: Vec<Identity>,
}

/// A person in one app.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct Identity {
    app_id: String,
    openid: String,
    unionid: Option<String>,
    created_at: Time,
}

/// A page of users, newest first.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct UserList {
    data: Vec<User>,
    next_cursor: Option<String>,
}

/// Whom to look for.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
struct UserSearch {
    /// With the country code (E.164), as the user shared it in the Mini Program; spaces and hyphens do not count.
    phone_number: String,
}

impl Example for UserSearch {
    fn example() -> Self {
        Self { phone_number: "+8613800000001".into() }
    }
}

/// What you call a person.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
struct ExternalId {
    /// Unique; null to forget it.
    external_id: Option<String>,
}

impl Example for ExternalId {
    fn example() -> Self {
        Self { external_id: Some("1001".into()) }
    }
}

/// One dated entry of the ledger.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct LedgerEntry {
    at: Time,
    app_id: String,
    template_id: String,
    kind: ConsentKind,
    /// What it adds to the credits; 0 for the second telling of one tap, by the front end or by WeChat.
    delta: i32,
    /// Who says so: `report`, `popup`, `change`, `answer`, `delivery`, `operator`.
    source: String,
    notification_id: Option<String>,
}

/// Everything the user agreed to, per app.
#[derive(Object)]
struct Ledger {
    data: Vec<AppBalance>,
    /// The latest 200 entries, newest first.
    ledger: Vec<LedgerEntry>,
}

/// How many more messages of a template the user will take in an app.
#[derive(Object)]
struct AppBalance {
    app_id: String,
    #[oai(flatten)]
    balance: Balance,
}

/// Why a user may not log in.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
struct Ban {
    /// For operators; the user is not told.
    because: Option<String>,
}

impl Example for Ban {
    fn example() -> Self {
        Self { because: Some("Resells coupons".into()) }
    }
}

#[derive(ApiResponse)]
enum UserDone {
    /// The user is gone.
    #[oai(status = 204)]
    Done,
}

#[OpenApi(prefix_path = "/v1/users", tag = "Tag::Users")]
impl UsersApi {
    /// Find users
    ///
    /// Everything given must fit. Needs `users:read`.
    #[oai(path = "/", method = "get", operation_id = "list_users")]
    #[expect(clippy::too_many_arguments, reason = "one argument for each filter of the contract")]
    async fn list(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        openid: Query<Option<String>>,
        unionid: Query<Option<String>>,
        external_id: Query<Option<String>>,
        /// At most 200; 50 when missing.
        limit: Query<Option<u64>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<UserList>, Failure> {
        key.require("users:read")?;
        let page = Page::<UserId>::parse(limit.0, cursor.0)?;
        let filter = Filter { openid: openid.0, unionid: unionid.0, external_id: external_id.0, app_ids: key.apps() };
        let people = lookup::list(ctx, &filter, page.before, page.ask_for()).await?;
        let (data, next_cursor) = page.shown(people, |person| person.user.id.to_string());
        Ok(Json(UserList { data, next_cursor }))
    }

    /// Find users by phone number
    ///
    /// A number stays out of addresses and logs, so it is asked for in the body. What is stored is sealed and found by
    /// its keyed hash: only the whole number finds it. Needs `users:read` and a key for all apps.
    #[oai(path = "/search", method = "post", operation_id = "search_users")]
    async fn search(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        Body(body): Body<UserSearch>,
    ) -> Result<Json<UserList>, Failure> {
        key.require_for_all("users:read")?;
        let people = lookup::with_phone(ctx, &body.phone_number).await?;
        Ok(Json(UserList { data: people.into_iter().map(User::from).collect(), next_cursor: None }))
    }

    /// One user
    ///
    /// The id of a user who turned out to be the same person as an older one leads to the older. Needs
    /// `users:read`.
    #[oai(path = "/:user_id", method = "get", operation_id = "get_user")]
    async fn get(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `usr_…`
        user_id: Path<String>,
    ) -> Result<Json<User>, Failure> {
        key.require("users:read")?;
        Ok(Json(seen(ctx, &key, &user_id.0).await?.into()))
    }

    /// Say what you call this person
    ///
    /// From then on `external:…` addresses the user. Needs `users:write`.
    #[oai(path = "/:user_id/external-id", method = "put", operation_id = "set_external_id")]
    async fn set_external_id(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `usr_…`
        user_id: Path<String>,
        Body(body): Body<ExternalId>,
    ) -> Result<Json<User>, Failure> {
        key.require("users:write")?;
        let id = seen(ctx, &key, &user_id.0).await?.user.id;
        lookup::set_external_id(ctx, id, body.external_id.as_deref()).await?;
        Ok(Json(seen(ctx, &key, &user_id.0).await?.into()))
    }

    /// What the user agreed to, and the ledger behind it
    ///
    /// Needs `users:read`.
    #[oai(path = "/:user_id/subscriptions", method = "get", operation_id = "list_user_subscriptions")]
    async fn subscriptions(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `usr_…`
        user_id: Path<String>,
    ) -> Result<Json<Ledger>, Failure> {
        key.require("users:read")?;
        let person = seen(ctx, &key, &user_id.0).await?;
        let mut ledger = Ledger { data: Vec::new(), ledger: Vec::new() };
        for identity in &person.identities {
            let app_id = identity.app_id.as_str();
            let of_app = |row| AppBalance { app_id: app_id.to_owned(), balance: balance(row) };
            ledger.data.extend(consent::balances(ctx.db.read(), identity.id).await?.into_iter().map(of_app));
            let entries = consent::entries(ctx.db.read(), identity.id, page::MOST).await?;
            ledger.ledger.extend(entries.into_iter().map(|row| entry(app_id, row)));
        }
        ledger.ledger.sort_by_key(|entry| std::cmp::Reverse(entry.at.0));
        Ok(Json(ledger))
    }

    /// Everything that is known of the user
    ///
    /// Of the apps that the key may use; the phone number only with a key for all apps. Written down in the audit
    /// log. Needs `users:read`.
    #[oai(path = "/:user_id/export", method = "get", operation_id = "export_user")]
    async fn export(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `usr_…`
        user_id: Path<String>,
    ) -> Result<Json<UserExport>, Failure> {
        key.require("users:read")?;
        let id = page::id(&user_id.0, "user")?;
        Ok(Json(export::export(ctx, id, key.apps().as_deref(), &key.actor()).await?.into()))
    }

    /// Erase the user
    ///
    /// In the apps that the key may use. Identities, consents and balances are deleted, messages, events and
    /// callbacks emptied, sessions ended. It cannot be undone. Needs `users:write`.
    #[oai(path = "/:user_id", method = "delete", operation_id = "erase_user")]
    async fn erase(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `usr_…`
        user_id: Path<String>,
    ) -> Result<UserDone, Failure> {
        key.require("users:write")?;
        let id = page::id(&user_id.0, "user")?;
        erase::by_request(ctx, id, key.apps().as_deref(), &key.actor()).await?;
        Ok(UserDone::Done)
    }

    /// Ban the user: no login any more, all sessions end
    ///
    /// At once, on every node and in all apps. Messages go on. Needs `users:write` and a key for all apps.
    #[oai(path = "/:user_id/ban", method = "put", operation_id = "ban_user")]
    async fn ban(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `usr_…`
        user_id: Path<String>,
        Body(body): Body<Ban>,
    ) -> Result<Json<User>, Failure> {
        key.require_for_all("users:write")?;
        let id = page::id(&user_id.0, "user")?;
        ban::ban(ctx, id, body.because.as_deref(), &key.actor()).await?;
        Ok(Json(seen(ctx, &key, &user_id.0).await?.into()))
    }

    /// Lift the ban
    ///
    /// Needs `users:write` and a key for all apps.
    #[oai(path = "/:user_id/ban", method = "delete", operation_id = "unban_user")]
    async fn unban(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `usr_…`
        user_id: Path<String>,
    ) -> Result<Json<User>, Failure> {
        key.require_for_all("users:write")?;
        ban::lift(ctx, page::id(&user_id.0, "user")?, &key.actor()).await?;
        Ok(Json(seen(ctx, &key, &user_id.0).await?.into()))
    }
}

/// The person, as the apps know them that the key may use.
async fn seen(ctx: &Context, key: &Key, id: &str) -> Result<Person, Failure> {
    Ok(lookup::get_in(ctx, key.apps().as_deref(), page::id(id, "user")?).await?)
}

fn entry(app_id: &str, row: consent_rows::Model) -> LedgerEntry {
    LedgerEntry {
        at: Time(row.created_at),
        app_id: app_id.to_owned(),
        template_id: row.template_id,
        kind: row.kind.into(),
        delta: row.delta,
        source: super::object::word(&row.source),
        notification_id: row.notification_id.map(|id| id.to_string()),
    }
}

impl From<Person> for User {
    fn from(person: Person) -> Self {
        let identity = |row: entity::identity::Model| Identity {
            app_id: row.app_id,
            openid: row.openid,
            unionid: row.unionid,
            created_at: Time(row.created_at),
        };
        Self {
            id: person.user.id.to_string(),
            external_id: person.user.external_id,
            created_at: Time(person.user.created_at),
            banned_at: person.user.banned_at.map(Time),
            banned_because: person.user.banned_because,
            identities: person.identities.into_iter().map(identity).collect(),
        }
    }
}
