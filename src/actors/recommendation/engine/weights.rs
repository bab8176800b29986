//! The ranker: a small network over the features of a candidate, as values.

use crate::actors::recommendation::engine::features::FEATURES;
use crate::actors::recommendation::engine::scratch::Scratch;
use crate::actors::signature::mix;

/// Units of the hidden layer.
pub(super) const HIDDEN: usize = 16;
/// Normal values beyond this are cut: one odd post must not turn the ranker.
const NORMAL_MAX: f32 = 4.0;
/// Slope of a hidden unit below zero.
pub(super) const LEAK: f32 = 0.1;

/// Where each part begins in the values.
pub(super) const MEAN: usize = 0;
pub(super) const SCALE: usize = MEAN + FEATURES;
pub(super) const LINEAR: usize = SCALE + FEATURES;
/// By feature, then by unit.
pub(super) const INNER: usize = LINEAR + FEATURES;
pub(super) const BIAS: usize = INNER + HIDDEN * FEATURES;
pub(super) const OUTER: usize = BIAS + HIDDEN;
/// Says that the parts lie like this: grows with every other order of them.
const LAYOUT_AT: usize = OUTER + HIDDEN;
const LAYOUT: f32 = 2.0;
pub(super) const VALUES: usize = LAYOUT_AT + 1;

/// Weights of the ranker with a version: a value that is logged, and set into every replica.
///
/// A score is a linear function of the normalised features plus one hidden layer. The linear part
/// starts at a guess, so that the first reader is served; the layer starts without effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    version: u64,
    values: Box<[f32]>,
}

impl Weights {
    /// Weights from their values.
    ///
    /// Returns `None` when there are too few or too many, one is not finite, or they are of another
    /// layout.
    pub fn from_values(version: u64, values: &[f32]) -> Option<Self> {
        let is_sound = values.len() == VALUES
            && values[LAYOUT_AT] == LAYOUT
            && values.iter().all(|value| value.is_finite());
        is_sound.then(|| Self { version, values: values.into() })
    }

    /// Weights that were saved. Those of a program with another layout are left: what they had
    /// learned is learned anew.
    ///
    /// Returns `None` when one is not finite: that was never saved.
    pub(super) fn restored(version: u64, values: &[f32]) -> Option<Self> {
        match values.get(LAYOUT_AT) {
            Some(&LAYOUT) if values.len() == VALUES => Self::from_values(version, values),
            _ => {
                tracing::warn!("the ranker's weights are of another program: it learns anew");
                Some(Self::default())
            }
        }
    }

    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The values, to be logged.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The same layout and version with other values.
    #[cfg(test)]
    pub(crate) fn map(&self, value: impl Fn(f32) -> f32) -> Self {
        let mut values = self.values.clone();
        values[..LAYOUT_AT].iter_mut().for_each(|old| *old = value(*old));
        Self { version: self.version, values }
    }

    pub(super) fn raise_version(&mut self) {
        self.version += 1;
    }

    /// How many of the candidates in `scratch` these weights prefer to the one with this index. One
    /// that gets no number as its score comes last.
    pub fn rank_of(&self, scratch: &mut Scratch, chosen: usize) -> usize {
        self.normalise(&scratch.features, &mut scratch.normal);
        self.score(&scratch.normal, 0, &mut scratch.scores);
        let score = scratch.scores[chosen];
        if score.is_nan() {
            return scratch.scores.len();
        }
        scratch.scores.iter().filter(|other| **other > score).count()
    }

    /// Writes normalised features: near 0 and of size 1 over the candidates seen so far.
    pub(super) fn normalise(&self, features: &[f32], normal: &mut Vec<f32>) {
        normal.resize(features.len(), 0.0);
        let (mean, scale) = (&self.values[MEAN..SCALE], &self.values[SCALE..LINEAR]);
        // Rows of a length that the compiler knows: eight values at a time, and no check for each.
        let rows = features.as_chunks::<FEATURES>().0.iter();
        for (row, normal) in rows.zip(normal.as_chunks_mut::<FEATURES>().0) {
            for (n, normal) in normal.iter_mut().enumerate() {
                *normal = ((row[n] - mean[n]) * scale[n]).clamp(-NORMAL_MAX, NORMAL_MAX);
            }
        }
    }

    /// Writes the scores of rows of normalised features behind the `first` ones, which stay.
    pub(super) fn score(&self, normal: &[f32], first: usize, scores: &mut Vec<f32>) {
        scores.truncate(first);
        let mut units = [0.0; HIDDEN];
        scores.extend(normal.chunks_exact(FEATURES).map(|row| self.score_row(row, &mut units)));
    }

    /// The score of a row; `units` are the sums that enter the hidden units.
    #[inline]
    pub(super) fn score_row(&self, row: &[f32], units: &mut [f32; HIDDEN]) -> f32 {
        let (inner, _) = self.values[INNER..BIAS].as_chunks::<HIDDEN>();
        let (bias, outer) = (&self.values[BIAS..OUTER], &self.values[OUTER..LAYOUT_AT]);
        // All units at once, in two sums each: a sum of so many waits for itself.
        let mut sums = [[0.0; HIDDEN]; 2];
        for (pair, inner) in row.chunks_exact(2).zip(inner.chunks_exact(2)) {
            for half in 0..2 {
                for unit in 0..HIDDEN {
                    sums[half][unit] += pair[half] * inner[half][unit];
                }
            }
        }
        let mut score = dot(row, &self.values[LINEAR..INNER]);
        for unit in 0..HIDDEN {
            let sum = bias[unit] + sums[0][unit] + sums[1][unit];
            units[unit] = sum;
            score += outer[unit] * sum.max(LEAK * sum);
        }
        score
    }
}

impl Default for Weights {
    fn default() -> Self {
        let mut values = vec![0.0; VALUES];
        values[SCALE..LINEAR].fill(1.0);
        values[LAYOUT_AT] = LAYOUT;
        for (feature, weight) in crate::actors::recommendation::engine::features::GUESS {
            values[LINEAR + feature] = weight;
        }
        // Different from each other, or the hidden units would learn the same.
        for (n, value) in values[INNER..BIAS].iter_mut().enumerate() {
            let n = n % HIDDEN * FEATURES + n / HIDDEN;
            let unit = mix(n as u64) as u32 as f32 / u32::MAX as f32;
            *value = (unit - 0.5) * 2.0 / (FEATURES as f32).sqrt();
        }
        Self { version: 0, values: values.into() }
    }
}

/// A dot product in eight lanes, which the compiler turns into vector instructions.
#[inline]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum()
}

const _: () = assert!(FEATURES.is_multiple_of(8), "dot works in lanes of eight");
