//! A credit is set aside with every message: PostgreSQL changes the row in place as long as no index names what
//! changes and the page has room.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::index;

#[derive(DeriveMigrationName)]
pub struct Migration;

const INDEX: &str = "credit_template_id_identity_id";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name(INDEX).table("credit").to_owned()).await?;
        manager.create_index(index("credit", &["template_id", "identity_id"])).await?;
        leave_room(manager, "SET (fillfactor = 80)").await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        leave_room(manager, "RESET (fillfactor)").await?;
        manager.drop_index(Index::drop().name(INDEX).table("credit").to_owned()).await?;
        let some = index("credit", &["template_id", "identity_id"]).cond_where(Expr::col("credits").gt(0)).take();
        manager.create_index(some).await
    }
}

/// SQLite changes every row in place.
async fn leave_room(manager: &SchemaManager<'_>, how: &str) -> Result<(), DbErr> {
    if manager.get_database_backend() == DbBackend::Postgres {
        manager.get_connection().execute_unprepared(&format!("ALTER TABLE credit {how}")).await?;
    }
    Ok(())
}
