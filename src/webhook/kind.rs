//! What there is to tell. `docs/webhooks.md` says what each body holds.

use entity::notification::State;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident $text:literal;)*) => {
        /// Something that happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])* $name,)*
        }

        impl Kind {
            /// All kinds, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The event's type as it stands in the body.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// WeChat took the message.
    NotificationAccepted "notification.accepted";
    /// It is on the phone.
    NotificationDelivered "notification.delivered";
    /// It will not arrive; the reason says why.
    NotificationFailed "notification.failed";
    /// Nobody knows whether WeChat took it; another word follows.
    NotificationUnsure "notification.unsure";
    /// It was not sent in time.
    NotificationExpired "notification.expired";
    NotificationCancelled "notification.cancelled";
    /// A person came to an app for the first time.
    UserCreated "user.created";
    /// Two users turned out to be one person.
    UserMerged "user.merged";
    /// A person agreed to messages of a template.
    UserSubscribed "user.subscribed";
    /// A person refuses messages of a template from now on.
    UserUnsubscribed "user.unsubscribed";
    UserBanned "user.banned";
    UserUnbanned "user.unbanned";
    /// What was known of the person is gone.
    UserErased "user.erased";
    /// The test button; it comes whatever the endpoint wants to know.
    Test "webhook.test";
}

impl Kind {
    /// What is told of a notification that has come to this state; nothing while it is on its way.
    pub fn of(state: State) -> Option<Self> {
        match state {
            State::Accepted => Some(Self::NotificationAccepted),
            State::Delivered => Some(Self::NotificationDelivered),
            State::Failed => Some(Self::NotificationFailed),
            State::Unsure => Some(Self::NotificationUnsure),
            State::Expired => Some(Self::NotificationExpired),
            State::Cancelled => Some(Self::NotificationCancelled),
            State::Waiting | State::Pending | State::Sending => None,
        }
    }

    /// Whether one of these names means it.
    pub fn is_one_of(self, names: &[String]) -> bool {
        names.iter().any(|name| matches(name, self.as_str()))
    }
}

/// Whether the name is that of something that is told, or of a family of it.
pub fn is_known(name: &str) -> bool {
    Kind::ALL.iter().any(|kind| matches(name, kind.as_str()))
}

fn matches(name: &str, text: &str) -> bool {
    match name.strip_suffix('*') {
        Some("") => true,
        Some(family) => family.ends_with('.') && text.starts_with(family),
        None => name == text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_itself_and_a_star_its_family() {
        let is = |kind: Kind, name: &str| kind.is_one_of(&[name.to_owned()]);
        assert!(is(Kind::NotificationFailed, "notification.failed"));
        assert!(is(Kind::NotificationFailed, "notification.*"));
        assert!(is(Kind::NotificationFailed, "*"));
        assert!(!is(Kind::NotificationFailed, "user.*"));
        assert!(!is(Kind::NotificationFailed, "notification.fail"));
        assert!(!is(Kind::NotificationFailed, "notification.f*"));
        assert!(!Kind::NotificationFailed.is_one_of(&[]));
        assert!(is_known("user.*") && is_known("*") && is_known("user.erased"));
        assert!(!is_known("") && !is_known("order.*") && !is_known("notification") && !is_known("notification*"));
    }
}
