//! What the nodes share about the apps, and the mirror of their templates.

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
                    .table("app")
                    .col(string("app_id").primary_key())
                    .col(big_integer_null("paused_until"))
                    .col(string_null("paused_because"))
                    .col(big_integer_null("last_receipt_at"))
                    .col(big_integer("created_at"))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("template")
                    .col(string("app_id"))
                    .col(string("template_id"))
                    .col(string("title"))
                    .col(string_len("kind", 20))
                    .col(text("content"))
                    .col(text("example"))
                    .col(json("fields"))
                    .col(string_len("state", 20))
                    .col(string_null("paused_because"))
                    .col(big_integer("synced_at"))
                    .primary_key(Index::create().col("app_id").col("template_id"))
                    .take(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["template", "app"]).await
    }
}
