//! What scenarios hand to the report: series of figures, and what is promised of them.

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Time.
    Milliseconds,
    /// Short time.
    Microseconds,
    /// Memory, in units of 1,000,000 bytes.
    Megabytes,
    /// Containers or requests a second.
    PerSecond,
    /// Anything that is counted.
    Count,
}

impl Unit {
    /// How it is written behind a figure.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Microseconds => "µs",
            Self::Megabytes => "MB",
            Self::PerSecond => "/s",
            Self::Count => "",
        }
    }
}

/// One series of figures: one runtime in one scenario.
#[derive(Clone, Debug)]
pub(crate) struct Measurement {
    /// The scenario's name.
    pub(crate) scenario: &'static str,
    /// The runtime, as [`crate::runtime::Runtime::name`] has it.
    pub(crate) runtime: &'static str,
    /// What was measured.
    pub(crate) what: &'static str,
    /// Of what the samples are.
    pub(crate) unit: Unit,
    /// In the order in which they were taken.
    pub(crate) samples: Vec<f64>,
}

/// A bound that a promise sets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// Held by this and more.
    AtLeast(f64),
    /// Held by this and less.
    AtMost(f64),
}

impl Bound {
    /// Whether a figure holds it.
    pub(crate) fn held(self, measured: f64) -> bool {
        match self {
            Self::AtLeast(bound) => measured >= bound,
            Self::AtMost(bound) => measured <= bound,
        }
    }
}

/// What a scenario promises, and the figure that was measured.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    /// The promise in words.
    pub(crate) text: &'static str,
    /// The figure.
    pub(crate) measured: f64,
    /// What it must be.
    pub(crate) bound: Bound,
    /// What the figure is of: `x` for a ratio.
    pub(crate) unit: &'static str,
}

/// All that a scenario found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// The series.
    pub(crate) measurements: Vec<Measurement>,
    /// The promises.
    pub(crate) promises: Vec<Promise>,
    /// Sentences for the report: how it was measured, what was seen beside.
    pub(crate) notes: Vec<String>,
    /// Why nothing was measured, if so.
    pub(crate) skipped: Option<String>,
}

/// The middle, and how far the figures lie around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    /// How many figures there are.
    pub(crate) count: usize,
    /// The middle one.
    pub(crate) median: f64,
    /// A quarter of the figures lie below it.
    pub(crate) lower: f64,
    /// A quarter of the figures lie above it.
    pub(crate) upper: f64,
    /// One of a hundred figures lies above it.
    pub(crate) p99: f64,
    /// The smallest.
    pub(crate) least: f64,
}

impl Measurement {
    /// The middle and the spread; none without samples.
    pub(crate) fn summary(&self) -> Option<Summary> {
        summary(&self.samples)
    }
}

/// The middle and the spread of figures; none if there are none.
pub(crate) fn summary(samples: &[f64]) -> Option<Summary> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(Summary {
        count: sorted.len(),
        least: *sorted.first()?,
        median: quantile(&sorted, 0.5)?,
        lower: quantile(&sorted, 0.25)?,
        upper: quantile(&sorted, 0.75)?,
        p99: quantile(&sorted, 0.99)?,
    })
}

/// How many times the first's figure the other's is, round by round: in a round the two stand side by side, so that
/// what slowed the machine slowed both. None if they were not taken in the same rounds.
pub(crate) fn ratios(first: &[f64], other: &[f64]) -> Option<Summary> {
    if first.len() != other.len() || first.len() < 2 {
        return None;
    }
    let ratios: Vec<f64> = first
        .iter()
        .zip(other)
        .map(|(first, other)| other / first)
        .collect();
    summary(&ratios)
}

/// The median; not a number without samples.
pub(crate) fn median(samples: &[f64]) -> f64 {
    summary(samples).map_or(f64::NAN, |summary| summary.median)
}

/// The 99th percentile; not a number without samples.
pub(crate) fn p99(samples: &[f64]) -> f64 {
    summary(samples).map_or(f64::NAN, |summary| summary.p99)
}

/// Between two figures it lies as far as the share says.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share * precise(last);
    let below = whole(place);
    let (low, high) = (sorted.get(below)?, sorted.get((below + 1).min(last))?);
    Some(low + (high - low) * (place - precise(below)))
}

/// A count as a figure.
#[expect(
    clippy::cast_precision_loss,
    reason = "no scenario takes as many samples as a double cannot count"
)]
pub(crate) fn precise(count: usize) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count is neither negative nor larger than it"
)]
fn whole(place: f64) -> usize {
    place as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_samples() {
        let found = summary(&[4.0, 1.0, 3.0, 2.0, 5.0]).unwrap();
        assert_eq!(
            (found.median, found.lower, found.upper, found.least),
            (3.0, 2.0, 4.0, 1.0)
        );
        assert!((summary(&[1.0, 2.0]).unwrap().median - 1.5).abs() < 1e-9);
        assert!((found.p99 - 4.96).abs() < 1e-9);
        assert_eq!(summary(&[]), None);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let found = ratios(&[1.0, 2.0, 4.0], &[3.0, 4.0, 8.0]).unwrap();
        assert!((found.median - 2.0).abs() < 1e-9 && (found.upper - 2.5).abs() < 1e-9);
        assert_eq!(ratios(&[1.0, 2.0], &[1.0]), None);
    }

    #[test]
    fn bounds_hold_at_their_figure() {
        assert!(Bound::AtLeast(6.0).held(6.0) && !Bound::AtLeast(6.0).held(5.9));
        assert!(Bound::AtMost(1.3).held(1.3) && !Bound::AtMost(1.3).held(1.4));
        assert!(!Bound::AtMost(1.3).held(f64::NAN) && !Bound::AtLeast(1.3).held(f64::NAN));
    }
}
