//! Buffers of large responses, used again. A buffer of several kilobytes that is allocated and freed
//! for every response makes the allocator give the page back and fetch a zeroed one each time, which
//! was measured as a twentieth of a read.
//!
//! **Invariants**: B1 a thread keeps at most `KEPT_BUFFERS` buffers of at most
//! `KEPT_BUFFER_BYTES_MAX` each; B2 a kept buffer is empty.

use std::cell::RefCell;

use axum::body::Bytes;

/// Buffers that one thread keeps. Most responses are on their way to the kernel before the next is
/// made.
const KEPT_BUFFERS: usize = 16;
/// Larger ones are not kept: they are rare, and would be held for nothing.
const KEPT_BUFFER_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room for so many bytes.
pub fn buffer(capacity: usize) -> Vec<u8> {
    let kept = KEPT.with_borrow_mut(Vec::pop);
    let mut buffer = kept.unwrap_or_default();
    buffer.reserve(capacity);
    buffer
}

/// The bytes in a buffer, which is kept for another response when the last of them is gone.
pub fn into_bytes(buffer: Vec<u8>) -> Bytes {
    Bytes::from_owner(Lent(buffer))
}

struct Lent(Vec<u8>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        if buffer.capacity() > KEPT_BUFFER_BYTES_MAX {
            return;
        }
        buffer.clear();
        // Without a place (also while the thread ends) the buffer is simply freed.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT_BUFFERS {
                kept.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_once_nobody_reads_it() {
        let mut first = buffer(100);
        first.extend_from_slice(b"abc");
        let place = first.as_ptr();
        let bytes = into_bytes(first);
        let reader = bytes.slice(1..);
        drop(bytes);
        assert_eq!(&reader[..], b"bc");
        let other = buffer(100);
        assert_ne!(other.as_ptr(), place, "somebody still reads it");
        drop(reader);
        let again = buffer(10);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn no_more_is_kept_than_allowed() {
        drop(into_bytes(Vec::with_capacity(KEPT_BUFFER_BYTES_MAX + 1)));
        assert_eq!(KEPT.with_borrow(Vec::len), 0);
        let lent: Vec<Bytes> =
            (0..2 * KEPT_BUFFERS).map(|_| into_bytes(Vec::with_capacity(1))).collect();
        drop(lent);
        assert_eq!(KEPT.with_borrow(Vec::len), KEPT_BUFFERS);
    }
}
