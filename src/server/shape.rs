//! What a client was told about the columns of a statement.

use crate::wire::split_cstr;
use foldhash::quality::FixedState;
use std::hash::{BuildHasher, Hasher};

/// The columns of a statement as its client knows them, in short: two that differ in the name or in the type of a column
/// are different.
///
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Their hash.
    Columns(u64),
    /// It was too long to be looked at: nothing is known to be the same.
    Unknown,
}

/// Bytes behind a column's name: table, column number, type, size, modifier and format.
const COLUMN: usize = 18;

impl Shape {
    /// Of a statement without a result (NoData).
    pub const NONE: Self = Self::Columns(0);

    /// Of a RowDescription. Where a column comes from does not matter to who reads it, nor does its format, which the
    /// client itself asks for in each Bind.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self::hash(body).map_or(Self::Unknown, Self::Columns)
    }

    fn hash(body: &[u8]) -> Option<u64> {
        let (count, mut rest) = body.split_first_chunk()?;
        let mut hasher = FixedState::default().build_hasher();
        for _ in 0..u16::from_be_bytes(*count) {
            let (name, tail) = split_cstr(rest)?;
            let (fixed, tail) = tail.split_first_chunk::<COLUMN>()?;
            hasher.write_usize(name.len());
            hasher.write(name);
            // Type, size and modifier.
            hasher.write(&fixed[6..16]);
            rest = tail;
        }
        Some(hasher.finish())
    }

    /// Whether it is known to be the other.
    #[must_use]
    pub fn is_surely(self, other: Self) -> bool {
        self == other && self != Self::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(columns: &[(&str, [u8; COLUMN])]) -> Vec<u8> {
        let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
        for (name, fixed) in columns {
            body.extend_from_slice(name.as_bytes());
            body.push(0);
            body.extend_from_slice(fixed);
        }
        body
    }

    #[test]
    fn only_names_and_types_count() {
        let int4 = [0, 0, 64, 1, 0, 1, 0, 0, 0, 23, 0, 4, 255, 255, 255, 255, 0, 0];
        let one = Shape::of(&description(&[("a", int4)]));
        let mut elsewhere = int4;
        (elsewhere[3], elsewhere[5], elsewhere[17]) = (9, 9, 1);
        assert!(one.is_surely(Shape::of(&description(&[("a", elsewhere)]))));
        let mut text = int4;
        text[9] = 25;
        for other in [
            description(&[("a", text)]),
            description(&[("b", int4)]),
            description(&[("a", int4), ("a", int4)]),
        ] {
            assert!(!one.is_surely(Shape::of(&other)));
        }
    }

    #[test]
    fn what_is_cut_short_is_not_known() {
        let whole = description(&[("a", [7; COLUMN])]);
        assert_eq!(Shape::of(&whole[..whole.len() - 1]), Shape::Unknown);
        assert!(!Shape::Unknown.is_surely(Shape::Unknown));
    }
}
