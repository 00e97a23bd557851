//! The startup parameter `options`: command-line switches for the session.
//!
//! <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS>

/// A switch in `options` that pgweir cannot honour.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A setting without a value.
    #[error("{0} requires a value")]
    NoValue(String),
    /// A switch that names no setting.
    #[error("invalid command-line argument for server process: {0}")]
    Switch(String),
}

/// Reads `-c name=value`, `-cname=value` and `--name=value`, separated by white space, with backslash as escape.
///
/// # Errors
///
/// [`OptionsError`] names the switch.
pub fn parse_options(options: &str) -> Result<Vec<(String, String)>, OptionsError> {
    let mut settings = Vec::new();
    let mut words = split(options).into_iter();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next().ok_or_else(|| OptionsError::NoValue(word.clone()))?
        } else if let Some(assignment) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            assignment.to_owned()
        } else {
            return Err(OptionsError::Switch(word));
        };
        settings.push(split_assignment(&assignment, &word)?);
    }
    Ok(settings)
}

/// Splits `name=value`; a dash in a name stands for an underscore.
fn split_assignment(assignment: &str, word: &str) -> Result<(String, String), OptionsError> {
    match assignment.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.replace('-', "_"), value.to_owned())),
        _ if word.starts_with("--") => Err(OptionsError::NoValue(word.to_owned())),
        _ => Err(OptionsError::NoValue(format!("-c {assignment}"))),
    }
}

/// Splits at white space that no backslash stands before; a backslash makes the next character itself.
fn split(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            // The white space that PostgreSQL's isspace() knows in the C locale.
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(options: &str) -> Vec<(String, String)> {
        parse_options(options).unwrap()
    }

    #[test]
    fn every_form_is_read() {
        let found = pairs("-c work_mem=5MB  --search-path=a\\ b -cDateStyle=ISO --x.y=\\\\");
        let expected = [("work_mem", "5MB"), ("search_path", "a b"), ("DateStyle", "ISO"), ("x.y", "\\")];
        let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(found, expected);
        assert_eq!(pairs("   "), []);
        assert_eq!(pairs("-c a=b=c"), [("a".to_owned(), "b=c".to_owned())]);
    }

    #[test]
    fn what_cannot_be_honoured_is_named() {
        assert_eq!(parse_options("-c"), Err(OptionsError::NoValue("-c".into())));
        assert_eq!(parse_options("-c=").unwrap_err().to_string(), "-c = requires a value");
        assert_eq!(parse_options("-c a").unwrap_err().to_string(), "-c a requires a value");
        assert_eq!(parse_options("--a").unwrap_err().to_string(), "--a requires a value");
        assert_eq!(parse_options("-B 5"), Err(OptionsError::Switch("-B".into())));
        assert_eq!(parse_options("x"), Err(OptionsError::Switch("x".into())));
    }

    proptest! {
        #[test]
        fn it_always_ends(options in ".*") {
            let _ = parse_options(&options);
        }
    }
}
