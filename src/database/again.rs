//! Transactions that got into each other's way.
//!
//! Locks are taken in one order (`consent.rs` tells which), so this is rare; where it happens nonetheless PostgreSQL
//! ends one of the transactions, of which nothing is left, and doing it again is all there is to do.

use crate::error::Error;

/// How often a transaction is begun at most.
const MOST: usize = 4;

/// Does what is one whole transaction, and again while PostgreSQL ends it in favour of another one.
pub async fn again<T, Fut>(mut transaction: impl FnMut() -> Fut) -> Result<T, Error>
where
    Fut: Future<Output = Result<T, Error>>,
{
    for turn in 1..MOST {
        match transaction().await {
            Err(error) if error.is_collision() => tracing::warn!(turn, %error, "database.again"),
            done => return done,
        }
    }
    transaction().await
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

    use sea_orm::{
        DbErr, RuntimeErr,
        sqlx::{
            self,
            error::{DatabaseError, ErrorKind},
        },
    };

    use super::{MOST, again};
    use crate::error::{Code, Error};

    /// What PostgreSQL says, by its code.
    #[derive(Debug)]
    struct Said(&'static str);

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Said {}

    impl DatabaseError for Said {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn ended(code: &'static str) -> Error {
        let said = sqlx::Error::Database(Box::new(Said(code)));
        DbErr::Exec(RuntimeErr::SqlxError(Arc::new(said))).into()
    }

    /// How often a transaction is begun of which the first ones end with this code, and how it ends.
    async fn turns(ended_by: &'static str, times: usize) -> (usize, Result<(), Code>) {
        let mut turns = 0;
        let done = again(|| {
            turns += 1;
            let turn = turns;
            async move { if turn <= times { Err(ended(ended_by)) } else { Ok(()) } }
        });
        let done = done.await.map_err(|error| error.code);
        (turns, done)
    }

    #[tokio::test]
    async fn a_transaction_that_was_ended_for_another_one_is_done_again() {
        assert_eq!(turns("40P01", 0).await, (1, Ok(())));
        assert_eq!(turns("40P01", 2).await, (3, Ok(())));
        assert_eq!(turns("40001", 1).await, (2, Ok(())));
    }

    #[tokio::test]
    async fn the_caller_may_try_again_in_the_end() {
        assert_eq!(turns("40P01", 9).await, (MOST, Err(Code::DatabaseUnavailable)));
        // What is wrong with the statement stays wrong; a database that is away is no matter of turns.
        assert_eq!(turns("23505", 9).await, (1, Err(Code::Internal)));
        assert_eq!(turns("57P01", 9).await, (1, Err(Code::DatabaseUnavailable)));
    }
}
