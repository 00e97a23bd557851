//! Values that PgBouncer takes although they are not what they should be. A file that starts PgBouncer must start
//! pgweir, so they are taken here, too, each with a word about what it is read as.

use std::time::Duration;

use super::error::Section;
use super::raw::Value;
use super::settings::{Kind, Setting};
use super::value::{self, Typed};

/// What PgBouncer makes of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    /// This one, and what there is to say about it, if it is not plainly what was written.
    Value(Typed, Option<String>),
    /// As if the key were not there.
    Unset(String),
}

/// C's largest `int`.
const MAX_NUMBER: u32 = 2_147_483_647;

/// Settings for which a value of another range would be a danger or another place: those are refused.
const STRICT: [&str; 3] = ["listen_port", "peer_id", "port"];

/// Reads a value of an ini file, or of `SET`.
pub(super) fn read(section: &Section, setting: &Setting, value: &Value) -> Option<Reading> {
    let Value::Text(text) = value else { return None };
    let is_entry = section.entry().is_some();
    match setting.kind {
        // The numbers of connection strings go through C's atoi.
        Kind::Decimal { .. } if is_entry => decimal(setting, text),
        // So do times, where a fraction is lost; here it counts.
        Kind::Seconds if is_entry => {
            let plain = value::interpret(setting.kind, value, super::raw::Dialect::Ini);
            plain.map_or_else(|| whole_seconds(text), |typed| Some(Reading::Value(typed, None)))
        }
        kind => {
            let plain = value::interpret(kind, value, super::raw::Dialect::Ini);
            let plain = plain.map(|typed| Reading::Value(typed, None));
            plain.or_else(|| general(setting, text))
        }
    }
}

fn general(setting: &Setting, text: &str) -> Option<Reading> {
    match setting.kind {
        Kind::Integer { min, max } if !STRICT.contains(&setting.name) => number(setting, text, min, max),
        Kind::Bytes | Kind::Milliseconds | Kind::Mode => number(setting, text, 0, MAX_NUMBER),
        Kind::Boolean => {
            let is_on = value::c_integer(text)? != 0;
            Some(said(Typed::Boolean(is_on), text))
        }
        Kind::Seconds => seconds(text),
        // A number that no other peer could have in its keys.
        Kind::Integer { .. } if setting.name == "peer_id" => {
            value::c_integer(text)?;
            let remark = format!("{text:?} is the number of no peer, so this process stands alone");
            Some(Reading::Value(Typed::Number(0), Some(remark)))
        }
        // PgBouncer does not look at the word before it is used.
        Kind::Choice(_) if setting.name == "syslog_facility" => Some(said(Typed::Choice("daemon"), text)),
        _ => None,
    }
}

/// A value with a word about it.
fn said(typed: Typed, text: &str) -> Reading {
    let remark = format!("{text:?} is read as {}", typed.shown());
    Reading::Value(typed, Some(remark))
}

/// PgBouncer wraps numbers that are too large around; the largest that is allowed does less harm.
fn number(setting: &Setting, text: &str, min: u32, max: u32) -> Option<Reading> {
    let number = value::c_integer(text)?;
    if number < i64::from(min) && min > 0 {
        // The least could be as bad as nothing: one iteration of SCRAM, say.
        return Some(said(Typed::Number(value::c_number(setting.default)?), text));
    }
    let number = number.clamp(i64::from(min), i64::from(max));
    Some(said(Typed::Number(u32::try_from(number).ok()?), text))
}

/// Hexadecimal digits are fine for C; what no clock can hold turns out as 0.
fn seconds(text: &str) -> Option<Reading> {
    if let Some(number) = value::c_number(text).filter(|_| text.contains(['x', 'X'])) {
        return Some(said(Typed::Seconds(Duration::from_secs(number.into())), text));
    }
    let number: f64 = text.trim_start().parse().ok()?;
    (number.is_nan() || number > 0.0).then(|| said(Typed::Seconds(Duration::ZERO), text))
}

fn decimal(setting: &Setting, text: &str) -> Option<Reading> {
    let Kind::Decimal { min, max } = setting.kind else { return None };
    let number = atoi(text);
    if number < 0 && !STRICT.contains(&setting.name) {
        return Some(Reading::Unset(format!("{text:?} is read as not set")));
    }
    let number = if STRICT.contains(&setting.name) { number } else { number.min(i64::from(max)) };
    let number = u32::try_from(number).ok().filter(|number| (min..=max).contains(number))?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse() == Ok(number);
    let typed = Typed::Number(number);
    Some(if is_plain { Reading::Value(typed, None) } else { said(typed, text) })
}

fn whole_seconds(text: &str) -> Option<Reading> {
    let number = atoi(text);
    let Ok(seconds) = u64::try_from(number) else {
        return Some(Reading::Unset(format!("{text:?} is read as not set")));
    };
    Some(said(Typed::Seconds(Duration::from_secs(seconds.min(u64::from(u32::MAX)))), text))
}

/// C's `atoi`: the number that a text begins with, else 0.
fn atoi(text: &str) -> i64 {
    let text = text.trim_start();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = &digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())];
    let number = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(i64::MAX) };
    if text.starts_with('-') { -number } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    fn reading(section: &Section, key: &str, text: &str) -> Option<(String, bool)> {
        let setting = settings::find(section, key).unwrap();
        read(section, setting, &Value::Text(text.to_owned())).map(|reading| match reading {
            Reading::Value(typed, remark) => (typed.shown(), remark.is_some()),
            Reading::Unset(_) => ("unset".to_owned(), true),
        })
    }

    #[test]
    fn odd_values_are_read_as_pgbouncer_reads_them() {
        let odd = |text: &str| Some((text.to_owned(), true));
        let plain = |text: &str| Some((text.to_owned(), false));
        let general = |key, text| reading(&Section::General, key, text);
        assert_eq!(general("max_client_conn", "010"), plain("8"));
        assert_eq!(general("max_client_conn", "-1"), odd("0"));
        assert_eq!(general("max_client_conn", "99999999999"), odd("2147483647"));
        assert_eq!(general("max_client_conn", "10x"), None);
        assert_eq!(general("log_stats", "2"), odd("1"));
        assert_eq!(general("log_stats", "on"), None);
        assert_eq!(general("verbose", "9"), odd("3"));
        assert_eq!(general("query_timeout", "0x10"), odd("16"));
        assert_eq!(general("query_timeout", "inf"), odd("0"));
        assert_eq!(general("query_timeout", "-1"), None);
        assert_eq!(general("syslog_facility", "foo"), odd("daemon"));
        assert_eq!(general("scram_iterations", "0"), odd("4096"));
        assert_eq!(general("pool_mode", "foo"), None);
        assert_eq!(general("listen_port", "70000"), None);
        assert_eq!(general("peer_id", "20000"), plain("20000"));
        assert_eq!(general("peer_id", "70000"), odd("0"));
        assert_eq!(general("peer_id", "x"), None);
        let database = |key, text| reading(&Section::Database("x".to_owned()), key, text);
        assert_eq!(database("pool_size", "010"), plain("10"));
        assert_eq!(database("pool_size", "5x"), odd("5"));
        assert_eq!(database("pool_size", "abc"), odd("0"));
        assert_eq!(database("pool_size", "-5"), odd("unset"));
        assert_eq!(database("server_lifetime", "1.5"), plain("1.5"));
        assert_eq!(database("server_lifetime", "60s"), odd("60"));
        assert_eq!(database("server_lifetime", "abc"), odd("0"));
        assert_eq!(database("port", "5x"), odd("5"));
        assert_eq!(database("port", "0"), None);
        assert_eq!(database("port", "abc"), None);
        assert_eq!(database("port", "70000"), None);
    }
}
