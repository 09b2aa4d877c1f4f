//! How `kstatus`, and with it Flux and `kubectl wait` wrappers, read one of our objects.
//!
//! The six rules of cli-utils, for kinds that it does not know. Product code uses this to tell a person what tools will see.

use serde_json::Value;

/// What kstatus says of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kstatus {
    /// Being deleted.
    Terminating,
    /// Not there yet.
    InProgress,
    /// A human must act.
    Failed,
    /// As wanted.
    Current,
}

/// Evaluates an object, in the order of the rules.
#[must_use]
pub fn evaluate(object: &Value) -> Kstatus {
    if object.pointer("/metadata/deletionTimestamp").is_some_and(|t| !t.is_null()) {
        return Kstatus::Terminating;
    }
    let observed = object.pointer("/status/observedGeneration");
    if observed.is_some() && observed != object.pointer("/metadata/generation") {
        return Kstatus::InProgress;
    }
    let conditions =
        object.pointer("/status/conditions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let is = |c: &Value, key: &str, value: &str| c.get(key).and_then(Value::as_str) == Some(value);
    for condition in conditions.iter().filter(|c| is(c, "status", "True")) {
        if is(condition, "type", "Reconciling") {
            return Kstatus::InProgress;
        }
        if is(condition, "type", "Stalled") {
            return Kstatus::Failed;
        }
    }
    match conditions.iter().find(|c| is(c, "type", "Ready")) {
        Some(ready) if is(ready, "status", "True") => Kstatus::Current,
        Some(_) => Kstatus::InProgress,
        None => Kstatus::Current,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_rules_in_their_order() {
        let object = |generation: i64, observed: i64, conditions: Value| json!({ "metadata": { "generation": generation }, "status": { "observedGeneration": observed, "conditions": conditions } });
        let ready = json!({ "type": "Ready", "status": "True" });
        let stalled = json!({ "type": "Stalled", "status": "True" });
        assert_eq!(evaluate(&object(1, -1, json!([]))), Kstatus::InProgress, "nobody looked at it");
        assert_eq!(evaluate(&object(2, 1, json!([ready]))), Kstatus::InProgress, "an old generation");
        assert_eq!(evaluate(&object(1, 1, json!([ready]))), Kstatus::Current);
        assert_eq!(
            evaluate(&object(1, 1, json!([{ "type": "Ready", "status": "False" }, stalled]))),
            Kstatus::Failed
        );
        assert_eq!(
            evaluate(&object(1, 1, json!([{ "type": "Ready", "status": "Unknown" }]))),
            Kstatus::InProgress
        );
        let mut deleted = object(1, 1, json!([ready]));
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(evaluate(&deleted), Kstatus::Terminating);
        assert_eq!(
            evaluate(&json!({ "metadata": {} })),
            Kstatus::Current,
            "rule six is why the status has a default"
        );
    }
}
