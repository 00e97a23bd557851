//! The `key=value key='value'` strings of `[databases]`, `[users]` and `[peers]`.

/// Why a connection string cannot be read. It never quotes the string, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum StringProblem {
    #[error("expected key=value at character {0}")]
    NoPair(usize),
    #[error("the value at character {0} is empty")]
    EmptyValue(usize),
    #[error("the quote at character {0} is not closed")]
    OpenQuote(usize),
    #[error("expected a space after the quote that is closed at character {0}")]
    NoSpace(usize),
}

/// The pairs of a connection string, in order; ends at the first problem.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = Result<(String, String), StringProblem>> {
    let mut cursor = Cursor { text, rest: text };
    let mut broken = false;
    std::iter::from_fn(move || {
        cursor.skip_blank();
        if broken || cursor.rest.is_empty() {
            return None;
        }
        let pair = cursor.pair();
        broken = pair.is_err();
        Some(pair)
    })
}

struct Cursor<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    /// The character at which the rest starts, from 1.
    fn position(&self) -> usize {
        let read = self.text.len() - self.rest.len();
        self.text[..read].chars().count() + 1
    }

    fn skip_blank(&mut self) {
        self.rest = self.rest.trim_start_matches(is_blank);
    }

    /// Takes what comes before the first character that `ends` holds for.
    fn until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let (taken, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn pair(&mut self) -> Result<(String, String), StringProblem> {
        let start = self.position();
        let key = self.until(|c| c == '=' || is_blank(c));
        self.skip_blank();
        let after = self.rest.strip_prefix('=').filter(|_| !key.is_empty());
        self.rest = after.ok_or(StringProblem::NoPair(start))?;
        self.skip_blank();
        let start = self.position();
        let value = self.value()?;
        if value.is_empty() {
            return Err(StringProblem::EmptyValue(start));
        }
        Ok((key.to_owned(), value))
    }

    fn value(&mut self) -> Result<String, StringProblem> {
        let start = self.position();
        let Some(quoted) = self.rest.strip_prefix('\'') else {
            return Ok(self.until(is_blank).to_owned());
        };
        self.rest = quoted;
        let mut value = String::new();
        loop {
            value.push_str(self.until(|c| c == '\''));
            self.rest = self.rest.strip_prefix('\'').ok_or(StringProblem::OpenQuote(start))?;
            match self.rest.strip_prefix('\'') {
                Some(rest) => self.rest = rest,
                None => break,
            }
            value.push('\'');
        }
        if self.rest.is_empty() || self.rest.starts_with(is_blank) {
            return Ok(value);
        }
        Err(StringProblem::NoSpace(self.position() - 1))
    }
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<(String, String)>, StringProblem> {
        pairs(text).collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn reads_pairs() {
        assert_eq!(all(""), Ok(vec![]));
        assert_eq!(all(" host=a  port = 1 "), Ok(owned(&[("host", "a"), ("port", "1")])));
        assert_eq!(all("password='it''s; #1' user=x"), Ok(owned(&[("password", "it's; #1"), ("user", "x")])));
        assert_eq!(all("password=a=b'c"), Ok(owned(&[("password", "a=b'c")])));
        // As PgBouncer has it: blanks after the equals sign are skipped.
        assert_eq!(all("password= dbname=x"), Ok(owned(&[("password", "dbname=x")])));
    }

    #[test]
    fn says_where_it_breaks() {
        assert_eq!(all("host=a junk"), Err(StringProblem::NoPair(8)));
        assert_eq!(all("=a"), Err(StringProblem::NoPair(1)));
        assert_eq!(all("host=a user="), Err(StringProblem::EmptyValue(13)));
        assert_eq!(all("user=''"), Err(StringProblem::EmptyValue(6)));
        assert_eq!(all("user='a"), Err(StringProblem::OpenQuote(6)));
        assert_eq!(all("user='a'b=c"), Err(StringProblem::NoSpace(8)));
    }
}
