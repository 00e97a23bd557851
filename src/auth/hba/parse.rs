//! From the text of the file to rules and flaws.

use super::address::Addresses;
use super::ident::{IdentMap, IdentMaps};
use super::line::{Word, lines, words};
use super::{DatabaseName, Flaw, Hba, Over, Rule, RuleMethod, UserName};
use std::slice::Iter;
use std::sync::Arc;

/// Reads a file of names by its name, for `@file`.
pub type Include<'a> = dyn Fn(&str) -> Result<String, String> + 'a;

/// Files that name each other end somewhere.
const DEPTH: u8 = 8;

/// What a file came to.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// The lines that can be used.
    pub hba: Hba,
    /// The others.
    pub flaws: Vec<Flaw>,
}

/// Reads the text of a file.
#[must_use]
pub fn parse(text: &str, maps: &IdentMaps, include: &Include<'_>) -> Parsed {
    let mut parsed = Parsed::default();
    for (line, text) in lines(text) {
        match words(text).and_then(|(found, text)| rule(line, text, &found, maps, include)) {
            Ok(rule) => parsed.hba.rules.push(rule),
            Err(what) => parsed.flaws.push(Flaw { line, what, is_grave: is_grave(text) }),
        }
    }
    parsed
}

/// Whether a line that cannot be used means to keep somebody out.
fn is_grave(line: &str) -> bool {
    line.split_whitespace().take_while(|word| !word.starts_with('#')).any(|word| {
        let word = word.trim_matches('"');
        word.eq_ignore_ascii_case("reject") || word.eq_ignore_ascii_case("ldap")
    })
}

/// The words that are not read yet.
type Left<'a, 'b> = std::iter::Peekable<Iter<'a, Word<'b>>>;

fn rule(
    line: usize,
    text: &str,
    found: &[Word<'_>],
    maps: &IdentMaps,
    include: &Include<'_>,
) -> Result<Rule, String> {
    let mut left = found.iter().peekable();
    let over = over(left.next())?;
    let databases =
        names(&mut left, include, "database")?.into_iter().map(database).collect::<Result<_, _>>()?;
    let users = names(&mut left, include, "user")?.into_iter().map(user).collect::<Result<_, _>>()?;
    let addresses = if over == Over::Unix { Addresses::All } else { addresses(&mut left)? };
    let method = method(left.next())?;
    let map = option(&mut left, maps)?;
    Ok(Rule { line, text: text.to_owned(), over, databases, users, addresses, method, map })
}

fn over(word: Option<&Word<'_>>) -> Result<Over, String> {
    match word.map(Word::text).unwrap_or_default() {
        "local" => Ok(Over::Unix),
        "host" => Ok(Over::Tcp),
        "hostssl" => Ok(Over::Tls),
        "hostnossl" => Ok(Over::PlainTcp),
        other => {
            Err(format!("{other:?} is no type of connection: expected local, host, hostssl or hostnossl"))
        }
    }
}

/// A name, and whether it may be a keyword.
struct Name {
    text: String,
    is_bare: bool,
}

/// Names with commas between them.
fn names(left: &mut Left<'_, '_>, include: &Include<'_>, what: &str) -> Result<Vec<Name>, String> {
    let mut found = Vec::new();
    loop {
        match left.next() {
            None | Some(Word::Comma) => return Err(format!("a {what} is missing")),
            Some(word) => add(word, &mut found, include, DEPTH)?,
        }
        if left.next_if_eq(&&Word::Comma).is_none() {
            return Ok(found);
        }
    }
}

fn add(word: &Word<'_>, found: &mut Vec<Name>, include: &Include<'_>, depth: u8) -> Result<(), String> {
    let file = match word {
        Word::Bare(text) => text.strip_prefix('@'),
        _ => None,
    };
    let Some(file) = file else {
        found.push(Name { text: word.text().to_owned(), is_bare: matches!(word, Word::Bare(_)) });
        return Ok(());
    };
    let depth = depth.checked_sub(1).ok_or_else(|| format!("@{file}: the files name each other"))?;
    let text = include(file).map_err(|error| format!("@{file}: {error}"))?;
    for (_, line) in lines(&text) {
        for word in words(line)?.0.iter().filter(|word| **word != Word::Comma) {
            add(word, found, include, depth)?;
        }
    }
    Ok(())
}

fn database(name: Name) -> Result<DatabaseName, String> {
    match name.text.as_str() {
        "all" if name.is_bare => Ok(DatabaseName::All),
        "sameuser" if name.is_bare => Ok(DatabaseName::SameUser),
        "replication" if name.is_bare => Ok(DatabaseName::Replication),
        "samerole" | "samegroup" if name.is_bare => Err(format!("{} is not supported", name.text)),
        text if name.is_bare && text.starts_with('/') => Err(no_expressions(text)),
        _ => Ok(DatabaseName::Named(name.text)),
    }
}

fn user(name: Name) -> Result<UserName, String> {
    match name.text.as_str() {
        "all" if name.is_bare => Ok(UserName::All),
        text if name.is_bare && text.starts_with('+') => Err(format!("{text}: groups are not supported")),
        text if name.is_bare && text.starts_with('/') => Err(no_expressions(text)),
        _ => Ok(UserName::Named(name.text)),
    }
}

fn no_expressions(text: &str) -> String {
    format!("{text}: regular expressions are not supported")
}

fn addresses(left: &mut Left<'_, '_>) -> Result<Addresses, String> {
    let Some(Word::Bare(text)) = left.next() else { return Err("an address is missing".to_owned()) };
    if *text == "all" {
        return Ok(Addresses::All);
    }
    if text.contains('/') {
        return Addresses::parse(text, None);
    }
    // Whatever it is, its mask stands in the next column.
    let mask = left.next_if(|word| word.text().starts_with(|c: char| c.is_ascii_hexdigit() || c == ':'));
    Addresses::parse(text, mask.map(Word::text))
}

fn method(word: Option<&Word<'_>>) -> Result<RuleMethod, String> {
    const METHODS: [RuleMethod; 7] = [
        RuleMethod::Trust,
        RuleMethod::Reject,
        RuleMethod::Password,
        RuleMethod::Md5,
        RuleMethod::ScramSha256,
        RuleMethod::Cert,
        RuleMethod::Peer,
    ];
    let Some(word) = word else { return Err("a method is missing".to_owned()) };
    METHODS.into_iter().find(|method| word.is_bare(method.as_str())).ok_or_else(|| {
        let known = METHODS.map(RuleMethod::as_str).join(", ");
        format!("{:?} is no method that is supported: expected one of {known}", word.text())
    })
}

/// `map=name`, which is all there may be behind the method.
fn option(left: &mut Left<'_, '_>, maps: &IdentMaps) -> Result<Option<Arc<IdentMap>>, String> {
    let Some(word) = left.next() else { return Ok(None) };
    if left.next().is_some() {
        return Err("behind the method there may be map=name and nothing else".to_owned());
    }
    let name = word.text().strip_prefix("map=").ok_or_else(|| format!("{} is not supported", word.text()))?;
    let map = maps.find(name).ok_or_else(|| format!("there is no map {name:?} in auth_ident_file"))?;
    Ok(Some(Arc::clone(map)))
}
