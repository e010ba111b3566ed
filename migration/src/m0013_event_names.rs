//! The names in events that became no notification, so that an erasure finds them.

use sea_orm_migration::{prelude::*, schema::*};

use crate::{drop_tables, index};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("event_name")
                    .col(uuid("event_id"))
                    .col(string("name"))
                    .primary_key(Index::create().col("event_id").col("name"))
                    .take(),
            )
            .await?;
        manager.create_index(index("event_name", &["name"])).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["event_name"]).await
    }
}
