//! Numbers from samples.

/// The middle sample, or the mean of the two middle ones; none without samples.
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    percentile(samples, 0.5)
}

/// The value below which that share of the samples lies, interpolated between neighbours.
pub(crate) fn percentile(samples: &[f64], share: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let at = share.clamp(0.0, 1.0) * index(last);
    let below = at.floor();
    let (low, high) = (sorted.get(whole(below))?, sorted.get(whole(at.ceil()))?);
    Some(low + (high - low) * (at - below))
}

/// Sample counts lie far below 2^52, where every whole number is a float.
#[expect(clippy::cast_precision_loss, reason = "a count of samples is small")]
fn index(n: usize) -> f64 {
    n as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a floored position in a slice")]
fn whole(at: f64) -> usize {
    at as usize
}

/// A count as a number to divide by.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark lie far below 2^52")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_needs_no_order_and_splits_the_two_middle_ones() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn percentiles_are_interpolated_and_end_at_the_extremes() {
        let samples: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(percentile(&samples, 0.99), Some(99.0));
        assert_eq!(percentile(&samples, 1.0), Some(100.0));
        assert_eq!(percentile(&samples, 0.0), Some(0.0));
        assert_eq!(percentile(&[1.0, 2.0], 0.25), Some(1.25));
    }
}
