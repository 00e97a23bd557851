//! A block of bytes with two cursors, borrowed from this thread's stock and given back as soon as it is empty.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of one block: large enough that a bulk result costs few system calls, small enough that a thousand busy
/// sessions fit into a cache's worth of megabytes.
pub const BLOCK: usize = 16 * 1024;

/// Blocks that a thread keeps for reuse; what a storm needed beyond them goes back to the allocator at once.
const STOCK: usize = 256;

thread_local! {
    static STOCK_OF_THREAD: RefCell<Stock> = const { RefCell::new(Stock { free: Vec::new(), unused: 0 }) };
}

/// Blocks that nobody has borrowed.
struct Stock {
    free: Vec<Box<[u8]>>,
    /// The fewest that there were since the stock was last reduced.
    unused: usize,
}

fn borrow_block() -> Box<[u8]> {
    STOCK_OF_THREAD.with_borrow_mut(Stock::take).unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice())
}

fn return_block(block: Box<[u8]>) {
    STOCK_OF_THREAD.with_borrow_mut(|stock| {
        if stock.free.len() < STOCK {
            stock.free.push(block);
        }
    });
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
        self.end - self.start == BLOCK
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
        let mut block = self.block.take().unwrap_or_else(borrow_block);
        if self.end == BLOCK && self.start > 0 {
            block.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
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
    fn blocks_that_nobody_needs_are_given_back() {
        let in_stock = || STOCK_OF_THREAD.with_borrow(|stock| stock.free.len());
        let use_at_once = |count| drop((0..count).map(|_| filled()).collect::<Vec<_>>());
        use_at_once(100);
        reduce_stock();
        for _ in 0..20 {
            use_at_once(8);
            reduce_stock();
        }
        assert_eq!(in_stock(), 8);
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
