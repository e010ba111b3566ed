//! A rule's expressions, parsed once and rendered for each event.

use std::collections::BTreeMap;

use entity::{notification::FieldValues, rule as row};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

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
}

/// What a rule makes of an event, the same for all recipients.
pub struct Rendered {
    pub fields: FieldValues,
    pub page: Option<String>,
    pub url: Option<String>,
    pub miniprogram: Option<row::MiniProgramLink>,
}

impl CompiledRule {
    /// Parses every expression; each that does not parse is named by its pointer.
    pub fn new(row: row::Model) -> Result<Self, Vec<FieldError>> {
        let mut env = Environment::new();
        env.set_auto_escape_callback(|_| AutoEscape::None);
        // A missing field must not silently become an empty text in somebody's message.
        env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        env.set_fuel(Some(FUEL));
        let mut faults = Vec::new();
        let mut add = |env: &mut Environment<'static>, name: String, source: String| {
            if let Err(error) = env.add_template_owned(name.clone(), source) {
                faults.push(FieldError::new(format!("/{name}"), reason(&error)));
            }
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
        if faults.is_empty() { Ok(Self { row, env }) } else { Err(faults) }
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
    pub fn message(&self, event: &Value) -> Result<Rendered, FieldError> {
        let mut fields = BTreeMap::new();
        for key in self.row.fields.0.keys() {
            let value = self.render(&field(key), event)?;
            let value = keyword::fit(key, value.trim(), self.row.overflow)
                .map_err(|problem| FieldError::new(format!("/{}", field(key)), problem))?;
            fields.insert(key.clone(), value);
        }
        let optional = |name: &str, source: bool| source.then(|| self.render(name, event)).transpose();
        let page = optional(PAGE, self.row.page.is_some())?;
        let url = optional(URL, self.row.url.is_some())?;
        let miniprogram = match &self.row.miniprogram {
            Some(link) => {
                Some(row::MiniProgramLink { app_id: link.app_id.clone(), page: self.render(MINIPROGRAM_PAGE, event)? })
            }
            None => None,
        };
        Ok(Rendered { fields: FieldValues(fields), page, url, miniprogram })
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

fn reason(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
