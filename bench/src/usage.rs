//! What processes used, from /proc: CPU time and peak memory.

use std::{collections::HashMap, fs};

/// The kernel counts in hundredths of a second (`USER_HZ`), on every architecture in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU-seconds that this process and all below it have used, ended ones included.
pub fn cpu_seconds(root: u32) -> f64 {
    let mut below: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut used = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Some((parent, ticks)) = fs::read_to_string(entry.path().join("stat")).ok().as_deref().and_then(read) else {
            continue;
        };
        below.entry(parent).or_default().push(pid);
        used.insert(pid, ticks);
    }
    let (mut ticks, mut family) = (0, vec![root]);
    while let Some(pid) = family.pop() {
        ticks += used.get(&pid).copied().unwrap_or(0);
        family.extend(below.get(&pid).into_iter().flatten());
    }
    #[expect(clippy::cast_precision_loss, reason = "ticks of a few hours")]
    let ticks = ticks as f64;
    ticks / TICKS_PER_SECOND
}

/// The parent and the ticks of a line of /proc/PID/stat: its own and those of the children it waited for.
fn read(stat: &str) -> Option<(u32, u64)> {
    // The name, in brackets, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some((u32::try_from(number(1)?).ok()?, ticks))
}

/// The most memory this process had at a time since it started, or since [`forget_peak`], in bytes.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Starts counting the peak anew.
pub fn forget_peak(pid: u32) {
    // Only the owner may; then the peak is that since the start, which is no less.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The process that started this one.
pub fn parent(pid: u32) -> Option<u32> {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(read).map(|(parent, _)| parent)
}

/// The cores, and how many processes wanted them in the last minute: what else runs makes figures worse, and
/// ratios less sure.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("{cores} cores, load average {}", load.split(' ').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{cpu_seconds, peak_memory, read};

    #[test]
    fn a_name_with_brackets_and_spaces_confuses_nobody() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5 6 7";
        assert_eq!(read(stat), Some((7, 100)));
    }

    #[test]
    fn this_process_is_counted() {
        let me = std::process::id();
        let before = cpu_seconds(me);
        let mut sum = 0_u64;
        while cpu_seconds(me) < before + 0.03 {
            sum = std::hint::black_box((0..100_000_u64).fold(sum, u64::wrapping_add));
        }
        assert!(peak_memory(me).expect("a peak") > 100_000);
    }
}
