//! Notifications and the calls made for them. Each index costs every write, so each says its query.

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
                    .table("notification")
                    .col(uuid("id").primary_key())
                    .col(uuid_null("event_id"))
                    .col(uuid_null("rule_id"))
                    .col(uuid("user_id"))
                    .col(uuid("identity_id"))
                    .col(string("app_id"))
                    .col(string("openid"))
                    .col(string("template_id"))
                    .col(string_len("state", 12))
                    .col(string_len_null("reason", 24))
                    .col(text_null("detail"))
                    .col(json("fields"))
                    .col(string_null("page"))
                    .col(string_null("url"))
                    .col(json_null("miniprogram"))
                    .col(string_len("no_credit", 16))
                    .col(string_len("unsure", 16))
                    .col(string_len("credit", 12))
                    .col(integer("priority"))
                    .col(integer("attempt_number"))
                    .col(integer("attempts_used"))
                    .col(integer("replays"))
                    .col(big_integer("due_at"))
                    .col(big_integer("expires_at"))
                    .col(uuid_null("lease_token"))
                    .col(big_integer_null("lease_until"))
                    .col(string_null("message_id"))
                    .col(big_integer("created_at"))
                    .col(big_integer_null("sent_at"))
                    .col(big_integer_null("delivered_at"))
                    .col(big_integer_null("finished_at"))
                    .take(),
            )
            .await?;
        // One notification per event, rule and identity; also lists an event's notifications.
        manager.create_index(index("notification", &["event_id", "rule_id", "identity_id"]).unique().take()).await?;
        // A user's inbox, and the candidates of a receipt that names no message.
        manager.create_index(index("notification", &["identity_id"])).await?;
        // The claim: app by app, the highest priority first, then the longest due.
        manager
            .create_index(
                Index::create()
                    .name("notification_claim")
                    .table("notification")
                    .col("app_id")
                    .col(("priority", IndexOrder::Desc))
                    .col("due_at")
                    .cond_where(Expr::col("state").eq("pending"))
                    .take(),
            )
            .await?;
        // Leases that ran out.
        manager
            .create_index(index("notification", &["lease_until"]).cond_where(Expr::col("state").eq("sending")).take())
            .await?;
        // Identities with a call in flight.
        manager
            .create_index(
                Index::create()
                    .name("notification_in_flight")
                    .table("notification")
                    .col("identity_id")
                    .cond_where(Expr::col("state").eq("sending"))
                    .take(),
            )
            .await?;
        // Unknown outcomes that must be decided.
        manager
            .create_index(index("notification", &["due_at"]).cond_where(Expr::col("state").eq("unsure")).take())
            .await?;
        // What was not sent in time.
        manager
            .create_index(
                index("notification", &["expires_at"])
                    .cond_where(Expr::col("state").is_in(["waiting", "pending"]))
                    .take(),
            )
            .await?;
        // Receipts that name the message.
        manager
            .create_index(
                index("notification", &["message_id"]).cond_where(Expr::col("message_id").is_not_null()).take(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("attempt")
                    .col(uuid("notification_id"))
                    .col(integer("number"))
                    .col(big_integer("started_at"))
                    .col(integer_null("duration_ms"))
                    .col(string_len_null("outcome", 16))
                    .col(big_integer_null("errcode"))
                    .col(text_null("errmsg"))
                    .col(string_null("rid"))
                    .primary_key(Index::create().col("notification_id").col("number"))
                    .take(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["attempt", "notification"]).await
    }
}
