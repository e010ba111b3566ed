//! Signing keys of access tokens, proofs of the master keys, API keys, and revisions of what the
//! nodes cache.

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
                    .table("signing_key")
                    .col(string("kid").primary_key())
                    .col(integer("sequence").unique_key())
                    .col(blob("private_key"))
                    .col(blob("public_key"))
                    .col(big_integer("created_at"))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("sealing_key")
                    .col(string("key_id").primary_key())
                    .col(blob("proof"))
                    .col(big_integer("created_at"))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("api_key")
                    .col(uuid("id").primary_key())
                    .col(string("name"))
                    .col(string("prefix").unique_key())
                    .col(blob("hash").unique_key())
                    .col(blob("signing_secret"))
                    .col(json("scopes"))
                    .col(big_integer("created_at"))
                    .col(big_integer_null("expires_at"))
                    .col(big_integer_null("revoked_at"))
                    .col(big_integer_null("last_used_at"))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                Table::create().table("revision").col(string("name").primary_key()).col(big_integer("revision")).take(),
            )
            .await?;
        let mut rows = Query::insert();
        rows.into_table("revision").columns(["name", "revision"]);
        rows.values_panic(["rule".into(), 1.into()]);
        manager.execute(rows).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &["revision", "api_key", "sealing_key", "signing_key"]).await
    }
}
