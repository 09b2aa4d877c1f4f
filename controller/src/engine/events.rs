use dagwright_crds::conditions::{READY, STALLED, SYNCED};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Resource,
    runtime::events::{Event, EventType},
};

use crate::context::{Context, KUBE_TIMEOUT};

/// An event to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// What a person should be told of a change of conditions: the beginning and the end of trouble, and that a target was
/// reached. Nothing for plain success.
pub(crate) fn notes(old: &[Condition], new: &[Condition], drift: &[String]) -> Vec<Note> {
    let find = |all: &[Condition], type_: &str| all.iter().find(|c| c.type_ == type_).cloned();
    let mut notes = vec![];
    let (was, is) = (find(old, READY), find(new, READY));
    let stalled_before = find(old, STALLED).map(|c| c.reason);
    if let Some(stalled) = find(new, STALLED) {
        if stalled_before.as_ref() != Some(&stalled.reason) {
            notes.push(Note { warning: true, reason: stalled.reason, message: stalled.message });
        }
    } else if let Some(is) = &is {
        let failed_before = was.as_ref().is_some_and(|c| c.status == "False");
        if is.status == "False"
            && was.as_ref().map(|c| (&c.status, &c.reason)) != Some((&is.status, &is.reason))
        {
            notes.push(Note { warning: true, reason: is.reason.clone(), message: is.message.clone() });
        }
        if is.status == "True" && failed_before {
            notes.push(Note { warning: false, reason: "Recovered".into(), message: is.message.clone() });
        }
    }
    if let Some(synced) = find(new, SYNCED)
        && synced.status == "True"
        && find(old, SYNCED).is_some_and(|c| c.status != "True")
    {
        notes.push(Note { warning: false, reason: synced.reason, message: synced.message });
    }
    if !drift.is_empty() {
        let message = format!("corrected outside changes: {}", drift.join(", "));
        notes.push(Note { warning: true, reason: "DriftCorrected".into(), message });
    }
    notes
}

/// Publishes. An event that cannot be written is no reason to fail a pass: the conditions say the same.
pub(crate) async fn publish<O: Resource<DynamicType = ()>>(ctx: &Context, object: &O, notes: Vec<Note>) {
    let reference = object.object_ref(&());
    for note in notes {
        let event = Event {
            type_: if note.warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason,
            // 1 kB is the limit of the API.
            note: Some(note.message.chars().take(900).collect()),
            action: "Reconcile".into(),
            secondary: None,
        };
        let sent = tokio::time::timeout(KUBE_TIMEOUT, ctx.recorder.publish(&event, &reference)).await;
        if !matches!(sent, Ok(Ok(()))) {
            metrics::counter!("dagwright_controller_events_lost_total").increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::engine::{Stall, Verdict, build_conditions};

    #[test]
    fn events_mark_the_beginning_and_the_end_of_trouble() {
        let build = |old: &[Condition], v: Verdict| build_conditions(old, 1, &v, &[], Timestamp::UNIX_EPOCH);
        let ready = build(&[], Verdict::Ready { message: String::new() });
        assert!(notes(&[], &ready, &[]).is_empty(), "no event for plain success");
        let stalled = build(&ready, Verdict::Stalled(Stall::new("NoNetwork", "x")));
        assert_eq!(notes(&ready, &stalled, &[]).len(), 1);
        assert!(notes(&stalled, &stalled, &[]).is_empty(), "not again while it lasts");
        let other = build(&stalled, Verdict::Stalled(Stall::new("NoRoles", "x")));
        assert_eq!(notes(&stalled, &other, &[])[0].reason, "NoRoles");
        assert_eq!(notes(&other, &ready, &[])[0].reason, "Recovered");
        assert_eq!(notes(&ready, &ready, &["queue attributes".into()])[0].reason, "DriftCorrected");
    }
}
