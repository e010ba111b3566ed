//! Users, their identities in apps, and their sessions.

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
                    .table("user")
                    .col(uuid("id").primary_key())
                    .col(string_null("external_id").unique_key())
                    .col(uuid_null("merged_into"))
                    .col(big_integer("created_at"))
                    .col(big_integer("updated_at"))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("identity")
                    .col(uuid("id").primary_key())
                    .col(uuid("user_id"))
                    .col(string("app_id"))
                    .col(string("openid"))
                    .col(string_null("unionid"))
                    .col(blob_null("session_key"))
                    .col(big_integer_null("session_key_at"))
                    .col(big_integer("created_at"))
                    .foreign_key(ForeignKey::create().from("identity", "user_id").to("user", "id"))
                    .take(),
            )
            .await?;
        manager.create_index(index("identity", &["app_id", "openid"]).unique().take()).await?;
        manager.create_index(index("identity", &["user_id"])).await?;
        manager
            .create_index(index("identity", &["unionid"]).cond_where(Expr::col("unionid").is_not_null()).take())
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("session")
                    .col(uuid("id").primary_key())
                    .col(uuid("user_id"))
                    .col(uuid("identity_id"))
                    .col(string("app_id"))
                    .col(integer("generation"))
                    .col(big_integer("rotated_at"))
                    .col(blob("code_mac"))
                    .col(big_integer("created_at"))
                    .col(big_integer("expires_at"))
                    .col(big_integer_null("revoked_at"))
                    .col(string_len_null("revoked_because", 20))
                    .take(),
            )
            .await?;
        manager.create_index(index("session", &["code_mac"])).await?;
        manager.create_index(index("session", &["user_id"])).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["session", "identity", "user"]).await
    }
}
