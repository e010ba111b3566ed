//! Which statements cost PostgreSQL the most, by its own count (`pg_stat_statements`): for whoever looks
//! for what to mend.

use std::fmt::Write;

use super::postgres::{Cluster, Database, connect};
use crate::Result;

/// So many are shown.
const SHOWN: i64 = 25;
const COSTLIEST: &str = "
    SELECT calls, total_exec_time, mean_exec_time, plans, total_plan_time, left(regexp_replace(query, '\\s+', ' ', 'g'), 150)
    FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid
    WHERE datname = $1 ORDER BY total_exec_time + total_plan_time DESC LIMIT $2";

/// What must be set when the server starts.
pub const SETTINGS: [&str; 2] = ["shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track_planning=on"];

/// Makes the server ready to tell, and forgets what it counted before.
pub async fn forget(cluster: &Cluster) -> Result<()> {
    let sql = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements; SELECT pg_stat_statements_reset()";
    Ok(connect(&cluster.admin_url).await?.batch_execute(sql).await?)
}

/// The costliest statements of a database since then, as lines of text.
pub async fn costliest(cluster: &Cluster, database: &Database) -> Result<String> {
    let name = database.url.split('?').next().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
    let rows = connect(&cluster.admin_url).await?.query(COSTLIEST, &[&name, &SHOWN]).await?;
    let mut lines = String::from("     calls   total ms  mean ms      plans    plan ms  statement\n");
    for row in rows {
        let (calls, total, mean): (i64, f64, f64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (plans, planning): (i64, f64) = (row.try_get(3)?, row.try_get(4)?);
        let text: String = row.try_get(5)?;
        writeln!(lines, "{calls:>10} {total:>10.0} {mean:>8.3} {plans:>10} {planning:>10.0}  {text}")?;
    }
    Ok(lines)
}
