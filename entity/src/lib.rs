//! The tables as sea-orm entities, one file each, with typed ids, state enums and scoped finders.
//!
//! Nothing here knows HTTP, WeChat or the clock. Migrations never import this crate: an old
//! migration must keep its meaning when an entity changes.

pub mod api_key;
pub mod app;
pub mod attempt;
pub mod audit;
pub mod callback;
pub mod consent;
pub mod credit;
pub mod event;
pub mod event_name;
pub mod fan_out;
pub mod fan_out_portion;
pub mod id;
pub mod identity;
pub mod notification;
pub mod receipt;
pub mod revision;
pub mod rule;
pub mod sealing_key;
pub mod session;
pub mod signed_request;
pub mod signing_key;
pub mod template;
pub mod timestamp;
pub mod token_budget;
pub mod user;
pub mod webhook;
pub mod webhook_delivery;

pub use id::{
    ApiKeyId, AuditId, CallbackId, ConsentId, EventId, FanOutId, IdentityId, NotificationId, ReceiptId, RuleId,
    SessionId, UserId, WebhookDeliveryId, WebhookId,
};
pub use timestamp::Timestamp;
