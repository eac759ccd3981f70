//! IPv4 networks in the notation `10.128.0.0/22`.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// An IPv4 network; host bits are always zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    network: Ipv4Addr,
    prefix: u8,
}

/// Why a text is not an IPv4 network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an IPv4 network such as 10.128.0.0/22")]
pub struct CidrError {
    text: String,
}

impl Cidr {
    /// The network that `address` lies in, or `None` for a prefix over 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        let mask = mask(prefix)?;
        Some(Self { network: Ipv4Addr::from_bits(address.to_bits() & mask), prefix })
    }

    /// Its first address.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// Its length in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `address` lies in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        Self::new(address, self.prefix) == Some(self)
    }

    /// The address that the bridge holds: the first one a host may have.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits().saturating_add(1))
    }

    /// The first and the last address for pods: everything but network, gateway and broadcast. `None` when the network
    /// is too small to hold a pod.
    pub fn pod_range(self) -> Option<(u32, u32)> {
        let first = self.network.to_bits().checked_add(2)?;
        let hosts = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
        let last = self.network.to_bits().checked_add(hosts)?.checked_sub(1)?;
        (first <= last).then_some((first, last))
    }
}

fn mask(prefix: u8) -> Option<u32> {
    match prefix {
        0 => Some(0),
        1..=32 => Some(u32::MAX << (32 - u32::from(prefix))),
        33.. => None,
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let cidr = Self::new(address.parse().ok()?, prefix.parse().ok()?)?;
            (cidr.to_string() == text).then_some(cidr)
        };
        parse().ok_or_else(|| CidrError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        for text in ["10.128.0.0/22", "0.0.0.0/0", "10.0.0.1/32"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        for text in ["10.128.0.1/22", "10.128.0.0", "10.128.0.0/33", "fd00::/8", "", "10.0.0.0/08"] {
            text.parse::<Cidr>().unwrap_err();
        }
    }

    #[test]
    fn pods_get_everything_but_network_gateway_and_broadcast() {
        let range = |text: &str| {
            let (first, last) = text.parse::<Cidr>().unwrap().pod_range()?;
            Some((Ipv4Addr::from_bits(first).to_string(), Ipv4Addr::from_bits(last).to_string()))
        };
        assert_eq!(range("10.128.0.0/22"), Some(("10.128.0.2".into(), "10.128.3.254".into())));
        assert_eq!(range("10.1.1.4/30"), Some(("10.1.1.6".into(), "10.1.1.6".into())));
        assert_eq!(range("10.1.1.4/31"), None);
        assert_eq!(range("10.1.1.4/32"), None);
    }

    #[test]
    fn contains_its_own_addresses_only() {
        let cidr: Cidr = "10.128.0.0/22".parse().unwrap();
        assert_eq!(cidr.gateway(), Ipv4Addr::new(10, 128, 0, 1));
        assert!(cidr.contains(Ipv4Addr::new(10, 128, 3, 255)));
        assert!(!cidr.contains(Ipv4Addr::new(10, 128, 4, 0)));
    }
}
