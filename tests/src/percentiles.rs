//! Figures of many times.

use std::time::Duration;

/// Three columns of seconds: p50, p99 and the longest.
pub fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    // The nearest rank: the smallest that so many percent do not exceed.
    let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).max(1) - 1).copied().unwrap_or_default();
    [50, 99, 100].map(|percent| format!("{:6.2}", at(percent).as_secs_f64())).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times = |count: u64| (1..=count).rev().map(Duration::from_secs).collect();
        assert_eq!(percentiles(times(100)), " 50.00  99.00 100.00");
        assert_eq!(percentiles(times(1)), "  1.00   1.00   1.00");
        assert_eq!(percentiles(Vec::new()), "  0.00   0.00   0.00");
    }
}
