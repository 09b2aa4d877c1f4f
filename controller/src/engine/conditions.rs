use dagwright_crds::conditions::{
    PROGRESSING, PROGRESSING_WITH_RETRY, READY, RECONCILING, STALLED, SUCCEEDED,
};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{Extra, Verdict};

/// The three values of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tri {
    /// True.
    True,
    /// False.
    False,
    /// Not known.
    Unknown,
}

impl Tri {
    /// As conditions write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Tri {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// Longest message that we write; the schema allows more, people read less.
const MESSAGE: usize = 2048;

/// The conditions of an object, by the contract of kstatus: Ready always, Reconciling and Stalled only while true and never
/// both, every one with the generation that it speaks of. A transition time moves only when a status flips.
#[must_use]
pub fn build(
    old: &[Condition],
    generation: i64,
    verdict: &Verdict,
    extra: &[Extra],
    now: Timestamp,
) -> Vec<Condition> {
    let mut rows: Vec<(&str, Tri, &str, &str)> = vec![];
    match verdict {
        Verdict::Ready { message } => rows.push((READY, Tri::True, SUCCEEDED, message)),
        Verdict::Progressing { message } => {
            rows.push((READY, Tri::Unknown, PROGRESSING, message));
            rows.push((RECONCILING, Tri::True, PROGRESSING, message));
        }
        Verdict::Retrying { message } => {
            rows.push((READY, Tri::False, PROGRESSING_WITH_RETRY, message));
            rows.push((RECONCILING, Tri::True, PROGRESSING_WITH_RETRY, message));
        }
        Verdict::Stalled(stall) => {
            rows.push((READY, Tri::False, stall.reason, &stall.message));
            rows.push((STALLED, Tri::True, stall.reason, &stall.message));
        }
    }
    rows.extend(extra.iter().map(|e| (e.type_, e.status, e.reason, e.message.as_str())));
    let row = |(type_, status, reason, message): (&str, Tri, &str, &str)| {
        let same = old.iter().find(|c| c.type_ == type_ && c.status == status.as_str());
        Condition {
            type_: type_.into(),
            status: status.as_str().into(),
            reason: reason.into(),
            message: message.chars().take(MESSAGE).collect(),
            last_transition_time: same.map_or_else(|| Time(seconds(now)), |c| c.last_transition_time.clone()),
            observed_generation: Some(generation),
        }
    };
    rows.into_iter().map(row).collect()
}

/// Conditions carry whole seconds; a finer time would differ from what comes back.
fn seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Stall;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn types(conditions: &[Condition]) -> Vec<(String, String)> {
        conditions.iter().map(|c| (c.type_.clone(), c.status.clone())).collect()
    }

    #[test]
    fn reconciling_and_stalled_stand_only_while_true_and_never_together() {
        let ready = build(&[], 1, &Verdict::Ready { message: String::new() }, &[], at(1));
        assert_eq!(types(&ready), [("Ready".into(), "True".into())]);
        let retrying = build(&ready, 1, &Verdict::Retrying { message: "x".into() }, &[], at(2));
        assert_eq!(
            types(&retrying),
            [("Ready".into(), "False".into()), ("Reconciling".into(), "True".into())]
        );
        let stalled = build(&retrying, 1, &Verdict::Stalled(Stall::new("NoNetwork", "x")), &[], at(3));
        assert_eq!(types(&stalled), [("Ready".into(), "False".into()), ("Stalled".into(), "True".into())]);
    }

    #[test]
    fn a_transition_time_moves_only_when_the_status_flips() {
        let first = build(&[], 1, &Verdict::Ready { message: "a".into() }, &[], at(1));
        let second = build(&first, 2, &Verdict::Ready { message: "b".into() }, &[], at(9));
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);
        assert_eq!(second[0].observed_generation, Some(2), "every condition speaks of the new generation");
        let third = build(&second, 2, &Verdict::Retrying { message: "c".into() }, &[], at(20));
        assert_eq!(third[0].last_transition_time, Time(at(20)));
    }
}
