//! Whether two answer streams are the same to a client. Where pooling shows for good reason, that is an exception: a
//! function of its own, which says why.

use std::fmt::Write as _;

use crate::common::Message;
use crate::play::{End, Heard};

/// How many answers are shown of each side.
const SHOWN: usize = 6;

/// How far what is heard is what is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// So many of the expected answers have come.
    At(usize),
    /// Something else has come.
    Lost,
    /// The pooler has made a statement afresh, which PostgreSQL has not: from here on nothing can be expected.
    Free,
}

impl Way {
    /// Whether fewer than `wanted` have come.
    pub fn is_before(self, wanted: usize) -> bool {
        match self {
            Self::At(at) => at < wanted,
            Self::Lost => true,
            Self::Free => false,
        }
    }

    /// Where the next answer is that tells of an outdated plan. There is no answer in its place if the request is sent again
    /// and its client has not asked for one.
    pub fn before_outdated(self, expected: &[Message]) -> usize {
        let Self::At(at) = self else { return usize::MAX };
        let outdated = expected[at.min(expected.len())..].iter().position(is_outdated);
        let is_described = |at: usize| at > 0 && expected[at - 1].tag == b't';
        outdated.map_or(usize::MAX, |further| at + further - usize::from(is_described(at + further)))
    }

    /// With one more answer.
    pub fn next(self, heard: &Heard, message: &Message) -> Self {
        let Self::At(at) = self else { return self };
        let expected = &heard.answers[..];
        let Some(due) = expected.get(at) else { return Self::Lost };
        if alike(due, message) {
            return Self::At(at + 1);
        }
        if self.before_outdated(expected) <= at || (heard.defines && is_made_afresh(due, message)) {
            return Self::Free;
        }
        if let Some(at) = evaluated(expected, at, message) {
            return Self::At(at);
        }
        // The rest of the batch is skipped in both.
        let ready = expected[at..].iter().position(|message| message.tag == b'Z');
        let ready = ready.map_or(expected.len(), |ready| at + ready);
        let failed = expected.get(ready).is_none_or(|ready| ready.status() == 'E');
        if failed && cannot_be_made(message) { Self::At(ready) } else { Self::Lost }
    }
}

/// Whether two answers are the same to a client.
fn alike(postgresql: &Message, pgweir: &Message) -> bool {
    postgresql == pgweir || essence(postgresql) == essence(pgweir) || both_in_copy(postgresql, pgweir)
}

/// What a client may rely on. A statement that has to be made on another server first is refused in a failed
/// transaction by another function of PostgreSQL's than otherwise, in the same words.
fn essence(message: &Message) -> Message {
    let mut message = message.clone();
    if message.tag == b'E' && message.field('C') == "25P02" {
        let fields = message.body.split_inclusive(|byte| *byte == 0);
        message.body = fields.filter(|field| !matches!(field[0], b'L' | b'R')).flatten().copied().collect();
    }
    message
}

/// Exception: a statement that the server lacks cannot be made in a failed transaction. Whatever else may be wrong with
/// a message that needs it, or could be told of it in spite of that, is not found out.
fn cannot_be_made(pgweir: &Message) -> bool {
    pgweir.tag == b'E' && pgweir.field('C') == "25P02" && pgweir.field('R') == "exec_parse_message"
}

/// Exception: a statement is made afresh once its table was changed. Then its parameters have the types that the table has
/// now; and when the table is gone or lacks a column, that is found out sooner than what else is wrong.
fn is_made_afresh(postgresql: &Message, pgweir: &Message) -> bool {
    let code = |message: &Message| if message.tag == b'E' { message.field('C') } else { String::new() };
    let is_refused = matches!(code(pgweir).as_str(), "42P01" | "42703" | "42601" | "42804");
    let is_late = postgresql.tag == b't' || matches!(code(postgresql).as_str(), "08P01" | "22P02");
    let is_of_another_type = code(postgresql) == "22P02" && code(pgweir) == "22P02";
    // In a transaction block it cannot be made afresh unseen.
    let is_too_late = code(pgweir) == "0A000" && is_outdated(pgweir);
    is_of_another_type || is_too_late || (is_late && (is_refused || pgweir.tag == b't'))
}

/// Exception: PostgreSQL refuses a statement whose plan is outdated, as often as it is used. The pooler makes it afresh
/// where its client cannot know.
fn is_outdated(postgresql: &Message) -> bool {
    postgresql.tag == b'E' && postgresql.field('M') == "cached plan must not change result type"
}

/// Exception: PostgreSQL plans a statement for its parameters the first times, and finds out at Bind what cannot be
/// computed from these. A statement that many share has a plan for all parameters sooner, and it comes out at Execute; one
/// that was made afresh has none, and it comes out at Bind.
fn evaluated(expected: &[Message], at: usize, pgweir: &Message) -> Option<usize> {
    let is_between = |message: &Message| matches!(message.tag, b'2' | b'T' | b'n');
    let is_failure = |message: &Message| message.tag == b'E' && message.field('C').starts_with("22");
    if is_failure(&expected[at]) && is_between(pgweir) {
        return Some(at);
    }
    let failure = at + expected[at..].iter().position(|message| !is_between(message))?;
    (is_failure(pgweir) && alike(&expected[failure], pgweir)).then_some(failure + 1)
}

/// Exception: where a Parse, a Bind or a Describe is sent behind a COPY before that is known to be one, the COPY finds first what
/// was put in front of it, and names the type of that.
fn both_in_copy(postgresql: &Message, pgweir: &Message) -> bool {
    let found = |message: &Message| {
        let is_error = message.tag == b'E' && message.field('C') == "08P01";
        let text = if is_error { message.field('M') } else { String::new() };
        text.strip_prefix("unexpected message type ")
            .map(|text| text.split_once(" during COPY").map_or("", |(found, _)| found).to_owned())
    };
    let (direct, pooled) = (found(postgresql), found(pgweir));
    match pooled.as_deref() {
        Some("0x50") => matches!(direct.as_deref(), Some("0x42" | "0x44")),
        Some("0x43") => matches!(direct.as_deref(), Some("0x42" | "0x44" | "0x50")),
        _ => false,
    }
}

impl Heard {
    /// Whether the two could be one and the same server. A server that is cut off in the middle of what it says loses
    /// the end of it, more or less.
    pub fn matches(&self, pgweir: &Self) -> bool {
        let way = self.way(&pgweir.answers);
        let complete = match way {
            Way::Free => return true,
            Way::At(at) => {
                at == self.answers.len() || self.end == End::Cut || at >= way.before_outdated(&self.answers)
            }
            Way::Lost => self.end == End::Cut && self.equal_answers(pgweir) == self.answers.len(),
        };
        self.login == pgweir.login && self.end == pgweir.end && complete
    }

    /// Whether they were compared only up to a plan that was outdated for PostgreSQL.
    pub fn is_outdated_for(&self, pgweir: &Self) -> bool {
        self.way(&pgweir.answers) == Way::Free
    }

    /// Whether the two are the same without any exception.
    pub fn equals(&self, pgweir: &Self) -> bool {
        let (one, two) = (self.answers.len(), pgweir.answers.len());
        self.matches(pgweir)
            && (one == two || self.end == End::Cut)
            && self.answers.iter().zip(&pgweir.answers).all(|(one, two)| essence(one) == essence(two))
    }

    fn way(&self, answers: &[Message]) -> Way {
        answers.iter().fold(Way::At(0), |way, message| way.next(self, message))
    }

    fn equal_answers(&self, pgweir: &Self) -> usize {
        let mut way = Way::At(0);
        let on_the_way = pgweir.answers.iter().take_while(|message| {
            way = way.next(self, message);
            way != Way::Lost
        });
        on_the_way.count()
    }

    /// Shows where the two part.
    pub fn difference(&self, pgweir: &Self) -> String {
        let same = self.equal_answers(pgweir);
        let mut text = String::new();
        if self.login != pgweir.login {
            writeln!(text, " logins\n  {:?}\n  {:?}", self.login, pgweir.login).unwrap();
        }
        for (who, heard) in [("PostgreSQL", self), ("pgweir", pgweir)] {
            writeln!(text, " {who}, after {same} equal answers:").unwrap();
            for message in heard.answers.iter().skip(same).take(SHOWN) {
                writeln!(text, "  {message:?}").unwrap();
            }
            writeln!(text, "  {} in all, {:?}", heard.answers.len(), heard.end).unwrap();
        }
        text
    }
}
