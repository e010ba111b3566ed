//! Messages that waited for consent.

use std::collections::BTreeSet;

use entity::{IdentityId, NotificationId, Timestamp, notification::Credit};
use sea_orm::{ActiveEnum, ConnectionTrait, DatabaseTransaction, FromQueryResult};

use super::{Granted, Want, reserve};
use crate::{database::rows::Rows, error::Error};

/// Rows of one update; a bound value per column stays far below what the databases take.
const ROWS_A_STATEMENT: usize = 256;

/// As many of those who wait as there are credits, the oldest first; of a long-term template that is on all of them.
/// The expression of the state fits no index of all that waits, so that the one of the identities is taken. (A bound state
/// would fit none either, but has SQLite plan the statement anew each time.)
const WAITING: &str = "
    SELECT id, app_id, identity_id, template_id, due_at FROM (
        SELECT n.id, n.app_id, n.identity_id, n.template_id, n.due_at, c.kind, c.credits,
               row_number() OVER (PARTITION BY n.identity_id, n.template_id ORDER BY n.id) AS place
        FROM (SELECT DISTINCT v_identity_id, v_template_id FROM v) AS balance
        JOIN credit c ON c.identity_id = v_identity_id AND c.template_id = v_template_id AND c.credits > 0
        JOIN notification n ON n.identity_id = c.identity_id AND n.template_id = c.template_id
        WHERE n.state || '' = 'waiting' AND n.expires_at > $same
    ) AS waiting
    WHERE kind = 'long_term' OR place <= credits
    ORDER BY id";

const RELEASE: &str = "UPDATE notification SET state = 'pending', credit = v_credit, reason = NULL, due_at = v_due_at
    FROM v WHERE id = v_id AND state || '' = 'waiting'";

#[derive(FromQueryResult)]
struct Waiting {
    id: NotificationId,
    app_id: String,
    identity_id: IdentityId,
    template_id: String,
    due_at: Timestamp,
}

/// Messages that waited for a credit of these balances may go, as far as there are any. Whoever calls this holds the
/// balances. Gives the apps that have something to send.
pub(super) async fn waiting<'a>(
    tx: &DatabaseTransaction,
    balances: impl Iterator<Item = (IdentityId, &'a str)>,
    now: Timestamp,
) -> Result<BTreeSet<String>, Error> {
    let backend = tx.get_database_backend();
    let mut rows = Rows::of(&["v_identity_id", "v_template_id"]).with(now);
    for (identity_id, template_id) in balances {
        rows.push([identity_id.into(), template_id.into()]);
    }
    if rows.is_empty() {
        return Ok(BTreeSet::new());
    }
    let waiting = Waiting::find_by_statement(rows.statement(backend, WAITING)?).all(tx).await?;
    let want = |row: &Waiting| Want {
        identity_id: row.identity_id,
        template_id: row.template_id.clone(),
        notification_id: row.id,
    };
    let granted = reserve(tx, &waiting.iter().map(want).collect::<Vec<_>>(), now).await?;
    let mut released = BTreeSet::new();
    for chunk in waiting.into_iter().zip(granted).collect::<Vec<_>>().chunks(ROWS_A_STATEMENT) {
        let mut rows = Rows::of(&["v_id", "v_credit", "v_due_at"]);
        for (row, granted) in chunk {
            let credit = match granted {
                Granted::Reserved => Credit::Reserved,
                Granted::Standing => Credit::None,
                Granted::No => continue,
            };
            rows.push([row.id.into(), credit.to_value().into(), now.max(row.due_at).into()]);
            released.insert(row.app_id.clone());
        }
        if !rows.is_empty() {
            tx.execute_raw(rows.statement(backend, RELEASE)?).await?;
        }
    }
    Ok(released)
}
