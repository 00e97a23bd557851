//! Values of our own results in PostgreSQL's binary format, made of their text.

use super::backend::Type;
use bytes::{BufMut, BytesMut};

/// Digits of a base-10000 digit.
const GROUP: usize = 4;

/// Writes a value with its length word in front. A number that its type cannot hold becomes the largest that it can.
pub fn put_binary(out: &mut BytesMut, kind: Type, text: &str) {
    match kind {
        Type::Text => put_sized(out, text.as_bytes()),
        Type::Int4 => {
            let number = text.parse::<i64>().unwrap_or(0);
            put_sized(out, &i32::try_from(number).unwrap_or(i32::MAX).to_be_bytes());
        }
        Type::Int8 => put_sized(out, &text.parse::<i64>().unwrap_or(i64::MAX).to_be_bytes()),
        Type::Numeric => put_sized(out, &numeric(text)),
    }
}

fn put_sized(out: &mut BytesMut, bytes: &[u8]) {
    match i32::try_from(bytes.len()) {
        Ok(length) => {
            out.put_i32(length);
            out.put_slice(bytes);
        }
        Err(_) => out.put_i32(-1), // no value of ours is that long
    }
}

/// A whole number that is not negative: count of digits, weight of the first, sign, scale, digits in base 10000.
fn numeric(text: &str) -> Vec<u8> {
    let digits = text.trim_start_matches('0');
    let mut groups: Vec<u16> = Vec::new();
    let mut rest = digits;
    while !rest.is_empty() {
        let length = match rest.len() % GROUP {
            0 => GROUP,
            some => some,
        };
        let (group, behind) = rest.split_at_checked(length).unwrap_or((rest, ""));
        groups.push(group.parse().unwrap_or(0));
        rest = behind;
    }
    let count = u16::try_from(groups.len()).unwrap_or(0);
    let head = [count, count.saturating_sub(1), 0, 0];
    head.into_iter().chain(groups).flat_map(u16::to_be_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(kind: Type, text: &str) -> Vec<u8> {
        let mut out = BytesMut::new();
        put_binary(&mut out, kind, text);
        out.to_vec()
    }

    #[test]
    fn numbers_are_as_long_as_their_type() {
        assert_eq!(binary(Type::Int4, "258"), [0, 0, 0, 4, 0, 0, 1, 2]);
        assert_eq!(binary(Type::Int4, "4294967296"), [0, 0, 0, 4, 127, 255, 255, 255]);
        assert_eq!(binary(Type::Int8, "1"), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(binary(Type::Text, "ab"), [0, 0, 0, 2, 97, 98]);
    }

    #[test]
    fn numerics_are_groups_of_four_digits() {
        assert_eq!(binary(Type::Numeric, "0"), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(binary(Type::Numeric, "42"), [0, 0, 0, 10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 42]);
        let expected = [0, 0, 0, 12, 0, 2, 0, 1, 0, 0, 0, 0, 0, 12, 13, 128];
        assert_eq!(binary(Type::Numeric, "123456"), expected);
    }
}
