//! Events for more people than one transaction takes: who is still to be notified.

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
                    .table("fan_out")
                    .col(uuid("id").primary_key())
                    .col(uuid("event_id"))
                    .col(uuid_null("rule_id"))
                    .col(string("app_id"))
                    .col(string("template_id"))
                    .col(json("message"))
                    .col(boolean("consented"))
                    .col(string_len("state", 12))
                    .col(integer("done"))
                    .col(integer("total"))
                    .col(integer("unreached"))
                    .col(uuid_null("cursor"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .take(),
            )
            .await?;
        // An event's progress.
        manager.create_index(index("fan_out", &["event_id"])).await?;
        // What there is to do.
        manager
            .create_index(
                Index::create()
                    .name("fan_out_to_do")
                    .table("fan_out")
                    .col("id")
                    .cond_where(Expr::col("state").is_in(["running", "cancelling"]))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("fan_out_portion")
                    .col(uuid("fan_out_id"))
                    .col(integer("place"))
                    .col(json("recipients"))
                    .primary_key(Index::create().col("fan_out_id").col("place"))
                    .take(),
            )
            .await?;
        // Whom a template may still be sent to, in the order of a cursor.
        manager
            .create_index(
                index("credit", &["template_id", "identity_id"]).cond_where(Expr::col("credits").gt(0)).take(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("credit_template_id_identity_id").table("credit").to_owned()).await?;
        drop_tables(manager, &["fan_out_portion", "fan_out"]).await
    }
}
