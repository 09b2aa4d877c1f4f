//! Tables of manifests that a real API server is asked about: one valid object per kind, and what is changed in it.
//!
//! CRD admission tests live in `tests/api`. The API server is the judge, not our own reading of schema and rules: it is
//! what a user meets, and only it says what a message looks like.

use serde::Deserialize;
use serde_json::Value;

/// The cases of one kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub valid: Value,
    /// Must be admitted.
    pub good: Vec<Case>,
    /// Must be refused.
    pub bad: Vec<Case>,
    /// Changes of an object that exists: refused when they say how.
    pub changes: Vec<Case>,
}

/// One change of the valid object, and what the API server must answer.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Case {
    pub what: String,
    /// JSON pointer of the field that gets `value`; `-` is the end of a list.
    pub at: String,
    pub value: Value,
    /// JSON pointer of the field that is taken away, instead.
    pub remove: String,
    /// Path of the field as the answer names it; an answer about names and unknown fields has it in its text only.
    pub field: Option<String>,
    /// Part of the message.
    pub says: Option<String>,
}

impl Case {
    /// The object with the change made.
    ///
    /// # Errors
    /// When the object has no such place.
    pub fn applied_to(&self, valid: &Value) -> Result<Value, String> {
        let removes = self.at.is_empty();
        let pointer = if removes { &self.remove } else { &self.at };
        let lost = || format!("{}: the object has no place \"{pointer}\"", self.what);
        let mut object = valid.clone();
        let (parent, key) = pointer.rsplit_once('/').ok_or_else(lost)?;
        match object.pointer_mut(parent).ok_or_else(lost)? {
            Value::Object(fields) if removes => {
                fields.remove(key).ok_or_else(lost)?;
            }
            Value::Object(fields) => {
                fields.insert(key.to_owned(), self.value.clone());
            }
            Value::Array(items) if key == "-" && !removes => items.push(self.value.clone()),
            Value::Array(items) if !removes => {
                let index: usize = key.parse().map_err(|_| lost())?;
                *items.get_mut(index).ok_or_else(lost)? = self.value.clone();
            }
            _ => return Err(lost()),
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_touches_one_place() {
        let valid = json!({"a": {"b": [1, 2]}, "c": 3});
        let set = |at: &str, value| Case { at: at.into(), value, ..Case::default() }.applied_to(&valid);
        let remove = |at: &str| Case { remove: at.into(), ..Case::default() }.applied_to(&valid);
        assert_eq!(set("/a/d", json!(4)).unwrap(), json!({"a": {"b": [1, 2], "d": 4}, "c": 3}));
        assert_eq!(set("/a/b/1", json!(4)).unwrap(), json!({"a": {"b": [1, 4]}, "c": 3}));
        assert_eq!(set("/a/b/-", json!(4)).unwrap(), json!({"a": {"b": [1, 2, 4]}, "c": 3}));
        assert_eq!(remove("/a").unwrap(), json!({"c": 3}));
        assert!(set("/x/y", json!(4)).is_err());
        assert!(remove("/x").is_err(), "a case that removes nothing tests nothing");
    }
}
