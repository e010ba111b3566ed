//! The surface of the API: its document, its errors, its pages.

use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Kind, World, shipped};

#[tokio::test]
async fn the_document_is_the_one_that_is_checked_in() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    let checked_in = std::fs::read_to_string(path).expect("openapi/openapi.json");
    assert!(checked_in == magpie::api::document(), "run: cargo run -- openapi > openapi/openapi.json");

    let Some(world) = World::new(Kind::Sqlite).await else { return };
    let served = world.call(Method::GET, "/openapi.json", None, None).await;
    let mut served = served.body;
    assert_eq!(served["servers"][0]["url"], world.ctx.config.public_url);
    served.as_object_mut().expect("an object").remove("servers");
    assert_eq!(served, serde_json::from_str::<Value>(&checked_in).expect("JSON"));
    world.finish().await;
}

#[test]
fn every_operation_is_described_and_lists_its_problems() {
    let document: Value = serde_json::from_str(&magpie::api::document()).expect("JSON");
    let mut ids = std::collections::HashSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no operationId"));
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            assert!(operation["summary"].is_string(), "{id} has no summary");
            assert!(operation["tags"].is_array(), "{id} has no tag");
            let problem = &operation["responses"]["500"]["content"]["application/problem+json"];
            assert!(problem.is_object(), "{id} does not tell its problems");
        }
    }
    assert!(ids.len() >= 20);
    // Two API structs that share a path would lose each other's operations in the document.
    let listed = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api")).expect("src/api");
    for file in listed.map(|entry| entry.expect("an entry").path()) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        for rest in text.split("operation_id = \"").skip(1) {
            let id = rest.split('"').next().unwrap_or_default();
            assert!(ids.contains(id), "{id} of {} is not in the document", file.display());
        }
    }
}

#[tokio::test]
async fn swagger_ui_comes_from_the_binary_itself() {
    let Some(world) = World::new(Kind::Sqlite).await else { return };
    let page = world.call(Method::GET, "/docs", None, None).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("SwaggerUIBundle"));
    assert!(!page.text.contains("https://unpkg") && !page.text.contains("cdn."), "nothing is loaded from elsewhere");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn every_error_is_a_problem(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let send = async |method: Method, path: &str, kind: Option<&str>, body: Vec<u8>| {
        let mut request = world.http.request(method, format!("{}{path}", world.base)).bearer_auth(&world.key);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let response = request.body(body).send().await.expect("an answer");
        let status = response.status().as_u16();
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        (status, response.json::<Value>().await.expect("JSON")["code"].as_str().unwrap_or_default().to_owned())
    };
    let json = Some("application/json");
    let told = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(send(Method::POST, "/v1/events", json, b"{\"source\":".to_vec()).await, told(400, "malformed_json"));
    assert_eq!(send(Method::POST, "/v1/events", json, vec![0xff, 0xfe]).await, told(400, "malformed_json"));
    assert_eq!(send(Method::POST, "/v1/events", json, Vec::new()).await, told(400, "malformed_json"));
    assert_eq!(send(Method::GET, "/v1/nothing", None, Vec::new()).await, told(404, "route_not_found"));
    assert_eq!(send(Method::DELETE, "/v1/events", None, Vec::new()).await, told(405, "method_not_allowed"));
    assert_eq!(send(Method::POST, "/v1/rules", json, vec![b' '; 1_100_000]).await, told(413, "payload_too_large"));
    assert_eq!(
        send(Method::POST, "/v1/events", Some("text/plain"), b"x".to_vec()).await,
        told(415, "unsupported_media_type")
    );
    assert_eq!(send(Method::POST, "/v1/events", None, b"{}".to_vec()).await, told(415, "unsupported_media_type"));
    assert_eq!(send(Method::GET, "/v1/events/nonsense", None, Vec::new()).await, told(404, "not_found"));
    assert_eq!(send(Method::GET, "/v1/notifications?limit=0", None, Vec::new()).await, told(400, "invalid_request"));
    assert_eq!(
        send(Method::GET, "/v1/notifications?state=happy", None, Vec::new()).await,
        told(400, "invalid_request")
    );
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn who_asks_is_checked(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let scopes = ["events:read".to_owned()];
    let until = Some(world.clock.now() + Duration::from_mins(1));
    let key = magpie::api_key::create(&world.ctx, "reader", &scopes, until).await.expect("a key");
    let key = secrecy::ExposeSecret::expose_secret(&key.key).to_owned();
    let tell = async |bearer: Option<&str>| {
        world.call(Method::POST, "/v1/events", bearer, Some(shipped("1", "external:a"))).await
    };
    assert_eq!(tell(None).await.problem(401, "missing_credentials").headers["www-authenticate"], "Bearer");
    tell(Some("mk_made_up")).await.problem(401, "invalid_api_key");
    let ann = world.phone("ann").await;
    tell(Some(&ann.access_token)).await.problem(401, "invalid_api_key");
    assert!(
        tell(Some(&key)).await.problem(403, "insufficient_scope").body["detail"].to_string().contains("events:write")
    );
    world.advance(Duration::from_secs(61)).await;
    tell(Some(&key)).await.problem(401, "invalid_api_key");
    let wrong = magpie::api_key::create(&world.ctx, "x", &["all".to_owned()], None).await.err().expect("refused");
    assert!(wrong.to_string().contains("events:write"), "{wrong}");
    world.finish().await;
}

#[tokio::test]
async fn problems_speak_the_callers_language() {
    let Some(world) = World::new(Kind::Sqlite).await else { return };
    let request =
        world.http.get(format!("{}/v1/apps", world.base)).header("accept-language", "zh-CN,zh;q=0.9,en;q=0.8");
    let problem: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&problem["code"], &problem["title"]), (&json!("missing_credentials"), &json!("缺少凭证")));
    let address = problem["type"].as_str().expect("an address").replace(&world.ctx.config.public_url, "");
    assert!(world.call(Method::GET, &address, None, None).await.text.contains("缺少凭证"));
    world.finish().await;
}

#[tokio::test]
async fn a_request_id_is_kept_or_made() {
    let Some(world) = World::new(Kind::Sqlite).await else { return };
    let ask = async |id: &str| {
        let request = world.http.get(format!("{}/healthz", world.base)).header("x-request-id", id);
        request.send().await.expect("an answer").headers()["x-request-id"].to_str().expect("text").to_owned()
    };
    assert_eq!(ask("my-own-id").await, "my-own-id");
    assert_ne!(ask(&"x".repeat(200)).await, "x".repeat(200));
    assert_eq!(world.call(Method::GET, "/healthz", None, None).await.headers["x-request-id"].len(), 32);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn lists_go_page_by_page(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    for name in ["a", "b", "c", "d", "e"] {
        world.rule(json!({ "name": name })).await;
    }
    let mut names = Vec::new();
    let mut path = "/v1/rules?limit=2".to_owned();
    loop {
        let page = world.get(&path).await.body;
        names.extend(page["data"].as_array().expect("rules").iter().map(|rule| rule["name"].clone()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/rules?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(names, ["e", "d", "c", "b", "a"]);
    world.get("/v1/rules?cursor=nonsense").await.problem(400, "invalid_request");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_refused_method_says_which_are_taken_and_a_misspelt_filter_is_named(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(world) = World::new(kind).await else { return };
    let send = async |method: Method, path: &str| {
        let request = world.http.request(method, format!("{}{path}", world.base)).bearer_auth(&world.key);
        request.send().await.expect("an answer")
    };
    for (method, path, allowed) in [
        (Method::DELETE, "/v1/events", "POST"),
        (Method::OPTIONS, "/v1/users/usr_1", "DELETE, GET, HEAD"),
        (Method::PUT, "/v1/users/search", "POST"),
        (Method::POST, "/metrics", "GET, HEAD"),
    ] {
        let answer = send(method, path).await;
        assert_eq!(answer.status(), 405, "{path}");
        assert_eq!(answer.headers()["allow"], allowed, "{path}");
    }
    assert_eq!(send(Method::HEAD, "/v1/users").await.status(), 200);
    let page = send(Method::GET, "/problems/not_found").await;
    assert_eq!(page.headers().get_all("content-type").iter().count(), 1);

    // Passed over, it would list everybody.
    let refused = world.get("/v1/users?phone=138&limit=3").await;
    assert_eq!(refused.body["errors"][0]["pointer"], "phone", "{refused:?}");
    let reason = refused.body["errors"][0]["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("cursor, external_id, limit, openid, unionid"), "{reason}");
    refused.problem(400, "invalid_request");
    assert_eq!(world.get("/v1/users?openid=x").await.status, 200);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn health_readiness_and_the_keys_are_public(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    for path in ["/healthz", "/readyz", "/.well-known/jwks.json", "/openapi.json"] {
        assert_eq!(world.call(Method::GET, path, None, None).await.status, 200, "{path}");
    }
    world.ctx.stop.cancel();
    // The door is closing: a load balancer must send nobody here any more.
    let mut socket = TcpStream::connect(world.base.trim_start_matches("http://")).await;
    if let Ok(socket) = &mut socket {
        socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.ok();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok();
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    world.finish().await;
}
