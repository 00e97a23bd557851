//! Programs at random: the same seed gives the same program.

use crate::dice::Dice;
use crate::program::{self, Program, Sent, Step};
use crate::sql;

mod phrases;

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
            self.send(program::sync());
            self.send(program::query("PREPARE q1 AS SELECT 'prepared'"));
        }
        if sql.contains("q1") {
            // In an open batch what SQL has made is not made again on another server.
            self.send(program::sync());
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
        let is_sql = sql.contains("EXECUTE") && self.kind != Kind::Mixed;
        let depends = sql::CONTEXTUAL.iter().any(|(known, _)| *known == sql);
        let (sql, parameters) = if drops || is_sql || (depends && self.kind != Kind::Contextual) {
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

    fn pause(&mut self) {
        match self.dice.below(10) {
            0 => self.steps.push(Step::Wait),
            1 => self.steps.push(Step::Cut),
            _ => {}
        }
    }
}
