//! What is known of a person beyond the openid: the phone number, and whether a service account is
//! still followed. And when a message was first tried, by which WeChat's memory of it is measured.

use sea_orm_migration::{prelude::*, schema::*};

use crate::index;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Table and new column; SQLite takes one a statement.
fn columns() -> Vec<(&'static str, &'static str, ColumnDef)> {
    vec![
        ("user", "phone", blob_null("phone")),
        ("user", "phone_index", blob_null("phone_index")),
        ("user", "phone_at", big_integer_null("phone_at")),
        ("identity", "unfollowed_at", big_integer_null("unfollowed_at")),
        ("notification", "first_attempt_at", big_integer_null("first_attempt_at")),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, _, column) in columns() {
            manager.alter_table(Table::alter().table(table).add_column(column).take()).await?;
        }
        // Finds a person by phone number without opening a single sealed one.
        manager
            .create_index(index("user", &["phone_index"]).cond_where(Expr::col("phone_index").is_not_null()).take())
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("user_phone_index").table("user").to_owned()).await?;
        for (table, name, _) in columns() {
            manager.alter_table(Table::alter().table(table).drop_column(name).take()).await?;
        }
        Ok(())
    }
}
