use super::*;

const APP: &str = r#"
[[apps]]
app_id = "wx0123456789abcdef"
kind = "mini_program"
secret = "0123456789abcdef0123456789abcdef"
"#;

fn problem(toml: &str) -> String {
    Config::from_toml(toml).expect_err("must be refused").to_string()
}

#[test]
fn the_defaults_are_valid_and_an_app_needs_three_keys() {
    let config = Config::from_toml(APP).expect("valid");
    assert_eq!(config.delivery.lease, Duration::from_secs(15));
    assert!(config.apps.len() == 1);
    assert!(config.is_sqlite());
}

#[test]
fn calls_at_once_hang_on_the_database_unless_told() {
    let of = |toml: &str| Config::from_toml(toml).expect("valid").calls_at_once();
    assert_eq!(of(""), 288);
    assert_eq!(of("database_url = \"postgres://me@host/x\""), 512);
    assert_eq!(of("[delivery]\nconcurrency = 7"), 7);
    assert!(problem("[delivery]\nconcurrency = 0").contains("at least 1"));
}

#[test]
fn unknown_keys_are_named() {
    assert!(problem("listne = \"x\"").contains("listne"));
    assert!(problem("[delivery]\nleese = \"1s\"").contains("leese"));
    assert!(problem(&format!("{APP}\ncolour = 1")).contains("colour"));
}

#[test]
fn what_cannot_work_is_refused_with_the_way_out() {
    assert!(problem("[delivery]\nlease = \"4s\"").contains("longer than delivery.request_timeout"));
    assert!(problem("[delivery]\nlease = \"soon\"").contains("write a duration"));
    assert!(problem("database_url = \"mongodb://x\"").contains("sqlite:// or postgres://"));
    assert!(problem("[wechat]\nbase_url = \"http://example.com\"").contains("use https://"));
    assert!(problem(&APP.replace("0123456789abcdef0123456789abcdef", "short")).contains("AppSecret"));
    assert!(problem(&format!("{APP}callback_token = \"abc\"")).contains("encoding_aes_key"));
    assert!(problem(&format!("{APP}{APP}")).contains("twice"));
}

#[test]
fn an_address_of_the_database_that_cannot_be_read_is_not_repeated() {
    for address in [
        "postgres://me:topsecret/1@host/x",
        "postgres://me:topsecret#1@host/x",
        "postgres://me:topsecret@host:port/x",
        "postgres://me:topsecret@host/x?sslmode=odd",
    ] {
        let problem = problem(&format!("database_url = \"{address}\""));
        assert!(problem.contains("%2F for /") && !problem.contains("topsecret"), "{problem}");
    }
}

#[test]
fn a_proxy_that_is_no_address_is_refused() {
    assert!(problem("trusted_proxies = [\"nonsense\"]").contains("`nonsense` is no network"));
    let config = Config::from_toml("trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\", \"::1\"]").expect("valid");
    assert_eq!(config.trusted_proxies.len(), 3);
}

#[test]
fn events_are_kept_as_long_as_repeats_may_come() {
    for (span, known) in [("23h", false), ("1s", false), ("24h", true), ("0s", true)] {
        let told = Config::from_toml(&format!("[retention]\nevents = \"{span}\"")).map_err(|error| error.to_string());
        match told {
            Ok(_) => assert!(known, "{span}"),
            Err(problem) => {
                let named = ["`retention.events`", "24h", "Idempotency-Key"].iter().all(|part| problem.contains(part));
                assert!(!known && named, "{span}: {problem}");
            }
        }
    }
}

#[test]
fn a_missing_or_weak_master_key_says_how_to_make_one() {
    for toml in ["", "master_key = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"", "master_key = \"secret\""] {
        let problem = Config::from_toml(toml).expect("readable").master_keys().err().expect("refused").to_string();
        assert!(problem.contains("openssl rand -base64 32"), "{problem}");
    }
}

#[test]
fn secrets_are_in_no_message_and_no_debug_print() {
    let config = Config::from_toml(APP).expect("valid");
    assert!(!format!("{config:?}").contains("0123456789abcdef0123456789abcdef"));
    assert!(!problem("master_key = 123456789").contains("123456789"));
    assert!(
        !problem("[[apps]]\napp_id = \"wx1\"\nkind = \"mini_program\"\nsecret = [\"topsecret\"]").contains("topsecret")
    );
    for broken in ["[[apps]]\nsecret = \"topsecret\nkind = 1", "master_key = topsecret", "apps = \"secret=topsecret\""]
    {
        let problem = problem(broken);
        assert!(!problem.contains("topsecret"), "{problem}");
    }
    let broken = problem("listen = \"x\"\n\n[[apps]\n");
    assert!(broken.contains("line 3") && !broken.contains('|'), "{broken}");
}
