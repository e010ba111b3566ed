//! Wakes other nodes and is woken by them, so that a message which this node cannot send at once goes
//! out elsewhere. A lost word costs the period of the delivery loop, no more.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{context::Context, database::Word, error::Error};

/// Words of one burst are one word.
const BREATH: Duration = Duration::from_millis(25);
/// Pause before a lost connection is made again.
const AGAIN: Duration = Duration::from_secs(2);

/// Tells the others, and listens where this node has a worker, until `stop`.
pub async fn run(ctx: &Context, stop: &CancellationToken, listens: bool) {
    if ctx.db.is_sqlite() {
        return;
    }
    let node = Uuid::now_v7().to_string();
    tokio::select! {
        () = stop.cancelled() => {}
        () = tell(ctx, &node, listens) => {}
        () = listen(ctx, &node), if listens => {}
    }
}

async fn tell(ctx: &Context, node: &str, works: bool) {
    loop {
        let word = tokio::select! {
            () = ctx.wake.delivery.heard_for_others() => Word::Delivery,
            // A node with a worker tells the endpoints itself.
            () = ctx.wake.webhooks.heard_for_others(), if !works => Word::Webhooks,
        };
        if let Err(error) = ctx.db.tell(node, word).await {
            tracing::warn!(%error, "neighbours.not_told");
        }
        tokio::time::sleep(BREATH).await;
    }
}

async fn listen(ctx: &Context, node: &str) {
    loop {
        if let Err(error) = listen_until_lost(ctx, node).await {
            tracing::warn!(%error, "neighbours.not_heard");
        }
        tokio::time::sleep(AGAIN.mul_f64(0.8 + 0.4 * rand::random::<f64>())).await;
    }
}

async fn listen_until_lost(ctx: &Context, node: &str) -> Result<(), Error> {
    let mut neighbours = ctx.db.listen(&ctx.config.database_url, node).await?;
    // Something may have been told before.
    ctx.wake.delivery.ring_all_here();
    ctx.wake.webhooks.ring_all_here();
    loop {
        match neighbours.heard().await? {
            Word::Delivery => ctx.wake.delivery.ring_all_here(),
            Word::Webhooks => ctx.wake.webhooks.ring_all_here(),
        }
    }
}
