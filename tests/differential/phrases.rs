//! What programs are put together from, beside simple queries and batches.

use super::Author;
use crate::program::{self, Step};
use crate::sql;

impl Author {
    /// The same unnamed statement again and again, as drivers that remember nothing send it.
    pub(super) fn repeat(&mut self) {
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
    pub(super) fn reparse(&mut self) {
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
    pub(super) fn unnamed_across(&mut self) {
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
    pub(super) fn drop_names(&mut self) {
        let sql = self.dice.pick(sql::DROPS);
        if !self.has_names() || self.dice.percent(60) {
            if sql.contains("q1") {
                self.send(program::sync());
            }
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
    pub(super) fn cursor(&mut self) {
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
    pub(super) fn define(&mut self) {
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
    pub(super) fn mix(&mut self) {
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

    pub(super) fn copy(&mut self) {
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

    /// int4pl, int4div, and a function that there is not.
    pub(super) fn function(&mut self) {
        let (oid, arguments): (u32, &[&str]) =
            self.dice.pick(&[(177, &["1", "2"][..]), (154, &["1", "0"]), (177, &["1"]), (1, &[])]);
        self.send(program::function_call(oid, arguments));
    }

    /// A transaction with something in it.
    pub(super) fn transaction(&mut self) {
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
    pub(super) fn stray(&mut self) {
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
    pub(super) fn odd(&mut self) {
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
