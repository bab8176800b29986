//! Pages of memory, as the kernel gives them to this process.
//!
//! Small ones while there is little in memory: the allocator asks for huge pages and leaves most of each
//! empty; of 300 MB resident they were 40, and no request was faster for them. Huge ones once a table in
//! memory is large: what an event touches lies all over it, and with small pages the processor waits for
//! the address of each before it can wait for what stands there. With a million posts and readers an event
//! took 4.0 instead of 4.9 microseconds, for half a percent more memory. Only Linux has them, and a
//! kernel that refuses has none; then nothing here has an effect.

use std::sync::atomic::{AtomicBool, Ordering};

/// Rows from which a table in memory is large: of recommendations, more than 100 MB.
pub const LARGE_ROWS: usize = 1 << 17;

/// Whether this process gave up huge pages. Another one may have none by the will of whoever began it.
static ARE_SPARED: AtomicBool = AtomicBool::new(false);

/// Does without huge pages until [`allow_huge_pages`] is called.
pub fn spare_huge_pages() {
    #[cfg(target_os = "linux")]
    if let Ok(false) = rustix::thread::transparent_huge_pages_are_disabled()
        && rustix::thread::disable_transparent_huge_pages(true).is_ok()
    {
        ARE_SPARED.store(true, Ordering::Relaxed);
    }
}

/// Takes huge pages again, for all memory that is asked for from now on.
pub fn allow_huge_pages() {
    #[cfg(target_os = "linux")]
    if ARE_SPARED.swap(false, Ordering::Relaxed) {
        let _ = rustix::thread::disable_transparent_huge_pages(false);
    }
}
