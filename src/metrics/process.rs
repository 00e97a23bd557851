//! The process as the kernel sees it, under the names that Prometheus recommends. What cannot be read is left out.
//!
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>

use super::family::Kind::{Counter, Gauge};
use super::family::{Family, count, float};
use std::fs;

/// Clock ticks a second: part of what Linux promises to programs, on all architectures that matter here.
const TICKS: f64 = 100.0;

/// All families. It reads files of `/proc`.
pub(super) fn families() -> Vec<Family> {
    let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text));
    let booted = fs::read_to_string("/proc/stat").ok().and_then(|text| number_after(&text, "btime"));
    let resident =
        fs::read_to_string("/proc/self/status").ok().and_then(|text| number_after(&text, "VmRSS:"));
    // One of them is the folder that is being read.
    let descriptors = fs::read_dir("/proc/self/fd").map(|entries| entries.count().saturating_sub(1)).ok();
    let started = stat.as_ref().zip(booted).map(|(stat, booted)| float(booted) + float(stat.started) / TICKS);
    let families = [
        started.map(|value| {
            let help = "When the process started, in seconds since 1970.";
            Family::single(Gauge, "process_start_time_seconds", help, value)
        }),
        stat.map(|stat| {
            let help = "CPU time of the process.";
            Family::single(Counter, "process_cpu_seconds_total", help, float(stat.cpu) / TICKS)
        }),
        resident.map(|kibibytes| {
            let help = "Memory of the process that is in RAM.";
            Family::single(Gauge, "process_resident_memory_bytes", help, float(kibibytes) * 1024.0)
        }),
        descriptors.map(|descriptors| {
            let help = "Open file descriptors.";
            Family::single(Gauge, "process_open_fds", help, count(descriptors))
        }),
    ];
    families.into_iter().flatten().collect()
}

/// What is of use in `/proc/self/stat`, in clock ticks.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// In user and in kernel mode.
    cpu: u64,
    /// Since boot.
    started: u64,
}

impl Stat {
    /// Reads the file. The name of the program is in parentheses and may hold anything, so fields are counted from
    /// behind the last one: the first there is field 3 of the manual, `state`.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { cpu: field(14)? + field(15)?, started: field(22)? })
    }
}

/// The number that follows a word at the start of a line.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_may_hold_anything() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 111 22 15 16 17 18 19 20 333 24 25";
        let expected = Some(Stat { cpu: 133, started: 333 });
        assert_eq!(Stat::parse(&format!("42 (pgweir) {rest}")), expected);
        assert_eq!(Stat::parse(&format!("42 (a) b) {rest}")), expected);
        assert_eq!(Stat::parse("42 (pgweir) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn numbers_are_found_in_their_line() {
        assert_eq!(number_after("VmHWM:\t9 kB\nVmRSS:\t  2016 kB\n", "VmRSS:"), Some(2016));
        assert_eq!(number_after("btime x\n", "btime"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        assert_eq!(families().len(), 4);
    }
}
