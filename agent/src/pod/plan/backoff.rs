//! How long to wait before trying again.

use jiff::SignedDuration;

/// A run of this length wipes out the crashes before it (kubelet: twice the longest back-off).
pub const RESET_AFTER: SignedDuration = SignedDuration::from_mins(10);
const FIRST_SECS: i64 = 10;
const LONGEST_SECS: i64 = 300;
const MOUNT_LONGEST: SignedDuration = SignedDuration::from_secs(20);

/// The wait between the end of a container and its next start. The first restart is immediate, then 10 s doubling to
/// 300 s, as the kubelet does.
pub fn crash_delay(crashes: u32) -> SignedDuration {
    if crashes <= 1 || drover_api::mutants::active("N06-no-crash-backoff") {
        return SignedDuration::ZERO;
    }
    doubled(crashes - 2)
}

/// The wait after `count` failures in a row of a pull or a creation: 10 s doubling to 300 s; the very first
/// retry of what needs no registry comes sooner, see `quick`.
pub fn setback_delay(count: u32, quick: bool) -> SignedDuration {
    if quick && count <= 3 {
        return SignedDuration::from_secs(1 << count.min(3));
    }
    doubled(count.saturating_sub(1))
}

/// The wait after `count` failures in a row to prepare volumes: as for other setbacks, up to 20 s (kubelet: 122 s). Many
/// need the API first, and must not wait for minutes once it is back.
pub fn mount_delay(count: u32) -> SignedDuration {
    setback_delay(count, true).min(MOUNT_LONGEST)
}

fn doubled(times: u32) -> SignedDuration {
    SignedDuration::from_secs((FIRST_SECS << times.min(5)).min(LONGEST_SECS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_wait_as_in_the_kubelet() {
        let seconds: Vec<i64> = (0..9).map(|crashes| crash_delay(crashes).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn volumes_are_tried_again_soon() {
        let seconds: Vec<i64> = (1..9).map(|failures| mount_delay(failures).as_secs()).collect();
        assert_eq!(seconds, [2, 4, 8, 20, 20, 20, 20, 20]);
    }
}
