//! Programs at random: the same seed gives the same program.

use crate::dice::Dice;
use crate::program::{self, Program, Sent, Step};
use crate::sql;

/// What programs may be made of, beside what all are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The unnamed statement only.
    Unnamed,
    /// Named statements too, by Parse, and others by PREPARE.
    Named,
    /// Named statements, and changes of a table that they read.
    Defining,
    /// Names that are given both by Parse and by PREPARE.
    Mixed,
    /// Named statements whose meaning depends on settings.
    Contextual,
}

struct Author {
    dice: Dice,
    kind: Kind,
    steps: Vec<Step>,
    /// Statements of which a Parse was sent, with their parameters.
    parsed: Vec<(&'static str, usize)>,
    /// The statements that this program likes best.
    hot: [(&'static str, usize); 2],
}

/// Writes the program of this seed.
pub fn program(seed: u64, kind: Kind) -> Program {
    let mut dice = Dice::new(seed);
    let startup = startup(&mut dice);
    let hot = [dice.pick(sql::HOT), dice.pick(sql::HOT)];
    let mut author = Author { dice, kind, steps: Vec::new(), parsed: Vec::new(), hot };
    let phrases = 2 + author.dice.below(14);
    let hurry = author.dice.pick(&[5, 30, 60]);
    for _ in 0..phrases {
        author.phrase();
        if author.dice.percent(hurry) {
            author.steps.push(Step::Wait);
        } else if author.dice.percent(15) {
            author.steps.push(Step::Cut);
        }
    }
    if !startup.is_empty() {
        // What is reset behind a pooler becomes what the server has, not what the client had asked for at startup.
        author.steps.retain(|step| !matches!(step, Step::Send(sent) if resets(&sent.label)));
    }
    if kind == Kind::Contextual {
        // Made afresh behind such a change, a text means what it means now.
        author.steps.retain(|step| !matches!(step, Step::Send(sent) if steers(&sent.label)));
        let first = [author.dice.pick(sql::STEERING), author.dice.pick(sql::STEERING)];
        author
            .steps
            .splice(0..0, first.map(|sql| Step::Send(program::query(sql))).into_iter().chain([Step::Wait]));
    }
    Program { startup, steps: author.steps }
}

/// Whether a message may change what texts mean.
fn steers(label: &str) -> bool {
    let settings =
        ["TimeZone TO", "DateStyle TO", "IntervalStyle TO", "client_encoding", "standard_conforming"];
    settings.iter().chain(&["RESET", "DISCARD ALL"]).any(|word| label.contains(word))
}

fn resets(label: &str) -> bool {
    ["RESET", "DISCARD ALL", "set_config('application_name', $1"].iter().any(|word| label.contains(word))
}

fn startup(dice: &mut Dice) -> Vec<(String, String)> {
    let choices = [
        ("application_name", "started"),
        ("TimeZone", "asia/tokyo"),
        ("DateStyle", "german"),
        ("options", "-c IntervalStyle=iso_8601 --application-name=opted"),
    ];
    // Most programs have none, since these leave out all that resets settings.
    let count = if dice.percent(80) { 0 } else { 1 + dice.below(2) };
    let mut chosen = Vec::new();
    for _ in 0..count {
        let (name, value) = dice.pick(&choices);
        if chosen.iter().all(|(known, _)| known != name) {
            chosen.push((name.to_owned(), value.to_owned()));
        }
    }
    chosen
}

impl Author {
    fn send(&mut self, sent: Sent) {
        self.steps.push(Step::Send(sent));
    }

    fn phrase(&mut self) {
        match self.dice.below(100) {
            0..15 => self.simple(),
            15..41 => self.batch(),
            41..49 => self.repeat(),
            49..55 => self.reparse(),
            55..59 => self.unnamed_across(),
            59..63 => self.drop_names(),
            63..67 => self.cursor(),
            67..76 => self.copy(),
            76..79 => self.function(),
            79..88 => self.transaction(),
            88..97 => self.stray(),
            _ => self.odd(),
        }
        match self.kind {
            Kind::Defining if self.dice.percent(40) => self.define(),
            Kind::Mixed if self.dice.percent(40) => self.mix(),
            _ => {}
        }
    }

    fn has_names(&self) -> bool {
        self.kind != Kind::Unnamed
    }

    fn sql(&mut self) -> &'static str {
        match self.dice.below(10) {
            0..5 => self.dice.pick(sql::PLAIN),
            5..8 => self.dice.pick(sql::TRANSACTION),
            _ => self.dice.pick(sql::SETTINGS),
        }
    }

    fn simple(&mut self) {
        let sql = if self.dice.percent(30) { self.dice.pick(sql::LISTS) } else { self.sql() };
        let sql = if !self.has_names() && sql.contains("PREPARE") { "SELECT 1" } else { sql };
        if self.has_names() && self.dice.percent(5) {
            self.send(program::query("PREPARE q1 AS SELECT 'prepared'"));
        }
        self.send(program::query(sql));
    }

    fn statement(&mut self) -> &'static str {
        if !self.has_names() {
            ""
        } else {
            self.dice.pick(&["", "", "s1", "s1", "s2", "s2", "a longer name", "pgweir_1"])
        }
    }

    fn portal(&mut self) -> &'static str {
        self.dice.pick(&["", "", "", "p1", "p2"])
    }

    fn parse(&mut self, name: &'static str) {
        let (sql, parameters) = match self.dice.below(100) {
            0..15 if self.kind == Kind::Contextual => self.dice.pick(sql::CONTEXTUAL),
            0..40 => self.dice.pick(&self.hot.clone()),
            40..70 => self.dice.pick(sql::WITH_PARAMETERS),
            70..80 if self.kind == Kind::Defining => self.dice.pick(sql::OF_CHANGING),
            70..95 => (self.sql(), 0),
            _ => (self.dice.pick(sql::LISTS), 0),
        };
        // What an Execute drops is known by its answer only: names used behind it in one go may still be found.
        let drops = self.has_names() && sql.contains(" ALL");
        let depends = sql::CONTEXTUAL.iter().any(|(known, _)| *known == sql);
        let (sql, parameters) = if drops || (depends && self.kind != Kind::Contextual) {
            ("SELECT 'kept'", 0)
        } else {
            (sql, parameters)
        };
        self.parse_as(name, sql, parameters);
    }

    fn parse_as(&mut self, name: &'static str, sql: &str, parameters: usize) {
        self.parsed.retain(|(known, _)| *known != name);
        self.parsed.push((name, parameters));
        let types = if parameters > 0 && self.dice.percent(30) { self.dice.pick(sql::TYPES) } else { &[] };
        if self.dice.percent(3) {
            // Longer than a block of any pooler.
            let padded = format!("{sql} /* {} */", "padding ".repeat(2500));
            return self.send(program::parse(name, &padded, types));
        }
        self.send(program::parse(name, sql, types));
    }

    /// Makes a statement, or relies on one that is there.
    fn prepare(&mut self, name: &'static str) {
        let known = self.parsed.iter().any(|(parsed, _)| *parsed == name);
        let chance = match (known, name) {
            (_, "") => 75,
            (true, _) => 45,
            (false, _) => 92,
        };
        if !self.dice.percent(chance) {
            return;
        }
        if known && !name.is_empty() && self.dice.percent(60) {
            self.send(program::close('S', name));
        }
        self.parse(name);
    }

    fn bind(&mut self, portal: &str, statement: &str) {
        let known = self.parsed.iter().find(|(name, _)| *name == statement).map_or(0, |(_, count)| *count);
        let count = if self.dice.percent(95) { known } else { self.dice.below(3) };
        let large = "large ".repeat(4000);
        let values: Vec<Option<&str>> = (0..count)
            .map(|_| {
                let values = [Some("1"), Some("2"), Some("7"), Some("0"), Some("x"), None];
                if self.dice.percent(3) { Some(large.as_str()) } else { self.dice.pick(&values) }
            })
            .collect();
        self.send(program::bind(portal, statement, &values));
    }

    /// One to four statements of the extended protocol, as most drivers send them and as few do.
    fn batch(&mut self) {
        for _ in 0..1 + self.dice.below(3) {
            let (statement, portal) = (self.statement(), self.portal());
            self.prepare(statement);
            if self.dice.percent(25) {
                self.send(program::describe('S', statement));
            }
            if self.dice.percent(10) {
                self.send(program::flush());
                if self.dice.percent(50) {
                    self.steps.push(Step::Wait);
                }
            }
            if self.dice.percent(90) {
                self.bind(portal, statement);
            }
            if self.dice.percent(40) {
                self.send(program::describe('P', portal));
            }
            if self.dice.percent(90) {
                let rows = self.dice.pick(&[0, 0, 0, 1, 3]);
                self.send(program::execute(portal, rows));
                if rows > 0 && self.dice.percent(50) {
                    self.send(program::execute(portal, 0));
                }
            }
            self.ending(statement, portal);
        }
        if self.dice.percent(85) {
            self.send(program::sync());
        }
    }

    /// Binds and executes.
    fn run(&mut self, statement: &'static str) {
        let portal = self.portal();
        self.bind(portal, statement);
        self.send(program::execute(portal, 0));
    }

    /// The same unnamed statement again and again, as drivers that remember nothing send it.
    fn repeat(&mut self) {
        let (sql, parameters) = self.dice.pick(&self.hot.clone());
        let types = if parameters == 1 { self.dice.pick(&[&[][..], &[], &[0], &[25]]) } else { &[] };
        let (describes, in_one_batch, waits) =
            (self.dice.pick(&['-', 'S', 'P']), self.dice.percent(30), self.dice.percent(30));
        for _ in 0..2 + self.dice.below(5) {
            self.parsed.retain(|(known, _)| !known.is_empty());
            self.parsed.push(("", parameters));
            self.send(program::parse("", sql, types));
            if describes == 'S' {
                self.send(program::describe('S', ""));
            }
            self.bind("", "");
            if describes == 'P' {
                self.send(program::describe('P', ""));
            }
            self.send(program::execute("", 0));
            if !in_one_batch {
                self.send(program::sync());
            }
            if waits && !in_one_batch {
                self.steps.push(Step::Wait);
            } else if self.dice.percent(5) {
                self.simple();
            }
        }
        if in_one_batch {
            self.send(program::sync());
        }
    }

    /// A name that is given, taken back and given again, all in one go.
    fn reparse(&mut self) {
        let name = self.statement();
        for _ in 0..2 + self.dice.below(3) {
            if self.dice.percent(85) {
                self.send(program::close('S', name));
            }
            self.parse(name);
            if self.dice.percent(80) {
                self.run(name);
            }
            self.pause();
            if self.dice.percent(30) {
                self.send(program::sync());
            }
        }
        self.send(program::sync());
    }

    /// An unnamed statement that is used in a later batch, or not there any longer.
    fn unnamed_across(&mut self) {
        self.parse("");
        self.send(program::sync());
        self.pause();
        match self.dice.below(8) {
            0 => self.send(program::query("SELECT 'in between'")),
            1 => self.send(program::parse("", "SELEC", &[])),
            2 => self.send(program::close('S', "")),
            3 => self.batch(),
            4 => self.function(),
            _ => {}
        }
        if self.dice.percent(50) {
            self.send(program::sync());
            self.pause();
        }
        for _ in 0..1 + self.dice.below(3) {
            self.run("");
            if self.dice.percent(60) {
                self.send(program::sync());
                self.pause();
            }
        }
        self.send(program::sync());
    }

    /// Names that SQL takes away.
    fn drop_names(&mut self) {
        let sql = self.dice.pick(sql::DROPS);
        if !self.has_names() || self.dice.percent(60) {
            return self.send(program::query(sql));
        }
        // What an Execute drops is known by its answer only, and a single name is looked for in simple queries only.
        let sql = if sql.contains(" ALL") && !sql.contains(';') { sql } else { "DISCARD PLANS" };
        self.send(program::sync());
        self.parse_as("", sql, 0);
        self.run("");
        self.send(program::sync());
        self.steps.push(Step::Wait);
    }

    /// A portal that is read bit by bit.
    fn cursor(&mut self) {
        let (statement, portal) = (self.statement(), self.portal());
        let in_block = self.dice.percent(75);
        if in_block {
            self.send(program::query("BEGIN"));
        }
        if self.dice.percent(70) {
            self.send(program::close('S', statement));
            let sql = self.dice.pick(&["SELECT a, b FROM t ORDER BY a", "SELECT generate_series(1, 7)"]);
            self.parse_as(statement, sql, 0);
        }
        self.bind(portal, statement);
        for _ in 0..1 + self.dice.below(4) {
            let rows = self.dice.pick(&[0, 1, 2, 3]);
            self.send(program::execute(portal, rows));
            match self.dice.below(8) {
                0 => self.send(program::sync()),
                1 => self.send(program::flush()),
                2 => self.send(program::describe('P', portal)),
                3 => self.send(program::close('S', statement)),
                4 => {
                    self.send(program::sync());
                    self.steps.push(Step::Wait);
                }
                _ => {}
            }
        }
        self.send(program::sync());
        if in_block && self.dice.percent(90) {
            let end = self.dice.pick(&["COMMIT", "ROLLBACK"]);
            self.send(program::query(end));
        }
    }

    /// A transaction that changes a table which statements read, and mostly does not last.
    fn define(&mut self) {
        self.send(program::query("BEGIN"));
        for _ in 0..2 + self.dice.below(4) {
            match self.dice.below(6) {
                0..2 => {
                    let sql = self.dice.pick(sql::DEFINITIONS);
                    self.send(program::query(sql));
                }
                2 => {
                    let sql = self.dice.pick(&["SAVEPOINT s", "ROLLBACK TO s"]);
                    self.send(program::query(sql));
                }
                _ => {
                    let name = self.statement();
                    if self.dice.percent(60) {
                        let (sql, parameters) = self.dice.pick(sql::OF_CHANGING);
                        self.send(program::close('S', name));
                        self.parse_as(name, sql, parameters);
                    }
                    self.run(name);
                    self.send(program::sync());
                }
            }
            self.pause();
        }
        let end = if self.dice.percent(90) { "ROLLBACK" } else { "COMMIT" };
        self.send(program::sync());
        self.send(program::query(end));
    }

    /// Names that SQL and the protocol give both.
    fn mix(&mut self) {
        for _ in 0..1 + self.dice.below(3) {
            let sql = self.dice.pick(sql::MIXED);
            if self.dice.percent(60) {
                self.send(program::query(sql));
            } else {
                self.parse_as("", sql, 0);
                self.run("");
                self.send(program::sync());
            }
            self.pause();
        }
    }

    fn ending(&mut self, statement: &str, portal: &str) {
        if self.dice.percent(12) {
            self.send(program::close('P', portal));
        }
        if self.dice.percent(12) {
            self.send(program::close('S', statement));
        }
        if self.dice.percent(25) {
            self.send(program::sync());
        }
        if self.dice.percent(8) {
            self.steps.push(Step::Cut);
        }
    }

    fn copy(&mut self) {
        let sql = self.dice.pick(sql::COPIES);
        let simple = self.dice.percent(50);
        if simple {
            self.send(program::query(sql));
        } else {
            self.send(program::parse("", sql, &[]));
            self.parsed.retain(|(name, _)| !name.is_empty());
            self.send(program::bind("", "", &[]));
            self.send(program::execute("", 0));
            if self.dice.percent(30) {
                self.send(program::sync());
            }
        }
        // A Sync among data that are bad may be ignored or not; nobody can tell from outside.
        let clean = self.dice.percent(50);
        for _ in 0..self.dice.below(4) {
            self.pause();
            let good = clean || self.dice.percent(75);
            let rows = if good { "1\n2\n" } else { "3\nnot a number\n" };
            self.send(program::copy_data(rows));
            if clean && sql != sql::COPIES[2] && self.dice.percent(16) {
                let ignored = if self.dice.percent(50) { program::sync() } else { program::flush() };
                self.send(ignored);
            }
        }
        self.pause();
        let end = if self.dice.percent(80) { program::copy_done() } else { program::copy_fail() };
        self.send(end);
        if !simple {
            self.pause();
            self.send(program::sync());
        }
    }

    fn pause(&mut self) {
        match self.dice.below(10) {
            0 => self.steps.push(Step::Wait),
            1 => self.steps.push(Step::Cut),
            _ => {}
        }
    }

    /// int4pl, int4div, and a function that there is not.
    fn function(&mut self) {
        let (oid, arguments): (u32, &[&str]) =
            self.dice.pick(&[(177, &["1", "2"][..]), (154, &["1", "0"]), (177, &["1"]), (1, &[])]);
        self.send(program::function_call(oid, arguments));
    }

    /// A transaction with something in it.
    fn transaction(&mut self) {
        self.send(program::query("BEGIN"));
        for _ in 0..1 + self.dice.below(3) {
            self.pause();
            match self.dice.below(10) {
                0..4 => self.simple(),
                4..8 => self.batch(),
                _ => self.savepoint(),
            }
        }
        if self.dice.percent(85) {
            self.send(program::sync());
            self.pause();
            let end = self.dice.pick(&["COMMIT", "ROLLBACK"]);
            self.send(program::query(end));
        }
    }

    /// Something that may fail and is undone alone.
    fn savepoint(&mut self) {
        self.send(program::query("SAVEPOINT s"));
        if self.dice.percent(50) {
            self.simple()
        } else {
            self.batch()
        }
        self.send(program::sync());
        self.pause();
        let end = self.dice.pick(&["ROLLBACK TO s", "ROLLBACK TO s", "RELEASE s"]);
        self.send(program::query(end));
    }

    /// A single message out of any order.
    fn stray(&mut self) {
        let statement = self.statement();
        let portal = self.portal();
        let sent = match self.dice.below(12) {
            0..3 => program::sync(),
            3 => program::flush(),
            4 => program::copy_data("9\n"),
            5 => program::copy_done(),
            6 => program::copy_fail(),
            7 => program::execute("nope", 0),
            8 => program::describe('S', "nope"),
            9 => program::close('S', "nope"),
            10 => program::describe('S', statement),
            _ => program::execute(portal, 2),
        };
        self.send(sent);
        if self.dice.percent(20) {
            self.bind(portal, statement);
        }
    }

    /// Messages that PostgreSQL refuses and survives. Not among them are a Query and a Parse that are cut short: they
    /// leave an unnamed statement in place, and the pooler takes them for what they were meant to be.
    fn odd(&mut self) {
        let (tag, body): (u8, &[u8]) = self.dice.pick(&[
            (b'P', &b"no end"[..]),
            (b'P', b"name\0SELECT 1\0\0\x09"),
            (b'B', b"\0\0\0"),
            (b'B', b"\0\0\0\0\xff\xff\0\0"),
            (b'D', b"Xname\0"),
            (b'D', b""),
            (b'C', b"Y\0"),
            (b'E', b"\0"),
        ]);
        self.send(program::odd(tag, body));
    }
}
