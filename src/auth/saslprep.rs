//! SASLprep as PostgreSQL does it.
//!
//! RFC 4013 turns a password into canonical text or refuses it. PostgreSQL never refuses: a password that cannot be
//! normalised is used as the bytes it is. It also tests for what is prohibited *before* normalising, where the RFC
//! tests after, and knows the code points of Unicode 3.2 only. Both sides must agree to the byte, or a right password
//! is wrong, so this follows PostgreSQL's `src/common/saslprep.c` in all three. RFC 3454 names the tables.

mod unassigned;

use std::str;

use stringprep::tables;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// The bytes that SCRAM hashes for this password.
pub(super) fn prepare(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let normalised =
        if password.is_ascii() { None } else { str::from_utf8(password).ok().and_then(normalise) };
    Zeroizing::new(normalised.map_or_else(|| password.to_vec(), String::into_bytes))
}

/// Canonical text, or `None` where the bytes are to be used as they are.
fn normalise(password: &str) -> Option<String> {
    let mapped: Zeroizing<String> = Zeroizing::new(password.chars().filter_map(map).collect());
    if mapped.is_empty() || mapped.chars().any(is_prohibited) || !is_readable_in_one_direction(&mapped) {
        return None;
    }
    Some(mapped.nfkc().collect())
}

/// RFC 4013, 2.1: spaces become the one space, invisible characters become nothing.
fn map(c: char) -> Option<char> {
    if tables::non_ascii_space_character(c) {
        Some(' ')
    } else if tables::commonly_mapped_to_nothing(c) {
        None
    } else {
        Some(c)
    }
}

/// RFC 4013, 2.3 and 2.5.
fn is_prohibited(c: char) -> bool {
    tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
        || unassigned::contains(c)
}

/// RFC 3454, 6: with one right-to-left character, no left-to-right ones, and right-to-left at both ends.
fn is_readable_in_one_direction(text: &str) -> bool {
    if !text.contains(tables::bidi_r_or_al) {
        return true;
    }
    !text.contains(tables::bidi_l)
        && text.starts_with(tables::bidi_r_or_al)
        && text.ends_with(tables::bidi_r_or_al)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(text: &str) -> String {
        String::from_utf8(prepare(text.as_bytes()).to_vec()).unwrap()
    }

    /// The examples of RFC 4013, 3, with PostgreSQL's answer to the last two.
    #[test]
    fn examples_of_the_rfc() {
        assert_eq!(prepared("I\u{AD}X"), "IX");
        assert_eq!(prepared("user"), "user");
        assert_eq!(prepared("USER"), "USER");
        assert_eq!(prepared("\u{AA}"), "a");
        assert_eq!(prepared("\u{2168}"), "IX");
        assert_eq!(prepared("foo\u{7}bar"), "foo\u{7}bar");
        assert_eq!(prepared("foo\u{627}1bar"), "foo\u{627}1bar");
    }

    #[test]
    fn spaces_and_compositions() {
        assert_eq!(prepared("pass\u{A0}word"), "pass word");
        assert_eq!(prepared("I\u{2168}"), "IIX");
        assert_eq!(prepared("u\u{308}"), "\u{FC}");
        assert_eq!(prepared("\u{5D0}\u{FB1D}"), "\u{5D0}\u{5D9}\u{5B4}");
    }

    #[test]
    fn what_cannot_be_normalised_stays_as_it_is() {
        assert_eq!(prepare(b"caf\xE9\xC2\xAD").as_slice(), b"caf\xE9\xC2\xAD");
        assert_eq!(prepared("\u{AD}"), "\u{AD}");
        assert_eq!(prepared("\u{2168}\u{7}"), "\u{2168}\u{7}");
        assert_eq!(prepared("\u{2168}\u{E000}"), "\u{2168}\u{E000}");
    }

    /// Normalising first would take the prohibited character away, and the unassigned one for a space.
    #[test]
    fn prohibited_is_judged_before_normalising() {
        assert_eq!(prepared("a\u{340}"), "a\u{340}");
        assert_eq!(prepared("\u{1F100}"), "\u{1F100}");
    }

    /// An emoji of today is unassigned in Unicode 3.2.
    #[test]
    fn code_points_are_those_of_unicode_3_2() {
        assert_eq!(prepared("u\u{308}\u{1F600}"), "u\u{308}\u{1F600}");
        assert_eq!(prepared("\u{221}"), "\u{221}");
        assert!(unassigned::contains('\u{221}') && !unassigned::contains('\u{220}'));
        assert!(unassigned::contains('\u{EFFFD}') && !unassigned::contains('a'));
    }
}
