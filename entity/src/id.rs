//! Typed ids: a UUIDv7 (RFC 9562) in the database, the same with a prefix everywhere outside.
//!
//! The prefix tells a reader what an id names, the type tells the compiler.

use std::{fmt, str::FromStr};

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// Why a text is not an id of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidId {
    /// The prefix an id of this kind starts with, such as `usr_`.
    pub prefix: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected `{}` followed by a UUID", self.prefix)
    }
}

impl std::error::Error for InvalidId {}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, DeriveValueType)]
        pub struct $name(pub Uuid);

        impl $name {
            /// What the textual form starts with.
            pub const PREFIX: &'static str = $prefix;
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // One piece: a text it is written into grows once.
                let mut text = [0; $prefix.len() + uuid::fmt::Simple::LENGTH];
                let (prefix, id) = text.split_at_mut($prefix.len());
                prefix.copy_from_slice($prefix.as_bytes());
                self.0.simple().encode_lower(id);
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl sea_orm::TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, DbErr> {
                Err(DbErr::ConvertFromU64(stringify!($name)))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix($prefix)
                    .and_then(|rest| Uuid::try_parse(rest).ok())
                    .map(Self)
                    .ok_or(InvalidId { prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

typed_id!(/// A person.
    UserId, "usr_");
typed_id!(/// One openid of a user in one app.
    IdentityId, "idn_");
typed_id!(/// A login of a user in an app.
    SessionId, "ses_");
typed_id!(/// One dated entry of the consent ledger.
    ConsentId, "con_");
typed_id!(/// A rule.
    RuleId, "rul_");
typed_id!(/// A stored event.
    EventId, "evt_");
typed_id!(/// A notification: one message for one identity.
    NotificationId, "ntf_");
typed_id!(/// An event on its way to many people.
    FanOutId, "fan_");
typed_id!(/// WeChat's later word on a notification.
    ReceiptId, "rcp_");
typed_id!(/// Something WeChat posted to us.
    CallbackId, "cbk_");
typed_id!(/// An API key of a business system.
    ApiKeyId, "key_");
typed_id!(/// An entry of the audit log.
    AuditId, "aud_");
typed_id!(/// An endpoint of a business system that is told what happens.
    WebhookId, "whk_");
typed_id!(/// One message to an endpoint; its `webhook-id`.
    WebhookDeliveryId, "whd_");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_what_it_writes_and_refuses_other_kinds() {
        let id = UserId(Uuid::from_u128(7));
        assert_eq!(id.to_string(), "usr_00000000000000000000000000000007");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("usr_00000000-0000-0000-0000-000000000007".parse(), Ok(id));
        assert_eq!("evt_00000000000000000000000000000007".parse::<UserId>(), Err(InvalidId { prefix: "usr_" }));
        assert!("usr_seven".parse::<UserId>().is_err());
    }
}
