//! Signed requests that were answered, so that a repeat gets the same answer.

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
                    .table("signed_request")
                    .col(uuid("key_id"))
                    .col(string("message_id"))
                    .col(blob("body_hash"))
                    .col(integer_null("status"))
                    .col(text_null("answer"))
                    .col(big_integer("at"))
                    .primary_key(Index::create().col("key_id").col("message_id"))
                    .take(),
            )
            .await?;
        // Repeats are remembered for minutes, then cleared away.
        manager.create_index(index("signed_request", &["at"])).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["signed_request"]).await
    }
}
