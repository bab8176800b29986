//! What the ranker sees of a candidate.

use crate::actors::recommendation::engine::Engine;
use crate::actors::recommendation::gather::Asker;
use crate::actors::recommendation::post::NONE;
use crate::actors::recommendation::reader::strength;
use crate::actors::recommendation::scratch::Scratch;
use crate::actors::recommendation::settings::WINDOWS;
use crate::actors::recommendation::signature::Signature;

/// Length of a row; a multiple of eight. Unused ones are 0.
pub(super) const FEATURES: usize = 48;

/// Readers in each half-life.
const READERS: usize = 0;
const AGE: usize = READERS + WINDOWS;
const IDLE: usize = AGE + 1;
const LIFT: usize = IDLE + 1;
const LIFT_LAST: usize = LIFT + 1;
const NEXT: usize = LIFT_LAST + 1;
const TOGETHER: usize = NEXT + 1;
const PASSED: usize = TOGETHER + 1;
const IS_NEWS: usize = PASSED + 1;
const TAGS_SUM: usize = IS_NEWS + 1;
const TAGS_MAX: usize = TAGS_SUM + 1;
const AUTHOR: usize = TAGS_MAX + 1;
const FOLLOWS: usize = AUTHOR + 1;
const FOLLOWS_TAG: usize = FOLLOWS + 1;
const TEXT_MAX: usize = FOLLOWS_TAG + 1;
const TEXT_MEAN: usize = TEXT_MAX + 1;
const TAG_TREND: usize = TEXT_MEAN + 1;
const READERS_EVER: usize = TAG_TREND + 1;
const HISTORY: usize = READERS_EVER + 1;
const PAUSE: usize = HISTORY + 1;
const BIRTH_RANK: usize = PAUSE + 1;
const SHARE: usize = BIRTH_RANK + 1; // 4
const TRAFFIC: usize = SHARE + 4;
const HOT_PASSED: usize = TRAFFIC + 1;
const HOT_AGE: usize = HOT_PASSED + 1;
const AGE_TASTE: usize = HOT_AGE + 1;
const SHARE_TASTE: usize = AGE_TASTE + 1;
const CONTINUED: usize = SHARE_TASTE + 1;
const NEXT_LIFT: usize = CONTINUED + 1;
const LIFT_MAX: usize = NEXT_LIFT + 1;
const SESSION: usize = LIFT_MAX + 1;
const SESSION_LIFT: usize = SESSION + 1;
const ACTIVE: usize = SESSION_LIFT + 1;
const _: () = assert!(ACTIVE < FEATURES);

/// Weights before anything was learned: new, much read, near to the history.
pub(super) const GUESS: [(usize, f32); 8] = [
    (READERS + 2, 0.3),
    (READERS + 4, 0.3),
    (AGE, -0.5),
    (LIFT, 0.3),
    (TOGETHER, 0.3),
    (TAGS_SUM, 0.2),
    (FOLLOWS, 0.5),
    (FOLLOWS_TAG, 0.3),
];

/// Recent reads whose texts are compared.
const TEXTS: usize = 8;

/// Writes a row for each candidate.
pub(super) fn extract(engine: &Engine, asker: Asker<'_>, now_ms: u64, scratch: &mut Scratch) {
    let Scratch { candidates, features, .. } = scratch;
    features.clear();
    features.resize(candidates.len() * FEATURES, 0.0);
    let settings = &engine.settings;
    let mut texts = [Signature::default(); TEXTS];
    let mut texts_len = 0;
    for (read, _) in asker.recent.iter().take(TEXTS) {
        let signature = engine.posts[*read as usize].signature;
        if !signature.is_empty() {
            texts[texts_len] = signature;
            texts_len += 1;
        }
    }
    let last_ms = asker.recent.first().map_or(0, |(_, at_s)| u64::from(*at_s) * 1000);
    let history = log2p(asker.reads.len() as f32);
    let pause = log2p(now_ms.saturating_sub(last_ms) as f32 / 60_000.0);
    let traffic: [f32; WINDOWS] = std::array::from_fn(|w| {
        (1.0 + 64.0 * crate::actors::recommendation::fixed::value(engine.traffic[w], engine.traffic_ms, now_ms, settings.half_lives_ms[w])).log2()
    });
    let session = asker.recent.iter().take_while(|(_, at)| now_ms / 1000 < u64::from(*at) + 1800).count();
    for (candidate, row) in candidates.iter().zip(features.chunks_exact_mut(FEATURES)) {
        let post = &engine.posts[candidate.post as usize];
        for window in 0..WINDOWS {
            row[READERS + window] = (0.05 + post.readers_in(settings, window, now_ms)).log2();
        }
        row[AGE] = log2p(now_ms.saturating_sub(post.born_ms) as f32 / 60_000.0);
        let touched_ms = post.touched_ms.max(post.born_ms);
        row[IDLE] = log2p(now_ms.saturating_sub(touched_ms) as f32 / 60_000.0);
        row[LIFT] = candidate.lift;
        row[LIFT_LAST] = candidate.lift_last;
        row[NEXT] = log2p(candidate.next * 64.0);
        row[TOGETHER] = log2p(candidate.together * 64.0);
        let born_s = post.born_ms / 1000;
        let passed =
            asker.recent.iter().take_while(|(_, at_s)| u64::from(*at_s) >= born_s).count();
        row[PASSED] = log2p(passed as f32);
        row[IS_NEWS] = f32::from(u8::from(passed == 0));
        let (mut sum, mut max) = (0.0_f32, 0.0_f32);
        for tag in post.tags() {
            let liked = strength(asker.interests, *tag);
            sum += liked;
            max = max.max(liked);
            row[TAG_TREND] =
                row[TAG_TREND].max(log2p(engine.tag(*tag).readers(settings, now_ms)));
        }
        row[TAGS_SUM] = log2p(sum);
        row[TAGS_MAX] = log2p(max);
        if post.author != NONE {
            row[AUTHOR] = log2p(strength(asker.authors, post.author));
        }
        if let Some(choices) = asker.choices {
            row[FOLLOWS] = f32::from(u8::from(choices.follows.contains(&post.author)));
            let follows_tag = post.tags().iter().any(|tag| choices.followed_tags.contains(tag));
            row[FOLLOWS_TAG] = f32::from(u8::from(follows_tag));
        }
        if texts_len > 0 && !post.signature.is_empty() {
            let (mut sum, mut max) = (0.0_f32, 0.0_f32);
            for text in &texts[..texts_len] {
                let similarity = text.similarity(&post.signature);
                sum += similarity;
                max = max.max(similarity);
            }
            row[TEXT_MAX] = max * 4.0;
            row[TEXT_MEAN] = sum / texts_len as f32 * 4.0;
        }
        for w in 0..4 {
            row[SHARE + w] = row[READERS + w] - traffic[w];
        }
        row[TRAFFIC] = traffic[1];
        if post.hot_s > 0 {
            let hp = asker.recent.iter().take_while(|(_, at_s)| *at_s >= post.hot_s).count();
            row[HOT_PASSED] = 1.0 + log2p(hp as f32);
            row[HOT_AGE] = log2p((now_ms / 1000).saturating_sub(u64::from(post.hot_s)) as f32 / 60.0);
        }
        if let Some(taste) = asker.taste {
            row[AGE_TASTE] = (row[AGE] - taste.0).abs();
            row[SHARE_TASTE] = (row[SHARE + 1] - taste.1).abs();
        }
        let cont = crate::actors::recommendation::fixed::value(post.continued, post.touched_ms, now_ms, settings.half_lives_ms[3]);
        row[CONTINUED] = ((cont + 1.0) / (post.readers_in(settings, 3, now_ms) + 2.0)).log2();
        row[NEXT_LIFT] = candidate.next_lift;
        row[LIFT_MAX] = candidate.because_lift;
        row[SESSION] = log2p(session as f32);
        row[SESSION_LIFT] = candidate.lift_session;
        row[ACTIVE] = log2p(now_ms.saturating_sub(post.active_ms.max(post.born_ms)) as f32 / 60_000.0);
        row[READERS_EVER] = log2p(post.readers as f32);
        row[HISTORY] = history;
        row[PAUSE] = pause;
    }
    rank_births(engine, scratch);
    static MASK: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();
    let mask = MASK.get_or_init(|| std::env::var("MASK").map_or(vec![], |m| m.split(',').flat_map(|x| { let mut p = x.split('-').map(|y| y.parse::<usize>().unwrap()); let a = p.next().unwrap(); let b = p.next().unwrap_or(a); a..=b }).collect()));
    for row in scratch.features.chunks_exact_mut(FEATURES) { for m in mask { row[*m] = 0.0; } }
}

/// The place of a candidate among the newest posts.
fn rank_births(engine: &Engine, scratch: &mut Scratch) {
    for row in scratch.features.chunks_exact_mut(FEATURES) {
        row[BIRTH_RANK] = 9.0;
    }
    for (nth, place) in engine.newest.places().iter().enumerate() {
        if let Some(index) = scratch.map.find(place.post)
            && usize::from(index) < scratch.candidates.len()
            && scratch.candidates[usize::from(index)].post == place.post
        {
            scratch.features[usize::from(index) * FEATURES + BIRTH_RANK] = log2p(nth as f32);
        }
    }
}

/// The logarithm to base 2 of one more than a number that is not negative.
fn log2p(value: f32) -> f32 {
    (1.0 + value).log2()
}
