//! A line as words, which both files share.

/// A word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// As it stands: it may be a keyword.
    Bare(&'a str),
    /// Between double quotes: a name and nothing else.
    Quoted(String),
    /// A comma between two names.
    Comma,
}

impl Word<'_> {
    /// What it says.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Bare(text) => text,
            Self::Quoted(text) => text,
            Self::Comma => ",",
        }
    }

    pub(super) fn is_bare(&self, text: &str) -> bool {
        matches!(self, Self::Bare(word) if *word == text)
    }
}

/// The words of a line up to its comment, and how far they reach.
pub(super) fn words(line: &str) -> Result<(Vec<Word<'_>>, &str), String> {
    let (mut found, mut rest) = (Vec::new(), line);
    loop {
        rest = rest.trim_start();
        match rest.as_bytes().first() {
            None | Some(b'#') => return Ok((found, line[..line.len() - rest.len()].trim())),
            Some(b',') => {
                found.push(Word::Comma);
                rest = &rest[1..];
            }
            Some(b'"') => {
                let (text, behind) = quoted(&rest[1..]).ok_or("a double quote is not closed")?;
                found.push(Word::Quoted(text));
                rest = behind;
            }
            Some(_) => {
                let ends = |c: char| c.is_whitespace() || matches!(c, ',' | '"' | '#');
                let end = rest.find(ends).unwrap_or(rest.len());
                found.push(Word::Bare(&rest[..end]));
                rest = &rest[end..];
            }
        }
    }
}

/// Up to the closing quote, and what is behind it; two in a row stand for one.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut out, mut rest) = (String::new(), text);
    loop {
        let (before, behind) = rest.split_once('"')?;
        out.push_str(before);
        match behind.strip_prefix('"') {
            Some(more) => {
                out.push('"');
                rest = more;
            }
            None => return Some((out, behind)),
        }
    }
}

/// The lines that say something, with their numbers.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let counted = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    counted.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_quotes_commas_and_comments() {
        let (found, text) = words("host  a,\"b c\" , d\t\"say \"\"x\"\"\" # and \"so on").unwrap();
        let texts: Vec<_> = found.iter().map(Word::text).collect();
        assert_eq!(texts, ["host", "a", ",", "b c", ",", "d", "say \"x\""]);
        assert_eq!(text, "host  a,\"b c\" , d\t\"say \"\"x\"\"\"");
        assert!(found[0].is_bare("host") && !found[3].is_bare("b c"));
        assert!(words("host \"a").is_err() && words("host \"a\"\"").is_err());
        assert!(words("# all of it").unwrap().0.is_empty());
    }
}
