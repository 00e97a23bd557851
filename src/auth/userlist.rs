//! The file of users and secrets, PgBouncer's `auth_file`.
//!
//! ```text
//! ; a comment
//! "alice" "md5cd3578025fe2c3d7ed1b9a9b26238b70"
//! "bob" "a ""quoted"" password" and whatever follows is ignored
//! ```

use std::collections::HashMap;

use thiserror::Error;
use zeroize::Zeroizing;

use super::mock::{Disguise, Mock};
use super::scram::Iterations;
use super::secret::{SecretError, StoredSecret};

/// Users and their secrets. Of two lines for one user the last counts.
#[derive(Debug, Clone, Default)]
pub struct UserList {
    secrets: HashMap<String, StoredSecret>,
}

/// A line that cannot be read. The whole file is refused: half a user list would lock out users, or let in those whose
/// newer line is the broken one. Neither name nor secret is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("line {line}: {flaw}")]
pub struct UserListError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Flaw {
    /// No double quote where the user name begins.
    #[error("user name must begin with a double quote")]
    UserUnquoted,
    /// The line ends inside the user name.
    #[error("user name does not end with a double quote")]
    UserUnfinished,
    /// `""`.
    #[error("user name is empty")]
    UserEmpty,
    /// Names are compared with those of startup packets, as text.
    #[error("user name is not UTF-8 or contains a zero byte")]
    UserNotText,
    /// No double quote where the secret begins.
    #[error("secret must follow the user name and begin with a double quote")]
    SecretUnquoted,
    /// The line ends inside the secret.
    #[error("secret does not end with a double quote")]
    SecretUnfinished,
    /// Not a password, md5 secret or SCRAM secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl UserList {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    ///
    /// On the first line that is neither blank, a comment nor a user with a secret.
    pub fn parse(text: &[u8]) -> Result<Self, UserListError> {
        let mut secrets = HashMap::new();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let entry = parse_line(line).map_err(|flaw| UserListError { line: index + 1, flaw })?;
            secrets.extend(entry);
        }
        Ok(Self { secrets })
    }

    /// The secret of a user; [`StoredSecret::Absent`] when the user is listed with an empty one.
    #[must_use]
    pub fn get(&self, user: &str) -> Option<&StoredSecret> {
        self.secrets.get(user)
    }

    /// The names of all users, in no order.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    /// Ghosts that look like most users of this list. `derived` is the count used for plain secrets; for the seed see
    /// [`Mock::new`].
    #[must_use]
    pub fn mock(&self, seed: &[u8], derived: Iterations) -> Mock {
        Mock::new(seed, self.usual_iterations(derived), self.usual_disguise())
    }

    fn usual_disguise(&self) -> Disguise {
        let scram = self.secrets.values().filter(|secret| matches!(secret, StoredSecret::Scram(_))).count();
        let others = self
            .secrets
            .values()
            .filter(|secret| matches!(secret, StoredSecret::Plain(_) | StoredSecret::Md5(_)));
        if scram >= others.count() { Disguise::Scram } else { Disguise::Md5 }
    }

    /// The count that most users are asked for; the larger one of two that are as frequent.
    fn usual_iterations(&self, derived: Iterations) -> Iterations {
        let mut frequencies: HashMap<Iterations, usize> = HashMap::new();
        for secret in self.secrets.values() {
            let iterations = match secret {
                StoredSecret::Scram(verifier) => verifier.iterations(),
                StoredSecret::Plain(_) => derived,
                StoredSecret::Md5(_) | StoredSecret::Absent => continue,
            };
            *frequencies.entry(iterations).or_default() += 1;
        }
        let usual = frequencies.into_iter().max_by_key(|&(iterations, users)| (users, iterations));
        usual.map_or(derived, |(iterations, _)| iterations)
    }
}

fn parse_line(line: &[u8]) -> Result<Option<(String, StoredSecret)>, Flaw> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b";") {
        return Ok(None);
    }
    let (user, rest) = match field(line) {
        Field::Quoted(user, rest) => (parse_user(&user)?, rest),
        Field::Unquoted => return Err(Flaw::UserUnquoted),
        Field::Unfinished => return Err(Flaw::UserUnfinished),
    };
    match field(rest.trim_ascii_start()) {
        Field::Quoted(secret, _) => Ok(Some((user, StoredSecret::parse(&secret)?))),
        Field::Unquoted => Err(Flaw::SecretUnquoted),
        Field::Unfinished => Err(Flaw::SecretUnfinished),
    }
}

fn parse_user(bytes: &[u8]) -> Result<String, Flaw> {
    match std::str::from_utf8(bytes) {
        Ok("") => Err(Flaw::UserEmpty),
        Ok(user) if !user.contains('\0') => Ok(user.to_owned()),
        _ => Err(Flaw::UserNotText),
    }
}

enum Field<'a> {
    /// What is between the quotes, and what follows them.
    Quoted(Zeroizing<Vec<u8>>, &'a [u8]),
    Unquoted,
    Unfinished,
}

/// Reads one field; two double quotes in it stand for one.
fn field(text: &[u8]) -> Field<'_> {
    let Some(mut rest) = text.strip_prefix(b"\"") else { return Field::Unquoted };
    let mut content = Zeroizing::new(Vec::with_capacity(rest.len()));
    loop {
        match rest {
            [b'"', b'"', after @ ..] => {
                content.push(b'"');
                rest = after;
            }
            [b'"', after @ ..] => return Field::Quoted(content, after),
            [byte, after @ ..] => {
                content.push(*byte);
                rest = after;
            }
            [] => return Field::Unfinished,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scram::Malformed;

    const SCRAM: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn plain<'a>(list: &'a UserList, user: &str) -> &'a [u8] {
        match list.get(user) {
            Some(StoredSecret::Plain(password)) => password.as_bytes(),
            other => panic!("{other:?}"),
        }
    }

    fn flaw(text: &[u8]) -> (usize, Flaw) {
        let error = UserList::parse(text).unwrap_err();
        (error.line, error.flaw)
    }

    #[test]
    fn lines_as_in_pgbouncer() {
        let text = format!(
            "; comment \"x\" \"y\"\n\n  \"alice\"\t\"secret\" 12 more\r\n\"b\"\"ob\" \"a \"\"b\"\"\"\n\"carol\" \"{SCRAM}\"\n\
             \"dora\" \"md5cd3578025fe2c3d7ed1b9a9b26238b70\"\r\n\"eve\" \"\"\n   ; another"
        );
        let list = UserList::parse(text.as_bytes()).unwrap();
        assert_eq!(plain(&list, "alice"), b"secret");
        assert_eq!(plain(&list, "b\"ob"), b"a \"b\"");
        assert!(matches!(list.get("carol"), Some(StoredSecret::Scram(_))));
        assert!(matches!(list.get("dora"), Some(StoredSecret::Md5(_))));
        assert!(matches!(list.get("eve"), Some(StoredSecret::Absent)));
        assert!(list.get("Alice").is_none());
        assert_eq!(list.users().count(), 5);
    }

    #[test]
    fn the_last_line_of_a_user_counts() {
        let list = UserList::parse(b"\"a\" \"old\"\n\"b\" \"x\"\n\"a\" \"new\"\n").unwrap();
        assert_eq!(plain(&list, "a"), b"new");
    }

    #[test]
    fn one_bad_line_refuses_the_file() {
        let good = b"\"a\" \"secret\"\n".as_slice();
        for (line, expected) in [
            (b"alice \"x\"".as_slice(), Flaw::UserUnquoted),
            (b"\"alice", Flaw::UserUnfinished),
            (b"\"alice\"\"", Flaw::UserUnfinished),
            (b"\"\" \"x\"", Flaw::UserEmpty),
            (b"\"a\xff\" \"x\"", Flaw::UserNotText),
            (b"\"a\0\" \"x\"", Flaw::UserNotText),
            (b"\"alice\"", Flaw::SecretUnquoted),
            (b"\"alice\" x", Flaw::SecretUnquoted),
            (b"\"alice\" ; \"x\"", Flaw::SecretUnquoted),
            (b"\"alice\" \"x", Flaw::SecretUnfinished),
            (b"\"alice\" \"x\0\"", Flaw::Secret(SecretError::ZeroByte)),
            (
                b"\"alice\" \"SCRAM-SHA-256$0:QQ==$QQ==:QQ==\"",
                SecretError::Scram(Malformed::Iterations).into(),
            ),
        ] {
            assert_eq!(flaw(&[good, b"\n", line, b"\n", good].concat()), (3, expected));
        }
    }

    #[test]
    fn errors_name_the_line_and_no_secret() {
        let error = UserList::parse(b"\"alice\" \"hunter2").unwrap_err();
        assert_eq!(error.to_string(), "line 1: secret does not end with a double quote");
        let error = UserList::parse(b"\n\"alice\" \"SCRAM-SHA-256$hunter2\"").unwrap_err();
        assert!(error.to_string().starts_with("line 2: ") && !error.to_string().contains("hunter2"));
        let list = UserList::parse(b"\"alice\" \"hunter2\"").unwrap();
        assert!(!format!("{list:?}").contains("hunter2"));
    }

    #[test]
    fn ghosts_look_like_most_users() {
        let count = |count| Iterations::new(count).unwrap();
        let list =
            UserList::parse(format!("\"a\" \"{SCRAM}\"\n\"b\" \"{SCRAM}\"\n\"c\" \"x\"").as_bytes()).unwrap();
        assert_eq!((list.usual_disguise(), list.usual_iterations(count(9))), (Disguise::Scram, count(4096)));
        let list = UserList::parse(b"\"a\" \"x\"\n\"b\" \"\"").unwrap();
        assert_eq!((list.usual_disguise(), list.usual_iterations(count(9))), (Disguise::Md5, count(9)));
        let list = UserList::default();
        assert_eq!((list.usual_disguise(), list.usual_iterations(count(9))), (Disguise::Scram, count(9)));
    }
}
