//! A trial of an expression before there is any event: names that no event has, filters that do not exist.

use std::{collections::BTreeMap, fmt, sync::Arc};

use minijinja::{Environment, ErrorKind, Value, value::Object};

use super::compiled::reason;

/// What expressions see of an event; `event/apply.rs` fills it in.
pub const SEEN: [&str; 6] = ["id", "source", "type", "subject", "time", "data"];

/// Why the template of this name can never be rendered, whatever the event says.
pub(super) fn objection(env: &Environment<'_>, name: &str) -> Option<String> {
    let template = env.get_template(name).ok()?;
    let known = |variable: &str| SEEN.contains(&variable) || env.globals().any(|(global, _)| global == variable);
    let mut unknown: Vec<_> = template.undeclared_variables(false).into_iter().filter(|name| !known(name)).collect();
    unknown.sort_unstable();
    if let Some(variable) = unknown.first() {
        return Some(format!("an event has no `{variable}`; expressions see {}", SEEN.join(", ")));
    }
    let anything = Value::from_object(Anything);
    let event: BTreeMap<&str, Value> = SEEN.iter().map(|name| (*name, anything.clone())).collect();
    let error = template.render(event).err()?;
    // Any other failure may be the fault of what stands in for the event.
    let never = matches!(error.kind(), ErrorKind::UnknownFilter | ErrorKind::UnknownFunction | ErrorKind::UnknownTest);
    never.then(|| reason(&error))
}

/// Stands in for what an event may hold: every part of it is there, and is again anything.
#[derive(Debug)]
struct Anything;

impl Object for Anything {
    fn get_value(self: &Arc<Self>, _key: &Value) -> Option<Value> {
        Some(Value::from_dyn_object(self.clone()))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("1")
    }
}
