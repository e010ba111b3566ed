//! The account after a SIGKILL in the middle of thousands of messages and a start on what it left behind.

mod account;

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Run, as_f64};
use crate::{
    Result,
    contender::{Contender, Program},
    http::Connection,
    load::{self, Until},
    table::Measure,
    work::Events,
};
use account::{Account, Fate};

/// Leases run out and unknown outcomes are named within this.
const PATIENCE: Duration = Duration::from_mins(3);

const LOST: Measure = Measure { name: "lost after SIGKILL", digits: 0, reach: "0", aim: "0" };
const DOUBLED: Measure = Measure { name: "doubled and not marked after SIGKILL", digits: 0, reach: "0", aim: "0" };
const MARKED: Measure = Measure { name: "named unsure or failed after SIGKILL", digits: 0, reach: "", aim: "" };
const HELD_BACK: Measure = Measure { name: "of these never seen upstream", digits: 0, reach: "", aim: "" };

pub async fn measure(run: &mut Run<'_>, contenders: &mut [Contender]) -> Result<()> {
    for contender in contenders {
        contender.credit_everybody().await?;
        run.upstream.reset(Duration::ZERO).await?;
        let work = Arc::new(Events::keeping_account(contender, run.size.users));
        let posting =
            load::closed(contender.address, run.size.connections, Until::Requests(run.size.events), work.clone());
        let posting = tokio::spawn(posting);
        run.upstream.wait_for(run.size.events / 4, PATIENCE).await?;
        contender.kill()?;
        // Those who were posting are cut off.
        drop(posting.await?);
        contender.start_again().await?;
        contender.settled(PATIENCE).await?;

        let pushes = run.upstream.pushes().await?;
        let account = Account::draw(&work.accepted(), &pushes, &fates(contender).await?);
        run.enter(&LOST, contender, as_f64(account.lost));
        run.enter(&DOUBLED, contender, as_f64(account.doubled));
        run.enter(&MARKED, contender, as_f64(account.named));
        run.enter(&HELD_BACK, contender, as_f64(account.held_back));
    }
    Ok(())
}

/// What the contender says became of each message, by label.
async fn fates(contender: &Contender) -> Result<HashMap<String, Fate>> {
    match contender.program {
        Program::Floor(_) => {
            let sent = contender.database.texts("SELECT label FROM message WHERE sent_at IS NOT NULL").await?;
            Ok(sent.into_iter().flatten().map(|label| (label, Fate::Sent)).collect())
        }
        Program::Magpie(_) => told(contender).await,
    }
}

/// Through the API, page by page.
async fn told(contender: &Contender) -> Result<HashMap<String, Fate>> {
    let mut connection = Connection::open(contender.address).await?;
    let (mut fates, mut cursor) = (HashMap::new(), String::new());
    loop {
        let path = format!("/v1/notifications?limit=200{cursor}");
        let page = connection.get_as(&path, contender.bearer.as_deref()).await?.json()?;
        for notification in page["data"].as_array().into_iter().flatten() {
            let label = notification["fields"]["character_string1"].as_str().unwrap_or_default();
            let fate = match notification["state"].as_str().unwrap_or_default() {
                "accepted" | "delivered" => Fate::Sent,
                "unsure" => Fate::Named,
                "failed" if notification["reason"].is_string() => Fate::Named,
                _ => Fate::Unknown,
            };
            fates.insert(label.to_owned(), fate);
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(fates),
        }
    }
}
