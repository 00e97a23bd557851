//! Connections for replication.

/// What a replication connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// A stream of WAL (`replication=true`).
    Physical,
    /// Changes of one database, beside plain SQL (`replication=database`).
    Logical,
}

impl Replication {
    /// Reads the startup parameter as PostgreSQL does: `database`, or any spelling of a boolean; `None` is no
    /// replication.
    ///
    /// # Errors
    ///
    /// The value itself, when it is neither.
    pub fn parse(value: &str) -> Result<Option<Self>, &str> {
        if value == "database" {
            return Ok(Some(Self::Logical));
        }
        let folded = value.to_ascii_lowercase();
        let begins = |word: &str, least: usize| folded.len() >= least && word.starts_with(&folded);
        if folded == "1" || begins("true", 1) || begins("yes", 1) || begins("on", 2) {
            Ok(Some(Self::Physical))
        } else if folded == "0" || begins("false", 1) || begins("no", 1) || begins("off", 2) {
            Ok(None)
        } else {
            Err(value)
        }
    }

    /// The startup parameter that asks a server for it.
    #[must_use]
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Physical => "true",
            Self::Logical => "database",
        }
    }

    /// The word that the console shows, also for connections that are not for replication.
    #[must_use]
    pub fn shown(replication: Option<Self>) -> &'static str {
        match replication {
            None => "none",
            Some(Self::Physical) => "physical",
            Some(Self::Logical) => "logical",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_is_read_as_postgresql_reads_it() {
        for yes in ["true", "TRUE", "t", "1", "on", "yes", "y"] {
            assert_eq!(Replication::parse(yes), Ok(Some(Replication::Physical)), "{yes}");
        }
        for no in ["false", "f", "0", "off", "of", "no", "N"] {
            assert_eq!(Replication::parse(no), Ok(None), "{no}");
        }
        assert_eq!(Replication::parse("database"), Ok(Some(Replication::Logical)));
        for bad in ["", "o", "DATABASE", "2", "truer", "junk"] {
            assert_eq!(Replication::parse(bad), Err(bad));
        }
    }
}
