//! WeChat's addresses and the check of the way to the app's callback (callbackCheck, getApiDomainIp).

use serde_json::{Value, json};

use super::{Answer, Call, call::text, refusal::refuse};
use crate::account::Account;

const ACTIONS: &[&str] = &["all", "dns", "ping"];
const OPERATORS: &[&str] = &["DEFAULT", "CHINANET", "UNICOM", "CAP"];

/// `GET /cgi-bin/get_api_domain_ip` and `GET /cgi-bin/getcallbackip`: here, both are this machine.
pub(super) fn addresses(_call: &Call, _account: &mut Account) -> Answer {
    Ok(json!({ "ip_list": ["127.0.0.1"] }).into())
}

/// `POST /cgi-bin/callback/check`.
pub(super) fn check_callback(call: &Call, account: &mut Account) -> Answer {
    let body = call.object()?;
    let Some(action) = text(&body, "action").filter(|action| ACTIONS.contains(action)) else {
        return refuse(40202);
    };
    let operator = text(&body, "check_operator").unwrap_or("DEFAULT");
    if !OPERATORS.contains(&operator) {
        return refuse(40203);
    }
    if account.app.callback.is_none() {
        return refuse(40201);
    }
    let mut answer: Value = json!({});
    if action != "ping" {
        answer["dns"] = json!([{ "ip": "127.0.0.1", "real_operator": operator }]);
    }
    if action != "dns" {
        let ping = json!({ "ip": "127.0.0.1", "from_operator": operator, "package_loss": "0%", "time": "1.000ms" });
        answer["ping"] = json!([ping]);
    }
    Ok(answer.into())
}
