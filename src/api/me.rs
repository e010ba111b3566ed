//! What the signed-in user sees and says.

use std::collections::BTreeMap;

use entity::{NotificationId, credit};
use poem::web::Data;
use poem_openapi::{Object, OpenApi, param::Query, payload::Json, types::Example};

use serde::Deserialize;

use super::{
    Tag,
    body::Body,
    object::{ConsentKind, Notification, NotificationList, TemplateKind},
    page::Page,
    principal::User,
    problem::Failure,
    time::Time,
};
use crate::{
    consent::{self, report},
    context::Context,
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

    /// Report the result of wx.requestSubscribeMessage
    ///
    /// Every `accept` adds one credit (a long-term template is switched on). Answers the balances as they then
    /// are.
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
        let mut rows = notification::list(ctx, &filter, page.before, page.ask_for()).await?;
        let next_cursor = page.cut(&mut rows, |row| row.id.to_string());
        Ok(Json(NotificationList { data: rows.into_iter().map(Notification::from).collect(), next_cursor }))
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
