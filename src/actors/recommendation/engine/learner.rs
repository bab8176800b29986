//! How the ranker learns: from one choice at a time.

use crate::actors::recommendation::engine::features::FEATURES;
use crate::actors::recommendation::engine::scratch::Scratch;
use crate::actors::recommendation::engine::weights::{
    BIAS, HIDDEN, INNER, LEAK, LINEAR, MEAN, OUTER, SCALE, VALUES, Weights,
};

/// How a learner learns.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerSettings {
    /// Step of the linear part.
    pub linear_rate: f32,
    /// Step of the hidden layer.
    pub hidden_rate: f32,
    /// Largest gradient of one value in one step.
    pub gradient_max: f32,
}

impl Default for LearnerSettings {
    fn default() -> Self {
        Self { linear_rate: 0.002, hidden_rate: 0.05, gradient_max: 10.0 }
    }
}

/// What the sums of squared gradients start with: so that the first lessons do not jump.
const SQUARES_START: f32 = 10.0;
/// Candidates with a smaller probability teach nothing worth the time.
const PROBABILITY_MIN: f32 = 1e-4;
/// No weight grows beyond this: far more than any that was ever learned.
const VALUE_MAX: f32 = 64.0;
/// Scales are larger; a smaller one comes from nowhere.
const VALUE_MIN: f32 = 1e-6;
/// Lessons until the normalisation follows slowly.
const NORMAL_LESSONS: f32 = 2_000.0;

/// Learns the weights: a listwise softmax (ListNet; Cao et al., ICML 2007) over the candidates of a
/// reader, of whom one was chosen, with Adagrad (Duchi et al., JMLR 2011).
///
/// Only the leader has one. What it learns reaches the engines as [`Weights`].
#[derive(Debug, Clone)]
pub struct Learner {
    settings: LearnerSettings,
    weights: Weights,
    /// Sums of squared gradients.
    squares: Vec<f32>,
    /// Mean and variance of each feature.
    mean: [f32; FEATURES],
    variance: [f32; FEATURES],
    lessons: f32,
    gradient: Vec<f32>,
}

impl Learner {
    /// A learner that goes on from weights.
    pub fn new(settings: LearnerSettings, weights: Weights) -> Self {
        let (mut mean, mut variance, mut lessons) = ([0.0; FEATURES], [1.0; FEATURES], 0.0);
        if weights.version() > 0 {
            // What was learned was learned in this normalisation.
            lessons = NORMAL_LESSONS;
            let values = weights.values();
            for feature in 0..FEATURES {
                mean[feature] = values[MEAN + feature];
                variance[feature] = values[SCALE + feature].max(VALUE_MIN).powi(-2);
            }
        }
        let (squares, gradient) = (vec![SQUARES_START; VALUES], vec![0.0; VALUES]);
        Self { settings, weights, squares, mean, variance, lessons, gradient }
    }

    /// What it knows by now.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Learns that of the candidates in `scratch` the one with this index was chosen.
    pub fn learn(&mut self, scratch: &mut Scratch, chosen: usize) {
        self.learn_weighted(scratch, chosen, 1.0);
    }

    /// The same for a choice that counts more or less than one.
    pub fn learn_weighted(&mut self, scratch: &mut Scratch, chosen: usize, weight: f32) {
        let rows = scratch.candidates.len();
        if chosen >= rows || rows < 2 {
            return;
        }
        self.watch(&scratch.features);
        self.weights.normalise(&scratch.features, &mut scratch.normal);
        self.weights.score(&scratch.normal, 0, &mut scratch.scores);
        softmax(&mut scratch.scores);
        self.gradient.fill(0.0);
        let mut units = [0.0; HIDDEN];
        for (row, normal) in scratch.normal.chunks_exact(FEATURES).enumerate() {
            let target = if row == chosen { 1.0 } else { 0.0 };
            let error = weight * (scratch.scores[row] - target);
            if error.abs() < PROBABILITY_MIN {
                continue;
            }
            self.weights.score_row(normal, &mut units);
            self.trace(normal, &units, error);
        }
        self.step();
    }

    /// Adds the gradient of one candidate.
    fn trace(&mut self, normal: &[f32], units: &[f32; HIDDEN], error: f32) {
        let values = self.weights.values();
        let gradient = &mut self.gradient;
        add_scaled(&mut gradient[LINEAR..INNER], normal, error);
        let mut inner = [0.0; HIDDEN];
        for (unit, sum) in units.iter().enumerate() {
            let (value, slope) = if *sum > 0.0 { (*sum, 1.0) } else { (LEAK * sum, LEAK) };
            gradient[OUTER + unit] += error * value;
            inner[unit] = error * values[OUTER + unit] * slope;
        }
        add_scaled(&mut gradient[BIAS..OUTER], &inner, 1.0);
        add_outer(gradient[INNER..BIAS].as_chunks_mut().0, normal, &inner);
    }

    fn step(&mut self) {
        let LearnerSettings { linear_rate, hidden_rate, gradient_max } = self.settings;
        let values = &mut self.weights.values_mut()[LINEAR..];
        let squares = &mut self.squares[LINEAR..];
        let gradient = &self.gradient[LINEAR..];
        for (nth, ((value, square), gradient)) in
            values.iter_mut().zip(squares).zip(gradient).enumerate()
        {
            let rate = if nth < INNER - LINEAR { linear_rate } else { hidden_rate };
            let gradient = gradient.clamp(-gradient_max, gradient_max);
            *square += gradient * gradient;
            *value = (*value - rate * gradient / square.sqrt()).clamp(-VALUE_MAX, VALUE_MAX);
        }
        self.weights.raise_version();
    }

    /// Follows the mean and size of the features, so that each counts alike whatever its unit.
    fn watch(&mut self, features: &[f32]) {
        self.lessons += 1.0;
        let share = 1.0 / self.lessons.min(NORMAL_LESSONS);
        let rows = (features.len() / FEATURES) as f32;
        let (mut sum, mut squares) = ([0.0; FEATURES], [0.0; FEATURES]);
        for row in features.chunks_exact(FEATURES) {
            for feature in 0..FEATURES {
                let distance = row[feature] - self.mean[feature];
                sum[feature] += distance;
                squares[feature] += distance * distance;
            }
        }
        let values = self.weights.values_mut();
        for feature in 0..FEATURES {
            self.mean[feature] += share * sum[feature] / rows;
            self.variance[feature] += share * (squares[feature] / rows - self.variance[feature]);
            values[MEAN + feature] = self.mean[feature];
            // What hardly varies is not blown up.
            values[SCALE + feature] = 1.0 / self.variance[feature].max(0.01).sqrt();
        }
    }
}

/// Adds each product of a feature and a unit. On its own, so that the compiler sees that none of them
/// overlap, and takes several units at once.
#[inline(never)]
fn add_outer(to: &mut [[f32; HIDDEN]], features: &[f32], units: &[f32; HIDDEN]) {
    for (row, feature) in to.iter_mut().zip(features) {
        for unit in 0..HIDDEN {
            row[unit] += feature * units[unit];
        }
    }
}

fn add_scaled(to: &mut [f32], from: &[f32], factor: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += factor * from;
    }
}

/// Turns scores into probabilities.
fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - most).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}
