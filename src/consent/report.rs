//! The front end's report of what the user tapped (`wx.requestSubscribeMessage`).

use entity::{
    ConsentId, Timestamp,
    consent::{Kind, Source},
    credit, session, template,
};
use uuid::Uuid;

use super::{hold_person, release, tap};
use crate::{
    context::Context,
    database::again,
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
    let (known, ignored): (Vec<_>, Vec<_>) = report.results.iter().partition(|(_, result)| kind(result).is_some());
    let said = known.into_iter().filter_map(|(template_id, result)| {
        Some((templates.iter().find(|row| row.template_id == *template_id)?, kind(result)?))
    });
    let mut said: Vec<_> = said.collect();
    // In the order in which balances are locked.
    said.sort_by_key(|(template, _)| &template.template_id);
    let balances = again(|| enter(ctx, session, report, &said)).await?;
    Ok(Reported { balances, ignored: ignored.into_iter().cloned().collect() })
}

async fn enter(
    ctx: &Context,
    session: &session::Model,
    report: &Report,
    said: &[(&template::Model, Kind)],
) -> Result<Vec<credit::Model>, Error> {
    let now = ctx.clock.now();
    let mut released = false;
    let tx = ctx.db.begin().await?;
    if !hold_person(&tx, session.identity_id).await? {
        return Err(Error::new(Code::SessionEnded));
    }
    for (template, kind) in said {
        let tap = tap::Tap {
            id: ConsentId(Uuid::now_v7()),
            identity_id: session.identity_id,
            kind: *kind,
            source: Source::Report,
            report_id: Some(report.report_id.clone()),
            // Nobody tapped later than we hear of it, whatever the phone's clock says.
            tapped_at: report.tapped_at.unwrap_or(now).min(now),
        };
        if tap::enter(ctx, &tx, template, &tap, now).await? && *kind == Kind::Accept {
            let balance = (session.identity_id, template.template_id.as_str());
            released |= !release::waiting(&tx, std::iter::once(balance), now).await?.is_empty();
        }
    }
    let balances = super::balances(&tx, session.identity_id).await?;
    tx.commit().await?;
    if released {
        ctx.wake.delivery.ring(&session.app_id);
    }
    Ok(balances)
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
