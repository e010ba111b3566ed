//! What the hot paths compute: sealing, opening, signing, rendering. `cargo bench -p magpie-bench`.

use std::sync::LazyLock;

use divan::{Bencher, black_box};
use entity::{
    IdentityId, RuleId, SessionId, Timestamp, UserId,
    rule::{self, FieldExpressions, NoCredit, Overflow, Unsure},
    session,
    template::Fields,
};
use magpie::{
    app,
    clock::Clock,
    config::Config,
    context::Context,
    event::Incoming,
    rule::compiled::CompiledRule,
    secret::MasterKeys,
    session::{authenticate, tokens},
    wechat::callback::{cipher, parse, signature_matches},
};
use minijinja::{Value, context, value::Serde};
use secrecy::SecretString;
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

fn main() {
    divan::main();
}

fn keys() -> MasterKeys {
    MasterKeys::parse(&MasterKeys::generate().into()).expect("a new key is a good key")
}

#[divan::bench]
fn seal_a_session_key(bencher: Bencher) {
    let keys = keys();
    bencher.bench_local(|| keys.seal("session_key idn_1", black_box(b"MDEyMzQ1Njc4OWFiY2RlZg==")));
}

#[divan::bench]
fn open_a_session_key(bencher: Bencher) {
    let keys = keys();
    let sealed = keys.seal("session_key idn_1", b"MDEyMzQ1Njc4OWFiY2RlZg==");
    bencher.bench_local(|| keys.open("session_key idn_1", black_box(&sealed)));
}

#[divan::bench]
fn mac_of_a_login_code(bencher: Bencher) {
    let keys = keys();
    bencher.bench_local(|| keys.mac("login code", black_box(b"wxbench0000000001\n0123456789abcdef0123456789abcdef")));
}

/// A sealed push of the project's own vectors.
struct SealedPush(Json);

impl SealedPush {
    fn load() -> Self {
        let vectors: Json = serde_json::from_str(include_str!("../../tests/vectors/crypto-vectors.json"))
            .expect("the vectors are JSON");
        let of_kind = |vector: &&Json| vector["kind"] == "push_secure_decrypt" && vector["expect"]["accept"] == true;
        let vector = vectors["vectors"].as_array().into_iter().flatten().find(of_kind).cloned();
        Self(vector.expect("one of them is a sealed push"))
    }

    fn given(&self, name: &str) -> &str {
        self.0["given"][name].as_str().unwrap_or_default()
    }
}

#[divan::bench]
fn check_and_open_a_callback(bencher: Bencher) {
    let push = SealedPush::load();
    let token: SecretString = push.given("token").to_owned().into();
    let key: SecretString = push.given("encoding_aes_key").to_owned().into();
    let parts = [push.given("timestamp"), push.given("nonce"), push.given("encrypt")];
    bencher.bench_local(|| {
        assert!(signature_matches(&token, &parts, push.given("msg_signature")));
        let message = cipher::open(&key, push.given("app_id"), push.given("encrypt")).expect("it opens");
        parse(&message).is_ok()
    });
}

fn model() -> rule::Model {
    let fields = [
        ("character_string1", "{{ data.no }}"),
        ("thing2", "{{ data.item }}"),
        ("time3", "{{ data.at }}"),
        ("amount4", "{{ data.cents | money('fen') }}"),
    ];
    rule::Model {
        id: RuleId(Uuid::now_v7()),
        name: "Order shipped".into(),
        event_type: "order.shipped".into(),
        app_id: "wxbench0000000001".into(),
        template_id: "T".into(),
        fields: FieldExpressions(fields.map(|(key, source)| (key.into(), source.into())).into()),
        page: Some("orders/{{ data.no }}".into()),
        url: None,
        miniprogram: None,
        when: Some("data.cents > 100".into()),
        recipients: None,
        no_credit: NoCredit::Fail,
        unsure: Unsure::AtMostOnce,
        overflow: Overflow::Truncate,
        ttl_seconds: None,
        delay_seconds: None,
        priority: 0,
        enabled: true,
        paused_because: None,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    }
}

fn incoming() -> Incoming {
    Incoming {
        app_ids: None,
        source: "bench".into(),
        id: "42".into(),
        event_type: "order.shipped".into(),
        time: None,
        subject: None,
        to: vec!["openid:wxbench0000000001/o1".into()],
        data: json!({ "no": "NO.42", "item": "红富士苹果", "at": "2026年1月2日 11:04", "cents": 1250 }),
        deliver_at: None,
        ttl_seconds: None,
        priority: None,
        direct: None,
    }
}

#[divan::bench]
fn compile_a_rule(bencher: Bencher) {
    bencher
        .with_inputs(model)
        .bench_local_values(|model| CompiledRule::new(model, &Fields(Vec::new())).fault().is_none());
}

#[divan::bench]
fn apply_and_render_a_rule(bencher: Bencher) {
    let rule = CompiledRule::new(model(), &Fields(Vec::new()));
    assert!(rule.fault().is_none(), "the rule compiles");
    let event = incoming();
    bencher.bench_local(|| {
        let scope: Value = context! { id => &event.id, data => Value::from(Serde(&event.data)) };
        assert!(rule.applies(&scope).unwrap_or(false));
        let rendered = rule.message(&scope);
        assert!(rendered.violations.is_empty());
        rendered
    });
}

/// A context on an SQLite file of its own, with the session of a user in it.
struct World {
    runtime: Runtime,
    ctx: Context,
    session: session::Model,
    _folder: tempfile::TempDir,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let config = format!(
        "database_url = \"sqlite://{}?mode=rwc\"\nmaster_key = {:?}\n",
        folder.path().join("bench.db").display(),
        MasterKeys::generate()
    );
    let config = Config::from_toml(&config).expect("a configuration");
    let ctx = runtime.block_on(app::build(config, Clock::system())).expect("a context");
    let now = ctx.clock.now();
    let session = session::Model {
        id: SessionId(Uuid::now_v7()),
        user_id: UserId(Uuid::now_v7()),
        identity_id: IdentityId(Uuid::now_v7()),
        app_id: "wxbench0000000001".into(),
        generation: 1,
        rotated_at: now,
        code_mac: vec![0; 32],
        created_at: now,
        expires_at: now + std::time::Duration::from_hours(24),
        revoked_at: None,
        revoked_because: None,
    };
    World { runtime, ctx, session, _folder: folder }
});

#[divan::bench]
fn sign_both_tokens(bencher: Bencher) {
    let World { runtime, ctx, session, .. } = &*WORLD;
    bencher.bench_local(|| runtime.block_on(tokens(ctx, session)).map(|tokens| tokens.access_token.len()).ok());
}

/// Verification and one read of the session, which is not there: the signature is checked before that.
#[divan::bench]
fn verify_a_token_and_look_for_its_session(bencher: Bencher) {
    let World { runtime, ctx, session, .. } = &*WORLD;
    let Ok(tokens) = runtime.block_on(tokens(ctx, session)) else { panic!("tokens are signed") };
    bencher.bench_local(|| runtime.block_on(authenticate(ctx, black_box(&tokens.access_token))).is_err());
}
