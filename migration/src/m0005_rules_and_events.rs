//! Rules, and the events they are applied to.

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
                    .table("rule")
                    .col(uuid("id").primary_key())
                    .col(string("name"))
                    .col(string("event_type"))
                    .col(string("app_id"))
                    .col(string("template_id"))
                    .col(json("fields"))
                    .col(string_null("page"))
                    .col(string_null("url"))
                    .col(json_null("miniprogram"))
                    .col(text_null("when"))
                    .col(text_null("recipients"))
                    .col(string_len("no_credit", 16))
                    .col(string_len("unsure", 16))
                    .col(string_len("overflow", 16))
                    .col(big_integer_null("ttl_seconds"))
                    .col(big_integer_null("delay_seconds"))
                    .col(integer("priority"))
                    .col(boolean("enabled"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("event")
                    .col(uuid("id").primary_key())
                    .col(string("source"))
                    .col(string("source_id"))
                    .col(string("event_type"))
                    .col(big_integer("time"))
                    .col(json("data"))
                    .col(blob("body_hash"))
                    .col(json("outcomes"))
                    .col(big_integer("created_at"))
                    .take(),
            )
            .await?;
        manager.create_index(index("event", &["source", "source_id"]).unique().take()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["event", "rule"]).await
    }
}
