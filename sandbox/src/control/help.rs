//! The page at `/sandbox`.

use poem::handler;

#[handler]
pub(super) fn page() -> &'static str {
    include_str!("help.txt")
}
