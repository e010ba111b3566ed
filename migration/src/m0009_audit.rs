//! What was done to somebody's data, and whom a callback is about.

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
                    .table("audit")
                    .col(uuid("id").primary_key())
                    .col(big_integer("at"))
                    .col(string("actor"))
                    .col(string("action"))
                    .col(string_null("app_id"))
                    .col(uuid_null("subject"))
                    .col(json("detail"))
                    .take(),
            )
            .await?;
        manager.create_index(index("audit", &["subject"])).await?;
        // The search for what WeChat said of a person, and its erasure.
        manager.create_index(index("callback", &["openid"]).cond_where(Expr::col("openid").is_not_null()).take()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("callback_openid").table("callback").to_owned()).await?;
        drop_tables(manager, &["audit"]).await
    }
}
