//! Where every call to WeChat enters: counted, met by faults, worked on, answered or cut off.

use std::{net::IpAddr, sync::Arc, time::Duration};

use poem::{Addr, Request, Response, http::StatusCode};
use serde_json::{Value, json};

use crate::{
    api::{self, Call, Done, ONE_AT_A_TIME, Refusal},
    cut_answer,
    fault::{Drop, Fault},
    platform::Platform,
    push, random,
    world::FailedCall,
};

/// Larger bodies do not reach WeChat.
const LARGEST_BODY: usize = 4 << 20;

/// An answer before it is put on the wire.
struct Reply {
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
    cut: Cut,
}

/// How much of the answer the caller gets to see.
enum Cut {
    Nothing,
    Everything,
    After(usize),
}

pub(crate) async fn answer(platform: &Arc<Platform>, mut request: Request) -> Response {
    let caller = match request.remote_addr().0 {
        Addr::SocketAddr(caller) => Some(caller),
        _ => None,
    };
    let Ok(body) = request.take_body().into_bytes_limit(LARGEST_BODY).await else {
        return Response::builder().status(StatusCode::PAYLOAD_TOO_LARGE).finish();
    };
    let call = Call {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        query: request.params().unwrap_or_default(),
        raw_query: request.uri().query().unwrap_or_default().to_owned(),
        body: body.to_vec(),
        ip: caller.map_or(IpAddr::from([127, 0, 0, 1]), |caller| caller.ip()),
        now_ms: 0,
        contended: false,
    };
    // WeChat goes on with its work when the caller hangs up; a dropped request must not stop it.
    let (send, receive) = tokio::sync::oneshot::channel();
    let worker = platform.clone();
    platform.spawn(async move {
        let reply = receive_call(&worker, call).await;
        let _ = send.send(reply);
    });
    let reply = receive.await.unwrap_or_else(|_| Reply::dropped());
    if let (Cut::Everything, Some(caller)) = (&reply.cut, caller) {
        platform.lines.cut(caller);
    }
    reply.into_response()
}

async fn receive_call(platform: &Arc<Platform>, mut call: Call) -> Reply {
    let app_id = count(platform, &call);
    let recipient = recipient(&call, app_id.as_deref());
    let turn = recipient.as_ref().map(|(app_id, openid)| platform.in_flight.take(app_id, openid));
    call.contended = matches!(turn, Some(None));

    let text = format!("{} {}", call.raw_query, String::from_utf8_lossy(&call.body));
    let now = platform.clock.now();
    let drawn = platform.look().faults.draw(&call.path, app_id.as_deref(), &text, now);
    if drawn.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(drawn.delay_ms)).await;
    }
    call.now_ms = platform.clock.now_ms();
    let Some(fault) = drawn.fault else {
        return work(platform, &call, app_id).await;
    };
    if fault.drop == Some(Drop::Before) {
        return Reply::dropped();
    }
    let mut reply = if fault.answers_itself() {
        fault_answer(platform, &call, app_id, &fault)
    } else {
        work(platform, &call, app_id).await
    };
    if fault.drop == Some(Drop::After) {
        reply.cut = Cut::Everything;
    } else if let Some(length) = fault.truncate {
        reply.cut = Cut::After(length);
    }
    reply
}

/// Counts the call for the app it names by its token, its query or its body.
fn count(platform: &Platform, call: &Call) -> Option<String> {
    let mut world = platform.look();
    world.calls.call(&call.path);
    let app_id = match call.param("access_token") {
        Some(token) => api::owner_of(&mut world, token),
        None => call.param("appid").map(str::to_owned).or_else(|| {
            let body: Value = serde_json::from_slice(&call.body).ok()?;
            body.get("appid")?.as_str().map(str::to_owned)
        }),
    };
    let account = world.accounts.get_mut(app_id.as_deref()?)?;
    account.calls.call(&call.path);
    app_id
}

fn recipient(call: &Call, app_id: Option<&str>) -> Option<(String, String)> {
    if !ONE_AT_A_TIME.contains(&call.path.as_str()) {
        return None;
    }
    let body: Value = serde_json::from_slice(&call.body).ok()?;
    Some((app_id?.to_owned(), body.get("touser")?.as_str()?.to_owned()))
}

async fn work(platform: &Arc<Platform>, call: &Call, app_id: Option<String>) -> Reply {
    let outcome = api::work(call, &mut platform.change());
    match outcome {
        Ok(Done { body, receipt }) => {
            count_answer(platform, app_id.as_deref(), 0);
            if let (Some(event), Some(app_id)) = (receipt, app_id) {
                push::schedule_receipt(platform, &app_id, event).await;
            }
            Reply::json(call, &body)
        }
        Err(refusal) => refused(platform, call, app_id, &refusal),
    }
}

fn fault_answer(platform: &Platform, call: &Call, app_id: Option<String>, fault: &Fault) -> Reply {
    let mut reply = match (&fault.body, fault.errcode) {
        (Some(body), _) => Reply::page(body.clone()),
        (None, Some(0)) => Reply::json(call, &api::ok()),
        (None, Some(errcode)) => {
            let errmsg = fault.errmsg.clone().unwrap_or_else(|| api::usual_text(errcode).to_owned());
            refused(platform, call, app_id, &Refusal { errcode, errmsg })
        }
        (None, None) => {
            let status = fault.status.unwrap_or(502);
            Reply::page(format!("<html><body><h1>{status}</h1><hr>nginx</body></html>"))
        }
    };
    reply.status = fault.status.unwrap_or(200);
    reply
}

/// A refusal carries a rid, under which WeChat can explain the call for seven days.
fn refused(platform: &Platform, call: &Call, app_id: Option<String>, refusal: &Refusal) -> Reply {
    let rid = format!("{:08x}-{}-{}", call.now() & 0xffff_ffff, random::hex(8), random::hex(8));
    let body = json!({ "errcode": refusal.errcode, "errmsg": format!("{} rid: {rid}", refusal.errmsg) });
    count_answer(platform, app_id.as_deref(), refusal.errcode);
    let description = json!({
        "invoke_time": call.now(),
        "cost_in_ms": 1,
        "request_url": format!("{}?{}", call.path, call.raw_query),
        "request_body": String::from_utf8_lossy(&call.body),
        "response_body": body.to_string(),
        "client_ip": call.ip.to_string(),
    });
    platform.look().remember_failure(FailedCall { rid, app_id, time: call.now(), description });
    Reply::json(call, &body)
}

fn count_answer(platform: &Platform, app_id: Option<&str>, errcode: i64) {
    let mut world = platform.look();
    world.calls.answer(errcode);
    if let Some(account) = app_id.and_then(|app_id| world.accounts.get_mut(app_id)) {
        account.calls.answer(errcode);
    }
}

impl Reply {
    /// WeChat labels the login answer as text and most others in its own spelling of JSON.
    fn json(call: &Call, body: &Value) -> Self {
        let content_type =
            if call.path.starts_with("/sns/") { "text/plain" } else { "application/json; encoding=utf-8" };
        Self { status: 200, content_type, body: body.to_string().into_bytes(), cut: Cut::Nothing }
    }

    fn page(body: String) -> Self {
        Self { status: 200, content_type: "text/html", body: body.into_bytes(), cut: Cut::Nothing }
    }

    fn dropped() -> Self {
        Self { status: 500, content_type: "text/plain", body: Vec::new(), cut: Cut::Everything }
    }

    fn into_response(self) -> Response {
        let answer = Response::builder()
            .status(StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_GATEWAY))
            .content_type(self.content_type);
        match self.cut {
            Cut::After(length) if length < self.body.len() => {
                answer.header("content-length", self.body.len()).body(cut_answer::body(self.body, length))
            }
            _ => answer.body(self.body),
        }
    }
}
