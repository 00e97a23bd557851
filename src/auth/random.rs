//! Random bytes from the system, taken in portions: a system call for each nonce would cost more than the nonce.

use std::cell::RefCell;

use zeroize::Zeroize;

/// Bytes of a portion: those of about twenty logins.
const PORTION: usize = 512;

thread_local! {
    static STOCK: RefCell<Stock> = const { RefCell::new(Stock { bytes: [0; PORTION], left: 0 }) };
}

/// Bytes that nobody has seen yet: the first `left` ones.
struct Stock {
    bytes: [u8; PORTION],
    left: usize,
}

/// Fills `out` with bytes of the system's generator, each given out once and wiped here.
///
/// # Errors
///
/// When the system gives none.
pub fn fill(out: &mut [u8]) -> Result<(), getrandom::Error> {
    STOCK.with_borrow_mut(|stock| {
        for part in out.chunks_mut(PORTION) {
            stock.take(part)?;
        }
        Ok(())
    })
}

/// Four of them as a number.
///
/// # Errors
///
/// When the system gives none.
pub fn number() -> Result<u32, getrandom::Error> {
    let mut bytes = [0; 4];
    fill(&mut bytes)?;
    Ok(u32::from_ne_bytes(bytes))
}

impl Stock {
    fn take(&mut self, out: &mut [u8]) -> Result<(), getrandom::Error> {
        if self.left < out.len() {
            self.left = 0;
            getrandom::fill(&mut self.bytes)?;
            self.left = PORTION;
        }
        let taken = &mut self.bytes[self.left - out.len()..self.left];
        out.copy_from_slice(taken);
        taken.zeroize();
        self.left -= out.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn nothing_is_given_out_twice() {
        let of_a_thread = || -> Vec<[u8; 16]> {
            let one = |_| {
                let mut bytes = [0; 16];
                fill(&mut bytes).unwrap();
                bytes
            };
            (0..PORTION).map(one).collect()
        };
        let mut all = of_a_thread();
        all.extend(std::thread::spawn(of_a_thread).join().unwrap());
        assert!(!all.contains(&[0; 16]));
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 2 * PORTION);
    }

    #[test]
    fn what_was_given_out_is_wiped_and_any_length_is_filled() {
        let mut stock = Stock { bytes: [7; PORTION], left: PORTION };
        let mut out = [0; 5];
        stock.take(&mut out).unwrap();
        assert_eq!((out, &stock.bytes[PORTION - 5..], stock.left), ([7; 5], &[0; 5][..], PORTION - 5));
        let mut long = [0; 3 * PORTION + 1];
        fill(&mut long).unwrap();
        assert!(long.chunks(64).all(|part| part.len() < 64 || part.iter().any(|&byte| byte != 0)));
    }
}
