//! A rule's expressions, parsed once and rendered for each event.

use std::collections::{BTreeMap, HashMap};

use entity::{
    notification::FieldValues,
    rule as row,
    template::{Field, Fields},
};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use super::{filter, trial};
use crate::{error::FieldError, keyword};

/// Enough for any sensible expression, and an end for a loop that has none.
const FUEL: u64 = 20_000;
const WHEN: &str = "when";
const RECIPIENTS: &str = "recipients";
const PAGE: &str = "page";
const URL: &str = "url";
const MINIPROGRAM_PAGE: &str = "miniprogram/page";

/// A rule that is ready to be applied.
pub struct CompiledRule {
    pub row: row::Model,
    env: Environment<'static>,
    /// Template field → the only values it takes.
    listed: HashMap<String, Vec<String>>,
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
    /// Parses every expression; each that does not parse, or can never be computed, is named by its pointer.
    pub fn new(row: row::Model, template: &Fields) -> Result<Self, Vec<FieldError>> {
        let (compiled, faults) = Self::compile(row, template);
        if faults.is_empty() { Ok(compiled) } else { Err(faults) }
    }

    /// Everything that keeps a rule from ever working, or from working with this template.
    pub fn faults(row: row::Model, template: &Fields) -> Vec<FieldError> {
        let (compiled, mut faults) = Self::compile(row, template);
        faults.extend(compiled.constants());
        faults
    }

    fn compile(row: row::Model, template: &Fields) -> (Self, Vec<FieldError>) {
        let mut env = Environment::new();
        env.set_auto_escape_callback(|_| AutoEscape::None);
        // A missing field must not silently become an empty text in somebody's message.
        env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        env.set_fuel(Some(FUEL));
        filter::add_to(&mut env);
        let mut faults = Vec::new();
        let mut add = |env: &mut Environment<'static>, name: String, source: String| {
            let fault = match env.add_template_owned(name.clone(), source) {
                Ok(()) => trial::objection(env, &name),
                Err(error) => Some(reason(&error)),
            };
            faults.extend(fault.map(|fault| FieldError::new(format!("/{name}"), fault)));
        };
        for (key, source) in &row.fields.0 {
            add(&mut env, field(key), source.clone());
        }
        let link = row.miniprogram.as_ref().map(|link| link.page.clone());
        for (name, source) in
            [(RECIPIENTS, &row.recipients), (PAGE, &row.page), (URL, &row.url), (MINIPROGRAM_PAGE, &link)]
        {
            if let Some(source) = source {
                add(&mut env, name.to_owned(), source.clone());
            }
        }
        if let Some(condition) = &row.when {
            match env.compile_expression_owned(condition.clone()).map(drop) {
                Ok(()) => add(&mut env, WHEN.to_owned(), format!("{{% if {condition} %}}1{{% endif %}}")),
                Err(error) => faults.push(FieldError::new("/when", reason(&error))),
            }
        }
        let listed = |field: &Field| (field.key.clone(), field.enum_values.clone());
        let listed = template.0.iter().map(listed).collect();
        (Self { row, env, listed }, faults)
    }

    /// Faults of what does not depend on the event: it is the same in every message.
    fn constants(&self) -> Vec<FieldError> {
        let empty = Value::from(BTreeMap::<String, Value>::new());
        let is_constant = |name: &str| {
            self.env.get_template(name).is_ok_and(|template| template.undeclared_variables(false).is_empty())
        };
        let mut faults = Vec::new();
        for key in self.row.fields.0.keys().filter(|key| is_constant(&field(key))) {
            if let Err(violation) = self.field(key, &empty) {
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
        Ok(self.row.when.is_none() || self.render(WHEN, event)? == "1")
    }

    /// The recipients the rule computes, if it does: comma-separated references.
    pub fn recipients(&self, event: &Value) -> Result<Option<Vec<String>>, FieldError> {
        if self.row.recipients.is_none() {
            return Ok(None);
        }
        Ok(Some(split_recipients(&self.render(RECIPIENTS, event)?)))
    }

    /// The message: every field checked against its keyword type, too long ones cut or refused as the
    /// rule says.
    pub fn message(&self, event: &Value) -> Message {
        let mut message = Message::default();
        for key in self.row.fields.0.keys() {
            match self.field(key, event) {
                Ok(value) => drop(message.fields.0.insert(key.clone(), value)),
                Err(violation) => message.violations.push(violation),
            }
        }
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

    fn field(&self, key: &str, event: &Value) -> Result<String, Violation> {
        let pointer = format!("/{}", field(key));
        let value = self.render(&field(key), event).map_err(|fault| Violation {
            pointer: fault.pointer,
            value: None,
            problem: fault.reason,
        })?;
        let listed = self.listed.get(key).map_or(&[][..], Vec::as_slice);
        keyword::fit(key, listed, value.trim(), self.row.overflow).map_err(|problem| Violation {
            pointer,
            value: Some(value),
            problem,
        })
    }

    fn render(&self, name: &str, event: &Value) -> Result<String, FieldError> {
        let rendered = self.env.get_template(name).and_then(|template| template.render(event));
        rendered.map_err(|error| FieldError::new(format!("/{name}"), reason(&error)))
    }
}

/// Splits `usr_…, external:1001`.
pub fn split_recipients(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn field(key: &str) -> String {
    format!("fields/{key}")
}

pub(super) fn reason(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
