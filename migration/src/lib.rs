//! The schema, one reversible change a file, in string names only: an old migration keeps its
//! meaning when an entity changes. The same files make SQLite and PostgreSQL.

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::*;

mod m0001_people;
mod m0002_keys;
mod m0003_apps_and_templates;
mod m0004_consent;
mod m0005_rules_and_events;
mod m0006_notifications;
mod m0007_callbacks_and_receipts;
mod m0008_token_budget;
mod m0009_audit;
mod m0010_user_data;
mod m0011_rule_drift;
mod m0012_delivery;
mod m0013_event_names;
mod m0020_api_key_apps;
mod m0021_signed_requests;
mod m0022_bans;
mod m0030_profile;
mod m0031_consent_twins;
mod m0032_fan_out;
mod m0033_latest_attempt;
mod m0040_webhooks;
mod m0041_credit_in_place;

/// All changes, oldest first.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_people::Migration),
            Box::new(m0002_keys::Migration),
            Box::new(m0003_apps_and_templates::Migration),
            Box::new(m0004_consent::Migration),
            Box::new(m0005_rules_and_events::Migration),
            Box::new(m0006_notifications::Migration),
            Box::new(m0007_callbacks_and_receipts::Migration),
            Box::new(m0008_token_budget::Migration),
            Box::new(m0009_audit::Migration),
            Box::new(m0010_user_data::Migration),
            Box::new(m0011_rule_drift::Migration),
            Box::new(m0012_delivery::Migration),
            Box::new(m0013_event_names::Migration),
            Box::new(m0020_api_key_apps::Migration),
            Box::new(m0021_signed_requests::Migration),
            Box::new(m0022_bans::Migration),
            Box::new(m0030_profile::Migration),
            Box::new(m0031_consent_twins::Migration),
            Box::new(m0032_fan_out::Migration),
            Box::new(m0033_latest_attempt::Migration),
            Box::new(m0040_webhooks::Migration),
            Box::new(m0041_credit_in_place::Migration),
        ]
    }
}

/// An index named `table_column_column`.
fn index(table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(format!("{table}_{}", columns.join("_"))).table(table);
    for column in columns {
        index.col(*column);
    }
    index.take()
}

async fn drop_tables(manager: &SchemaManager<'_>, tables: &[&'static str]) -> Result<(), DbErr> {
    for table in tables {
        manager.drop_table(Table::drop().table(*table).take()).await?;
    }
    Ok(())
}
