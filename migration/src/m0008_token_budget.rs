//! The budget of forced token refreshes that all nodes share, and why an app is paused.

use sea_orm_migration::{prelude::*, schema::*};

use crate::drop_tables;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("token_budget")
                    .col(string("app_id").primary_key())
                    .col(big_integer("day"))
                    .col(integer("used"))
                    .col(big_integer("last_at"))
                    .take(),
            )
            .await?;
        manager.alter_table(Table::alter().table("app").add_column(string_len_null("paused_by", 20)).take()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("app").drop_column("paused_by").take()).await?;
        drop_tables(manager, &["token_budget"]).await
    }
}
