//! What the delivery engine needs: revisions of what every node remembers, and no index that only costs.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::index;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Rows that are changed soon after they were inserted find room beside themselves.
const CHANGED_SOON: [&str; 5] = ["notification", "attempt", "identity", "credit", "app"];

const UNIQUE: [(&str, [&str; 2]); 2] = [("identity", ["openid", "app_id"]), ("event", ["source_id", "source"])];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut rows = Query::insert();
        rows.into_table("revision").columns(["name", "revision"]);
        rows.values_panic(["api_key".into(), 1.into()]);
        rows.values_panic(["pause".into(), 1.into()]);
        manager.execute(rows).await?;
        // What tells most comes first: an index that begins with the app tempts a plan to read all of an app.
        for (table, [told_apart_by, of]) in UNIQUE {
            manager
                .drop_index(Index::drop().name(format!("{table}_{of}_{told_apart_by}")).table(table).to_owned())
                .await?;
            manager.create_index(index(table, &[told_apart_by, of]).unique().take()).await?;
        }
        // Calls in flight are few, and `notification_in_flight` holds just them.
        manager.drop_index(Index::drop().name("notification_lease_until").table("notification").to_owned()).await?;
        fill_factor(manager, "SET (fillfactor = 80)").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        fill_factor(manager, "RESET (fillfactor)").await?;
        for (table, [told_apart_by, of]) in UNIQUE {
            manager
                .drop_index(Index::drop().name(format!("{table}_{told_apart_by}_{of}")).table(table).to_owned())
                .await?;
            manager.create_index(index(table, &[of, told_apart_by]).unique().take()).await?;
        }
        manager
            .create_index(index("notification", &["lease_until"]).cond_where(Expr::col("state").eq("sending")).take())
            .await?;
        let mut rows = Query::delete();
        rows.from_table("revision").and_where(Expr::col("name").is_in(["api_key", "pause"]));
        manager.execute(rows).await
    }
}

/// Only PostgreSQL writes a changed row anew.
async fn fill_factor(manager: &SchemaManager<'_>, change: &str) -> Result<(), DbErr> {
    if manager.get_database_backend() == DbBackend::Postgres {
        for table in CHANGED_SOON {
            manager.get_connection().execute_unprepared(&format!("ALTER TABLE {table} {change}")).await?;
        }
    }
    Ok(())
}
