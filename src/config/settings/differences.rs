//! Settings that are honoured and yet do not do in all respects what PgBouncer 1.26 does with them: `check` tells those
//! that a file meets. What a setting's status says (not yet honoured, ignored) is told without being listed here.

/// One way in which a setting does something else.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct Difference {
    /// The setting.
    pub(in crate::config) key: &'static str,
    /// The values that meet it.
    pub(in crate::config) when: When,
    /// What is different.
    pub(in crate::config) text: &'static str,
}

/// Values, as `SHOW CONFIG` has them.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) enum When {
    /// One of these.
    Is(&'static [&'static str]),
    /// None of these.
    IsNot(&'static [&'static str]),
}

impl When {
    /// Whether a value is meant.
    pub(in crate::config) fn holds(self, value: &str) -> bool {
        match self {
            Self::Is(values) => values.contains(&value),
            Self::IsNot(values) => !values.contains(&value),
        }
    }
}

const fn difference(key: &'static str, when: When, text: &'static str) -> Difference {
    Difference { key, when, text }
}

/// In the order of the keys.
#[rustfmt::skip]
pub(in crate::config) const DIFFERENCES: &[Difference] = &[
    difference("max_client_prepared_bytes", When::IsNot(&["0"]), "a client's named statements are limited, which PgBouncer's are not; 0 takes the limit away"),
    difference("max_client_prepared_statements", When::IsNot(&["0"]), "a client's named statements are limited, which PgBouncer's are not; 0 takes the limit away"),
    difference("max_prepared_bytes", When::IsNot(&["0"]), "the memory of all named statements is limited, which PgBouncer's is not; 0 takes the limit away"),
    difference("max_prepared_statements", When::IsNot(&["0"]), "in transaction mode PREPARE, EXECUTE and DEALLOCATE in SQL text are followed as well, which PgBouncer does not do"),
    difference("pool_mode", When::Is(&["transaction", "statement"]), "a client stays with its server while that holds something which only that server knows, such as statements that are not followed"),
    difference("server_round_robin", When::Is(&["0"]), "the server used last is that of the client's own thread where there is one"),
    difference("share_unnamed_statements", When::Is(&["1"]), "an unnamed statement that comes again and again is prepared once for all clients; 0 leaves them as they are"),
    difference("verbose", When::IsNot(&["0"]), "1 logs what helps to find a mistake, 2 and 3 all there is; the lines are others"),
    difference("workers", When::IsNot(&["1"]), "there are several threads, PgBouncer has one; limits hold over all of them"),
];
