//! When, and how often, the receipt of a message is posted.

use std::sync::Arc;

use super::{courier, event::Event};
use crate::{knobs::ReceiptMode, platform::Platform};

/// A held receipt is not held for ever.
const LONGEST_HOLD_MS: u64 = 2_000;

/// Returns at once, but for early receipts, which are through before the send is answered.
pub(crate) async fn schedule(platform: &Arc<Platform>, app_id: &str, event: Event) {
    let Some(knob) = platform.look().accounts.get(app_id).map(|account| account.knobs.receipt.clone()) else {
        return;
    };
    let delay = knob.delay_ms();
    match knob.mode {
        ReceiptMode::Lost => {}
        ReceiptMode::Early => {
            courier::post(platform, app_id, event).await;
        }
        ReceiptMode::Normal | ReceiptMode::Late | ReceiptMode::Fail => {
            later(platform, app_id, delay, vec![event]);
        }
        ReceiptMode::Twice => {
            let mut event = event;
            event.created = Some(platform.clock.now());
            later(platform, app_id, delay, vec![event.clone(), event]);
        }
        ReceiptMode::OutOfOrder => out_of_order(platform, app_id, delay, event),
    }
}

fn later(platform: &Arc<Platform>, app_id: &str, delay: u64, events: Vec<Event>) {
    let (work, app_id) = (platform.clone(), app_id.to_owned());
    platform.spawn(async move {
        work.clock.sleep(delay).await;
        for event in events {
            courier::post(&work, &app_id, event).await;
        }
    });
}

/// Every second receipt overtakes the one before it.
fn out_of_order(platform: &Arc<Platform>, app_id: &str, delay: u64, mut event: Event) {
    event.created = Some(platform.clock.now());
    let overtaken = {
        let mut world = platform.look();
        let Some(account) = world.accounts.get_mut(app_id) else {
            return;
        };
        let overtaken = account.held.take();
        if overtaken.is_none() {
            account.held = Some(event.clone());
        }
        overtaken
    };
    if let Some(overtaken) = overtaken {
        later(platform, app_id, delay, vec![event, overtaken]);
        return;
    }
    let (work, app_id) = (platform.clone(), app_id.to_owned());
    platform.spawn(async move {
        work.clock.sleep(delay + LONGEST_HOLD_MS).await;
        let still_held = match work.look().accounts.get_mut(&app_id) {
            Some(account)
                if account.held.as_ref().is_some_and(|held| held.list == event.list && held.fields == event.fields) =>
            {
                account.held.take()
            }
            _ => None,
        };
        if let Some(event) = still_held {
            courier::post(&work, &app_id, event).await;
        }
    });
}
