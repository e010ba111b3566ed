//! Cursor lists: newest first, `limit` and an opaque `cursor` in, `next_cursor` out.

use std::str::FromStr;

use super::problem::Failure;
use crate::error::Error;

const DEFAULT_LIMIT: u64 = 50;
/// The largest `limit`.
pub const MOST: u64 = 200;

/// Where a page begins and how long it is.
pub struct Page<Id> {
    pub before: Option<Id>,
    pub limit: u64,
}

impl<Id: FromStr> Page<Id> {
    pub fn parse(limit: Option<u64>, cursor: Option<String>) -> Result<Self, Failure> {
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MOST).contains(&limit) {
            return Err(Error::field("limit", format!("must be 1 to {MOST}")).into());
        }
        let before = cursor.map(|cursor| cursor.parse()).transpose();
        let before = before.map_err(|_| Error::field("cursor", "must be the next_cursor of the page before"))?;
        Ok(Self { before, limit })
    }

    /// One more than asked for tells whether there is a next page.
    pub fn ask_for(&self) -> u64 {
        self.limit + 1
    }

    /// What the API shows of the rows, and the cursor of the next page.
    pub fn shown<Row, Shown: From<Row>>(
        &self,
        mut rows: Vec<Row>,
        id: impl Fn(&Row) -> String,
    ) -> (Vec<Shown>, Option<String>) {
        let next_cursor = self.cut(&mut rows, id);
        (rows.into_iter().map(Shown::from).collect(), next_cursor)
    }

    /// Cuts the extra row off and gives the cursor of the next page.
    pub fn cut<T>(&self, rows: &mut Vec<T>, id: impl Fn(&T) -> String) -> Option<String> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        rows.last().filter(|_| more).map(id)
    }
}

/// Reads an id of a path or parameter; one that cannot be an id is simply not there.
pub fn id<Id: FromStr>(text: &str, what: &str) -> Result<Id, Failure> {
    text.parse()
        .map_err(|_| Error::new(crate::error::Code::NotFound).detail(format!("There is no {what} {text}.")).into())
}

/// Reads an optional id of a query parameter.
pub fn filter_id<Id: FromStr>(name: &str, text: Option<String>) -> Result<Option<Id>, Failure> {
    let id = text.map(|text| text.parse()).transpose();
    id.map_err(|_| Error::field(name, "is no id of this kind").into())
}
