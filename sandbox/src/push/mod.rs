//! WeChat's posts to an app's callback URL (消息推送).

mod cipher;
mod courier;
mod event;
mod letter;
mod posted;
mod receipt;
mod xml;

pub(crate) use cipher::{encrypt_user_data, raw_data_signature, session_signature};
pub(crate) use courier::{check_url, post, resend};
pub(crate) use event::Event;
pub(crate) use posted::PostedLog;
pub(crate) use receipt::schedule as schedule_receipt;
