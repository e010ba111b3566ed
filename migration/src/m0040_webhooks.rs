//! Webhooks: what business systems are told, and where.

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
                    .table("webhook")
                    .col(uuid("id").primary_key())
                    .col(text("url"))
                    .col(text("description"))
                    .col(json("event_types"))
                    .col(json_null("app_ids"))
                    .col(blob("secret"))
                    .col(blob_null("previous_secret"))
                    .col(big_integer_null("previous_until"))
                    .col(boolean("enabled"))
                    .col(string_len_null("disabled_because", 12))
                    .col(big_integer_null("failing_since"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("webhook_delivery")
                    .col(uuid("id").primary_key())
                    .col(uuid("webhook_id"))
                    .col(string("event_type"))
                    .col(string_null("app_id"))
                    .col(uuid_null("user_id"))
                    .col(uuid_null("notification_id"))
                    .col(text("body"))
                    .col(string_len("state", 12))
                    .col(integer("attempts"))
                    .col(big_integer("due_at"))
                    .col(uuid_null("lease_token"))
                    .col(integer_null("status"))
                    .col(string_len_null("problem", 20))
                    .col(integer_null("duration_ms"))
                    .col(big_integer("created_at"))
                    .col(big_integer_null("finished_at"))
                    .take(),
            )
            .await?;
        // An endpoint's list, and what goes with the endpoint.
        manager.create_index(index("webhook_delivery", &["webhook_id", "id"])).await?;
        // The claim: endpoint by endpoint, the longest due first.
        manager
            .create_index(
                Index::create()
                    .name("webhook_delivery_claim")
                    .table("webhook_delivery")
                    .col("webhook_id")
                    .col("due_at")
                    .cond_where(Expr::col("state").eq("pending"))
                    .take(),
            )
            .await?;
        // The search for what was told of a person, for erasure.
        manager
            .create_index(index("webhook_delivery", &["user_id"]).cond_where(Expr::col("user_id").is_not_null()).take())
            .await?;
        let mut rows = Query::insert();
        rows.into_table("revision").columns(["name", "revision"]);
        rows.values_panic(["webhook".into(), 1.into()]);
        manager.execute(rows).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut rows = Query::delete();
        rows.from_table("revision").and_where(Expr::col("name").eq("webhook"));
        manager.execute(rows).await?;
        drop_tables(manager, &["webhook_delivery", "webhook"]).await
    }
}
