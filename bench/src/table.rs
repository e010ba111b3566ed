//! The one table: each figure of Magpie beside the floor's and as a ratio to it, as Markdown and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

/// What is measured, and what it should come to.
pub struct Measure {
    pub name: &'static str,
    /// Digits after the point.
    pub digits: usize,
    pub reach: &'static str,
    pub aim: &'static str,
}

/// One figure: a value for each round and contender.
#[derive(Serialize)]
struct Row {
    database: &'static str,
    figure: String,
    floor: Vec<f64>,
    magpie: Vec<f64>,
    reach: &'static str,
    aim: &'static str,
    #[serde(skip)]
    digits: usize,
}

#[derive(Default, Serialize)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Enters what one contender came to in one round.
    pub fn enter(&mut self, database: &'static str, measure: &Measure, contender: &str, value: f64) {
        let known = self.rows.iter().position(|row| row.database == database && row.figure == measure.name);
        let index = known.unwrap_or_else(|| {
            self.rows.push(Row {
                database,
                figure: measure.name.to_owned(),
                floor: Vec::new(),
                magpie: Vec::new(),
                reach: measure.reach,
                aim: measure.aim,
                digits: measure.digits,
            });
            self.rows.len() - 1
        });
        let row = &mut self.rows[index];
        if contender == "floor" { &mut row.floor } else { &mut row.magpie }.push(value);
    }

    /// The medians and their ratios.
    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "| database | figure | floor | Magpie | ratio | reach | aim |\n|---|---|---:|---:|---:|---|---|\n",
        );
        for row in &self.rows {
            let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| format!("{v:.*}", row.digits));
            let (floor, magpie) = (median(&row.floor), median(&row.magpie));
            let ratio = ratio(floor, magpie).map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
            let (database, figure, reach, aim) = (row.database, &row.figure, row.reach, row.aim);
            let _ = writeln!(
                text,
                "| {database} | {figure} | {} | {} | {ratio} | {reach} | {aim} |",
                shown(floor),
                shown(magpie)
            );
        }
        text
    }

    /// Every round, for those who compute further.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

/// Magpie's figure as a share of the floor's.
fn ratio(floor: Option<f64>, magpie: Option<f64>) -> Option<f64> {
    Some(magpie? / floor.filter(|floor| *floor > 0.0)?)
}

/// The value in the middle, or between the two there.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(upper, sorted[sorted.len() / 2 - 1])) }
}

#[cfg(test)]
mod tests {
    use super::{Measure, Table, median};

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 9.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn rounds_come_together_in_one_row() {
        let measure = Measure { name: "logins/s", digits: 0, reach: "≥ 0.75", aim: "≥ 1.0" };
        let lost = Measure { name: "lost", digits: 0, reach: "0", aim: "0" };
        let mut table = Table::default();
        for (floor, magpie) in [(100.0, 60.0), (90.0, 70.0), (200.0, 80.0)] {
            table.enter("SQLite", &measure, "floor", floor);
            table.enter("SQLite", &measure, "magpie", magpie);
        }
        table.enter("SQLite", &lost, "magpie", 0.0);
        let text = table.markdown();
        let rows: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            ["| SQLite | logins/s | 100 | 70 | 0.70 | ≥ 0.75 | ≥ 1.0 |", "| SQLite | lost | – | 0 | – | 0 | 0 |",]
        );
    }
}
