//! One direction of a relay: bytes are read from one side, looked at and passed or dropped, and written to the other
//! side from the very block they were read into.

use super::Buffer;
use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};

/// A buffer in three parts: *staged* bytes that go out first, *passed* bytes that follow them, and *fresh* bytes that
/// nobody has judged yet.
///
/// The usual way is read, pass all, write: no byte is copied. A little that is put in or taken out moves what was passed
/// before that place within the block; where that is not enough room or too much to move, it goes to the stage.
#[derive(Debug, Default)]
pub struct Pipe {
    staged: BytesMut,
    buffer: Buffer,
    passed: usize,
}

impl Pipe {
    /// The bytes that were read and not judged yet.
    #[must_use]
    pub fn fresh(&self) -> &[u8] {
        &self.buffer.bytes()[self.passed..]
    }

    /// Whether a message that begins with the first fresh byte can grow no further, because the fresh bytes fill the
    /// whole block.
    #[must_use]
    pub fn is_stuffed(&self) -> bool {
        self.passed == 0 && self.buffer.is_full()
    }

    /// Whether there is room to read into.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.buffer.is_full() && self.staged.len() < super::BLOCK
    }

    /// Whether something waits to be written.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.passed > 0 || !self.staged.is_empty()
    }

    /// Lets the next `count` fresh bytes go out.
    pub fn pass(&mut self, count: usize) {
        self.passed += count.min(self.fresh().len());
    }

    /// Lets the next `count` fresh bytes go out with another first byte.
    pub fn pass_as(&mut self, count: usize, first: u8) {
        if let Some(byte) = self.buffer.bytes_mut().get_mut(self.passed) {
            *byte = first;
        }
        self.pass(count);
    }

    /// Takes the next `count` fresh bytes out of the stream.
    pub fn drop_fresh(&mut self, count: usize) {
        self.replace(count, &[]);
    }

    /// Takes the next `count` fresh bytes out of the stream; others go out in their place.
    pub fn replace(&mut self, count: usize, bytes: &[u8]) {
        let count = count.min(self.fresh().len());
        if self.buffer.splice(self.passed, count, bytes) {
            self.passed += bytes.len();
            return;
        }
        self.stage_passed();
        self.staged.extend_from_slice(bytes);
        self.buffer.consume(count);
    }

    /// Puts bytes of our own behind what was passed so far; the closure appends them.
    pub fn insert<T>(&mut self, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        self.stage_passed();
        write(&mut self.staged)
    }

    /// Forgets what waits to be written: nobody is there to read it.
    pub fn discard_output(&mut self) {
        self.staged = BytesMut::new();
        self.buffer.consume(self.passed);
        self.passed = 0;
    }

    fn stage_passed(&mut self) {
        if self.passed > 0 {
            self.staged.extend_from_slice(&self.buffer.bytes()[..self.passed]);
            self.buffer.consume(self.passed);
            self.passed = 0;
        }
    }

    /// Reads once; `Ok(0)` is the end of the stream. Call it only while [`Pipe::has_room`].
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
    ) -> Poll<io::Result<usize>> {
        self.buffer.poll_fill(cx, source)
    }

    /// Writes all there is to write. Nothing is lost when it is pending: call it again.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub fn poll_drain<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut W,
    ) -> Poll<io::Result<()>> {
        while self.has_output() {
            let written = ready!(self.poll_write(cx, sink))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &self,
        cx: &mut Context<'_>,
        sink: &mut W,
    ) -> Poll<io::Result<usize>> {
        let passed = &self.buffer.bytes()[..self.passed];
        if self.staged.is_empty() {
            return Pin::new(sink).poll_write(cx, passed);
        }
        Pin::new(sink).poll_write_vectored(cx, &[IoSlice::new(&self.staged), IoSlice::new(passed)])
    }

    fn written(&mut self, count: usize) {
        let staged = count.min(self.staged.len());
        self.staged.advance(staged);
        if self.staged.is_empty() && self.staged.capacity() > 0 {
            // An idle session holds no memory for what it once put in between.
            self.staged = BytesMut::new();
        }
        self.buffer.consume(count - staged);
        self.passed -= count - staged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time and is full every other time.
    struct Trickle(Vec<u8>, bool);

    impl AsyncWrite for Trickle {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1 = !self.1;
            if self.1 {
                return Poll::Pending;
            }
            let count = bytes.len().min(3);
            self.0.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_is_passed_dropped_and_inserted_comes_out_in_order() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut pipe = Pipe::default();
        assert!(matches!(pipe.poll_fill(&mut cx, &mut &b"abcdefghij"[..]), Poll::Ready(Ok(10))));
        pipe.drop_fresh(1);
        pipe.pass(2);
        pipe.drop_fresh(2);
        pipe.insert(|out| out.extend_from_slice(b"XYZ"));
        pipe.pass(4);
        assert_eq!(pipe.fresh(), b"j");
        let mut sink = Trickle(Vec::new(), false);
        while pipe.poll_drain(&mut cx, &mut sink).is_pending() {}
        assert_eq!(sink.0, b"bcXYZfghi");
        assert_eq!((pipe.fresh(), pipe.has_output()), (&b"j"[..], false));
    }

    /// What may be done with a pipe, each with a size.
    fn steps() -> impl proptest::strategy::Strategy<Value = Vec<(u8, usize)>> {
        let sizes = proptest::prop_oneof![0..90_usize, 0..3_000_usize, 10_000..90_000_usize];
        proptest::collection::vec((0..6_u8, sizes), 0..200)
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]
        #[test]
        fn whatever_is_done_no_byte_changes_places(steps in steps()) {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let (mut pipe, mut read) = (Pipe::default(), 0_usize);
            let (mut expected, mut written) = (Vec::<u8>::new(), Vec::<u8>::new());
            let mut fresh = std::collections::VecDeque::<u8>::new();
            for (step, size) in steps {
                let fewer = size.min(fresh.len());
                match step {
                    0 | 1 if pipe.has_room() && size > 0 => {
                        let bytes: Vec<u8> = (read..read + size).filter_map(|at| u8::try_from(at % 251).ok()).collect();
                        let Poll::Ready(Ok(count)) = pipe.poll_fill(&mut cx, &mut &bytes[..]) else { panic!() };
                        assert!(count > 0, "that would look like the end of the stream");
                        fresh.extend(&bytes[..count]);
                        read += count;
                    }
                    2 => {
                        pipe.pass(size);
                        expected.extend(fresh.drain(..fewer));
                    }
                    3 => {
                        pipe.replace(size / 7, &[b'!'; 90][..size % 90]);
                        fresh.drain(..fewer.min(size / 7));
                        expected.extend(&[b'!'; 90][..size % 90]);
                    }
                    4 => {
                        pipe.insert(|out| out.extend_from_slice(b"insert"));
                        expected.extend(b"insert");
                    }
                    _ => {
                        let mut room = vec![0; size];
                        let mut sink = io::Cursor::new(&mut room[..]);
                        let _not_all = pipe.poll_drain(&mut cx, &mut sink);
                        let count = usize::try_from(sink.position()).unwrap();
                        written.extend_from_slice(&room[..count]);
                    }
                }
                assert_eq!(pipe.fresh(), fresh.make_contiguous());
                assert!(pipe.has_room() || pipe.has_output() || pipe.is_stuffed(), "nothing would go on");
            }
            assert!(matches!(pipe.poll_drain(&mut cx, &mut written), Poll::Ready(Ok(()))));
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn what_is_replaced_comes_out_in_its_place_whether_there_is_room_for_it_or_not() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for size in [0, 1, 3, 100, 500, 5000] {
            let (new, mut pipe, mut sink) = (vec![b'N'; size], Pipe::default(), Vec::new());
            assert!(matches!(pipe.poll_fill(&mut cx, &mut &b"abcdefghij"[..]), Poll::Ready(Ok(10))));
            pipe.pass(2);
            pipe.replace(3, &new);
            pipe.pass(1);
            pipe.replace(2, &new);
            assert!(matches!(pipe.poll_drain(&mut cx, &mut sink), Poll::Ready(Ok(()))));
            assert_eq!(sink, [&b"ab"[..], &new, b"f", &new].concat());
            assert_eq!(pipe.fresh(), b"ij");
        }
    }
}
