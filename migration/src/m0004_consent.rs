//! The consent ledger and the credits derived from it.

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
                    .table("consent")
                    .col(uuid("id").primary_key())
                    .col(uuid("identity_id"))
                    .col(string("template_id"))
                    .col(string_len("kind", 12))
                    .col(integer("delta"))
                    .col(string_len("source", 12))
                    .col(string_null("report_id"))
                    .col(uuid_null("notification_id"))
                    .col(big_integer("tapped_at"))
                    .col(big_integer("created_at"))
                    .take(),
            )
            .await?;
        manager.create_index(index("consent", &["identity_id", "template_id"])).await?;
        manager
            .create_index(
                index("consent", &["identity_id", "report_id", "template_id"])
                    .unique()
                    .cond_where(Expr::col("report_id").is_not_null())
                    .take(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("credit")
                    .col(uuid("identity_id"))
                    .col(string("template_id"))
                    .col(string_len("kind", 20))
                    .col(integer("credits"))
                    .col(string_len("last_result", 12))
                    .col(big_integer("updated_at"))
                    .primary_key(Index::create().col("identity_id").col("template_id"))
                    .take(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["credit", "consent"]).await
    }
}
