//! The body of a direct notification.

use std::collections::BTreeMap;

use entity::notification::FieldValues;
use poem_openapi::{Object, types::Example};
use serde::Deserialize;

use crate::{
    api::{
        events::Recipients,
        object::{MiniProgramLink, NoCredit, Overflow, Unsure},
        time::Time,
    },
    event::direct::Letter,
};

/// A message without a rule.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub struct DirectNotification {
    pub app_id: String,
    /// One of `GET /v1/apps/{app_id}/templates`: its id, or its title where only one has it.
    template_id: String,
    /// Whom to tell: one reference or a list of `usr_…`, `external:YOUR_ID`, `openid:APPID/OPENID`,
    /// `unionid:UNIONID`, `audience:consented`. More than 100 (at most 100,000) are notified one portion after the
    /// other.
    to: Recipients,
    /// Template field → value. Every field of the template, each as its keyword type takes it.
    fields: BTreeMap<String, String>,
    /// The page the message opens, without a slash at the beginning.
    page: Option<String>,
    /// Service accounts: the link the message opens.
    url: Option<String>,
    /// Service accounts: the Mini Program page the message opens.
    miniprogram: Option<MiniProgramLink>,
    /// Send at this time, within 30 days; at once when it has passed.
    deliver_at: Option<Time>,
    /// How long the message is worth sending, from the time it may be sent; 72 hours when missing.
    ttl_seconds: Option<i64>,
    /// -100 to 100, higher goes first.
    priority: Option<i32>,
    #[oai(default)]
    #[serde(default)]
    no_credit: NoCredit,
    #[oai(default)]
    #[serde(default)]
    unsure: Unsure,
    /// What to do with a value that is too long for its field.
    #[oai(default = "default_overflow")]
    #[serde(default = "default_overflow")]
    overflow: Overflow,
}

fn default_overflow() -> Overflow {
    Overflow::Refuse
}

impl Example for DirectNotification {
    fn example() -> Self {
        let field = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Self {
            app_id: "wxdemo0000000001".into(),
            template_id: "demo_order_shipped_template_0000000000000001".into(),
            to: Recipients::One("openid:wxdemo0000000001/oDemo00000000000000000000001".into()),
            fields: BTreeMap::from([
                field("character_string1", "NO.42"),
                field("thing2", "红富士苹果 5kg"),
                field("time3", "2026年1月2日 11:04"),
            ]),
            page: Some("pages/order/index?no=NO.42".into()),
            url: None,
            miniprogram: None,
            deliver_at: None,
            ttl_seconds: None,
            priority: None,
            no_credit: NoCredit::default(),
            unsure: Unsure::default(),
            overflow: default_overflow(),
        }
    }
}

impl From<DirectNotification> for Letter {
    fn from(body: DirectNotification) -> Self {
        Self {
            app_id: body.app_id,
            template_id: body.template_id,
            to: body.to.into_list(),
            fields: FieldValues(body.fields.into()),
            page: body.page,
            url: body.url,
            miniprogram: body.miniprogram.map(Into::into),
            deliver_at: body.deliver_at.map(|time| time.0),
            ttl_seconds: body.ttl_seconds,
            priority: body.priority,
            no_credit: body.no_credit.into(),
            unsure: body.unsure.into(),
            overflow: body.overflow.into(),
        }
    }
}
