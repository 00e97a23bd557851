//! The words of a console command.

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// `[0-9A-Za-z_]+`, or anything in double quotes, unquoted here.
    Word(String),
    /// Something in single quotes, unquoted here; `''` is a quote. Only values come so.
    Text(String),
    /// `=`
    Equals,
    /// `;`
    Semicolon,
}

impl Token {
    /// Whether it stands between a key and its value.
    pub(super) fn is_assignment(&self) -> bool {
        match self {
            Self::Equals => true,
            Self::Word(word) => word.eq_ignore_ascii_case("to"),
            Self::Text(_) | Self::Semicolon => false,
        }
    }
}

/// Splits a text, or finds something in it that no command has.
pub(super) fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = skip_space(text);
    while !rest.is_empty() {
        let (token, behind) = token(rest)?;
        found.push(token);
        rest = skip_space(behind);
    }
    Some(found)
}

fn token(text: &str) -> Option<(Token, &str)> {
    if let Some(rest) = text.strip_prefix(';') {
        return Some((Token::Semicolon, rest));
    }
    if let Some(rest) = text.strip_prefix('=') {
        return Some((Token::Equals, rest));
    }
    if let Some(rest) = text.strip_prefix('"') {
        let (word, rest) = quoted(rest, '"')?;
        return Some((Token::Word(word), rest));
    }
    if let Some(rest) = text.strip_prefix('\'') {
        return quoted(rest, '\'').map(|(text, rest)| (Token::Text(text), rest));
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (end > 0).then(|| (Token::Word(word.to_owned()), rest))
}

/// What stands before the closing quote, and what behind it; a doubled quote is one that does not close.
fn quoted(mut text: &str, quote: char) -> Option<(String, &str)> {
    let mut inside = String::new();
    loop {
        let (part, behind) = text.split_once(quote)?;
        inside.push_str(part);
        let Some(more) = behind.strip_prefix(quote) else {
            return Some((inside, behind));
        };
        inside.push(quote);
        text = more;
    }
}

fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r'])
}
