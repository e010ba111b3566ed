//! What the signed-in user sees and says.

use std::collections::BTreeMap;

use entity::{NotificationId, credit};
use poem::web::Data;
use poem_openapi::{Object, OpenApi, param::Query, payload::Json, types::Example};

use serde::Deserialize;

use super::{
    Tag,
    body::Body,
    object::{ConsentKind, NotificationList, TemplateKind},
    page::Page,
    principal::User,
    problem::Failure,
    time::Time,
};
use crate::{
    consent::{self, ask, report},
    context::Context,
    error::Error,
    notification::{self, Filter},
};

pub struct MeApi;

/// What the user answered to `wx.requestSubscribeMessage`.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
struct SubscriptionReport {
    /// Your own id of this tap: a repeated report changes nothing.
    report_id: String,
    /// Template id → `accept`, `reject`, `ban`, `filter`, … exactly as the client gave them (without
    /// `errMsg`).
    results: BTreeMap<String, String>,
    /// When the user tapped; now when missing. For reports that waited on an offline phone.
    tapped_at: Option<Time>,
}

impl Example for SubscriptionReport {
    fn example() -> Self {
        Self {
            report_id: "tap-1".into(),
            results: BTreeMap::from([("demo_order_shipped_template_0000000000000001".into(), "accept".into())]),
            tapped_at: None,
        }
    }
}

/// How many more messages of a template the user will take.
#[derive(Object)]
pub(super) struct Balance {
    template_id: String,
    kind: TemplateKind,
    /// Messages left; for a long-term template 1 is on and 0 is off.
    credits: i32,
    last_result: ConsentKind,
    updated_at: Time,
}

/// A template worth asking for.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct Wish {
    template_id: String,
    title: String,
    kind: TemplateKind,
    /// Messages left.
    credits: i32,
    /// Messages that wait for the user's consent.
    waiting: i64,
    last_used_at: Option<Time>,
}

/// What to ask for now, the most useful first.
#[derive(Object)]
struct Wishes {
    /// As `wx.requestSubscribeMessage` takes them in `tmplIds`; all of one kind.
    template_ids: Vec<String>,
    data: Vec<Wish>,
}

/// All balances.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct Balances {
    data: Vec<Balance>,
    /// Results that WeChat does not document: nothing was counted for them.
    ignored: Option<BTreeMap<String, String>>,
}

#[OpenApi(prefix_path = "/v1/me", tag = "Tag::Me")]
impl MeApi {
    /// How many messages the user will still take
    #[oai(path = "/subscriptions", method = "get", operation_id = "list_subscriptions")]
    async fn subscriptions(&self, Data(ctx): Data<&Context>, user: User) -> Result<Json<Balances>, Failure> {
        let balances = consent::balances(ctx.db.read(), user.0.identity_id).await?;
        Ok(Json(Balances { data: balances.into_iter().map(balance).collect(), ignored: None }))
    }

    /// Which templates to ask for now
    ///
    /// To be called before the tap whose handler calls `wx.requestSubscribeMessage`. First come templates that
    /// messages wait for, then those with the lowest balance, then those used most recently. One-time and
    /// long-term templates are never mixed, two templates of one title never asked for together: WeChat's client
    /// takes neither.
    #[oai(path = "/subscriptions/ask", method = "get", operation_id = "ask_subscriptions")]
    async fn ask(
        &self,
        Data(ctx): Data<&Context>,
        user: User,
        /// What the page is about: an event type or its beginning, such as `order` for `order.shipped`. Without it
        /// any of the app's templates.
        scene: Query<Option<String>>,
        /// At most 5, which recent clients take; 3 when missing.
        limit: Query<Option<usize>>,
    ) -> Result<Json<Wishes>, Failure> {
        let limit = limit.0.unwrap_or(ask::USUAL);
        if !(1..=ask::MOST).contains(&limit) {
            return Err(Error::field("limit", format!("must be 1 to {}", ask::MOST)).into());
        }
        let wishes = ask::list(ctx, &user.0, scene.0.as_deref(), limit).await?;
        Ok(Json(Wishes {
            template_ids: wishes.iter().map(|wish| wish.template.template_id.clone()).collect(),
            data: wishes.into_iter().map(wish).collect(),
        }))
    }

    /// Report the result of wx.requestSubscribeMessage
    ///
    /// Every `accept` adds one credit (a long-term template is switched on). WeChat's own event of the same tap is
    /// matched with the report and adds none. Answers the balances as they then are.
    #[oai(path = "/subscriptions", method = "post", operation_id = "report_subscriptions")]
    async fn report(
        &self,
        Data(ctx): Data<&Context>,
        user: User,
        Body(body): Body<SubscriptionReport>,
    ) -> Result<Json<Balances>, Failure> {
        let report = report::Report {
            report_id: body.report_id,
            results: body.results.into_iter().collect(),
            tapped_at: body.tapped_at.map(|time| time.0),
        };
        let reported = report::report(ctx, &user.0, &report).await?;
        let ignored: BTreeMap<_, _> = reported.ignored.into_iter().collect();
        Ok(Json(Balances {
            data: reported.balances.into_iter().map(balance).collect(),
            ignored: (!ignored.is_empty()).then_some(ignored),
        }))
    }

    /// The user's own messages, newest first
    #[oai(path = "/notifications", method = "get", operation_id = "list_my_notifications")]
    async fn notifications(
        &self,
        Data(ctx): Data<&Context>,
        user: User,
        /// At most 200; 50 when missing.
        limit: Query<Option<u64>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<NotificationList>, Failure> {
        let page = Page::<NotificationId>::parse(limit.0, cursor.0)?;
        let filter = Filter { user_id: Some(user.0.user_id), app_id: Some(user.0.app_id), ..Filter::default() };
        let rows = notification::list(ctx, &filter, page.before, page.ask_for()).await?;
        let (data, next_cursor) = page.shown(rows, |row| row.id.to_string());
        Ok(Json(NotificationList { data, next_cursor }))
    }
}

fn wish(wish: ask::Wish) -> Wish {
    Wish {
        template_id: wish.template.template_id,
        title: wish.template.title,
        kind: wish.template.kind.into(),
        credits: wish.credits,
        waiting: wish.waiting,
        last_used_at: wish.last_used_at.map(Time),
    }
}

pub(super) fn balance(row: credit::Model) -> Balance {
    Balance {
        template_id: row.template_id,
        kind: row.kind.into(),
        credits: row.credits,
        last_result: row.last_result.into(),
        updated_at: Time(row.updated_at),
    }
}
