//! Recipients as business systems name them, and the identities they stand for.

pub mod ahead;

use std::collections::{BTreeSet, HashMap, HashSet};

use entity::{IdentityId, Timestamp, UserId, identity, user};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QuerySelect, Select,
    sea_query::{Condition, ExprTrait, LockType},
};

use crate::{
    database::{Lock, rows::padded},
    error::Error,
};

/// What stands where the name of an erased person stood.
pub const ERASED: &str = "erased";

/// A reference to a person.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Recipient {
    /// `usr_…`
    User(UserId),
    /// `external:1001`: the business system's own id.
    External(String),
    /// `openid:wxAPP/oABC`
    Openid { app_id: String, openid: String },
    /// `unionid:uXYZ`
    Unionid(String),
}

impl Recipient {
    /// Reads a reference; the error says how one is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no recipient; write usr_…, external:YOUR_ID, openid:APPID/OPENID, unionid:UNIONID or audience:consented"
            )
        };
        if text.starts_with(UserId::PREFIX) {
            return text.parse().map(Self::User).map_err(|_| wrong());
        }
        match text.split_once(':') {
            Some((_, "")) => Err(wrong()),
            Some(("external", id)) => Ok(Self::External(id.to_owned())),
            Some(("unionid", id)) => Ok(Self::Unionid(id.to_owned())),
            Some(("openid", id)) => {
                let (app_id, openid) = id.split_once('/').ok_or_else(wrong)?;
                Ok(Self::Openid { app_id: app_id.to_owned(), openid: openid.to_owned() })
            }
            _ => Err(wrong()),
        }
    }
}

/// Whom a reference stands for.
pub struct Person {
    pub user_id: UserId,
    /// The person's identities in all apps; only the one that was named where that is the one to be reached.
    pub identities: Vec<Identity>,
}

/// What a message needs to know of an identity.
#[derive(Clone)]
pub struct Identity {
    pub id: IdentityId,
    pub user_id: UserId,
    pub app_id: String,
    pub openid: String,
    /// Whether the person has left the service account.
    pub has_left: bool,
}

/// Everybody the references stand for, each with the app in which they are to be reached, in a fixed number of
/// queries however many there are. References nobody answers to are missing from the map. The identities may be
/// locked against erasure until the transaction ends.
pub async fn resolve<'a>(
    db: &impl ConnectionTrait,
    wanted: impl Iterator<Item = (&'a Recipient, &'a str)>,
    lock: Lock,
) -> Result<HashMap<Recipient, Person>, Error> {
    let wanted: Vec<_> = wanted.collect();
    let openids = by_openid_only(wanted.iter().copied());
    let others =
        wanted.iter().map(|(recipient, _)| *recipient).filter(|recipient| !openids.contains(recipient)).collect();
    let mut people = by_openid(db, openids.into_iter(), lock).await?;
    people.extend(by_user(db, &others, lock).await?);
    Ok(people)
}

/// Those whose openid is of the app in which they are to be reached, each time they are named: it is the identity, and
/// their others need not be asked for.
fn by_openid_only<'a>(wanted: impl Iterator<Item = (&'a Recipient, &'a str)>) -> HashSet<&'a Recipient> {
    let mut names_it: HashMap<&Recipient, bool> = HashMap::new();
    for (recipient, app_id) in wanted {
        let here = matches!(recipient, Recipient::Openid { app_id: of, .. } if of == app_id);
        names_it.entry(recipient).and_modify(|all| *all &= here).or_insert(here);
    }
    names_it.into_iter().filter(|(_, names_it)| *names_it).map(|(recipient, _)| recipient).collect()
}

async fn by_openid<'a>(
    db: &impl ConnectionTrait,
    recipients: impl Iterator<Item = &'a Recipient>,
    lock: Lock,
) -> Result<HashMap<Recipient, Person>, Error> {
    let named = recipients.filter_map(|recipient| match recipient {
        Recipient::Openid { app_id, openid } => Some((app_id.as_str(), openid.as_str())),
        _ => None,
    });
    let (apps, openids): (BTreeSet<_>, Vec<_>) = named.unzip();
    if openids.is_empty() {
        return Ok(HashMap::new());
    }
    let query = identity::Entity::find()
        .filter(identity::Column::AppId.is_in(padded(apps)))
        .filter(identity::Column::Openid.is_in(padded(openids)));
    let rows = read(db, query, lock).await?.into_iter();
    let person = |row: Identity| {
        let recipient = Recipient::Openid { app_id: row.app_id.clone(), openid: row.openid.clone() };
        (recipient, Person { user_id: row.user_id, identities: vec![row] })
    };
    Ok(rows.map(person).collect())
}

async fn by_user(
    db: &impl ConnectionTrait,
    recipients: &HashSet<&Recipient>,
    lock: Lock,
) -> Result<HashMap<Recipient, Person>, Error> {
    let mut users: HashMap<Recipient, UserId> = HashMap::new();
    by_user_table(db, recipients, &mut users).await?;
    by_identity_table(db, recipients, &mut users).await?;
    if users.is_empty() {
        return Ok(HashMap::new());
    }
    let mut identities: HashMap<UserId, Vec<Identity>> = HashMap::new();
    let query = identity::Entity::find().filter(identity::Column::UserId.is_in(padded(users.values().copied())));
    let mut rows = read(db, query, lock).await?;
    // Sorted here: asked for an order, a plan may read the primary key from end to end.
    rows.sort_unstable_by_key(|row| row.id);
    for row in rows {
        identities.entry(row.user_id).or_default().push(row);
    }
    let person = |user_id| Person { user_id, identities: identities.get(&user_id).cloned().unwrap_or_default() };
    Ok(users.into_iter().map(|(recipient, user_id)| (recipient, person(user_id))).collect())
}

async fn read(
    db: &impl ConnectionTrait,
    mut query: Select<identity::Entity>,
    lock: Lock,
) -> Result<Vec<Identity>, Error> {
    use identity::Column::{AppId, Id, Openid, UnfollowedAt, UserId as UserIdColumn};
    if lock == Lock::Held && db.get_database_backend() == DbBackend::Postgres {
        query = query.lock(LockType::KeyShare);
    }
    let query = query.select_only().columns([Id, UserIdColumn, AppId, Openid, UnfollowedAt]);
    let rows: Vec<(IdentityId, UserId, String, String, Option<Timestamp>)> = query.into_tuple().all(db).await?;
    let identity = |(id, user_id, app_id, openid, left_at): (_, _, _, _, Option<_>)| Identity {
        id,
        user_id,
        app_id,
        openid,
        has_left: left_at.is_some(),
    };
    Ok(rows.into_iter().map(identity).collect())
}

/// `usr_…`, whose alias leads to the user it was merged into, and `external:…`.
async fn by_user_table(
    db: &impl ConnectionTrait,
    recipients: &HashSet<&Recipient>,
    users: &mut HashMap<Recipient, UserId>,
) -> Result<(), Error> {
    let ids = recipients.iter().filter_map(|r| if let Recipient::User(id) = r { Some(*id) } else { None });
    let external =
        recipients.iter().filter_map(|r| if let Recipient::External(id) = r { Some(id.clone()) } else { None });
    let (ids, external): (Vec<_>, Vec<_>) = (ids.collect(), external.collect());
    if ids.is_empty() && external.is_empty() {
        return Ok(());
    }
    // Only lists that hold something: an empty one turns the search of an index into a look at every row.
    let mut wanted = Condition::any();
    if !ids.is_empty() {
        wanted = wanted.add(user::Column::Id.is_in(padded(ids)));
    }
    if !external.is_empty() {
        wanted = wanted.add(user::Column::ExternalId.is_in(padded(external)));
    }
    for row in user::Entity::find().filter(wanted).all(db).await? {
        let survivor = row.merged_into.unwrap_or(row.id);
        users.insert(Recipient::User(row.id), survivor);
        if let Some(id) = row.external_id {
            users.insert(Recipient::External(id), survivor);
        }
    }
    users.retain(|known, _| recipients.contains(known));
    Ok(())
}

async fn by_identity_table(
    db: &impl ConnectionTrait,
    recipients: &HashSet<&Recipient>,
    users: &mut HashMap<Recipient, UserId>,
) -> Result<(), Error> {
    let openids = recipients
        .iter()
        .filter_map(|r| if let Recipient::Openid { openid, .. } = r { Some(openid.clone()) } else { None });
    let unionids =
        recipients.iter().filter_map(|r| if let Recipient::Unionid(id) = r { Some(id.clone()) } else { None });
    let (openids, unionids): (Vec<_>, Vec<_>) = (openids.collect(), unionids.collect());
    if openids.is_empty() && unionids.is_empty() {
        return Ok(());
    }
    let apps = recipients
        .iter()
        .filter_map(|r| if let Recipient::Openid { app_id, .. } = r { Some(app_id.clone()) } else { None })
        .collect::<BTreeSet<_>>();
    let mut wanted = Condition::any();
    if !openids.is_empty() {
        let of_apps = identity::Column::AppId.is_in(padded(apps));
        wanted = wanted.add(of_apps.and(identity::Column::Openid.is_in(padded(openids))));
    }
    if !unionids.is_empty() {
        wanted = wanted.add(identity::Column::Unionid.is_in(padded(unionids)));
    }
    for row in identity::Entity::find().filter(wanted).all(db).await? {
        let openid = Recipient::Openid { app_id: row.app_id, openid: row.openid };
        let unionid = row.unionid.map(Recipient::Unionid);
        for known in [Some(openid), unionid].into_iter().flatten().filter(|known| recipients.contains(known)) {
            users.insert(known, row.user_id);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_wrong_ones_explained() {
        assert_eq!(Recipient::parse("external:10:01"), Ok(Recipient::External("10:01".into())));
        assert_eq!(
            Recipient::parse("openid:wx1/oA"),
            Ok(Recipient::Openid { app_id: "wx1".into(), openid: "oA".into() })
        );
        assert!(Recipient::parse("usr_00000000000000000000000000000007").is_ok());
        for wrong in ["", "bob", "openid:oA", "external:", "usr_7", "audience:everyone"] {
            assert!(Recipient::parse(wrong).expect_err("refused").contains("external:YOUR_ID"), "{wrong}");
        }
    }
}
