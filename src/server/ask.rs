//! A question of pgweir's own with a parameter, and the rows that answer it.

use super::clean::{QueryError, Unclean};
use super::{Origin, Request, Server, ServerFault};
use crate::wire::{Fields, HEADER, MAX_MESSAGE, Piece, Report, Scanner, Severity, frontend};
use bytes::{Bytes, BytesMut};
use std::future::poll_fn;
use std::task::Poll;
use tokio::io::AsyncWriteExt;

/// The most bytes that an answer may have.
const ANSWER: usize = 1 << 20;

/// The rows of an answer, as text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// How many columns there are; `None` when the query gives no rows at all.
    pub columns: Option<usize>,
    /// The values of each row; `None` is NULL.
    pub rows: Vec<Vec<Option<Bytes>>>,
}

impl Server {
    /// Runs a query with one parameter, `$1`, whose type the server infers. The parameter never becomes a part of the text.
    ///
    /// Not cancel safe: a server whose answer was not awaited must be dropped.
    ///
    /// # Errors
    ///
    /// [`QueryError::Refused`] leaves the connection usable.
    pub async fn ask(&mut self, sql: &str, parameter: &str) -> Result<Rows, QueryError> {
        let mut out = BytesMut::new();
        frontend::put_question(&mut out, sql, parameter).map_err(Unclean::from)?;
        // The answers come as a client's do: they are what is asked for.
        let parse = Request::ParseUnnamed(Some(Bytes::new()));
        for request in [parse, Request::Bind, Request::Describe, Request::Execute, Request::Sync] {
            self.state.sent(Origin::Client, request);
        }
        self.stream.write_all(&out).await.map_err(Unclean::from)?;
        let mut answer = Vec::new();
        while !self.state.pending.is_settled() {
            poll_fn(|cx| self.poll_hear(cx, &mut |_, _| {})).await.map_err(Unclean::from)?;
            self.take_output(&mut answer).await?;
            if answer.len() > ANSWER {
                return Err(Unclean::TooMuch.into());
            }
        }
        read(&answer)
    }

    /// Takes what a client would get.
    async fn take_output(&mut self, answer: &mut Vec<u8>) -> Result<(), Unclean> {
        poll_fn(|cx| match self.poll_deliver(cx, answer) {
            // A vector takes whatever it is given.
            Poll::Pending => Poll::Ready(Ok(())),
            done => done,
        })
        .await?;
        Ok(())
    }
}

/// The rows of an answer, or the error in it.
fn read(mut answer: &[u8]) -> Result<Rows, QueryError> {
    let (scanner, mut rows) = (Scanner::default(), Rows::default());
    let malformed = || Unclean::Fault(ServerFault::Closed);
    loop {
        match scanner.next(answer, MAX_MESSAGE).map_err(|error| Unclean::Fault(error.into()))? {
            Piece::Whole { tag, body } => {
                match tag {
                    b'E' => return Err(QueryError::Refused(refusal(body))),
                    b'T' => rows.columns = Some(count(body).ok_or_else(malformed)?),
                    b'D' => rows.rows.push(values(body).ok_or_else(malformed)?),
                    _ => {}
                }
                answer = &answer[HEADER + body.len()..];
            }
            Piece::Nothing => return Ok(rows),
            Piece::Head { .. } | Piece::Rest(_) => return Err(malformed().into()),
        }
    }
}

fn refusal(body: &[u8]) -> Report {
    Fields(body).to_report(Severity::Error)
}

fn count(body: &[u8]) -> Option<usize> {
    body.first_chunk::<2>().map(|count| usize::from(u16::from_be_bytes(*count)))
}

/// The values of a DataRow.
fn values(body: &[u8]) -> Option<Vec<Option<Bytes>>> {
    let (count, mut rest) = (count(body)?, body.get(2..)?);
    let mut values = Vec::with_capacity(count.min(16));
    for _ in 0..count {
        let (size, behind) = rest.split_first_chunk::<4>()?;
        let size = i32::from_be_bytes(*size);
        if size == -1 {
            values.push(None);
            rest = behind;
            continue;
        }
        let (value, behind) = behind.split_at_checked(usize::try_from(size).ok()?)?;
        values.push(Some(Bytes::copy_from_slice(value)));
        rest = behind;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_hostile_ones_refused() {
        assert_eq!(
            values(b"\0\x03\0\0\0\x01a\xff\xff\xff\xff\0\0\0\0"),
            Some(vec![Some(Bytes::from_static(b"a")), None, Some(Bytes::new())])
        );
        for body in [
            b"".as_slice(),
            b"\0",
            b"\0\x01",
            b"\0\x01\0\0\0\x02a",
            b"\0\x01\xff\xff\xff\xfe",
            b"\0\x01\x7f\xff\xff\xff",
            b"\xff\xff",
        ] {
            assert_eq!(values(body), None, "{body:?}");
        }
        let rows =
            read(b"1\0\0\0\x042\0\0\0\x04T\0\0\0\x06\0\x02D\0\0\0\x0b\0\x01\0\0\0\x01xZ\0\0\0\x05I").unwrap();
        assert_eq!((rows.columns, rows.rows.len()), (Some(2), 1));
    }
}
