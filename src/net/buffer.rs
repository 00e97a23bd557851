//! A block of bytes with two cursors, borrowed from this thread's stock and given back as soon as it is empty.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of one block: large enough that a bulk result costs few system calls, small enough that what was read is still in
/// the processor's nearest cache when it is written. Blocks of 64 KiB made COPY dearer, with a third of the calls.
pub const BLOCK: usize = 16 * 1024;

/// Room in front of what is read, so that a message can get a longer head where it stands.
const HEADROOM: usize = 128;

/// Bytes that are moved to make room in front of what follows them; more are not worth it.
const NEAR: usize = 1024;

/// Blocks that a thread keeps for reuse; what a storm needed beyond them goes back to the allocator at once.
const STOCK: usize = 256;

thread_local! {
    /// The block used last. A reader that finds nothing to read gives back at once what it has just taken.
    static LAST: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    static STOCK_OF_THREAD: RefCell<Stock> =
        const { RefCell::new(Stock { free: Vec::new(), unused: 0 }) };
}

/// Blocks that nobody has borrowed.
struct Stock {
    free: Vec<Box<[u8]>>,
    /// The fewest that there were since the stock was last reduced.
    unused: usize,
}

fn borrow_block() -> Box<[u8]> {
    LAST.take()
        .or_else(|| STOCK_OF_THREAD.with_borrow_mut(Stock::take))
        .unwrap_or_else(|| vec![0; HEADROOM + BLOCK].into_boxed_slice())
}

fn return_block(block: Box<[u8]>) {
    if let Some(block) = LAST.replace(Some(block)) {
        STOCK_OF_THREAD.with_borrow_mut(|stock| {
            if stock.free.len() < STOCK {
                stock.free.push(block);
            }
        });
    }
}

/// Gives back half of the blocks that this thread had no use for since the last call, so that what was needed for a moment
/// is gone soon, and what is needed again and again stays.
pub fn reduce_stock() {
    STOCK_OF_THREAD.with_borrow_mut(|stock| {
        let kept = stock.free.len() - stock.unused.div_ceil(2);
        stock.free.truncate(kept);
        stock.unused = kept;
    });
}

impl Stock {
    fn take(&mut self) -> Option<Box<[u8]>> {
        let block = self.free.pop();
        self.unused = self.unused.min(self.free.len());
        block
    }
}

/// Bytes that were read and are not used up yet. Without any it holds no block.
#[derive(Debug, Default)]
pub struct Buffer {
    block: Option<Box<[u8]>>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// The bytes at hand.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| &block[self.start..self.end])
    }

    /// The bytes at hand, to be moved about within.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.start, self.end);
        self.block.as_mut().map_or(&mut [], |block| &mut block[start..end])
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether not one byte more fits in.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.end - self.start >= BLOCK
    }

    /// Replaces the `count` bytes behind the first `keep` by others, if that takes no more than to move those first ones
    /// a little; tells whether it was done.
    pub fn splice(&mut self, keep: usize, count: usize, bytes: &[u8]) -> bool {
        let Some(block) = self.block.as_mut().filter(|_| keep <= NEAR) else { return false };
        let Some(start) = (self.start + count).checked_sub(bytes.len()) else { return false };
        if keep > 0 {
            block.copy_within(self.start..self.start + keep, start);
        }
        block[start + keep..start + keep + bytes.len()].copy_from_slice(bytes);
        self.start = start;
        if self.is_empty() {
            self.consume(0);
        }
        true
    }

    /// Drops so many bytes from the front; with the last one the block goes back.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            if let Some(block) = self.block.take() {
                return_block(block);
            }
        }
    }

    /// Reads once into the room that is left: `Ok(0)` is the end of the stream. Call it only when not full.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
    ) -> Poll<io::Result<usize>> {
        let mut block = match self.block.take() {
            Some(block) => block,
            None => {
                (self.start, self.end) = (HEADROOM, HEADROOM);
                borrow_block()
            }
        };
        if self.end == block.len() && self.start > HEADROOM {
            block.copy_within(self.start..self.end, HEADROOM);
            (self.start, self.end) = (HEADROOM, HEADROOM + self.end - self.start);
        }
        let mut spare = ReadBuf::new(&mut block[self.end..]);
        let result = Pin::new(source).poll_read(cx, &mut spare).map_ok(|()| spare.filled().len());
        if let Poll::Ready(Ok(count)) = result {
            self.end += count;
        }
        if self.is_empty() {
            return_block(block);
        } else {
            self.block = Some(block);
        }
        Poll::Ready(ready!(result))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.consume(usize::MAX - self.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(buffer: &mut Buffer, mut source: &[u8]) -> usize {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match buffer.poll_fill(&mut cx, &mut source) {
            Poll::Ready(Ok(count)) => count,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_empty_buffer_holds_no_block() {
        let mut buffer = Buffer::default();
        assert_eq!(fill(&mut buffer, b""), 0);
        assert!(buffer.block.is_none());
        assert_eq!(fill(&mut buffer, b"abc"), 3);
        buffer.consume(1);
        assert_eq!(buffer.bytes(), b"bc");
        buffer.consume(2);
        assert!(buffer.block.is_none() && buffer.is_empty());
    }

    #[test]
    fn a_head_grows_into_the_room_in_front_of_it() {
        let mut buffer = Buffer::default();
        assert!(!buffer.splice(0, 0, b"x"), "there is no block");
        fill(&mut buffer, b"abcdef");
        assert!(buffer.splice(1, 2, b"XYZW"));
        assert_eq!(buffer.bytes(), b"aXYZWdef");
        assert!(buffer.splice(2, 3, b""));
        assert_eq!(buffer.bytes(), b"aXdef");
        assert!(!buffer.splice(0, 0, &[0; HEADROOM + 2]), "there is not so much room");
        assert!(buffer.splice(0, 5, b"") && buffer.block.is_none());
    }

    #[test]
    fn a_block_with_a_longer_head_is_full_all_the_same() {
        let mut buffer = Buffer::default();
        assert_eq!(fill(&mut buffer, &[1; BLOCK - 1]), BLOCK - 1);
        assert!(buffer.splice(0, 1, b"four") && buffer.is_full());
        buffer.consume(BLOCK);
        assert_eq!(fill(&mut buffer, &[2; 1]), 1);
        assert_eq!(buffer.bytes(), [1, 1, 2]);
    }

    #[test]
    fn blocks_that_nobody_needs_are_given_back() {
        let in_stock = || STOCK_OF_THREAD.with_borrow(|stock| stock.free.len());
        let use_at_once = |count| drop((0..count).map(|_| filled()).collect::<Vec<_>>());
        use_at_once(100);
        reduce_stock();
        for _ in 0..20 {
            use_at_once(8);
            reduce_stock();
        }
        assert_eq!(in_stock(), 7, "the eighth is the one used last");
        for _ in 0..4 {
            reduce_stock();
        }
        assert_eq!(in_stock(), 0);
    }

    fn filled() -> Buffer {
        let mut buffer = Buffer::default();
        fill(&mut buffer, b"x");
        buffer
    }

    #[test]
    fn room_at_the_front_is_used_again() {
        let mut buffer = Buffer::default();
        assert_eq!(fill(&mut buffer, &[1; BLOCK + 5]), BLOCK);
        assert!(buffer.is_full());
        buffer.consume(BLOCK - 2);
        assert_eq!(fill(&mut buffer, &[2; 10]), 10);
        assert_eq!(buffer.bytes(), [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
    }
}
