//! A person withdraws data or closes the account: what we hold of them goes, and only that.

use std::time::Duration;

use entity::{audit, session, user};
use reqwest::Method;
use rstest::rstest;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, EntityTrait, Statement};
use serde_json::json;

use crate::harness::{APP, Kind, Phone, World};

/// All rows of all tables as text.
pub async fn dump(world: &World) -> String {
    dump_of(world.ctx.db.read()).await
}

pub async fn dump_of(db: &DatabaseConnection) -> String {
    let backend = db.get_database_backend();
    let tables = match backend {
        DbBackend::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table'",
        _ => "SELECT table_name::text AS name FROM information_schema.tables WHERE table_schema = 'public'",
    };
    let mut text = String::new();
    for table in column(db, tables, "name").await {
        let rows = match backend {
            DbBackend::Sqlite => {
                let columns = format!("SELECT name FROM pragma_table_info('{table}')");
                let columns = column(db, &columns, "name").await;
                let quoted: Vec<_> = columns.iter().map(|name| format!("quote(\"{name}\")")).collect();
                format!("SELECT {} AS line FROM \"{table}\"", quoted.join(" || ' ' || "))
            }
            _ => format!("SELECT row_to_json(t)::text AS line FROM \"{table}\" t"),
        };
        for line in column(db, &rows, "line").await {
            text.extend([table.as_str(), ": ", &line, "\n"]);
        }
    }
    text
}

async fn column(db: &DatabaseConnection, sql: &str, name: &str) -> Vec<String> {
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.expect("rows");
    rows.iter().map(|row| row.try_get("", name).expect("a text")).collect()
}

/// What was written down about people.
async fn of_users(world: &World) -> Vec<audit::Model> {
    let entries = audit::Entity::find().all(world.ctx.db.read()).await.expect("entries");
    entries.into_iter().filter(|entry| entry.subject.is_some()).collect()
}

/// An event to this openid; gives the notification's id.
async fn notified(world: &World, id: &str, phone: &Phone) -> String {
    let answer = world.event(id, format!("openid:{APP}/{}", phone.openid)).await;
    answer.body["notifications"][0]["id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

#[rstest]
#[tokio::test]
async fn a_closed_account_leaves_nothing(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "no_credit": "wait" })).await;
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    for (name, phone) in [("ann", &ann), ("bob", &bob)] {
        world.accept(phone, "tap").await;
        let delivered = notified(&world, &format!("first of {name}"), phone).await;
        world.drain().await;
        world.advance(Duration::from_secs(1)).await;
        world.until(&delivered, "delivered").await;
    }
    let waiting = notified(&world, "second", &ann).await;
    assert_eq!(world.state(&waiting).await, "waiting");
    assert!(dump(&world).await.contains(&ann.openid));

    // The openid comes with blanks, and the sender is the platform.
    let fields = json!({ "OpenID": format!(" {} ", ann.openid) });
    let event = json!({ "event": "user_authorization_cancellation", "openid": ann.openid, "fields": fields });
    let posted = world.wechat("/events", event).await;
    assert_eq!(posted["delivered"], true);
    world.drain().await;

    let dump = dump(&world).await;
    let left: Vec<_> = dump.lines().filter(|line| line.contains(&ann.openid)).collect();
    assert!(left.is_empty(), "{left:#?}");
    assert!(dump.contains(&bob.openid), "somebody else's data stays");
    let story = world.get(&format!("/v1/notifications/{waiting}")).await;
    assert_eq!((&story.body["state"], &story.body["fields"]), (&json!("cancelled"), &json!({})), "{story:?}");

    let me = world.call(Method::GET, "/v1/me/subscriptions", Some(&ann.access_token), None).await;
    me.problem(401, "session_ended");
    assert_eq!(world.credits(&bob).await, 0);
    let sessions = session::Entity::find().all(world.ctx.db.read()).await.expect("sessions");
    let erased = sessions.iter().filter(|row| row.revoked_because == Some(session::RevokedBecause::Erased));
    assert_eq!(erased.count(), 1);
    let entries = of_users(&world).await;
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].action.as_str(), entries[0].actor.as_str()), ("user.erased", "wechat"));
    assert_eq!(entries[0].subject.map(|id| id.to_string()).as_deref(), Some(ann.user_id.as_str()));

    // The same person may come again, as somebody new.
    let again = world.phone("ann").await;
    assert_ne!(again.user_id, ann.user_id);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn withdrawn_data_goes_and_the_person_stays(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    let code = world.wechat("/phone-code", json!({ "openid": ann.openid })).await["code"].clone();
    let given = world.call(Method::POST, "/v1/me/phone", Some(&ann.access_token), Some(json!({ "code": code }))).await;
    assert_eq!(given.status, 200, "{given:?}");
    let user = async || user::Entity::find().one(world.ctx.db.read()).await.expect("a row").expect("a user");
    let row = user().await;
    assert!(row.phone.is_some() && row.phone_index.is_some() && row.phone_at.is_some());
    let fields = json!({ "RevokeInfo": "13" });
    let other = json!({ "event": "user_authorization_revoke", "openid": ann.openid, "fields": fields });
    assert_eq!(world.wechat("/events", other).await["delivered"], true);
    world.drain().await;
    assert!(user().await.phone.is_some(), "another kind of data");
    let fields = json!({ "RevokeInfo": "8,13" });
    for event in ["user_authorization_revoke", "user_info_modified"] {
        let event = json!({ "event": event, "openid": ann.openid, "fields": fields });
        assert_eq!(world.wechat("/events", event).await["delivered"], true);
    }
    world.drain().await;
    let row = user().await;
    assert_eq!((row.phone, row.phone_index, row.phone_at), (None, None, None));
    let mut entries = of_users(&world).await;
    assert_eq!(entries.len(), 2, "a modification is stored only");
    entries.retain(|entry| entry.detail["codes"].as_array().is_some_and(|codes| codes.len() == 2));
    assert_eq!(entries[0].action, "user.data_revoked");
    assert_eq!(entries[0].detail, json!({ "codes": ["8", "13"], "kinds": ["phone number", "location"] }));
    let me = world.call(Method::GET, "/v1/me/subscriptions", Some(&ann.access_token), None).await;
    assert_eq!(me.status, 200);
    world.finish().await;
}
