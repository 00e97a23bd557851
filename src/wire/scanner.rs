//! Walking a buffer message by message, in place.

/// Bytes of a message header: the tag and the length word.
pub const HEADER: usize = 5;

/// A length word that no message can have, or that is over the limit of this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The length counts itself, so it is at least 4; PostgreSQL reads it as a signed number.
    #[error("invalid length {length} of a message of type {tag:?}", tag = char::from(*tag))]
    Length {
        /// Type of the message.
        tag: u8,
        /// The length word as it was sent.
        length: i32,
    },
    /// The message is longer than this connection allows (`max_packet_size`).
    #[error("message of type {tag:?} with {length} bytes is longer than {limit}", tag = char::from(*tag))]
    OverLimit {
        /// Type of the message.
        tag: u8,
        /// The length word as it was sent.
        length: u32,
        /// The limit.
        limit: u32,
    },
}

/// Where one connection's stream of messages stands: between two messages, or inside one whose head has already been
/// handed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scanner {
    remain: usize,
}

/// The next piece of a stream of messages.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The next bytes belong to a message that was begun before: so many of those at hand.
    Rest(usize),
    /// A message that is here as a whole.
    Whole {
        /// Its type.
        tag: u8,
        /// Its body, without the header.
        body: &'a [u8],
    },
    /// The head of a message whose end is not here yet.
    Head {
        /// Its type.
        tag: u8,
        /// As much of its body as is here.
        body: &'a [u8],
        /// Its whole size, header included.
        size: usize,
    },
    /// Not even a header.
    Nothing,
}

impl Scanner {
    /// Looks at the bytes that follow the last ones taken; takes nothing.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when the length word is impossible or over `limit` (which counts as the length word does: without
    /// the tag). The stream cannot be understood any further.
    pub fn next<'a>(&self, bytes: &'a [u8], limit: u32) -> Result<Piece<'a>, Malformed> {
        if self.remain > 0 {
            return Ok(Piece::Rest(self.remain.min(bytes.len())));
        }
        let Some((&[tag, a, b, c, d], _)) = bytes.split_first_chunk::<HEADER>() else {
            return Ok(Piece::Nothing);
        };
        let size = 1 + checked_length(tag, i32::from_be_bytes([a, b, c, d]), limit)?;
        Ok(match bytes.get(HEADER..size) {
            Some(body) => Piece::Whole { tag, body },
            None => Piece::Head { tag, body: &bytes[HEADER..], size },
        })
    }

    /// Takes so many of the bytes that [`Piece::Rest`] spoke of.
    pub fn take_rest(&mut self, count: usize) {
        self.remain = self.remain.saturating_sub(count);
    }

    /// Takes the head of a message of `size` bytes, `taken` of which are at hand; the others come as [`Piece::Rest`].
    pub fn take_head(&mut self, size: usize, taken: usize) {
        self.remain = size.saturating_sub(taken);
    }

    /// Whether the next byte begins a message.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.remain == 0
    }
}

/// Checks a length word as the signed number it is, before anything is computed from it.
fn checked_length(tag: u8, length: i32, limit: u32) -> Result<usize, Malformed> {
    let Some(unsigned) = u32::try_from(length).ok().filter(|&length| length >= 4) else {
        return Err(Malformed::Length { tag, length });
    };
    if unsigned > limit {
        return Err(Malformed::OverLimit { tag, length: unsigned, limit });
    }
    usize::try_from(unsigned).map_err(|_| Malformed::OverLimit { tag, length: unsigned, limit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: u32 = i32::MAX as u32;

    /// Splits a stream into messages, whatever the chunks it comes in: each chunk is appended to what was not taken.
    fn messages(chunks: &[Vec<u8>], window: usize) -> Result<Vec<(u8, Vec<u8>)>, Malformed> {
        let mut scanner = Scanner::default();
        let mut held: Vec<u8> = Vec::new();
        let mut found: Vec<(u8, Vec<u8>)> = Vec::new();
        for chunk in chunks {
            held.extend_from_slice(chunk);
            loop {
                let taken = match scanner.next(&held, LIMIT)? {
                    Piece::Rest(0) | Piece::Nothing => break,
                    Piece::Rest(count) => {
                        found.last_mut().unwrap().1.extend_from_slice(&held[..count]);
                        scanner.take_rest(count);
                        count
                    }
                    Piece::Whole { tag, body } => {
                        found.push((tag, body.to_vec()));
                        HEADER + body.len()
                    }
                    // As a relay does: a message that does not fit the window is begun, a smaller one is awaited.
                    Piece::Head { size, .. } if size <= window => break,
                    Piece::Head { tag, body, size } => {
                        found.push((tag, body.to_vec()));
                        let taken = HEADER + body.len();
                        scanner.take_head(size, taken);
                        taken
                    }
                };
                held.drain(..taken);
            }
        }
        Ok(found)
    }

    fn encode(messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut out = bytes::BytesMut::new();
        for (tag, body) in messages {
            crate::wire::put_message(&mut out, *tag, |out| out.extend_from_slice(body)).unwrap();
        }
        out.to_vec()
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_messages(
            wanted in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)), 0..12),
            cuts in prop::collection::vec(1usize..20, 0..80),
            window in 6usize..80,
        ) {
            let stream = encode(&wanted);
            let mut rest = &stream[..];
            let mut chunks = Vec::new();
            for cut in cuts {
                let (chunk, tail) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk.to_vec());
                rest = tail;
            }
            chunks.push(rest.to_vec());
            prop_assert_eq!(messages(&chunks, window).unwrap(), wanted);
        }

        #[test]
        fn no_bytes_make_it_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let _ = messages(&chunks, 32);
        }
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for length in [0i32, 3, -1, i32::MIN] {
            let mut bytes = vec![b'Q'];
            bytes.extend_from_slice(&length.to_be_bytes());
            assert_eq!(Scanner::default().next(&bytes, LIMIT), Err(Malformed::Length { tag: b'Q', length }));
        }
        let bytes = [b'Q', 0, 0, 1, 1];
        let over = Malformed::OverLimit { tag: b'Q', length: 257, limit: 256 };
        assert_eq!(Scanner::default().next(&bytes, 256), Err(over));
    }
}
