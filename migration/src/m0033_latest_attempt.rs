//! The latest call stands in the notification's own row: a message that is simply taken costs no row and no
//! update of its own for its one call.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Calls under way move into their notifications.
const MOVE_IN: [&str; 2] = [
    "UPDATE notification SET attempt_at = (SELECT started_at FROM attempt
        WHERE attempt.notification_id = notification.id AND attempt.number = notification.attempt_number)
     WHERE state = 'sending'",
    "DELETE FROM attempt WHERE outcome IS NULL AND EXISTS (SELECT 1 FROM notification
        WHERE notification.id = attempt.notification_id AND notification.attempt_number = attempt.number
          AND notification.state = 'sending')",
];

/// Every call has a row again.
const MOVE_OUT: &str = "INSERT INTO attempt (notification_id, number, started_at, duration_ms, outcome, errcode)
    SELECT id, attempt_number, attempt_at, attempt_ms,
        CASE WHEN state = 'sending' THEN NULL ELSE 'accepted' END, CASE WHEN state = 'sending' THEN NULL ELSE 0 END
    FROM notification WHERE attempt_at IS NOT NULL AND (state = 'sending' OR attempt_ms IS NOT NULL)
      AND NOT EXISTS (SELECT 1 FROM attempt
        WHERE attempt.notification_id = notification.id AND attempt.number = notification.attempt_number)";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite takes one a statement.
        for column in [big_integer_null("attempt_at"), integer_null("attempt_ms")] {
            manager.alter_table(Table::alter().table("notification").add_column(column).take()).await?;
        }
        for statement in MOVE_IN {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(MOVE_OUT).await?;
        for column in ["attempt_at", "attempt_ms"] {
            manager.alter_table(Table::alter().table("notification").drop_column(column).take()).await?;
        }
        Ok(())
    }
}
