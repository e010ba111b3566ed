//! WeChat's own word on what the user tapped (`subscribe_msg_popup_event`).

use entity::{
    ConsentId, IdentityId, Timestamp,
    consent::{Kind, Source},
    template,
};
use sea_orm::{DatabaseTransaction, EntityTrait};

use super::{release, tap};
use crate::{context::Context, error::Error};

/// One entry of a popup event.
pub struct Popup<'a> {
    /// The same for the same telling: it is entered once.
    pub id: ConsentId,
    pub app_id: &'a str,
    pub identity_id: IdentityId,
    pub template_id: &'a str,
    pub accepted: bool,
    pub tapped_at: Timestamp,
}

/// Enters it, unless the front end's report of the same tap counts already. Gives whether messages that waited
/// for it may go now.
pub async fn take(ctx: &Context, tx: &DatabaseTransaction, popup: &Popup<'_>, now: Timestamp) -> Result<bool, Error> {
    let of = (popup.app_id.to_owned(), popup.template_id.to_owned());
    let Some(template) = template::Entity::find_by_id(of).one(tx).await? else {
        // No rule and no message can name it.
        tracing::warn!(app.id = popup.app_id, template.id = popup.template_id, "consent.unknown_template");
        return Ok(false);
    };
    let tap = tap::Tap {
        id: popup.id,
        identity_id: popup.identity_id,
        kind: if popup.accepted { Kind::Accept } else { Kind::Reject },
        source: Source::Popup,
        report_id: None,
        tapped_at: popup.tapped_at,
    };
    let entered = tap::enter(ctx, tx, &template, &tap, now).await?;
    if !entered || !popup.accepted {
        return Ok(false);
    }
    let balance = (popup.identity_id, popup.template_id);
    Ok(!release::waiting(tx, std::iter::once(balance), now).await?.is_empty())
}
