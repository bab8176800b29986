//! Pages of memory, as the kernel gives them to this process.
//!
//! Small ones while there is little in memory: the allocator asks for huge pages and leaves most of each
//! empty; of 300 MB resident they were 40, and no request was faster for them. Huge ones once a table in
//! memory is large: what an event touches lies all over it, and with small pages the processor waits for
//! the address of each before it can wait for what stands there. With a million posts and readers an event
//! took 4.1 instead of 4.9 and 4.0 instead of 5.3 microseconds, for 0.7 % more memory. Only Linux has them, and a
//! kernel that refuses has none; then nothing here has an effect.

#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows from which a table in memory is large. Of posts that are recommended they take up to 124 MB, by
/// calculation.
#[cfg(target_os = "linux")]
const LARGE_ROWS: usize = 1 << 17;

/// Whether this process gave up huge pages. Another one may have none by the will of whoever began it.
#[cfg(target_os = "linux")]
static ARE_SPARED: AtomicBool = AtomicBool::new(false);

/// Does without huge pages until [`note_rows`] is told of a large table.
pub fn spare_huge_pages() {
    #[cfg(target_os = "linux")]
    if let Ok(false) = rustix::thread::transparent_huge_pages_are_disabled()
        && rustix::thread::disable_transparent_huge_pages(true).is_ok()
    {
        ARE_SPARED.store(true, Ordering::Relaxed);
    }
}

/// A table in memory has so many rows and is about to have one more. When that makes it large, the whole
/// process takes huge pages again, for what it touches from then on and what the kernel merges. For good.
pub fn note_rows(rows: usize) {
    #[cfg(target_os = "linux")]
    if rows == LARGE_ROWS && ARE_SPARED.swap(false, Ordering::Relaxed) {
        let _ = rustix::thread::disable_transparent_huge_pages(false);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = rows;
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// What the kernel says of this process.
    fn has_huge_pages() -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
        line.expect("since Linux 5.0").trim() == "1"
    }

    #[test]
    fn huge_pages_come_back_with_the_row_that_makes_a_table_large() {
        if !has_huge_pages() {
            // Whoever began the tests wants none: then it stays so.
            spare_huge_pages();
            note_rows(LARGE_ROWS);
            assert!(!has_huge_pages());
            return;
        }
        spare_huge_pages();
        note_rows(LARGE_ROWS - 1);
        assert!(!has_huge_pages());
        note_rows(LARGE_ROWS);
        assert!(has_huge_pages());
    }
}
