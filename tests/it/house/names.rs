//! Where the big libraries may be named, so that replacing one stays a change of one folder.

use super::{
    File, Violation, module_of,
    source::{Kind, tokens},
};

struct Rule {
    names: &'static [&'static str],
    where_to: Where,
    why: &'static str,
}

enum Where {
    /// Modules, or single files by their paths.
    Only(&'static [&'static str]),
    Never(&'static [&'static str]),
}

const RULES: &[Rule] = &[
    Rule {
        names: &["poem", "poem_openapi"],
        where_to: Where::Only(&["api", "app"]),
        why: "HTTP served by us lives in api, and app starts it",
    },
    Rule {
        names: &["reqwest"],
        where_to: Where::Only(&["wechat", "src/webhook/call.rs"]),
        why: "calls leave from wechat, and from webhook to business systems",
    },
    Rule {
        names: &["sea_orm", "sea_orm_migration", "sqlx"],
        where_to: Where::Never(&["api", "wechat", "worker"]),
        why: "the database is spoken to in product files and entity",
    },
    Rule {
        names: &[
            "danger_accept_invalid_certs",
            "danger_accept_invalid_hostnames",
            "tls_danger_accept_invalid_certs",
            "tls_danger_accept_invalid_hostnames",
        ],
        where_to: Where::Only(&[]),
        why: "certificates are verified, without exception",
    },
];

const STATEMENTS: &[&str] = &["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM "];
const WITHOUT_SQL: &[&str] = &["api", "wechat", "worker"];

pub fn violations(files: &[File]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in files {
        let module = module_of(path);
        for token in tokens(text) {
            if let Some(why) = objection((path, module), token.kind, token.text) {
                found.push(format!("{path}:{}: {why}", token.line));
            }
        }
    }
    found
}

fn objection((path, module): (&str, &str), kind: Kind, text: &str) -> Option<String> {
    if kind == Kind::Text {
        let sql = STATEMENTS.iter().any(|statement| text.trim_start().starts_with(statement));
        return (sql && WITHOUT_SQL.contains(&module)).then(|| format!("SQL in {module}; it lives in product files"));
    }
    let rule = RULES.iter().find(|rule| rule.names.contains(&text))?;
    let allowed = match rule.where_to {
        Where::Only(homes) => homes.contains(&module) || homes.contains(&path),
        Where::Never(homes) => !homes.contains(&module),
    };
    (!allowed).then(|| format!("{text} is named in {module}; {}", rule.why))
}

#[cfg(test)]
mod tests {
    use super::{super::file, violations};

    fn judged(path: &str, text: &str) -> Vec<String> {
        violations(&[file(path, text)])
    }

    #[test]
    fn a_library_at_home_passes() {
        for (path, text) in [
            ("src/api.rs", "use poem::Route;"),
            ("src/app.rs", "use poem::Server;"),
            ("src/wechat/client.rs", "use reqwest::Response;"),
            ("src/webhook/call.rs", "fn f(client: &reqwest::Client) {}"),
            ("src/consent/report.rs", "use sea_orm::QueryFilter; const SQL: &str = \"SELECT 1\";"),
            ("src/api/me.rs", "// sea_orm and SQL are elsewhere\nconst HELP: &str = \"UPDATED\";"),
        ] {
            assert_eq!(judged(path, text), [""; 0], "{path}");
        }
    }

    #[test]
    fn a_library_elsewhere_is_found() {
        for (path, text) in [
            ("src/api_key.rs", "use poem::Request;"),
            ("src/app_account.rs", "use poem_openapi::Object;"),
            ("src/worker/push.rs", "fn f() { reqwest::get(\"x\") }"),
            ("src/wechat_problem.rs", "use reqwest::Error;"),
            ("src/webhook/settle.rs", "use reqwest::Error;"),
            ("src/api/me.rs", "use sea_orm::EntityTrait;"),
            ("src/worker.rs", "use sea_orm::sqlx;"),
            ("src/wechat/client.rs", "fn f() { builder.danger_accept_invalid_certs(true) }"),
            ("src/wechat/client.rs", "const SQL: &str = \"\n  SELECT 1\";"),
        ] {
            let found = judged(path, text);
            assert!(!found.is_empty(), "{path}: {text}");
            assert!(found[0].starts_with(&format!("{path}:1: ")), "{found:?}");
        }
    }
}
