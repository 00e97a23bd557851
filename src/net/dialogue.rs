//! Message after message, each read as a whole: for logins and for the console, where nothing is large and nothing is
//! hurried.

use super::{BLOCK, Pipe, Stream};
use crate::wire::{HEADER, Malformed, Piece, Scanner};
use bytes::BytesMut;
use std::future::poll_fn;
use std::io;
use tokio::io::AsyncWriteExt;

/// Why a dialogue ends.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The peer closed the connection.
    #[error("connection closed by the peer")]
    Closed,
    /// The connection failed.
    #[error("connection broke: {0}")]
    Io(#[from] io::Error),
    /// The peer does not speak the protocol.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// A connection that is spoken over in whole messages.
#[derive(Debug)]
pub struct Dialogue {
    /// The connection.
    pub stream: Stream,
    /// What was read and not used yet.
    pub input: Pipe,
}

impl Dialogue {
    /// Begins on a connection from which nothing was read ahead.
    #[must_use]
    pub fn new(stream: Stream) -> Self {
        Self { stream, input: Pipe::default() }
    }

    /// Reads one message: its type and its body. Room for it is made as its bytes arrive, not as its length claims.
    ///
    /// Cancel safe only for messages that fit into a block.
    ///
    /// # Errors
    ///
    /// [`Broken`]; a length word over `limit` is malformed.
    pub async fn message(&mut self, limit: u32) -> Result<(u8, BytesMut), Broken> {
        loop {
            match Scanner::default().next(self.input.fresh(), limit)? {
                Piece::Whole { tag, body } => {
                    let body = BytesMut::from(body);
                    self.input.drop_fresh(HEADER + body.len());
                    return Ok((tag, body));
                }
                Piece::Head { tag, size, .. } if size > BLOCK => {
                    return Ok((tag, self.collect(size).await?.split_off(HEADER)));
                }
                _ => self.fill().await?,
            }
        }
    }

    /// The first `count` bytes of the input, at most a block of them; they stay in it.
    ///
    /// # Errors
    ///
    /// [`Broken`], also when the connection ends before that.
    pub async fn bytes(&mut self, count: usize) -> Result<&[u8], Broken> {
        while self.input.fresh().len() < count.min(BLOCK) {
            self.fill().await?;
        }
        Ok(&self.input.fresh()[..count.min(BLOCK)])
    }

    async fn collect(&mut self, size: usize) -> Result<BytesMut, Broken> {
        let mut held = BytesMut::new();
        loop {
            let count = self.input.fresh().len().min(size - held.len());
            held.extend_from_slice(&self.input.fresh()[..count]);
            self.input.drop_fresh(count);
            if held.len() == size {
                return Ok(held);
            }
            self.fill().await?;
        }
    }

    /// Waits until the peer has gone, while there is nothing to say to it. What it says meanwhile stays in the input; once
    /// that is full nothing more is read, and its end is not noticed.
    ///
    /// Cancel safe.
    pub async fn until_gone(&mut self) {
        while self.input.has_room() {
            if self.fill().await.is_err() {
                return;
            }
        }
        std::future::pending().await
    }

    async fn fill(&mut self) -> Result<(), Broken> {
        match poll_fn(|cx| self.input.poll_fill(cx, &mut self.stream)).await? {
            0 => Err(Broken::Closed),
            _ => Ok(()),
        }
    }

    /// Writes messages.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub async fn send(&mut self, messages: &[u8]) -> io::Result<()> {
        self.stream.write_all(messages).await
    }
}
