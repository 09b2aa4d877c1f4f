//! In which order a pool's providers are asked. Pure.

use dagwright_contracts::gateway::ProviderState;

/// What decides a provider's place.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Its state now.
    pub state: ProviderState,
    /// Whether the caller would rather have another.
    pub avoided: bool,
}

/// Indices of the usable providers, best first: as the pool lists them, but degraded ones behind, and avoided ones behind
/// those. Cordoned and refused ones are not usable at all.
#[must_use]
pub fn order(standings: &[Standing]) -> Vec<usize> {
    let mut usable: Vec<usize> = (0..standings.len()).filter(|i| is_usable(standings[*i].state)).collect();
    usable.sort_by_key(|i| (standings[*i].avoided, standings[*i].state == ProviderState::Degraded, *i));
    usable
}

fn is_usable(state: ProviderState) -> bool {
    match state {
        ProviderState::Healthy | ProviderState::Degraded | ProviderState::Unknown => true,
        ProviderState::Cordoned | ProviderState::Refused => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standings(all: &[(ProviderState, bool)]) -> Vec<Standing> {
        all.iter().map(|(state, avoided)| Standing { state: *state, avoided: *avoided }).collect()
    }

    #[test]
    fn preference_then_health_then_the_callers_wish() {
        use ProviderState::{Cordoned, Degraded, Healthy, Refused, Unknown};
        let all = [
            (Degraded, false),
            (Healthy, true),
            (Unknown, false),
            (Healthy, false),
            (Cordoned, false),
            (Refused, false),
        ];
        assert_eq!(order(&standings(&all)), vec![2, 3, 0, 1]);
        assert_eq!(order(&standings(&[(Healthy, true)])), vec![0], "an avoided provider is better than none");
        assert!(order(&standings(&[(Cordoned, false)])).is_empty(), "a cordoned one is not");
    }
}
