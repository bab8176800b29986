//! What recommendations lead to once they are answered: what was shown is logged, and where the
//! owner of a post said no, the copy that offered it is repaired. Nobody waits for either, and both
//! may get lost: then a post counts as shown less often, or is denied once more.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::actors::post::message::{Answer, Query, is_listed};
use crate::actors::recommendation::engine::event::Event as Fact;
use crate::actors::recommendation::message::{Command, Exposure};
use crate::actors::router::{Call, Router};
use crate::actors::{post, recommendation};
use crate::http::Parts;
use crate::ids::PostId;
use crate::seams::{tasks, time};
use crate::telemetry::Metrics;

/// Notes that may wait; further ones are dropped.
const WAITING_MAX: usize = 4_096;
/// Notes that are worked on at once: by calculation an entry of the log of 100 kB, which takes a fifth of
/// a millisecond to apply.
const NOTES_MAX: usize = 512;
/// So long notes gather, so that a log entry is worth writing.
const GATHER: Duration = Duration::from_millis(200);

/// What is to be done after an answer.
#[derive(Debug)]
pub enum Note {
    /// This was shown.
    Shown(Exposure),
    /// The owner of a post did not show it to somebody, though in this version it was taken for
    /// public.
    Denied(PostId, u64),
}

/// Takes notes and works on them in the background.
pub struct Afterwards {
    posts: Router<post::Service>,
    recommendations: Router<recommendation::Service>,
    metrics: Arc<Metrics>,
    /// Begun with the first note, within the runtime that serves it.
    notes: OnceLock<mpsc::Sender<Note>>,
}

impl Afterwards {
    /// Works through the services of these parts.
    pub fn new(parts: &Parts) -> Self {
        Self {
            posts: parts.posts.clone(),
            recommendations: parts.recommendations.clone(),
            metrics: parts.metrics.clone(),
            notes: OnceLock::new(),
        }
    }

    /// Takes a note, unless too many wait: that is counted.
    pub fn take(&self, note: Note) {
        let notes = self.notes.get_or_init(|| {
            let (sender, receiver) = mpsc::channel(WAITING_MAX);
            let (posts, recommendations) = (self.posts.clone(), self.recommendations.clone());
            tasks::spawn(work(posts, recommendations, self.metrics.clone(), receiver));
            sender
        });
        if notes.try_send(note).is_err() {
            self.metrics.notes_dropped.inc();
        }
    }
}

/// Works until nobody can take notes any more.
async fn work(
    posts: Router<post::Service>,
    recommendations: Router<recommendation::Service>,
    metrics: Arc<Metrics>,
    mut notes: mpsc::Receiver<Note>,
) {
    let mut waiting = Vec::new();
    while notes.recv_many(&mut waiting, NOTES_MAX).await > 0 {
        if waiting.len() < NOTES_MAX {
            time::sleep(GATHER).await;
            while waiting.len() < NOTES_MAX
                && let Ok(note) = notes.try_recv()
            {
                waiting.push(note);
            }
        }
        let (mut exposures, mut denied) = (Vec::new(), Vec::new());
        for note in waiting.drain(..) {
            match note {
                Note::Shown(exposure) => exposures.push(exposure),
                Note::Denied(post, version) => denied.push((post, version)),
            }
        }
        if !exposures.is_empty() {
            let count = exposures.len() as u64;
            let command = Command::LogExposures { exposures };
            if let Err(error) = recommendations.command(Call::new(), command).await {
                metrics.notes_dropped.inc_by(count);
                tracing::debug!(%error, "what was shown is not logged");
            }
        }
        denied.sort_unstable();
        denied.dedup();
        for (post, version) in denied {
            repair(&posts, &recommendations, post, version).await;
        }
    }
}

/// Has a post taken out of the copy if it is not public any more: it may also have been denied to
/// one reader alone.
async fn repair(
    posts: &Router<post::Service>,
    recommendations: &Router<recommendation::Service>,
    post: PostId,
    version: u64,
) {
    let query = Query::GetPosts { posts: vec![post], viewer: None, favorited: false };
    let Ok(Answer::Posts(found)) = posts.query(Call::new(), post.bucket(), query).await else {
        return;
    };
    if found.iter().any(|view| is_listed(view.summary.visibility)) {
        return;
    }
    let command = Command::Observe { fact: Fact::Denied { post, version } };
    if let Err(error) = recommendations.command(Call::new(), command).await {
        tracing::debug!(%error, "a post that was denied is not taken out of the copy");
    }
}
