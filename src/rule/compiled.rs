//! A rule's expressions, parsed once and rendered for each event.

use std::collections::{BTreeMap, HashMap};

use entity::{
    notification::FieldValues,
    rule as row,
    template::{Field, Fields},
};
use minijinja::{Environment, Value};

use super::{language, output::Output, vocabulary};
use crate::{error::FieldError, keyword};

/// What expressions see of an event; `event/apply.rs` fills it in.
pub const SEEN: [&str; 6] = ["id", "source", "type", "subject", "time", "data"];

const WHEN: &str = "when";
pub(super) const RECIPIENTS: &str = "recipients";
const PAGE: &str = "page";
const URL: &str = "url";
const MINIPROGRAM_PAGE: &str = "miniprogram/page";

/// A rule that is ready to be applied.
pub struct CompiledRule {
    pub row: row::Model,
    env: Environment<'static>,
    /// Each template field, and what its expression is called in `env`.
    fields: Vec<(String, String)>,
    /// Template field → the only values it takes.
    listed: HashMap<String, Vec<String>>,
    /// What keeps it from working at all: it was stored when expressions were allowed more than they are now.
    fault: Option<FieldError>,
}

/// What a rule makes of an event, the same for all recipients; as far as it could be made.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub fields: FieldValues,
    pub page: Option<String>,
    pub url: Option<String>,
    pub miniprogram: Option<row::MiniProgramLink>,
    /// Why it cannot be sent; empty when it can.
    pub violations: Vec<Violation>,
}

/// One part of a message that WeChat would refuse, or that could not be computed.
#[derive(Clone, Debug)]
pub struct Violation {
    /// A JSON pointer into the rule, such as `/fields/thing2`.
    pub pointer: String,
    /// What came out, where anything did.
    pub value: Option<String>,
    pub problem: String,
}

impl Message {
    /// One that could not be made at all.
    pub fn broken(fault: FieldError) -> Self {
        Self {
            violations: vec![Violation { pointer: fault.pointer, value: None, problem: fault.reason }],
            ..Self::default()
        }
    }
}

impl CompiledRule {
    /// Parses every expression. A rule with one that is not taken applies to each of its events, and says of each
    /// message why it cannot be made: it must not be passed over in silence.
    pub fn new(row: row::Model, template: &Fields) -> Self {
        let (mut compiled, faults) = Self::compile(row, template);
        compiled.fault = faults.into_iter().next();
        compiled
    }

    /// Everything that keeps a rule from ever working, or from working with this template, each named by its pointer.
    pub fn faults(row: row::Model, template: &Fields) -> Vec<FieldError> {
        let (compiled, mut faults) = Self::compile(row, template);
        faults.extend(compiled.constants());
        faults
    }

    /// Why this rule cannot work at all.
    pub fn fault(&self) -> Option<&FieldError> {
        self.fault.as_ref()
    }

    fn compile(row: row::Model, template: &Fields) -> (Self, Vec<FieldError>) {
        let mut env = vocabulary::environment();
        let mut faults = Vec::new();
        let mut add = |name: String, checked: Result<String, String>| {
            let added = checked.and_then(|source| {
                env.add_template_owned(name.clone(), source).map_err(|error| reason(&error))?;
                objection(&env, &name).map_or(Ok(()), Err)
            });
            faults.extend(added.err().map(|fault| FieldError::new(format!("/{name}"), fault)));
        };
        for (key, source) in &row.fields.0 {
            add(field(key), language::text(source));
        }
        let link = row.miniprogram.as_ref().map(|link| &link.page);
        for (name, source) in [
            (RECIPIENTS, row.recipients.as_ref()),
            (PAGE, row.page.as_ref()),
            (URL, row.url.as_ref()),
            (MINIPROGRAM_PAGE, link),
        ] {
            if let Some(source) = source {
                add(name.to_owned(), language::text(source));
            }
        }
        if let Some(condition) = &row.when {
            add(WHEN.to_owned(), language::condition(condition));
        }
        let listed = |field: &Field| (field.key.clone(), field.enum_values.clone());
        let listed = template.0.iter().map(listed).collect();
        let fields = row.fields.0.keys().map(|key| (key.clone(), field(key))).collect();
        (Self { row, env, fields, listed, fault: None }, faults)
    }

    /// Faults of what does not depend on the event: it is the same in every message.
    fn constants(&self) -> Vec<FieldError> {
        let empty = Value::from(BTreeMap::<String, Value>::new());
        let is_constant = |name: &str| {
            self.env.get_template(name).is_ok_and(|template| template.undeclared_variables(false).is_empty())
        };
        let mut faults = Vec::new();
        for (key, name) in self.fields.iter().filter(|(_, name)| is_constant(name)) {
            if let Err(violation) = self.field(key, name, &empty) {
                faults.push(FieldError::new(violation.pointer, violation.problem));
            }
        }
        if self.row.recipients.is_some() && is_constant(RECIPIENTS) {
            let wrong = match self.recipients(&empty) {
                Ok(to) => to.unwrap_or_default().iter().find_map(|text| crate::recipient::Recipient::parse(text).err()),
                Err(fault) => Some(fault.reason),
            };
            faults.extend(wrong.map(|reason| FieldError::new("/recipients", reason)));
        }
        faults
    }

    /// Whether the condition holds; a rule without one always applies.
    pub fn applies(&self, event: &Value) -> Result<bool, FieldError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        Ok(self.row.when.is_none() || self.render(WHEN, event)? == "1")
    }

    /// The recipients the rule computes, if it does: comma-separated references.
    pub fn recipients(&self, event: &Value) -> Result<Option<Vec<String>>, FieldError> {
        if self.row.recipients.is_none() {
            return Ok(None);
        }
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        Ok(Some(split_recipients(&self.render(RECIPIENTS, event)?)))
    }

    /// The message: every field checked against its keyword type, too long ones cut or refused as the
    /// rule says.
    pub fn message(&self, event: &Value) -> Message {
        let mut message = Message::default();
        let mut fields = BTreeMap::new();
        for (key, name) in &self.fields {
            match self.field(key, name, event) {
                Ok(value) => drop(fields.insert(key.clone(), value)),
                Err(violation) => message.violations.push(violation),
            }
        }
        message.fields = FieldValues(fields.into());
        let mut optional = |name: &str, source: bool| match source.then(|| self.render(name, event)).transpose() {
            Ok(text) => text,
            Err(FieldError { pointer, reason }) => {
                message.violations.push(Violation { pointer, value: None, problem: reason });
                None
            }
        };
        let page = optional(PAGE, self.row.page.is_some());
        let url = optional(URL, self.row.url.is_some());
        let linked = optional(MINIPROGRAM_PAGE, self.row.miniprogram.is_some());
        let app_id = self.row.miniprogram.as_ref().map(|link| link.app_id.clone());
        message.miniprogram = linked.zip(app_id).map(|(page, app_id)| row::MiniProgramLink { app_id, page });
        (message.page, message.url) = (page, url);
        message
    }

    fn field(&self, key: &str, name: &str, event: &Value) -> Result<String, Violation> {
        let value = self.render(name, event).map_err(|fault| Violation {
            pointer: fault.pointer,
            value: None,
            problem: fault.reason,
        })?;
        let listed = self.listed.get(key).map_or(&[][..], Vec::as_slice);
        keyword::fit(key, listed, value.trim(), self.row.overflow).map_err(|problem| Violation {
            pointer: format!("/{name}"),
            value: Some(value),
            problem,
        })
    }

    fn render(&self, name: &str, event: &Value) -> Result<String, FieldError> {
        let mut output = Output::of(name);
        let template = self.env.get_template(name);
        let rendered = template.and_then(|template| template.render_captured_to(event, &mut output).map(drop));
        let written = match rendered {
            Ok(()) => output.into_text(),
            Err(error) => output.overflow().map_or_else(|| Err(reason(&error)), Err),
        };
        written.map_err(|reason| FieldError::new(format!("/{name}"), reason))
    }
}

/// Splits `usr_…, external:1001`.
pub fn split_recipients(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn field(key: &str) -> String {
    format!("fields/{key}")
}

/// Why the template of this name can never be rendered, whatever the event says: it names what no event has.
fn objection(env: &Environment<'_>, name: &str) -> Option<String> {
    let template = env.get_template(name).ok()?;
    let known = |variable: &str| SEEN.contains(&variable) || env.globals().any(|(global, _)| global == variable);
    let mut unknown: Vec<_> = template.undeclared_variables(false).into_iter().filter(|name| !known(name)).collect();
    unknown.sort_unstable();
    let variable = unknown.first()?;
    Some(format!("an event has no `{variable}`; expressions see {}", SEEN.join(", ")))
}

pub(super) fn reason(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
