//! The five steps as curl lines, each complete in itself: what one needs of another it fetches.

use wechat_sandbox::{DEMO_APP_ID, DEMO_OPENID};

/// What `magpie dev` prints when everything is up.
pub(super) fn text(server: &str, sandbox: &str, key: &str) -> String {
    let phone = format!("{sandbox}/sandbox/apps/{DEMO_APP_ID}");
    let json = "-H 'Content-Type: application/json'";
    let code = format!("curl -s -X POST '{phone}/login-code'");
    let code_text = format!("curl -s -X POST '{phone}/login-code?format=text'");
    let login =
        format!("curl -s {server}/v1/apps/{DEMO_APP_ID}/login {json} -d \"{{\\\"code\\\":\\\"$({code_text})\\\"}}\"");
    let token = format!("{login} | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/'");
    let user = format!("{login} | sed 's/.*\"id\":\"\\(usr_[^\"]*\\)\".*/\\1/'");
    let results = format!("curl -s -X POST '{phone}/subscribe?format=results'");
    let consent = format!(
        "curl -s {server}/v1/me/subscriptions -H \"Authorization: Bearer $({token})\" {json} \
         -d \"{{\\\"report_id\\\":\\\"tap-$(date +%s%N)\\\",\\\"results\\\":$({results})}}\""
    );
    let event = format!(
        "curl -s -i {server}/v1/events -H 'Authorization: Bearer {key}' {json} \
         -d \"{{\\\"source\\\":\\\"shop\\\",\\\"id\\\":\\\"order-$(date +%s%N)\\\",\\\"type\\\":\\\"order.shipped\\\",\
         \\\"to\\\":\\\"$({user})\\\",\\\"data\\\":{{\\\"order_no\\\":\\\"NO.42\\\",\
         \\\"item\\\":\\\"红富士苹果 5kg\\\",\\\"shipped_at\\\":\\\"2026年1月2日 11:04\\\"}}}}\""
    );
    let webhook = format!(
        "curl -s {server}/v1/webhooks -H 'Authorization: Bearer {key}' {json} -d '{{\"url\":\"http://127.0.0.1:9000/\"}}'"
    );
    let look = format!("curl -s '{server}/v1/notifications?limit=1' -H 'Authorization: Bearer {key}'");
    format!(
        "
Magpie is up, with a simulator in place of WeChat (模拟器代替微信,无需 AppID).

  server      {server}
  Swagger UI  {server}/docs
  API key     {key}
  simulator   {sandbox}/sandbox   app {DEMO_APP_ID}, phone of {DEMO_OPENID}

From a login to a delivered message, one line each (逐行粘贴即可):

# 1. wx.login on the simulated phone gives a code
{code}

# 2. log in with a code
{login}

# 3. the user accepts one message, the front end reports it
{consent}

# 4. the business system says that an order was shipped
{event}

# 5. what became of the message
{look}

Told instead of asked, signed (主动通知业务系统,带签名), once something of yours listens on port 9000; see docs/webhooks.md:

{webhook}

"
    )
}
