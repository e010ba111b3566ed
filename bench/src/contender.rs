//! Who is measured: Magpie, and the floor beside it. Both take the same requests.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    Result,
    child::Child,
    clock,
    database::Database,
    floor::Floor,
    load::{self, Load, Until},
    server::Magpie,
    work::{Consents, Logins},
};

/// Callers at a time while a contender is prepared.
const CALLERS: usize = 64;

pub struct Contender {
    pub address: SocketAddr,
    /// The API key, where one is wanted.
    pub bearer: Option<Arc<str>>,
    /// None while it is down.
    child: Option<Child>,
    pub program: Program,
    pub database: Database,
}

pub enum Program {
    Floor(Floor),
    Magpie(Magpie),
}

impl Contender {
    /// Starts it on an empty database.
    pub async fn start(program: Program, database: Database) -> Result<Self> {
        let (child, address) = program.start(&database).await?;
        let mut contender = Self { address, bearer: None, child: Some(child), program, database };
        if let Program::Magpie(magpie) = &contender.program {
            contender.bearer = Some(magpie.prepare(address).await?);
        }
        Ok(contender)
    }

    pub fn name(&self) -> &'static str {
        match self.program {
            Program::Floor(_) => "floor",
            Program::Magpie(_) => "magpie",
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::pid)
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.child.take().map_or(Ok(()), |mut child| child.kill())
    }

    /// As an operator stops it.
    pub fn stop(&mut self) {
        drop(self.child.take());
    }

    /// Starts it again on what it left behind.
    pub async fn start_again(&mut self) -> Result<()> {
        self.stop();
        let (child, address) = self.program.start(&self.database).await?;
        (self.child, self.address) = (Some(child), address);
        Ok(())
    }

    /// Logs the users in for the first time and has each agree to one message; gives the load of the logins.
    pub async fn seed(&self, users: usize) -> Result<Load> {
        let logins = Arc::new(Logins::keeping_tokens(users));
        let first = load::closed(self.address, CALLERS, Until::Requests(users), logins.clone()).await?.whole()?;
        if matches!(self.program, Program::Magpie(_)) {
            let consents = Arc::new(Consents(logins.tokens()));
            load::closed(self.address, CALLERS, Until::Requests(users), consents).await?.whole()?;
            self.credit_everybody().await?;
        }
        Ok(first)
    }

    /// As if everybody had agreed to a hundred messages: a run takes many.
    pub async fn credit_everybody(&self) -> Result<()> {
        match self.program {
            Program::Magpie(_) => self.database.execute("UPDATE credit SET credits = 100").await,
            Program::Floor(_) => Ok(()),
        }
    }

    /// How many messages are neither sent nor given up.
    pub async fn unfinished(&self) -> Result<i64> {
        let sql = match self.program {
            Program::Magpie(_) => "SELECT count(*) FROM notification WHERE state IN ('pending', 'sending')",
            Program::Floor(_) => "SELECT count(*) FROM message WHERE sent_at IS NULL",
        };
        self.database.number(sql).await
    }

    /// Waits until nothing is under way.
    pub async fn settled(&self, patience: Duration) -> Result<()> {
        let began = clock::now();
        while self.unfinished().await? > 0 {
            if began.elapsed() > patience {
                return Err(format!("{} is not done after {patience:?}", self.name()).into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

impl Program {
    async fn start(&self, database: &Database) -> Result<(Child, SocketAddr)> {
        match self {
            Self::Floor(floor) => floor.start(database),
            Self::Magpie(magpie) => magpie.start().await,
        }
    }
}
