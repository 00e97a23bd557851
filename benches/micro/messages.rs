//! Walking a stream of messages, and passing it on.

use super::Case;
use bytes::BytesMut;
use pgweir::net::Pipe;
use pgweir::wire::{HEADER, MAX_MESSAGE, Piece, Scanner, put_message};
use std::hint::black_box;
use std::task::{Context, Poll, Waker};

pub(crate) const CASES: &[Case] = &[
    Case { name: "scan/answer-of-pgbench", few: 10_000, prepare: || scan(answer()) },
    Case { name: "scan/100-rows", few: 1000, prepare: || scan(rows(100)) },
    Case { name: "relay/query-of-pgbench", few: 10_000, prepare: || relay(query(), false) },
    Case { name: "relay/query-with-statement-in-front", few: 10_000, prepare: || relay(query(), true) },
    Case { name: "relay/100-rows", few: 1000, prepare: || relay(rows(100), false) },
];

fn message(out: &mut BytesMut, tag: u8, body: &[u8]) {
    put_message(out, tag, |out| out.extend_from_slice(body)).unwrap();
}

fn query() -> BytesMut {
    let mut out = BytesMut::new();
    message(&mut out, b'Q', b"SELECT abalance FROM pgbench_accounts WHERE aid = 54321;\0");
    out
}

/// RowDescription, a row, CommandComplete and ReadyForQuery.
fn answer() -> BytesMut {
    rows(1)
}

fn rows(count: usize) -> BytesMut {
    let mut out = BytesMut::new();
    message(&mut out, b'T', b"\0\x01abalance\0\0\0\x40\x01\0\x03\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0");
    for _ in 0..count {
        message(&mut out, b'D', b"\0\x01\0\0\0\x0454321");
    }
    message(&mut out, b'C', b"SELECT 1\0");
    message(&mut out, b'Z', b"I");
    out
}

fn scan(stream: BytesMut) -> Box<dyn FnMut() -> usize> {
    Box::new(move || {
        let (scanner, mut rest, mut found) = (Scanner::default(), black_box(&stream[..]), 0);
        while let Ok(Piece::Whole { tag, body }) = scanner.next(rest, MAX_MESSAGE) {
            found += usize::from(black_box(tag) == b'Z');
            rest = &rest[HEADER + body.len()..];
        }
        found
    })
}

/// Reads once, walks the messages, passes all of them, and writes once; perhaps with something put in front.
fn relay(stream: BytesMut, in_front: bool) -> Box<dyn FnMut() -> usize> {
    let mut pipe = Pipe::default();
    let mut out = Vec::with_capacity(64 * 1024);
    Box::new(move || {
        let mut cx = Context::from_waker(Waker::noop());
        let mut source = black_box(&stream[..]);
        out.clear();
        while !source.is_empty() {
            assert!(matches!(pipe.poll_fill(&mut cx, &mut source), Poll::Ready(Ok(1..))));
            if in_front {
                pipe.insert(|front| message(front, b'P', b"name\0SELECT 1\0\0\0"));
            }
            pass_whole_messages(&mut pipe);
            assert!(matches!(pipe.poll_drain(&mut cx, &mut out), Poll::Ready(Ok(()))));
        }
        out.len()
    })
}

fn pass_whole_messages(pipe: &mut Pipe) {
    while let Ok(Piece::Whole { body, .. }) = Scanner::default().next(pipe.fresh(), MAX_MESSAGE) {
        let size = HEADER + body.len();
        pipe.pass(size);
    }
}
