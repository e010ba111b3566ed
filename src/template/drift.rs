//! Drift: a template that is no longer what its rules were written for. The rules that use it are paused
//! and say why, instead of failing a thousand sends; they go on by themselves when it fits again.

use std::collections::BTreeSet;

use entity::{
    rule,
    template::{Model, State},
};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, sea_query::Expr};

use crate::{
    error::Error,
    revision::{self, Of},
};

/// Compares the rules of an app with its templates as they now are; gives how many rules changed.
pub(super) async fn check(tx: &DatabaseTransaction, app_id: &str, templates: &[Model]) -> Result<usize, Error> {
    let of_app = rule::Entity::find().filter(rule::Column::AppId.eq(app_id)).all(tx).await?;
    let mut changed = 0;
    for row in of_app {
        let template = templates.iter().find(|template| template.template_id == row.template_id);
        let because = cause(&row, template);
        if because == row.paused_because {
            continue;
        }
        if let Some(because) = &because {
            tracing::warn!(rule.id = %row.id, because, "rule.paused");
        } else {
            tracing::info!(rule.id = %row.id, "rule.resumed");
        }
        rule::Entity::update_many()
            .col_expr(rule::Column::PausedBecause, Expr::value(because))
            .filter(rule::Column::Id.eq(row.id))
            .exec(tx)
            .await?;
        changed += 1;
    }
    // A rule is remembered with what its template takes.
    revision::raise(tx, Of::Rule).await?;
    Ok(changed)
}

/// Why a rule cannot work with its template as it is.
fn cause(rule: &rule::Model, template: Option<&Model>) -> Option<String> {
    let Some(template) = template.filter(|template| template.state != State::Deleted) else {
        return Some(format!("template {} is no longer in the account", rule.template_id));
    };
    let has: BTreeSet<_> = template.fields.0.iter().map(|field| field.key.as_str()).collect();
    let fills: BTreeSet<_> = rule.fields.0.keys().map(String::as_str).collect();
    if has == fills {
        return None;
    }
    let list = |keys: Vec<&str>| if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
    let new = list(has.difference(&fills).copied().collect());
    let gone = list(fills.difference(&has).copied().collect());
    Some(format!("the keywords of template {} changed: new {new}; gone {gone}", rule.template_id))
}
