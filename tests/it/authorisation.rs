//! Who may do what: every operation of the document times every kind of caller. An operation without a row
//! fails the story, so a new one cannot be forgotten.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{APP, Answer, Kind, Phone, SERVICE_ACCOUNT, TEMPLATE, World, openid, shipped};

/// Who may.
#[derive(Clone, Copy)]
enum For {
    /// Everybody.
    Anyone,
    /// A signed-in user: about themselves, so another user is served as well, about themselves.
    User,
    /// A signed-in user, if the thing is theirs.
    Owner,
    /// A key with the scope, that may use the app named in the path or body.
    InApp(&'static str),
    /// A key with the scope; what belongs to another app is not there.
    Thing(&'static str),
    /// A key with the scope; a list shows what is of its apps.
    List(&'static str),
    /// A key with the scope and for all apps.
    AllApps(&'static str),
}
use For::{AllApps, Anyone, InApp, List, Owner, Thing, User};

/// Operation, who may, the status when they do.
const TABLE: &[(&str, For, u16)] = &[
    ("login", Anyone, 400),
    ("refresh_token", Anyone, 401),
    ("logout", User, 204),
    ("list_subscriptions", User, 200),
    ("report_subscriptions", User, 200),
    ("list_my_notifications", User, 200),
    ("get_me", User, 200),
    ("change_me", User, 200),
    ("ask_subscriptions", User, 200),
    ("list_my_sessions", User, 200),
    ("end_my_session", Owner, 204),
    ("export_me", User, 200),
    ("erase_me", User, 204),
    ("set_phone", User, 400),
    ("decrypt", User, 400),
    ("accept_event", List("events:write"), 202),
    ("preview_event", List("events:write"), 200),
    // The story's event is for one person, so there is nothing to hold.
    ("pause_event", Thing("events:write"), 404),
    ("resume_event", Thing("events:write"), 404),
    ("cancel_event", Thing("events:write"), 404),
    ("get_event", Thing("events:read"), 200),
    ("send_notification", InApp("notifications:write"), 202),
    ("list_notifications", List("notifications:read"), 200),
    ("get_notification", Thing("notifications:read"), 200),
    ("cancel_notification", Thing("notifications:write"), 200),
    ("replay_notification", Thing("notifications:write"), 409),
    ("list_rules", List("rules:read"), 200),
    ("create_rule", InApp("rules:write"), 201),
    ("get_rule", Thing("rules:read"), 200),
    ("replace_rule", InApp("rules:write"), 200),
    ("delete_rule", Thing("rules:write"), 204),
    ("list_webhooks", List("webhooks:read"), 200),
    ("create_webhook", List("webhooks:write"), 201),
    ("get_webhook", Thing("webhooks:read"), 200),
    ("change_webhook", Thing("webhooks:write"), 200),
    ("delete_webhook", Thing("webhooks:write"), 204),
    ("test_webhook", Thing("webhooks:write"), 202),
    ("rotate_webhook_secret", Thing("webhooks:write"), 200),
    ("list_webhook_deliveries", Thing("webhooks:read"), 200),
    // The story's endpoint was told nothing yet.
    ("redeliver_webhook", Thing("webhooks:write"), 404),
    ("list_users", List("users:read"), 200),
    ("search_users", AllApps("users:read"), 200),
    ("get_user", Thing("users:read"), 200),
    ("erase_user", Thing("users:write"), 204),
    ("set_external_id", Thing("users:write"), 200),
    ("list_user_subscriptions", Thing("users:read"), 200),
    ("export_user", Thing("users:read"), 200),
    ("ban_user", AllApps("users:write"), 200),
    ("unban_user", AllApps("users:write"), 200),
    ("list_wechat_errors", Anyone, 200),
    ("list_apps", List("apps:read"), 200),
    ("get_app", InApp("apps:read"), 200),
    ("pause_app", InApp("apps:write"), 200),
    ("resume_app", InApp("apps:write"), 200),
    ("list_templates", InApp("templates:read"), 200),
    ("add_template", InApp("templates:write"), 422),
    ("sync_templates", InApp("templates:write"), 200),
    ("list_library_categories", InApp("templates:read"), 200),
    ("list_library_titles", InApp("templates:read"), 200),
    ("list_library_keywords", InApp("templates:read"), 422),
    ("delete_template", InApp("templates:write"), 422),
    ("list_callbacks", InApp("apps:read"), 200),
    ("replay_callback", InApp("apps:write"), 404),
    ("get_failed_call", InApp("apps:read"), 404),
    ("list_keys", AllApps("admin"), 200),
    ("create_key", AllApps("admin"), 201),
    ("revoke_key", AllApps("admin"), 204),
    ("list_audit", List("audit:read"), 200),
    ("check_callback", Anyone, 403),
    ("receive_callback", Anyone, 403),
    ("jwks", Anyone, 200),
    ("healthz", Anyone, 200),
    ("readyz", Anyone, 200),
];

/// Things to act upon, new for every allowed call.
struct Things {
    number: usize,
    phone: Phone,
    ids: BTreeMap<&'static str, String>,
}

/// An address of this machine where nobody listens.
const NOBODY: &str = "http://127.0.0.1:1/";

/// A person with a session, a message that waits, its event and rule; a key.
async fn things(world: &World, number: usize) -> Things {
    let phone = world.phone(&format!("person{number}")).await;
    let rule = world.rule(json!({ "no_credit": "wait", "event_type": format!("type.{number}") })).await;
    let mut event = shipped(&number.to_string(), phone.user_id.as_str());
    event["type"] = format!("type.{number}").into();
    let told = world.post("/v1/events", event).await;
    let sessions = world.call(Method::GET, "/v1/me/sessions", Some(&phone.access_token), None).await.body;
    let key = world.post("/v1/keys", json!({ "name": "x", "scopes": ["events:read"] })).await.body;
    let webhook = world.post("/v1/webhooks", json!({ "url": NOBODY, "event_types": ["user.banned"] })).await.body;
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{told:?}")).to_owned();
    let ids = BTreeMap::from([
        ("app_id", APP.to_owned()),
        ("user_id", phone.user_id.clone()),
        ("session_id", text(&sessions["data"][0]["id"])),
        ("event_id", text(&told.body["event_id"])),
        ("notification_id", text(&told.body["notifications"][0]["id"])),
        ("rule_id", text(&rule["id"])),
        ("key_id", text(&key["id"])),
        ("webhook_id", text(&webhook["id"])),
        ("delivery_id", "whd_00000000000000000000000000000007".to_owned()),
        ("template_id", "made-up".to_owned()),
        ("tid", "401".to_owned()),
        ("callback_id", "cbk_00000000000000000000000000000007".to_owned()),
        ("rid", "6201abcd-12345678-0badcafe".to_owned()),
    ]);
    Things { number, phone, ids }
}

fn body(operation: &str, number: usize) -> Option<Value> {
    let rule = json!({
        "name": "x", "event_type": format!("other.{number}"), "app_id": APP, "template_id": TEMPLATE,
        "fields": { "character_string1": "1", "thing2": "2", "time3": "2026-01-02 10:00" },
    });
    Some(match operation {
        "login" | "set_phone" => json!({ "code": "made-up" }),
        "refresh_token" => json!({ "refresh_token": "made-up" }),
        "report_subscriptions" => json!({ "report_id": "x", "results": { TEMPLATE: "reject" } }),
        "decrypt" => json!({ "encrypted_data": "AAAA", "iv": "AAAA" }),
        "accept_event" | "preview_event" => shipped(&format!("told {number}"), "external:nobody"),
        "send_notification" => json!({
            "app_id": APP, "template_id": TEMPLATE, "to": "external:nobody",
            "fields": { "character_string1": "1", "thing2": "2", "time3": "2026-01-02 10:00" },
        }),
        "change_me" => json!({ "nickname": "x" }),
        "create_rule" | "replace_rule" => rule,
        "search_users" => json!({ "phone_number": "+8613800000001" }),
        "set_external_id" => json!({ "external_id": format!("x{number}") }),
        "ban_user" => json!({ "because": "x" }),
        "pause_app" => json!({ "because": "x" }),
        "add_template" => json!({ "tid": "401", "keyword_ids": [1, 2], "scene": "x" }),
        "create_key" => json!({ "name": "x", "scopes": ["admin"] }),
        "receive_callback" | "rotate_webhook_secret" => json!({}),
        "create_webhook" => json!({ "url": NOBODY, "event_types": ["user.banned"] }),
        "change_webhook" => json!({ "description": "x" }),
        _ => return None,
    })
}

fn query(operation: &str) -> &'static str {
    match operation {
        "list_library_titles" => "?category_ids=616",
        "check_callback" => "?signature=x&timestamp=1&nonce=1&echostr=x",
        "receive_callback" => "?signature=x&timestamp=1&nonce=1",
        _ => "",
    }
}

struct Operation {
    id: String,
    method: Method,
    path: String,
}

fn operations() -> Vec<Operation> {
    let document: Value = serde_json::from_str(&magpie::api::document()).expect("JSON");
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let method = method.to_uppercase().parse().expect("a method");
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            found.push(Operation { id, method, path: path.clone() });
        }
    }
    found
}

impl Operation {
    async fn call(&self, world: &World, things: &Things, bearer: Option<&str>, number: usize) -> Answer {
        let mut path = self.path.clone();
        for (name, id) in &things.ids {
            path = path.replace(&format!("{{{name}}}"), id);
        }
        assert!(!path.contains('{'), "{path} has a part that this story does not know");
        let path = format!("{path}{}", query(&self.id));
        world.call(self.method.clone(), &path, bearer, body(&self.id, number)).await
    }
}

async fn key(world: &World, scopes: &[&str], app_ids: Option<&str>) -> String {
    let mut body = json!({ "name": "x", "scopes": scopes });
    if let Some(app_id) = app_ids {
        body["app_ids"] = json!([app_id]);
    }
    let made = world.post("/v1/keys", body).await;
    made.body["key"].as_str().unwrap_or_else(|| panic!("{made:?}")).to_owned()
}

#[test]
fn every_operation_has_its_row() {
    let documented: BTreeSet<_> = operations().into_iter().map(|operation| operation.id).collect();
    let listed: BTreeSet<_> = TABLE.iter().map(|(id, ..)| (*id).to_owned()).collect();
    assert_eq!(documented, listed, "say in TABLE who may use it");
    assert_eq!(TABLE.len(), listed.len(), "one row each");
}

#[rstest]
#[tokio::test]
async fn everybody_may_do_what_the_table_says(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with_service_account(kind).await else { return };
    let all = operations();
    // A key with every scope but one is a key without that scope.
    let scopes = magpie::api_key::SCOPES;
    let (mut number, wrong) = (0, std::cell::RefCell::new(Vec::new()));
    for (id, who, status) in TABLE {
        let operation = all.iter().find(|operation| operation.id == *id).expect("it is in the document");
        number += 1;
        let owned = things(&world, number).await;
        let other = world.phone(&format!("other{number}")).await;
        let check = async |caller: &str, bearer: Option<&str>, things: &Things, status: u16, code: Option<&str>| {
            let answer = operation.call(&world, things, bearer, things.number).await;
            let told = (answer.status.as_u16(), answer.body["code"].as_str());
            let as_told = told.0 == status && code.is_none_or(|code| told.1 == Some(code));
            if !as_told {
                wrong
                    .borrow_mut()
                    .push(format!("{id} by {caller}: {status} {code:?} expected, {told:?} {}", answer.text));
            }
        };
        let admin_elsewhere = key(&world, &["admin"], Some(SERVICE_ACCOUNT)).await;
        let user = owned.phone.access_token.as_str();
        match who {
            Anyone => {
                check("nobody", None, &owned, *status, None).await;
            }
            User | Owner => {
                check("nobody", None, &owned, 401, Some("missing_credentials")).await;
                check("an admin's key", Some(&world.key), &owned, 401, Some("invalid_token")).await;
                check("a key for another app", Some(&admin_elsewhere), &owned, 401, Some("invalid_token")).await;
                let (others, code) = if matches!(who, Owner) { (404, Some("not_found")) } else { (*status, None) };
                check("another user", Some(&other.access_token), &owned, others, code).await;
                // Whatever the other did, such as logging out, was done to themselves.
                check("the user", Some(user), &owned, *status, None).await;
            }
            InApp(scope) | Thing(scope) | List(scope) | AllApps(scope) => {
                let without: Vec<_> =
                    scopes.iter().filter(|held| *held != scope && **held != "admin").copied().collect();
                let without = key(&world, &without, None).await;
                let elsewhere = key(&world, &[scope], Some(SERVICE_ACCOUNT)).await;
                check("nobody", None, &owned, 401, Some("missing_credentials")).await;
                check("a user", Some(user), &owned, 401, Some("invalid_api_key")).await;
                check("another user", Some(&other.access_token), &owned, 401, Some("invalid_api_key")).await;
                check("a key without the scope", Some(&without), &owned, 403, Some("insufficient_scope")).await;
                let (there, code) = match who {
                    InApp(_) | AllApps(_) => (403, Some("app_not_allowed")),
                    Thing(_) => (404, Some("not_found")),
                    _ => (*status, None),
                };
                check("a key for another app", Some(&elsewhere), &owned, there, code).await;
                check("an admin of another app", Some(&admin_elsewhere), &owned, there, code).await;
                let exact = key(&world, &[scope], None).await;
                check("a key with the scope", Some(&exact), &owned, *status, None).await;
                number += 1;
                let fresh = things(&world, number).await;
                check("an admin", Some(&world.key), &fresh, *status, None).await;
            }
        }
    }
    let wrong = wrong.into_inner();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Nothing of all this was sent: nobody had agreed to anything.
    assert!(world.messages(&openid("person1")).await.is_empty());
    world.finish().await;
}
