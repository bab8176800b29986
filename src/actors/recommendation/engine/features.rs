//! What the ranker sees of a candidate: mostly logarithms, for twice as much means once more.

use crate::actors::recommendation::engine::fixed;
use crate::actors::recommendation::engine::gather::{Asker, is_same_visit};
use crate::actors::recommendation::engine::interests::strength;
use crate::actors::recommendation::engine::math::{log2, log2p};
use crate::actors::recommendation::engine::neighbours::SPEEDS;
use crate::actors::recommendation::engine::post::{NONE, Post};
use crate::actors::recommendation::engine::scratch::{Candidate, Named, Scratch};
use crate::actors::recommendation::engine::settings::WINDOWS;
use crate::actors::recommendation::engine::state::Engine;
use crate::actors::signature::Signature;

/// Length of a row; a multiple of eight. Unused ones are 0.
pub(super) const FEATURES: usize = 40;

// Of the post.
/// Share of all reads in each half-life: how much it is read, whatever the hour.
const READERS: usize = 0;
const READERS_EVER: usize = READERS + WINDOWS;
const AGE: usize = READERS_EVER + 1;
/// Time since it was read, and since anything was done with it.
const IDLE: usize = AGE + 1;
const ACTIVE: usize = IDLE + 1;
/// Place among the newest.
const BIRTH_RANK: usize = ACTIVE + 1;
/// Time since it came into the trend, and how often this reader was here since and passed it over.
const HOT_AGE: usize = BIRTH_RANK + 1;
const HOT_PASSED: usize = HOT_AGE + 1;
/// Share of its readers that came from another post.
const CONTINUED: usize = HOT_PASSED + 1;
/// How much its tags are read.
const TAG_TREND: usize = CONTINUED + 1;
// Of the reader and the post.
/// Co-reads, see `Evidence`, by speed.
const PAIRS: usize = TAG_TREND + 1;
const PAIR_FEATURES: usize = 6;
const TAGS_SUM: usize = PAIRS + PAIR_FEATURES * SPEEDS;
const TAGS_MAX: usize = TAGS_SUM + 1;
const AUTHOR: usize = TAGS_MAX + 1;
const FOLLOWS: usize = AUTHOR + 1;
const FOLLOWS_TAG: usize = FOLLOWS + 1;
const TEXT_MAX: usize = FOLLOWS_TAG + 1;
const TEXT_MEAN: usize = TEXT_MAX + 1;
// Of the reader and the hour: they are the same for all candidates, and count with the others.
const HISTORY: usize = TEXT_MEAN + 1;
const PAUSE: usize = HISTORY + 1;
const VISIT: usize = PAUSE + 1;
const TRAFFIC: usize = VISIT + 1;
const _: () = assert!(TRAFFIC < FEATURES);

/// Weights before anything was learned: new, much read, near to the history.
pub(super) const GUESS: [(usize, f32); 8] = [
    (READERS + 2, 0.3),
    (READERS + 4, 0.3),
    (AGE, -0.5),
    (PAIRS, 0.3),
    (PAIRS + PAIR_FEATURES, 0.3),
    (TAGS_SUM, 0.2),
    (FOLLOWS, 0.5),
    (FOLLOWS_TAG, 0.3),
];

/// Logarithm of the place of what is not among the newest.
const BIRTH_RANK_NONE: f32 = 9.0;
/// The half-life that tells how busy the hour is.
const TRAFFIC_WINDOW: usize = 1;
/// Recent reads whose texts are compared.
const TEXTS: usize = 8;

/// Writes a row for each candidate from the `first` on.
pub(super) fn extract(
    engine: &Engine,
    asker: Asker<'_>,
    now_ms: u64,
    first: usize,
    scratch: &mut Scratch,
) {
    let reader = Reader::new(engine, asker, now_ms);
    let Scratch { candidates, features, followed, .. } = &mut *scratch;
    let candidates = &candidates[first..];
    features.clear();
    features.resize(candidates.len() * FEATURES, 0.0);
    let (rows, _) = features.as_chunks_mut::<FEATURES>();
    for (candidate, features) in candidates.iter().zip(rows) {
        let post = &engine.posts[candidate.post as usize];
        let mut row = Row::new();
        write_post(engine, post, now_ms, &reader, &mut row);
        write_pairs(candidate, &mut row);
        write_taste(post, &reader, followed, &mut row);
        row.plain[HISTORY] = reader.history;
        row.plain[PAUSE] = reader.pause;
        row.plain[VISIT] = reader.visit;
        row.plain[TRAFFIC] = reader.traffic[TRAFFIC_WINDOW];
        row.write(features);
    }
    rank_births(engine, first, scratch);
}

/// What is the same for all candidates.
struct Reader<'a> {
    asker: Asker<'a>,
    texts: [Signature; TEXTS],
    texts_len: usize,
    traffic: [f32; WINDOWS],
    history: f32,
    pause: f32,
    visit: f32,
}

impl<'a> Reader<'a> {
    fn new(engine: &Engine, asker: Asker<'a>, now_ms: u64) -> Self {
        let mut texts = [Signature::default(); TEXTS];
        let mut texts_len = 0;
        for (read, _) in asker.recent.iter().take(TEXTS) {
            let signature = engine.posts[*read as usize].signature;
            if !signature.is_empty() {
                texts[texts_len] = signature;
                texts_len += 1;
            }
        }
        let last_s = asker.recent.first().map_or(0, |(_, at_s)| u64::from(*at_s));
        let visit =
            asker.recent.iter().take_while(|(_, at_s)| is_same_visit(*at_s, asker.now_s)).count();
        Self {
            asker,
            texts,
            texts_len,
            traffic: std::array::from_fn(|window| {
                log2p(engine.pace.traffic(&engine.settings, window, now_ms))
            }),
            history: log2p(asker.reads.len() as f32),
            pause: log2p(minutes(now_ms, last_s * 1000)),
            visit: log2p(visit as f32),
        }
    }
}

/// A row in the making: a feature is a plain value, plus the logarithm of another. All logarithms are
/// taken at the end, so that the compiler takes several at once.
struct Row {
    plain: [f32; FEATURES],
    logs: [f32; FEATURES],
}

impl Row {
    fn new() -> Self {
        Self { plain: [0.0; FEATURES], logs: [1.0; FEATURES] }
    }

    fn write(&self, row: &mut [f32; FEATURES]) {
        for ((value, plain), log) in row.iter_mut().zip(&self.plain).zip(&self.logs) {
            *value = plain + log2(*log);
        }
    }
}

fn write_post(engine: &Engine, post: &Post, now_ms: u64, reader: &Reader<'_>, row: &mut Row) {
    let settings = &engine.settings;
    let readers = post.readers_by_window(settings, now_ms);
    for (window, (readers, traffic)) in readers.iter().zip(&reader.traffic).enumerate() {
        // A twentieth of a reader is next to none.
        row.logs[READERS + window] = 0.05 + readers;
        row.plain[READERS + window] = -traffic;
    }
    row.logs[READERS_EVER] = 1.0 + post.readers as f32;
    row.logs[AGE] = 1.0 + minutes(now_ms, post.born_ms);
    row.logs[IDLE] = 1.0 + minutes(now_ms, post.touched_ms.max(post.born_ms));
    row.logs[ACTIVE] = 1.0 + minutes(now_ms, post.active_ms.max(post.born_ms));
    row.plain[BIRTH_RANK] = BIRTH_RANK_NONE;
    if post.hot_s > 0 {
        let recent = reader.asker.recent.iter();
        let passed = recent.take_while(|(_, at_s)| *at_s >= post.hot_s).count();
        row.plain[HOT_PASSED] = 1.0;
        row.logs[HOT_PASSED] = 1.0 + passed as f32;
        row.logs[HOT_AGE] = 1.0 + minutes(now_ms, u64::from(post.hot_s) * 1000);
    }
    row.logs[CONTINUED] = post.continued_share(settings, &readers, now_ms);
    let tags = post.tags().iter().map(|tag| engine.tag(*tag).readers(settings, now_ms));
    row.logs[TAG_TREND] = 1.0 + tags.fold(0.0, f32::max);
}

fn write_pairs(candidate: &Candidate, row: &mut Row) {
    for (speed, evidence) in candidate.pairs.iter().enumerate() {
        let first = PAIRS + speed * PAIR_FEATURES;
        row.plain[first] = evidence.lift;
        row.plain[first + 1] = evidence.last;
        row.plain[first + 2] = evidence.visit;
        row.logs[first + 3] = 1.0 + evidence.together * 64.0;
        row.logs[first + 4] = 1.0 + evidence.next * 64.0;
        row.plain[first + 5] = evidence.next_lift;
    }
}

fn write_taste(post: &Post, reader: &Reader<'_>, followed: &Named, row: &mut Row) {
    let asker = reader.asker;
    let (mut sum, mut max) = (0.0_f32, 0.0_f32);
    for tag in post.tags() {
        let liked = strength(asker.interests, *tag);
        sum += liked;
        max = max.max(liked);
    }
    row.logs[TAGS_SUM] = 1.0 + sum;
    row.logs[TAGS_MAX] = 1.0 + max;
    if post.author != NONE {
        row.logs[AUTHOR] = 1.0 + strength(asker.authors, post.author);
    }
    row.plain[FOLLOWS] = f32::from(u8::from(followed.has_author(post.author)));
    row.plain[FOLLOWS_TAG] = f32::from(u8::from(followed.tag_of(post.tags()).is_some()));
    if reader.texts_len > 0 && !post.signature.is_empty() {
        let texts = &reader.texts[..reader.texts_len];
        let (mut sum, mut max) = (0.0_f32, 0.0_f32);
        for text in texts {
            let similarity = text.similarity(&post.signature);
            sum += similarity;
            max = max.max(similarity);
        }
        row.plain[TEXT_MAX] = max * 4.0;
        row.plain[TEXT_MEAN] = sum / texts.len() as f32 * 4.0;
    }
}

/// The place of a candidate among the newest posts.
fn rank_births(engine: &Engine, first: usize, scratch: &mut Scratch) {
    for (nth, place) in engine.newest.places().iter().enumerate() {
        let index = scratch.map.find(place.post).map(usize::from);
        let index = index.filter(|index| *index < scratch.candidates.len());
        if let Some(row) = index.and_then(|index| index.checked_sub(first)) {
            scratch.features[row * FEATURES + BIRTH_RANK] = log2p(nth as f32);
        }
    }
}

fn minutes(now_ms: u64, then_ms: u64) -> f32 {
    fixed::as_f32(now_ms.saturating_sub(then_ms)) / 60_000.0
}
