//! From a value as written to a value as meant, by the kind of its setting.

use std::time::Duration;

use super::raw::{Dialect, Value};
use super::settings::Kind;

/// A value as meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    Text(String),
    List(Vec<String>),
    Number(u32),
    Boolean(bool),
    Seconds(Duration),
    Choice(&'static str),
}

/// PgBouncer's numbers are C's `int`.
const MAX_NUMBER: u32 = 2_147_483_647;
/// A hundred years: longer is a mistake, and clocks must be able to add it to now.
const MAX_TIME: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What a value means, or `None` when it is not one of those that [`expected`] describes.
pub(super) fn interpret(kind: Kind, value: &Value, dialect: Dialect) -> Option<Typed> {
    match kind {
        Kind::Text | Kind::Secret | Kind::Path => text(value).map(|text| Typed::Text(text.to_owned())),
        Kind::List => words(value).map(Typed::List),
        Kind::Integer { min, max } => number(value).filter(|n| (min..=max).contains(n)).map(Typed::Number),
        Kind::Decimal { min, max } => decimal(value).filter(|n| (min..=max).contains(n)).map(Typed::Number),
        Kind::Bytes => with_unit(value, dialect, bytes).filter(|n| *n <= MAX_NUMBER).map(Typed::Number),
        Kind::Boolean => boolean(value, dialect).map(Typed::Boolean),
        Kind::Seconds => {
            with_unit(value, dialect, |number, unit| time(number, unit, "s")).map(Typed::Seconds)
        }
        Kind::Milliseconds => {
            let time = with_unit(value, dialect, |number, unit| time(number, unit, "ms"))?;
            u32::try_from(time.as_millis()).ok().filter(|n| *n <= MAX_NUMBER).map(Typed::Number)
        }
        Kind::Mode => mode(value).filter(|mode| *mode <= 0o7777).map(Typed::Number),
        Kind::Choice(words) => {
            let word = text(value)?;
            words.iter().find(|known| known.eq_ignore_ascii_case(word)).map(|known| Typed::Choice(known))
        }
    }
}

/// The values that a kind allows, in words.
pub(super) fn expected(kind: Kind, dialect: Dialect) -> String {
    let is_toml = dialect == Dialect::Toml;
    let with_units =
        |base: &str, units: &str| if is_toml { format!("{base}, or {units}") } else { base.to_owned() };
    match kind {
        Kind::Text | Kind::Secret => "a string".to_owned(),
        Kind::Path => "a path".to_owned(),
        Kind::List => with_units("words with commas between them", "a list of strings"),
        Kind::Integer { min, max } | Kind::Decimal { min, max } => {
            format!("a whole number from {min} to {max}")
        }
        Kind::Bytes => {
            with_units("a number of bytes up to 2147483647", "one with a unit such as \"16kB\" or \"4MB\"")
        }
        Kind::Boolean if is_toml => "true or false".to_owned(),
        Kind::Boolean => "0 or 1".to_owned(),
        Kind::Seconds => with_units(
            "a number of seconds",
            "one with a unit such as \"500ms\", \"30s\", \"5min\" or \"1h\"",
        ),
        Kind::Milliseconds => with_units("a number of milliseconds", "one with a unit such as \"30s\""),
        Kind::Mode if is_toml => "permission bits such as 0o770 or \"0770\"".to_owned(),
        Kind::Mode => "permission bits such as 0770".to_owned(),
        Kind::Choice(words) => match words.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => words.concat(),
        },
    }
}

impl Typed {
    /// The value as PgBouncer spells it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::List(words) => words.join(","),
            Self::Number(number) => number.to_string(),
            Self::Boolean(value) => u8::from(*value).to_string(),
            Self::Seconds(time) => time.as_secs_f64().to_string(),
            Self::Choice(word) => (*word).to_owned(),
        }
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn words(value: &Value) -> Option<Vec<String>> {
    let items: Vec<&str> = match value {
        Value::Text(text) => text.split(',').collect(),
        Value::List(items) => items.iter().map(String::as_str).collect(),
        _ => return None,
    };
    Some(items.iter().map(|word| word.trim()).filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

fn number(value: &Value) -> Option<u32> {
    match value {
        Value::Text(text) => c_number(text),
        Value::Integer { digits, radix } => u32::from_str_radix(digits, *radix).ok(),
        _ => None,
    }
}

fn decimal(value: &Value) -> Option<u32> {
    match value {
        Value::Text(text) => text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?,
        _ => number(value),
    }
}

/// The same with a sign, and of any size: what is larger than 64 bits hold is the largest that they do.
pub(super) fn c_integer(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let (digits, is_negative) = match text.strip_prefix('-') {
        Some(digits) => (digits, true),
        None => (text.strip_prefix('+').unwrap_or(text), false),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (digits, if digits.len() > 1 && digits.starts_with('0') { 8 } else { 10 }),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let number = i64::from_str_radix(digits, radix).unwrap_or(i64::MAX);
    Some(if is_negative { -number } else { number })
}

/// A number as C reads it: `0x` is hexadecimal, another leading zero octal.
pub(super) fn c_number(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (digits, if digits.len() > 1 && digits.starts_with('0') { 8 } else { 10 }),
    };
    // Rust would take another sign here.
    digits.starts_with(|c: char| c.is_digit(radix)).then(|| u32::from_str_radix(digits, radix).ok())?
}

fn boolean(value: &Value, dialect: Dialect) -> Option<bool> {
    match (value, dialect) {
        (Value::Boolean(value), _) => Some(*value),
        (Value::Text(text), Dialect::Toml) if text == "true" => Some(true),
        (Value::Text(text), Dialect::Toml) if text == "false" => Some(false),
        _ => match number(value)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
    }
}

/// A decimal TOML number is refused: 770 would not mean what it looks like.
fn mode(value: &Value) -> Option<u32> {
    match value {
        Value::Integer { radix: 8, .. } | Value::Text(_) => number(value),
        _ => None,
    }
}

/// A number and its unit; in an ini file there are no units.
fn with_unit<T>(value: &Value, dialect: Dialect, scale: impl Fn(&str, &str) -> Option<T>) -> Option<T> {
    match value {
        Value::Integer { digits, radix: 10 } => scale(digits, ""),
        Value::Integer { .. } => scale(&number(value)?.to_string(), ""),
        Value::Float(number) => scale(number, ""),
        Value::Text(text) => {
            let text = text.trim();
            let end = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len();
            // The letters at the end of 0xff are digits.
            let is_plain = text.starts_with("0x") || text.starts_with("0X");
            let (number, unit) = if is_plain { (text, "") } else { text.split_at(end) };
            let allowed = unit.is_empty() || dialect == Dialect::Toml;
            allowed.then(|| scale(number.trim_end(), unit))?
        }
        _ => None,
    }
}

fn time(number: &str, unit: &str, bare: &str) -> Option<Duration> {
    let seconds = match if unit.is_empty() { bare } else { unit } {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let count: f64 = number.parse().ok()?;
    Duration::try_from_secs_f64(count * seconds).ok().filter(|time| *time <= MAX_TIME)
}

fn bytes(number: &str, unit: &str) -> Option<u32> {
    let factor: u32 = match unit {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    c_number(number)?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ini(kind: Kind, text: &str) -> Option<String> {
        interpret(kind, &Value::Text(text.to_owned()), Dialect::Ini).map(|typed| typed.shown())
    }

    fn toml(kind: Kind, text: &str) -> Option<String> {
        interpret(kind, &Value::Text(text.to_owned()), Dialect::Toml).map(|typed| typed.shown())
    }

    fn integer(kind: Kind, digits: &str, radix: u32) -> Option<String> {
        let value = Value::Integer { digits: digits.to_owned(), radix };
        interpret(kind, &value, Dialect::Toml).map(|typed| typed.shown())
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    const SMALL: Kind = Kind::Integer { min: 1, max: 100 };

    #[test]
    fn numbers_are_written_as_in_c() {
        assert_eq!(ini(SMALL, "010"), some("8"));
        assert_eq!(ini(SMALL, "0x1F"), some("31"));
        assert_eq!(ini(SMALL, "+7"), some("7"));
        for bad in ["", "0", "101", "-1", "++1", "0x", "0x+1", "08", "5s", "1.5", "99999999999999999999"] {
            assert_eq!(ini(SMALL, bad), None, "{bad}");
        }
        assert_eq!(ini(Kind::Decimal { min: 1, max: 100 }, "010"), some("10"));
        assert_eq!(ini(Kind::Decimal { min: 1, max: 100 }, "0x10"), None);
        assert_eq!(integer(SMALL, "1f", 16), some("31"));
        assert_eq!(integer(SMALL, "-5", 10), None);
    }

    #[test]
    fn times_take_fractions_and_in_toml_units() {
        assert_eq!(ini(Kind::Seconds, "5.0"), some("5"));
        assert_eq!(ini(Kind::Seconds, "0.25"), some("0.25"));
        for bad in ["30s", "-1", "nan", "inf", "1e300", "", "4000000000"] {
            assert_eq!(ini(Kind::Seconds, bad), None, "{bad}");
        }
        assert_eq!(toml(Kind::Seconds, "500ms"), some("0.5"));
        assert_eq!(toml(Kind::Seconds, "5 min"), some("300"));
        assert_eq!(toml(Kind::Seconds, "1h"), some("3600"));
        assert_eq!(toml(Kind::Seconds, "1 fortnight"), None);
        assert_eq!(toml(Kind::Milliseconds, "2s"), some("2000"));
        assert_eq!(ini(Kind::Milliseconds, "2"), some("2"));
        assert_eq!(integer(Kind::Seconds, "30", 10), some("30"));
    }

    #[test]
    fn sizes_take_units_in_toml() {
        assert_eq!(toml(Kind::Bytes, "16kB"), some("16384"));
        assert_eq!(toml(Kind::Bytes, "4 MB"), some("4194304"));
        assert_eq!(toml(Kind::Bytes, "4GB"), None);
        assert_eq!(toml(Kind::Bytes, "0xff"), some("255"));
        assert_eq!(ini(Kind::Bytes, "2147483647"), some("2147483647"));
        assert_eq!(ini(Kind::Bytes, "4MB"), None);
    }

    #[test]
    fn booleans_are_digits_in_ini_and_words_in_toml() {
        assert_eq!(ini(Kind::Boolean, "1"), some("1"));
        assert_eq!(ini(Kind::Boolean, "on"), None);
        assert_eq!(ini(Kind::Boolean, "true"), None);
        assert_eq!(ini(Kind::Boolean, "2"), None);
        assert_eq!(toml(Kind::Boolean, "true"), some("1"));
        assert_eq!(integer(Kind::Boolean, "0", 10), some("0"));
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(ini(Kind::Mode, "0777"), some("511"));
        assert_eq!(integer(Kind::Mode, "770", 8), some("504"));
        assert_eq!(integer(Kind::Mode, "770", 10), None);
        assert_eq!(ini(Kind::Mode, "077777"), None);
    }

    #[test]
    fn words_and_choices() {
        assert_eq!(ini(Kind::List, " a, b ,,c"), some("a,b,c"));
        assert_eq!(ini(Kind::Choice(&["session", "transaction"]), "Session"), some("session"));
        assert_eq!(ini(Kind::Choice(&["session"]), "sesion"), None);
        assert_eq!(expected(Kind::Choice(&["a", "b", "c"]), Dialect::Ini), "a, b or c");
    }
}
