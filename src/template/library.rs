//! Choosing from WeChat's public library of templates.

use entity::template::{self as row, State};

use super::sync;
use crate::{
    access_token,
    config::{App, Kind},
    context::Context,
    error::{Code, Error, FieldError},
    wechat::template_library::{Category, LibraryKeyword, LibraryTitle},
    wechat_problem,
};

/// What WeChat gives at once.
pub const MOST_TITLES: u64 = 30;
const LONGEST_SCENE: usize = 15;

/// The account's service categories, whose templates it may use.
pub async fn categories(ctx: &Context, app: &App) -> Result<Vec<Category>, Error> {
    mini_program(app)?;
    let answer =
        access_token::with(ctx, app, |token| async move { ctx.wechat.template_categories(&token).await }).await;
    answer.map_err(|error| wechat_problem::of_failed(&error))
}

/// Titles of these categories, or of all the account's when none is named, and how many there are.
pub async fn titles(
    ctx: &Context,
    app: &App,
    category_ids: Option<String>,
    start: u64,
    limit: u64,
) -> Result<(Vec<LibraryTitle>, i64), Error> {
    if !(1..=MOST_TITLES).contains(&limit) {
        return Err(Error::field("limit", format!("must be 1 to {MOST_TITLES}")));
    }
    let ids = &if let Some(ids) = category_ids {
        ids
    } else {
        let all = categories(ctx, app).await?;
        all.iter().map(|category| category.id.to_string()).collect::<Vec<_>>().join(",")
    };
    let answer =
        access_token::with(ctx, app, |token| async move { ctx.wechat.library_titles(&token, ids, start, limit).await });
    answer.await.map_err(|error| wechat_problem::of_failed(&error))
}

/// The keywords a template of the library may have.
pub async fn keywords(ctx: &Context, app: &App, tid: &str) -> Result<Vec<LibraryKeyword>, Error> {
    mini_program(app)?;
    let answer =
        access_token::with(ctx, app, |token| async move { ctx.wechat.library_keywords(&token, tid).await }).await;
    answer.map_err(|error| wechat_problem::of_failed(&error))
}

/// Adds a template of the library to the account, with these keywords in this order; gives it as it is
/// mirrored then.
pub async fn add(ctx: &Context, app: &App, tid: &str, keyword_ids: &[i64], scene: &str) -> Result<row::Model, Error> {
    mini_program(app)?;
    check(ctx, app, tid, keyword_ids, scene).await?;
    let answer =
        access_token::with(
            ctx,
            app,
            |token| async move { ctx.wechat.add_template(&token, tid, keyword_ids, scene).await },
        );
    let id = answer.await.map_err(|error| wechat_problem::of_failed(&error))?;
    let mirrored = sync(ctx, app).await?;
    let added = mirrored.into_iter().find(|row| row.template_id == id);
    added.ok_or_else(|| Error::new(Code::WechatBadAnswer).detail(format!("WeChat added {id} but does not list it.")))
}

/// Deletes a template from the account; rules that use it are paused and say so.
pub async fn delete(ctx: &Context, app: &App, template_id: &str) -> Result<(), Error> {
    mini_program(app)?;
    let known = super::of_app(ctx.db.read(), &app.app_id).await?;
    if !known.iter().any(|row| row.template_id == template_id && row.state != State::Deleted) {
        return Err(super::unknown(&app.app_id, template_id, &known));
    }
    let answer =
        access_token::with(ctx, app, |token| async move { ctx.wechat.delete_template(&token, template_id).await });
    answer.await.map_err(|error| wechat_problem::of_failed(&error))?;
    sync(ctx, app).await?;
    Ok(())
}

/// A wrong keyword is answered with those there are, before WeChat is asked.
async fn check(ctx: &Context, app: &App, tid: &str, keyword_ids: &[i64], scene: &str) -> Result<(), Error> {
    if !(2..=5).contains(&keyword_ids.len()) {
        return Err(Error::field("/keyword_ids", "must hold two to five keywords, in the wanted order"));
    }
    let mut faults = Vec::new();
    if scene.is_empty() || scene.chars().count() > LONGEST_SCENE {
        faults.push(FieldError::new("/scene", format!("must be 1 to {LONGEST_SCENE} characters")));
    }
    let there = keywords(ctx, app, tid).await?;
    let list: Vec<_> = there.iter().map(|keyword| format!("{} ({})", keyword.kid, keyword.name)).collect();
    for (index, id) in keyword_ids.iter().enumerate().filter(|(_, id)| !there.iter().any(|k| k.kid == **id)) {
        let reason = format!("{id} is no keyword of {tid}; there are: {}", list.join(", "));
        faults.push(FieldError::new(format!("/keyword_ids/{index}"), reason));
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::fields(Code::InvalidRequest, faults)) }
}

fn mini_program(app: &App) -> Result<(), Error> {
    if app.kind == Kind::MiniProgram {
        return Ok(());
    }
    let detail =
        "The library of subscribe messages is for Mini Programs; a service account chooses in WeChat's console.";
    Err(Error::new(Code::AppNotFound).detail(detail))
}
