//! The address column.

use super::Way;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addresses {
    /// All there are, and Unix sockets.
    All,
    /// Those of a network of the old kind.
    V4 { network: u32, mask: u32 },
    /// Those of a network of the new kind.
    V6 { network: u128, mask: u128 },
}

impl Addresses {
    /// An address with `/bits` behind it, or alone with its mask in a column of its own.
    pub(super) fn parse(text: &str, mask: Option<&str>) -> Result<Self, String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let ip: IpAddr = address.parse().map_err(|_| not_an_address(address))?;
        let wrong = |text: &str| format!("{text:?} is no mask for {address}");
        match (ip, bits, mask) {
            (IpAddr::V4(ip), Some(bits), None) => {
                let mask = leading(bits, 32).ok_or_else(|| wrong(bits))?;
                Ok(Self::v4(ip, u32::MAX.checked_shl(32 - mask).unwrap_or(0)))
            }
            (IpAddr::V6(ip), Some(bits), None) => {
                let mask = leading(bits, 128).ok_or_else(|| wrong(bits))?;
                Ok(Self::v6(ip, u128::MAX.checked_shl(128 - mask).unwrap_or(0)))
            }
            (IpAddr::V4(ip), None, Some(mask)) => {
                Ok(Self::v4(ip, mask.parse::<Ipv4Addr>().map_err(|_| wrong(mask))?.into()))
            }
            (IpAddr::V6(ip), None, Some(mask)) => {
                Ok(Self::v6(ip, mask.parse::<Ipv6Addr>().map_err(|_| wrong(mask))?.into()))
            }
            (_, None, None) => Err(format!("{address} has no mask")),
            (_, Some(_), Some(mask)) => Err(format!("{text} has a mask, and {mask} is another one")),
        }
    }

    fn v4(ip: Ipv4Addr, mask: u32) -> Self {
        Self::V4 { network: u32::from(ip) & mask, mask }
    }

    fn v6(ip: Ipv6Addr, mask: u128) -> Self {
        Self::V6 { network: u128::from(ip) & mask, mask }
    }

    pub(super) fn hold(self, way: Way) -> bool {
        let ip = match way {
            Way::Unix => return self == Self::All,
            Way::Plain(ip) | Way::Tls(ip) => ip.to_canonical(),
        };
        match (self, ip) {
            (Self::All, _) => true,
            (Self::V4 { network, mask }, IpAddr::V4(ip)) => u32::from(ip) & mask == network,
            (Self::V6 { network, mask }, IpAddr::V6(ip)) => u128::from(ip) & mask == network,
            _ => false,
        }
    }
}

fn leading(bits: &str, most: u32) -> Option<u32> {
    let all_digits = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    bits.parse().ok().filter(|bits| all_digits && *bits <= most)
}

fn not_an_address(text: &str) -> String {
    match text {
        "samehost" | "samenet" => format!("{text} is not supported; write the addresses"),
        _ => format!("{text:?} is no IP address; names of hosts are not supported"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(address: &str, mask: Option<&str>, ip: &str) -> bool {
        Addresses::parse(address, mask).unwrap().hold(Way::Plain(ip.parse().unwrap()))
    }

    #[test]
    fn networks_hold_their_own() {
        assert!(holds("10.0.0.0/8", None, "10.255.0.1") && !holds("10.0.0.0/8", None, "11.0.0.1"));
        assert!(holds("10.1.2.3/8", None, "10.255.0.1"), "bits of the host do not count");
        assert!(holds("0.0.0.0/0", None, "8.8.8.8") && !holds("0.0.0.0/0", None, "::1"));
        assert!(holds("127.0.0.1", Some("255.255.255.255"), "127.0.0.1"));
        assert!(!holds("127.0.0.1", Some("255.255.255.255"), "127.0.0.2"));
        assert!(holds("fd00::/8", None, "fdff::1") && !holds("fd00::/8", None, "fe80::1"));
        assert!(holds("::", Some("::"), "::1") && !holds("::/0", None, "127.0.0.1"));
        assert!(holds("127.0.0.1/32", None, "::ffff:127.0.0.1"));
        assert!(holds("::1/128", None, "::1") && !holds("::1/128", None, "::2"));
    }

    #[test]
    fn anything_else_is_refused() {
        for (address, mask) in [
            ("127.0.0.1/33", None),
            ("::1/129", None),
            ("127.0.0.1/", None),
            ("127.0.0.1/+8", None),
            ("127.0.0.1", None),
            ("127.0.0.1", Some("md5")),
            ("127.0.0.1", Some("::")),
            ("127.0.0.1/8", Some("255.0.0.0")),
            ("127.1/8", None),
            ("samehost", None),
            ("localhost", None),
            (".example.com", None),
            ("fe80::1%eth0/64", None),
        ] {
            assert!(Addresses::parse(address, mask).is_err(), "{address} {mask:?}");
        }
    }
}
