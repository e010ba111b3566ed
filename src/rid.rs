//! What WeChat knows of a call that it refused: `rid` on an attempt or in a problem, looked up.

use crate::{
    access_token,
    context::Context,
    error::{Code, Error},
    wechat::rid::FailedCall,
    wechat_problem,
};

/// Three groups of eight; anything far longer is none.
const LONGEST: usize = 100;

/// Asks WeChat about a call of this app, at most seven days old.
pub async fn look_up(ctx: &Context, app_id: &str, rid: &str) -> Result<FailedCall, Error> {
    let app = ctx.app(app_id).ok_or(Error::new(Code::AppNotFound))?;
    if rid.len() > LONGEST {
        return Err(Error::field("rid", "must be the rid of one of WeChat's answers"));
    }
    let asked = access_token::with(ctx, &app, |token| async move { ctx.wechat.failed_call(&token, rid).await }).await;
    asked.map_err(|failed| wechat_problem::of_rid(&failed))
}
