//! `magpie dev`: the WeChat simulator and the server on one machine, with an app, a template and a
//! rule, and the five steps from a login to a delivered message as lines to paste.

mod steps;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use entity::rule as rule_rows;
use secrecy::ExposeSecret;
use wechat_sandbox::{Callback, DEMO_APP_ID, DEMO_TEMPLATE_ID, Format, Mode, Sandbox, demo_app};

use crate::{
    api_key,
    app::{self, Roles, StartError},
    clock::Clock,
    config::Config,
    context::Context,
    error::Error,
    rule,
    secret::{MasterKeys, base64_url, random},
    telemetry, template,
};

#[derive(clap::Args)]
pub struct Options {
    /// Where the server listens
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the WeChat simulator listens
    #[arg(long, default_value = "127.0.0.1:8081")]
    sandbox_listen: SocketAddr,
    /// <sqlite://FILE> or postgres://…
    #[arg(long, default_value = "sqlite://magpie-dev.db")]
    database_url: String,
}

/// Keys of this development installation, kept beside the database so that a restart keeps the data.
const KEY_FILE: &str = "magpie-dev.keys";
const SANDBOX_STATE_FILE: &str = "magpie-dev.sandbox.json";

/// Runs until a signal.
pub async fn run(options: Options) -> Result<(), StartError> {
    telemetry::start();
    let keys = DevKeys::read_or_make(Path::new(KEY_FILE))?;
    let mut app = demo_app();
    app.callback = Some(Callback {
        url: format!("http://{}/wechat/{DEMO_APP_ID}/callback", reachable(options.listen)),
        token: keys.callback_token.clone(),
        encoding_aes_key: None,
        mode: Mode::Plain,
        format: Format::Json,
    });
    let sandbox = Sandbox::start(wechat_sandbox::Config {
        listen: options.sandbox_listen,
        apps: vec![app.clone()],
        state_file: Some(PathBuf::from(SANDBOX_STATE_FILE)),
    });
    let sandbox = sandbox.await.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!(
                "cannot start the simulator on {}: {error}; choose another address with --sandbox-listen",
                options.sandbox_listen
            ),
        )
    })?;
    let config = Config::from_toml(&configuration(&options, &keys, &sandbox.url(), &app.secret))?;
    let ctx = app::build(config, Clock::system()).await?;
    app::stop_on_signal(&ctx)?;
    let key = api_key::create_derived(&ctx, "magpie dev", &["admin".to_owned()]).await?;
    let running = app::start(ctx.clone(), Roles::ALL).await?;
    seed(&ctx).await?;
    let server = format!("http://{}", reachable(running.address));
    print!("{}", steps::text(&server, &sandbox.url(), key.key.expose_secret()));
    let result = running.wait().await;
    sandbox.stop().await;
    result
}

/// The demo's templates, and its rule unless there is one.
async fn seed(ctx: &Context) -> Result<(), Error> {
    if let Some(app) = ctx.app(DEMO_APP_ID) {
        template::sync(ctx, &app).await?;
    }
    if rule::list(ctx, None, 1).await?.is_empty() {
        rule::create(ctx, demo_rule()).await?;
    }
    Ok(())
}

fn demo_rule() -> rule::Definition {
    let field = |key: &str, expression: &str| (key.to_owned(), expression.to_owned());
    let fields = [
        field("character_string1", "{{ data.order_no }}"),
        field("thing2", "{{ data.item }}"),
        field("time3", "{{ data.shipped_at }}"),
    ];
    rule::Definition {
        name: "Order shipped".into(),
        event_type: "order.shipped".into(),
        app_id: DEMO_APP_ID.into(),
        template_id: DEMO_TEMPLATE_ID.into(),
        fields: rule_rows::FieldExpressions(fields.into()),
        page: Some("pages/order/index?no={{ data.order_no }}".into()),
        url: None,
        miniprogram: None,
        when: None,
        recipients: None,
        no_credit: rule_rows::NoCredit::Fail,
        unsure: rule_rows::Unsure::AtMostOnce,
        overflow: rule_rows::Overflow::Truncate,
        ttl_seconds: None,
        delay_seconds: None,
        priority: 0,
        enabled: true,
    }
}

fn configuration(options: &Options, keys: &DevKeys, sandbox_url: &str, app_secret: &str) -> String {
    format!(
        "listen = {:?}\npublic_url = {:?}\ndatabase_url = {:?}\nmaster_key = {:?}\n\
         [wechat]\nbase_url = {sandbox_url:?}\n\
         [webhooks]\nallow_http = true\nallowed_networks = [\"127.0.0.0/8\", \"::1/128\"]\n\
         [[apps]]\napp_id = {DEMO_APP_ID:?}\nname = \"Demo\"\nkind = \"mini_program\"\nsecret = {app_secret:?}\n\
         callback_token = {:?}\ncallback_mode = \"plain\"\n",
        options.listen.to_string(),
        format!("http://{}", reachable(options.listen)),
        options.database_url,
        keys.master_key,
        keys.callback_token,
    )
}

/// An address to call: a server that listens everywhere is reached at the loopback address.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], address.port())) } else { address }
}

struct DevKeys {
    master_key: String,
    callback_token: String,
}

impl DevKeys {
    fn read_or_make(path: &Path) -> Result<Self, StartError> {
        if let Ok(text) = std::fs::read_to_string(path)
            && let [master_key, callback_token] = text.split_whitespace().collect::<Vec<_>>()[..]
        {
            return Ok(Self { master_key: master_key.into(), callback_token: callback_token.into() });
        }
        let alphanumeric: String =
            base64_url(&random::<32>()).chars().filter(char::is_ascii_alphanumeric).take(24).collect();
        let keys = Self { master_key: MasterKeys::generate(), callback_token: alphanumeric };
        write_private(path, &format!("{}\n{}\n", keys.master_key, keys.callback_token))?;
        Ok(keys)
    }
}

/// A file that only its owner may read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}
