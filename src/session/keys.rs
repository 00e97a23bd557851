//! Cancel keys of a group of peers. They have the layout of PgBouncer's, so that its processes can be among them.
//!
//! Of the 8 bytes the first bit is zero, bytes 1 and 2 are the number of the peer (the low byte first), and the last two
//! bits say how often a request may still be passed on. All others are random.

use crate::auth::random;
use crate::wire::{CancelKey, ProtocolVersion};

/// How often a request may be passed on, and the bits that tell it.
const HOPS: u8 = 3;

/// Bytes of a secret in protocol 3.2.
const LONG: usize = 32;

/// A key for a client of a process that has peers. It is as long for clients of protocol 3.2, which take any length:
/// PgBouncer forwards no other.
pub(super) fn peered(id: u16) -> Result<CancelKey, getrandom::Error> {
    let mut bytes = [0; 8];
    random::fill(&mut bytes)?;
    bytes[0] &= 0x7f;
    [bytes[1], bytes[2]] = id.to_le_bytes();
    bytes[7] |= HOPS;
    Ok(from_bytes(bytes))
}

/// A key for a client of a process that stands alone. Drivers read the first number as a positive one.
pub(super) fn lone(version: ProtocolVersion) -> Result<CancelKey, getrandom::Error> {
    let mut secret = vec![0; if version >= ProtocolVersion::V3_2 { LONG } else { 4 }];
    random::fill(&mut secret)?;
    Ok(CancelKey { process: (random::number()? >> 1).max(1), secret: secret.into() })
}

/// Under which number a client is found by its key. With peers most of the first four bytes are the same for all, so the
/// others count too; these numbers are larger than those without peers.
pub(super) fn index(key: &CancelKey, peered: bool) -> u64 {
    match bytes(key) {
        Some(bytes) if peered => u64::from_be_bytes(bytes),
        _ => u64::from(key.process),
    }
}

/// The key as it was given out, however often it was passed on since; `None` for one that no group has.
pub(super) fn as_given(key: &CancelKey) -> Option<CancelKey> {
    let mut bytes = bytes(key)?;
    bytes[7] |= HOPS;
    Some(from_bytes(bytes))
}

/// The peer that a key belongs to, if it may have been given out in a group.
pub(super) fn peer(key: &CancelKey) -> Option<u16> {
    bytes(key).map(|bytes| u16::from_le_bytes([bytes[1], bytes[2]]))
}

/// The key for the next peer; `None` when it has been passed on for often enough.
pub(super) fn passed_on(key: &CancelKey) -> Option<CancelKey> {
    let mut bytes = bytes(key)?;
    if bytes[7] & HOPS == 0 {
        return None;
    }
    bytes[7] -= 1;
    Some(from_bytes(bytes))
}

fn bytes(key: &CancelKey) -> Option<[u8; 8]> {
    let secret: [u8; 4] = key.secret.as_ref().try_into().ok()?;
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&key.process.to_be_bytes());
    bytes[4..].copy_from_slice(&secret);
    Some(bytes)
}

fn from_bytes(bytes: [u8; 8]) -> CancelKey {
    let [a, b, c, d, secret @ ..] = bytes;
    CancelKey { process: u32::from_be_bytes([a, b, c, d]), secret: secret.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_group_has_pgbouncers_layout() {
        for id in [1, 255, 256, 16_383] {
            let bytes = bytes(&peered(id).unwrap()).unwrap();
            assert!(bytes[0] < 0x80 && bytes[7] & 3 == 3);
            assert_eq!(u16::from(bytes[1]) + (u16::from(bytes[2]) << 8), id);
        }
        // One that PgBouncer 1.26.1 gave out with peer_id = 1.
        let key = from_bytes([0x3e, 0x01, 0x00, 0x58, 0x69, 0x50, 0x9b, 0x6b]);
        assert_eq!(peer(&key), Some(1));
    }

    #[test]
    fn a_key_is_passed_on_three_times() {
        let given = peered(7).unwrap();
        let mut key = given.clone();
        for _ in 0..3 {
            key = passed_on(&key).unwrap();
            assert_eq!((peer(&key), as_given(&key)), (Some(7), Some(given.clone())));
        }
        assert!(passed_on(&key).is_none() && key != given);
    }

    #[test]
    fn long_keys_belong_to_no_group() {
        let key = lone(ProtocolVersion::V3_2).unwrap();
        assert!(key.secret.len() == LONG && peer(&key).is_none());
        assert!(as_given(&key).is_none() && passed_on(&key).is_none());
        assert_eq!(lone(ProtocolVersion::V3_0).unwrap().secret.len(), 4);
        assert!(index(&key, false) < index(&peered(1).unwrap(), true));
    }
}
