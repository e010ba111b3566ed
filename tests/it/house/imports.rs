//! The import rule: a file of `src` names only its own first-level module and those below it.

use std::collections::HashSet;

use super::{
    File, Violation, module_of,
    source::{Kind, Token, tokens},
};

/// The layers from the bottom up; below all of them lies the crate `entity`. A first-level module
/// that is not named here is a product file.
const LAYERS: [&[&str]; 7] = [
    &["clock", "config", "error", "secret", "telemetry"],
    &["wechat"],
    &["context", "database", "group"],
    PRODUCT,
    &["api", "worker"],
    &["app", "cli", "dev"],
    &["main"],
];

const GROUND: usize = 0;
const PRODUCT: &[&str] = &[];
const PRODUCT_LAYER: usize = 3;

/// Who may import whom inside a layer; product files and the ground layer are free among themselves.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("context", "database"),
    ("context", "group"),
    ("database", "group"),
    // A command runs the server, or the server with a simulator beside it.
    ("cli", "app"),
    ("cli", "dev"),
    ("dev", "app"),
];

pub fn violations(files: &[File]) -> Vec<Violation> {
    let modules: HashSet<&str> = files.iter().map(|(path, _)| module_of(path)).collect();
    let mut found = Vec::new();
    for (path, text) in files {
        let from = module_of(path);
        for (to, line) in named_modules(path, text) {
            if let Some(why) = objection(from, to, &modules) {
                found.push(format!("{path}:{line}: {why}"));
            }
        }
    }
    found
}

fn objection(from: &str, to: &str, modules: &HashSet<&str>) -> Option<String> {
    let (above, below) = (layer(from), layer(to));
    if from == "main" || from == to {
        return None;
    }
    if to == "*" {
        return Some("imports everything; name the modules".to_owned());
    }
    if !modules.contains(to) {
        return Some(format!("`crate::{to}` is no module of src; name the module that owns it"));
    }
    let free = above == below && (above == GROUND || above == PRODUCT_LAYER);
    if below < above || free || NEIGHBOURS.contains(&(from, to)) {
        return None;
    }
    let side = if below == above { "sideways" } else { "upward" };
    Some(format!("{from} (layer {above}) imports {side} from {to} (layer {below}); imports point downward only"))
}

fn layer(module: &str) -> usize {
    LAYERS.iter().position(|names| names.contains(&module)).unwrap_or(PRODUCT_LAYER)
}

/// Every first-level module a file names, with the line: `use` declarations, groups and paths in code.
fn named_modules<'a>(path: &str, text: &'a str) -> Vec<(&'a str, usize)> {
    let tokens = tokens(text);
    let (mut found, mut at) = (Vec::new(), 0);
    // Where each open inline module started, so that `super` in it is not taken for the file's parent.
    let (mut braces, mut inline) = (0_usize, Vec::new());
    while at < tokens.len() {
        if tokens[at].is("mod") && tokens.get(at + 2).is_some_and(|token| token.is("{")) {
            inline.push(braces);
        } else if tokens[at].is("{") {
            braces += 1;
        } else if tokens[at].is("}") {
            braces = braces.saturating_sub(1);
            inline.pop_if(|start| *start == braces);
        }
        let level = depth(path) + inline.len();
        let inside_a_path = at > 0 && tokens[at - 1].is("::");
        let starts = !inside_a_path && ["crate", "self", "super"].iter().any(|head| tokens[at].is(head));
        at = if starts { follow(&tokens, at, level, &mut found) } else { at + 1 };
    }
    found
}

/// How many modules deep a file lies: 0 for the crate's root.
fn depth(path: &str) -> usize {
    let below = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if ["lib", "main"].contains(&below) { 0 } else { below.split('/').count() }
}

/// Follows a path or a group of paths that starts `level` modules below the crate's root, notes what
/// it names at the root and returns the index after it.
fn follow<'a>(tokens: &[Token<'a>], at: usize, level: usize, found: &mut Vec<(&'a str, usize)>) -> usize {
    let Some(token) = tokens.get(at) else { return tokens.len() };
    let goes_on = tokens.get(at + 1).is_some_and(|next| next.is("::"));
    match token.text {
        "crate" if goes_on => follow(tokens, at + 2, 0, found),
        "self" if goes_on => follow(tokens, at + 2, level, found),
        "super" if goes_on => follow(tokens, at + 2, level.saturating_sub(1), found),
        "{" => {
            let mut at = at + 1;
            while at < tokens.len() && !tokens[at].is("}") {
                at = follow(tokens, at, level, found);
                // `as name` is not a path of its own.
                at += tokens[at..].iter().take_while(|token| !token.is(",") && !token.is("}")).count();
                at += usize::from(tokens.get(at).is_some_and(|token| token.is(",")));
            }
            at + 1
        }
        name => {
            if level == 0 && (token.kind == Kind::Word || name == "*") && !["crate", "self", "super"].contains(&name) {
                found.push((name, token.line));
            }
            // What follows the name lies below it.
            if goes_on { follow(tokens, at + 2, usize::MAX, found) } else { at + 1 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::file, violations};

    fn judged(path: &str, text: &str) -> Vec<String> {
        let mut files: Vec<_> =
            ["api", "app", "clock", "config", "consent", "context", "database", "event", "wechat", "worker"]
                .iter()
                .map(|module| file(&format!("src/{module}.rs"), ""))
                .collect();
        files.push(file(path, text));
        violations(&files)
    }

    #[test]
    fn downward_and_own_imports_pass() {
        for (path, text) in [
            ("src/event/plan.rs", "use crate::{consent, context::Context, event::Draft, wechat};"),
            ("src/context.rs", "use crate::{clock::Clock, config::Config, database::Database, wechat};"),
            ("src/config.rs", "use crate::clock::Clock;"),
            ("src/dev.rs", "fn run() { crate::app::run() }"),
            ("src/event.rs", "use crate::{consent as api, clock::{self as worker, Clock},};"),
            ("src/lib.rs", "pub mod api; use crate::api::Api;"),
            ("src/api/me.rs", "use super::Page; use super::super::consent; pub(crate) fn f() {}"),
            ("src/clock.rs", "mod tests { use super::*; }\n/// See [`crate::api`].\nfn f() { \"crate::api\" }"),
        ] {
            assert_eq!(judged(path, text), [""; 0], "{path}");
        }
    }

    #[test]
    fn an_upward_import_is_found_with_its_line() {
        let why = "wechat (layer 1) imports upward from database (layer 2); imports point downward only";
        assert_eq!(
            judged("src/wechat/client.rs", "\nuse crate::database::Database;"),
            [format!("src/wechat/client.rs:2: {why}")]
        );
    }

    #[test]
    fn no_way_of_writing_an_import_hides_it() {
        for text in [
            "use crate::{clock, api::Api};",
            "use crate::{clock::{self, Clock}, api};",
            "use crate::api as other;",
            "pub use crate::api::*;",
            "fn f() { crate::api::serve() }",
            "fn f(x: &impl crate::api::Api) {}",
            "use super::super::api;",
            "use super::{super::api, Other};",
            "use self::super::super::api;",
            "mod inner { use super::super::super::api; }",
            "mod inner {} use super::super::api;",
            "macro_rules! m { () => { $crate::api::f() } }",
        ] {
            assert_eq!(judged("src/event/plan.rs", text).len(), 1, "{text}");
        }
    }

    #[test]
    fn api_and_worker_do_not_know_each_other() {
        assert_eq!(judged("src/api/events.rs", "use crate::worker;").len(), 1);
        assert_eq!(judged("src/worker/push.rs", "use crate::api;").len(), 1);
        assert_eq!(judged("src/database.rs", "use crate::context::Context;").len(), 1);
        assert_eq!(judged("src/app.rs", "use crate::{api, worker, dev};").len(), 1);
    }

    #[test]
    fn an_import_from_the_crates_root_is_found() {
        assert_eq!(judged("src/event.rs", "use crate::*;").len(), 1);
        assert_eq!(judged("src/event.rs", "use super::*;").len(), 1);
        assert_eq!(judged("src/event.rs", "use crate::Error;").len(), 1);
    }
}
