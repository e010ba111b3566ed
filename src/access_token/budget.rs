//! The budget of forced refreshes, shared by all nodes: WeChat allows 20 a day, 30 s apart.

use std::time::Duration;

use entity::{Timestamp, token_budget as row};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseConnection, EntityTrait, ExprTrait, QueryFilter,
    sea_query::{Condition, Expr, OnConflict},
};

use crate::{clock::shanghai_day, context::Context, error::Error};

const A_DAY: i32 = 20;
const APART: Duration = Duration::from_secs(30);

/// Why no refresh may be forced now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// All of the day in China are used up.
    Spent,
    /// The last one was less than 30 s ago, perhaps by another node.
    TooSoon,
}

/// Takes one refresh out of the budget, unless there is none now. The guard is in the statement, so two
/// nodes never both take the last one.
pub(super) async fn take(ctx: &Context, app_id: &str) -> Result<Result<(), Denied>, Error> {
    let now = ctx.clock.now();
    let today = shanghai_day(now);
    ensure_row(ctx.db.write(), app_id).await?;
    let used_today = Expr::case(row::Column::Day.eq(today), row::Column::Used.into_expr().add(1)).finally(1);
    let room = Condition::any()
        .add(row::Column::Day.lt(today))
        .add(Condition::all().add(row::Column::Day.eq(today)).add(row::Column::Used.lt(A_DAY)));
    let taken = row::Entity::update_many()
        .col_expr(row::Column::Used, used_today.into())
        .col_expr(row::Column::Day, Expr::value(today))
        .col_expr(row::Column::LastAt, Expr::value(now))
        .filter(row::Column::AppId.eq(app_id))
        .filter(row::Column::LastAt.lte(now - APART))
        .filter(room)
        .exec(ctx.db.write())
        .await?;
    if taken.rows_affected == 1 {
        return Ok(Ok(()));
    }
    Ok(Err(if left(ctx, app_id).await? > 0 { Denied::TooSoon } else { Denied::Spent }))
}

/// How many forced refreshes are left today.
pub(super) async fn left(ctx: &Context, app_id: &str) -> Result<i32, Error> {
    let today = shanghai_day(ctx.clock.now());
    let row = row::Entity::find_by_id(app_id).one(ctx.db.read()).await?;
    Ok(A_DAY - row.filter(|row| row.day == today).map_or(0, |row| row.used))
}

async fn ensure_row(db: &DatabaseConnection, app_id: &str) -> Result<(), Error> {
    let unused =
        row::ActiveModel { app_id: Set(app_id.to_owned()), day: Set(0), used: Set(0), last_at: Set(Timestamp(0)) };
    row::Entity::insert(unused)
        .on_conflict(OnConflict::column(row::Column::AppId).do_nothing().to_owned())
        .try_insert()
        .exec_without_returning(db)
        .await?;
    Ok(())
}
