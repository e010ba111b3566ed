//! What was accepted, against what arrived and what is said about it.

use std::collections::HashMap;

use crate::upstream::Push;

/// What a contender says became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Sent,
    /// Failed with a reason, or nobody knows: either way somebody can see it.
    Named,
    Unknown,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Accepted, never seen upstream, and nothing says so.
    pub lost: usize,
    /// Seen more than once upstream, and nothing says so.
    pub doubled: usize,
    /// Accepted, and said to be unsure or failed.
    pub named: usize,
    /// Of these, how many were never seen upstream.
    pub held_back: usize,
}

impl Account {
    /// Labels of accepted events, the calls seen upstream, and what is said of each label.
    pub fn draw(accepted: &[String], pushes: &[Push], fates: &HashMap<String, Fate>) -> Self {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for push in pushes {
            *seen.entry(&push.label).or_default() += 1;
        }
        let named = |label: &str| fates.get(label) == Some(&Fate::Named);
        Self {
            lost: accepted.iter().filter(|label| !seen.contains_key(label.as_str()) && !named(label)).count(),
            doubled: seen.iter().filter(|(label, times)| **times > 1 && !named(label)).count(),
            named: accepted.iter().filter(|label| named(label)).count(),
            held_back: accepted.iter().filter(|label| named(label) && !seen.contains_key(label.as_str())).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{Account, Fate};
    use crate::upstream::Push;

    #[test]
    fn every_accepted_message_is_seen_or_named_or_lost() {
        let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let pushes: Vec<_> = ["sent", "twice", "twice", "marked", "marked", "never answered"]
            .map(|label| Push { label: label.into(), at: 1 })
            .into();
        let fates = [
            ("sent", Fate::Sent),
            ("claimed", Fate::Sent),
            ("twice", Fate::Sent),
            ("marked", Fate::Named),
            ("failed", Fate::Named),
            ("stuck", Fate::Unknown),
        ];
        let fates: HashMap<_, _> = fates.into_iter().map(|(label, fate)| (label.to_owned(), fate)).collect();
        let accepted = labels(&["sent", "claimed", "twice", "marked", "failed", "stuck", "forgotten"]);
        let account = Account::draw(&accepted, &pushes, &fates);
        assert_eq!(account, Account { lost: 3, doubled: 1, named: 2, held_back: 1 });
    }
}
