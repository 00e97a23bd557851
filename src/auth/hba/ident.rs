//! Maps of user names, as in `pg_ident.conf`: which of the system's users may log in as whom.

use super::Flaw;
use super::line::{Word, lines, words};
use std::collections::HashMap;
use std::sync::Arc;

/// All maps of a file.
#[derive(Debug, Clone, Default)]
pub struct IdentMaps(HashMap<String, Arc<IdentMap>>);

/// One map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentMap {
    pairs: Vec<(String, Mapped)>,
}

/// Who the system's user may be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mapped {
    /// Anybody.
    All,
    Named(String),
}

impl IdentMaps {
    /// Reads the text of a file. Lines that cannot be used are told, and left out: without them fewer come in.
    #[must_use]
    pub fn parse(text: &str) -> (Self, Vec<Flaw>) {
        let (mut maps, mut flaws) = (HashMap::<String, IdentMap>::new(), Vec::new());
        for (line, text) in lines(text) {
            match pair(text) {
                Ok((map, system, mapped)) => maps.entry(map).or_default().pairs.push((system, mapped)),
                Err(what) => flaws.push(Flaw { line, what, is_grave: false }),
            }
        }
        (Self(maps.into_iter().map(|(name, map)| (name, Arc::new(map))).collect()), flaws)
    }

    pub(super) fn find(&self, name: &str) -> Option<&Arc<IdentMap>> {
        self.0.get(name)
    }
}

impl IdentMap {
    /// Whether the system's user may log in as `user`.
    #[must_use]
    pub fn allows(&self, system: &str, user: &str) -> bool {
        self.pairs.iter().any(|(from, to)| {
            from == system
                && match to {
                    Mapped::All => true,
                    Mapped::Named(name) => name == user,
                }
        })
    }
}

fn pair(line: &str) -> Result<(String, String, Mapped), String> {
    let (found, _) = words(line)?;
    let [map, system, user] = found.as_slice() else {
        return Err("a line has a map, a system user and a database user, and nothing else".to_owned());
    };
    if [map, system, user].iter().any(|word| **word == Word::Comma) {
        return Err("lists are not supported; write a line for each".to_owned());
    }
    for word in [system, user] {
        if let Word::Bare(text) = word
            && text.starts_with(['/', '+', '@'])
        {
            return Err(format!("{text}: regular expressions, groups and files are not supported"));
        }
    }
    let mapped = if user.is_bare("all") { Mapped::All } else { Mapped::Named(user.text().to_owned()) };
    Ok((map.text().to_owned(), system.text().to_owned(), mapped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_allow_what_they_name() {
        let text = "# a comment\nops root weir\nops root \"all\"\nany root all # who\nops \"do e\" jane\n";
        let (maps, flaws) = IdentMaps::parse(text);
        assert!(flaws.is_empty(), "{flaws:?}");
        let (ops, any) = (maps.find("ops").unwrap(), maps.find("any").unwrap());
        assert!(ops.allows("root", "weir") && ops.allows("do e", "jane") && ops.allows("root", "all"));
        assert!(!ops.allows("root", "jane") && !ops.allows("weir", "weir") && !ops.allows("Root", "weir"));
        assert!(any.allows("root", "whoever") && !any.allows("weir", "weir"));
        assert!(maps.find("none").is_none());
    }

    #[test]
    fn lines_that_cannot_be_used_are_told_and_left_out() {
        let text = "ops root\nops root weir more\nops /^r$ weir\nops root +staff\nops root @names\nops a,b c\nops x y";
        let (maps, flaws) = IdentMaps::parse(text);
        assert_eq!(flaws.iter().map(|flaw| flaw.line).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert!(maps.find("ops").unwrap().allows("x", "y"));
    }
}
