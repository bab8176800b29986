//! Taking back what an actor has published of itself, at its end.

use std::sync::Arc;

use tokio::sync::watch;

/// Takes `ours` out of sight, unless a successor has published its own already.
pub(crate) fn withdraw<T: ?Sized, O: ?Sized>(
    published: &watch::Sender<Option<Arc<T>>>,
    ours: &Arc<O>,
) {
    published.send_if_modified(|seen| {
        let is_ours = |seen: &mut Arc<T>| std::ptr::addr_eq(Arc::as_ptr(seen), Arc::as_ptr(ours));
        seen.take_if(is_ours).is_some()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_is_taken_away() {
        let (ours, other) = (Arc::new(1), Arc::new(1));
        let published: watch::Sender<Option<Arc<dyn std::fmt::Debug>>> = watch::Sender::new(None);
        let changes = published.subscribe();
        withdraw(&published, &ours);
        assert!(!changes.has_changed().unwrap());
        published.send_replace(Some(other.clone()));
        withdraw(&published, &ours);
        assert!(published.borrow().is_some(), "a successor's stays");
        withdraw(&published, &other);
        assert!(published.borrow().is_none());
    }
}
