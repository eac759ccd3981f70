//! Divides the cluster's address range into one share per node. Pure: what is taken is read from the Nodes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// An IPv4 range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    base: u32,
    prefix_len: u8,
}

impl Range {
    /// Parses `10.128.0.0/9`; bits below the prefix are cleared.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix_len) = text.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let prefix_len: u8 = prefix_len.parse().ok().filter(|length| *length <= 32)?;
        Some(Self { base: u32::from(address) & mask(prefix_len), prefix_len })
    }

    /// Returns how many shares of a size the range holds; 0 when none fits.
    pub fn shares(&self, share_prefix_len: u8) -> u64 {
        if share_prefix_len < self.prefix_len || share_prefix_len > 32 {
            return 0;
        }
        1 << (share_prefix_len - self.prefix_len)
    }

    fn share(&self, number: u64, share_prefix_len: u8) -> Option<String> {
        let offset = number.checked_shl(u32::from(32 - share_prefix_len))?;
        let base = self.base.checked_add(u32::try_from(offset).ok()?)?;
        Some(format!("{}/{share_prefix_len}", Ipv4Addr::from(base)))
    }

    /// Returns the numbers of the shares that `taken` touches.
    fn touched(&self, taken: Self, share_prefix_len: u8) -> std::ops::Range<u64> {
        let size = 1u64 << (32 - u32::from(share_prefix_len));
        let start = u64::from(taken.base).saturating_sub(u64::from(self.base));
        let end = u64::from(taken.base) + (1u64 << (32 - u32::from(taken.prefix_len)));
        let end = end.saturating_sub(u64::from(self.base));
        (start / size)..end.div_ceil(size).min(self.shares(share_prefix_len))
    }
}

fn mask(prefix_len: u8) -> u32 {
    u32::MAX.checked_shl(u32::from(32 - prefix_len)).unwrap_or(0)
}

/// Returns the lowest free shares, at most `count`, given the ranges already in use. What cannot be parsed or lies
/// outside takes nothing.
pub fn allocate<'a>(
    cluster: Range,
    share_prefix_len: u8,
    taken: impl IntoIterator<Item = &'a str>,
    count: usize,
) -> Vec<String> {
    let mut used = BTreeSet::new();
    for range in taken.into_iter().filter_map(Range::parse) {
        if range.prefix_len >= cluster.prefix_len {
            used.extend(cluster.touched(range, share_prefix_len));
        }
    }
    if drover_api::mutants::active("E02-range-given-twice") {
        used.clear();
    }
    let free = (0..cluster.shares(share_prefix_len)).filter(|number| !used.contains(number));
    free.filter_map(|number| cluster.share(number, share_prefix_len)).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> Range {
        Range::parse(text).unwrap()
    }

    #[test]
    fn the_lowest_free_shares_are_given_out() {
        let taken = ["10.128.0.0/22", "10.128.8.0/22", "junk", "192.168.0.0/22"];
        assert_eq!(
            allocate(range("10.128.0.0/9"), 22, taken, 3),
            ["10.128.4.0/22", "10.128.12.0/22", "10.128.16.0/22"]
        );
    }

    #[test]
    fn a_smaller_range_in_use_blocks_the_share_it_lies_in() {
        assert_eq!(allocate(range("10.128.0.0/9"), 22, ["10.128.1.0/24"], 1), ["10.128.4.0/22"]);
    }

    #[test]
    fn a_full_range_gives_nothing() {
        assert_eq!(allocate(range("10.0.0.0/23"), 24, ["10.0.0.0/24", "10.0.1.0/24"], 1), Vec::<String>::new());
        assert_eq!(allocate(range("10.0.0.0/24"), 22, [], 1), Vec::<String>::new());
    }

    #[test]
    fn bad_text_is_no_range() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/64"] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn shares_never_overlap(taken in proptest::collection::vec((0u64..64, 20u8..26), 0..20), count in 0usize..20) {
            let cluster = range("10.128.0.0/16");
            let taken: Vec<String> = taken.into_iter().filter_map(|(number, length)| cluster.share(number.min(cluster.shares(length) - 1), length)).collect();
            let given = allocate(cluster, 22, taken.iter().map(String::as_str), count);
            let all: Vec<Range> = taken.iter().map(|text| range(text)).collect();
            for (index, share) in given.iter().enumerate() {
                let share = range(share);
                let overlaps = |other: &Range| {
                    let shorter = mask(share.prefix_len.min(other.prefix_len));
                    share.base & shorter == other.base & shorter
                };
                prop_assert!(!all.iter().any(overlaps));
                prop_assert!(!given[..index].iter().any(|other| overlaps(&range(other))));
            }
        }
    }
}
