//! Rules: which events become which messages.

use std::collections::BTreeMap;

use entity::{RuleId, rule as rows};
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
    object::{MiniProgramLink, NoCredit, Overflow, Unsure},
    page::{self, Page},
    principal::Key,
    problem::Failure,
    time::Time,
};
use crate::{
    context::Context,
    rule::{self, Definition},
};

pub struct RulesApi;

/// What a rule says.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
struct RuleBody {
    name: String,
    /// The events it is for, such as `order.shipped`.
    event_type: String,
    app_id: String,
    /// One of `GET /v1/apps/{app_id}/templates`: its id, or its title where only one has it.
    template_id: String,
    /// Template field → MiniJinja expression over the event: `{{ data.order_no }}`. Every field of the template. An
    /// expression has at most 1,000 characters; a missing value, `null`, a list or an object is no text and fails the
    /// message (`bad_data`): write `{{ data.item|default("…", true) }}`. README.md lists tags, filters and tests.
    fields: BTreeMap<String, String>,
    /// The page the message opens, without a slash at the beginning; may hold expressions.
    page: Option<String>,
    /// Service accounts: the link the message opens.
    url: Option<String>,
    /// Service accounts: the Mini Program page the message opens.
    miniprogram: Option<MiniProgramLink>,
    /// An expression that must be true, such as `data.amount > 100`. A text and a number have no order: where the
    /// amount may be a text, write `data.amount|float > 100`.
    when: Option<String>,
    /// Computes the recipients instead of the event naming them: `external:{{ data.buyer_id }}`.
    recipients: Option<String>,
    #[oai(default)]
    #[serde(default)]
    no_credit: NoCredit,
    #[oai(default)]
    #[serde(default)]
    unsure: Unsure,
    #[oai(default = "default_overflow")]
    #[serde(default = "default_overflow")]
    overflow: Overflow,
    /// How long a message is worth sending; 72 hours when missing.
    ttl_seconds: Option<i64>,
    /// Send so long after the event.
    delay_seconds: Option<i64>,
    /// -100 to 100; higher goes first.
    #[oai(default)]
    #[serde(default)]
    priority: i32,
    #[oai(default = "default_enabled")]
    #[serde(default = "default_enabled")]
    enabled: bool,
}

fn default_overflow() -> Overflow {
    Overflow::Truncate
}

fn default_enabled() -> bool {
    true
}

impl Example for RuleBody {
    fn example() -> Self {
        let field = |key: &str, expression: &str| (key.to_owned(), expression.to_owned());
        Self {
            name: "Order shipped".into(),
            event_type: "order.shipped".into(),
            app_id: "wxdemo0000000001".into(),
            template_id: "demo_order_shipped_template_0000000000000001".into(),
            fields: BTreeMap::from([
                field("character_string1", "{{ data.order_no }}"),
                field("thing2", "{{ data.item }}"),
                field("time3", "{{ data.shipped_at }}"),
            ]),
            page: Some("pages/order/index?no={{ data.order_no }}".into()),
            url: None,
            miniprogram: None,
            when: None,
            recipients: None,
            no_credit: NoCredit::default(),
            unsure: Unsure::default(),
            overflow: default_overflow(),
            ttl_seconds: None,
            delay_seconds: None,
            priority: 0,
            enabled: true,
        }
    }
}

/// A stored rule.
#[derive(Object)]
struct Rule {
    id: String,
    #[oai(flatten)]
    body: RuleBody,
    /// Set while the template is not what the rule was written for: its events are answered with
    /// `bad_template` until the rule or the template is mended.
    #[oai(skip_serializing_if_is_none)]
    paused_because: Option<String>,
    created_at: Time,
    updated_at: Time,
}

/// A page of rules, newest first.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct RuleList {
    data: Vec<Rule>,
    next_cursor: Option<String>,
}

#[derive(ApiResponse)]
enum Created {
    /// The rule counts from now on, on every node.
    #[oai(status = 201)]
    Rule(Json<Rule>),
}

#[derive(ApiResponse)]
enum Deleted {
    /// Gone; messages it has made are sent all the same.
    #[oai(status = 204)]
    Done,
}

#[OpenApi(prefix_path = "/v1/rules", tag = "Tag::Rules")]
impl RulesApi {
    /// List rules, newest first
    ///
    /// Needs `rules:read`.
    #[oai(path = "/", method = "get", operation_id = "list_rules")]
    async fn list(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// At most 200; 50 when missing.
        limit: Query<Option<u64>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<RuleList>, Failure> {
        key.require("rules:read")?;
        let page = Page::<RuleId>::parse(limit.0, cursor.0)?;
        let rows = rule::list_in(ctx, key.apps().as_deref(), page.before, page.ask_for()).await?;
        let (data, next_cursor) = page.shown(rows, |row| row.id.to_string());
        Ok(Json(RuleList { data, next_cursor }))
    }

    /// Make a rule
    ///
    /// Checked against the template's fields before it is stored; `errors` names each fault. Needs `rules:write`.
    #[oai(path = "/", method = "post", operation_id = "create_rule")]
    async fn create(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        Body(body): Body<RuleBody>,
    ) -> Result<Created, Failure> {
        key.require_in("rules:write", &body.app_id)?;
        let row = rule::create(ctx, body.into()).await?;
        Ok(Created::Rule(Json(row.into())))
    }

    /// One rule
    ///
    /// Needs `rules:read`.
    #[oai(path = "/:rule_id", method = "get", operation_id = "get_rule")]
    async fn get(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `rul_…`
        rule_id: Path<String>,
    ) -> Result<Json<Rule>, Failure> {
        key.require("rules:read")?;
        Ok(Json(seen(ctx, &key, &rule_id.0).await?.into()))
    }

    /// Replace a rule
    ///
    /// Needs `rules:write`.
    #[oai(path = "/:rule_id", method = "put", operation_id = "replace_rule")]
    async fn replace(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `rul_…`
        rule_id: Path<String>,
        Body(body): Body<RuleBody>,
    ) -> Result<Json<Rule>, Failure> {
        key.require_in("rules:write", &body.app_id)?;
        let id = seen(ctx, &key, &rule_id.0).await?.id;
        Ok(Json(rule::replace(ctx, id, body.into()).await?.into()))
    }

    /// Delete a rule
    ///
    /// Needs `rules:write`.
    #[oai(path = "/:rule_id", method = "delete", operation_id = "delete_rule")]
    async fn delete(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `rul_…`
        rule_id: Path<String>,
    ) -> Result<Deleted, Failure> {
        key.require("rules:write")?;
        rule::delete(ctx, seen(ctx, &key, &rule_id.0).await?.id).await?;
        Ok(Deleted::Done)
    }
}

/// The rule, if it is of an app that the key may use.
async fn seen(ctx: &Context, key: &Key, id: &str) -> Result<rows::Model, Failure> {
    let row = rule::get(ctx, page::id(id, "rule")?).await?;
    key.sees(&row.app_id, format_args!("rule {id}"))?;
    Ok(row)
}

impl From<RuleBody> for Definition {
    fn from(body: RuleBody) -> Self {
        Self {
            name: body.name,
            event_type: body.event_type,
            app_id: body.app_id,
            template_id: body.template_id,
            fields: rows::FieldExpressions(body.fields),
            page: body.page,
            url: body.url,
            miniprogram: body.miniprogram.map(Into::into),
            when: body.when,
            recipients: body.recipients,
            no_credit: body.no_credit.into(),
            unsure: body.unsure.into(),
            overflow: body.overflow.into(),
            ttl_seconds: body.ttl_seconds,
            delay_seconds: body.delay_seconds,
            priority: body.priority,
            enabled: body.enabled,
        }
    }
}

impl From<rows::Model> for Rule {
    fn from(row: rows::Model) -> Self {
        let body = RuleBody {
            name: row.name,
            event_type: row.event_type,
            app_id: row.app_id,
            template_id: row.template_id,
            fields: row.fields.0,
            page: row.page,
            url: row.url,
            miniprogram: row.miniprogram.map(Into::into),
            when: row.when,
            recipients: row.recipients,
            no_credit: row.no_credit.into(),
            unsure: row.unsure.into(),
            overflow: row.overflow.into(),
            ttl_seconds: row.ttl_seconds,
            delay_seconds: row.delay_seconds,
            priority: row.priority,
            enabled: row.enabled,
        };
        let paused_because = row.paused_because;
        Self {
            id: row.id.to_string(),
            body,
            paused_because,
            created_at: Time(row.created_at),
            updated_at: Time(row.updated_at),
        }
    }
}
