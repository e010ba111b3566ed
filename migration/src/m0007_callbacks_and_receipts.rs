//! What WeChat posts to us, and its word on messages.

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
                    .table("callback")
                    .col(uuid("id").primary_key())
                    .col(string("app_id"))
                    .col(blob("dedup_key").unique_key())
                    .col(string("event"))
                    .col(string_null("openid"))
                    .col(text("body"))
                    .col(big_integer("received_at"))
                    .col(big_integer_null("processed_at"))
                    .take(),
            )
            .await?;
        // What is still to be processed.
        manager
            .create_index(index("callback", &["received_at"]).cond_where(Expr::col("processed_at").is_null()).take())
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("receipt")
                    .col(uuid("id").primary_key())
                    .col(string("app_id"))
                    .col(string("openid"))
                    .col(string_null("template_id"))
                    .col(string_null("message_id"))
                    .col(string("status"))
                    .col(big_integer("errcode"))
                    .col(uuid("callback_id"))
                    .col(uuid_null("notification_id"))
                    .col(big_integer("received_at"))
                    .take(),
            )
            .await?;
        manager
            .create_index(
                index("receipt", &["notification_id"]).cond_where(Expr::col("notification_id").is_not_null()).take(),
            )
            .await?;
        // Receipts held until every candidate has settled.
        manager
            .create_index(index("receipt", &["received_at"]).cond_where(Expr::col("notification_id").is_null()).take())
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["receipt", "callback"]).await
    }
}
