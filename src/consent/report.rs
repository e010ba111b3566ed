//! The front end's report of what the user tapped (`wx.requestSubscribeMessage`).

use entity::{
    ConsentId, Timestamp,
    consent::{Kind, Source},
    credit, session,
};
use uuid::Uuid;

use super::{release, tap};
use crate::{
    context::Context,
    error::{Code, Error, FieldError},
    template as templates,
};

/// WeChat's client takes at most five templates a call.
const MOST_RESULTS: usize = 20;

/// One answer of the pop-up.
pub struct Report {
    /// The front end's own id: a repeated report changes nothing.
    pub report_id: String,
    /// Template id → what WeChat's client said.
    pub results: Vec<(String, String)>,
    pub tapped_at: Option<Timestamp>,
}

/// What became of a report.
pub struct Reported {
    pub balances: Vec<credit::Model>,
    /// Results that are none WeChat documents: no credit is counted for them.
    pub ignored: Vec<(String, String)>,
}

/// Enters a report into the ledger. The same `report_id` counts once, whatever it says later.
pub async fn report(ctx: &Context, session: &session::Model, report: &Report) -> Result<Reported, Error> {
    check(report)?;
    let app = ctx.app(&session.app_id).ok_or(Error::new(Code::AppNotFound))?;
    let ids: Vec<_> = report.results.iter().map(|(id, _)| id.as_str()).collect();
    let templates = templates::require(ctx, &app, &ids).await?;
    let now = ctx.clock.now();
    let mut ignored = Vec::new();
    let mut accepted = false;
    let tx = ctx.db.begin().await?;
    for (template_id, result) in &report.results {
        let Some(kind) = kind(result) else {
            ignored.push((template_id.clone(), result.clone()));
            continue;
        };
        let Some(template) = templates.iter().find(|row| row.template_id == *template_id) else { continue };
        let tap = tap::Tap {
            id: ConsentId(Uuid::now_v7()),
            identity_id: session.identity_id,
            kind,
            source: Source::Report,
            report_id: Some(report.report_id.clone()),
            // Nobody tapped later than we hear of it, whatever the phone's clock says.
            tapped_at: report.tapped_at.unwrap_or(now).min(now),
        };
        if tap::enter(ctx, &tx, template, &tap, now).await? && kind == Kind::Accept {
            accepted |= release::waiting(&tx, session.identity_id, template_id, now).await?;
        }
    }
    let balances = super::balances(&tx, session.identity_id).await?;
    tx.commit().await?;
    if accepted {
        ctx.wake.delivery.ring(&session.app_id);
    }
    Ok(Reported { balances, ignored })
}

fn check(report: &Report) -> Result<(), Error> {
    let mut faults = Vec::new();
    if report.report_id.is_empty() || report.report_id.len() > 100 {
        faults.push(FieldError::new("/report_id", "must be 1 to 100 characters, a new one for each tap"));
    }
    if report.results.is_empty() || report.results.len() > MOST_RESULTS {
        faults.push(FieldError::new(
            "/results",
            format!("must hold 1 to {MOST_RESULTS} template ids with their results"),
        ));
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::fields(Code::InvalidRequest, faults)) }
}

fn kind(result: &str) -> Option<Kind> {
    match result {
        "accept" | "acceptWithAudio" | "acceptWithAlert" => Some(Kind::Accept),
        "reject" => Some(Kind::Reject),
        "ban" => Some(Kind::Ban),
        "filter" => Some(Kind::Filter),
        _ => None,
    }
}
