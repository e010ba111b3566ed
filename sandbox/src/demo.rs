//! The app a first-time user meets.

use crate::config::{App, Kind, ONE_TIME, Template};

/// AppID of the demo Mini Program: `wx` and 14 more, shaped as a real one.
pub const DEMO_APP_ID: &str = "wxdemo0000000001";
/// Secret of the demo Mini Program.
pub const DEMO_SECRET: &str = "demo0secret0of0the0wechat0sandbx";
/// The one-time template `订单发货通知`.
pub const DEMO_TEMPLATE_ID: &str = "demo_order_shipped_template_0000000000000001";
/// The user the fake phone belongs to when nobody else is named: 28 characters, as a real openid.
pub const DEMO_OPENID: &str = "oDemo00000000000000000000001";

/// A Mini Program with one one-time template and no callback (the caller fills that in).
pub fn demo_app() -> App {
    App {
        app_id: DEMO_APP_ID.into(),
        kind: Kind::MiniProgram,
        secret: DEMO_SECRET.into(),
        original_id: "gh_demo00000001".into(),
        callback: None,
        templates: vec![Template {
            id: DEMO_TEMPLATE_ID.into(),
            title: "订单发货通知".into(),
            content: "订单号:{{character_string1.DATA}}\n商品名称:{{thing2.DATA}}\n发货时间:{{time3.DATA}}\n".into(),
            example: "订单号:20260101001\n商品名称:明前龙井茶 250g\n发货时间:2026年01月01日 15:01\n".into(),
            kind: ONE_TIME,
            enum_values: Vec::new(),
        }],
    }
}
