//! Taking typed fields out of a JSON object, with the path in every error.

use alloy_primitives::{Address, B64, B256, Bloom, Bytes, U256, hex};
use serde_json::{Map, Value};

/// An answer that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not JSON.
    #[error("parse {what} as JSON")]
    NotJson {
        /// Which answer.
        what: String,
        /// Where it stopped.
        #[source]
        source: serde_json::Error,
    },
    /// The provider answered with an error object.
    #[error("{what}: the provider answered with the error {error}")]
    RpcError {
        /// Which answer.
        what: String,
        /// The error object, as JSON.
        error: String,
    },
    /// The provider answered null: it does not have what was asked for.
    #[error("{what}: the provider answered null")]
    Null {
        /// Which answer.
        what: String,
    },
    /// A field that must be there is not.
    #[error("{path}: the field is missing")]
    Missing {
        /// Path of the field.
        path: String,
    },
    /// A field has another shape than its meaning asks for.
    #[error("{path}: expected {expected}, got {got}")]
    Malformed {
        /// Path of the field.
        path: String,
        /// What it should have been.
        expected: &'static str,
        /// What it was, cut short.
        got: String,
    },
}

/// A type that can be read from one JSON value.
pub(super) trait FromJson: Sized {
    const EXPECTED: &'static str;
    fn from_json(value: &Value) -> Option<Self>;
}

/// An object whose known fields are taken out one by one; what stays was not modelled.
pub(super) struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    pub(super) fn new(path: String, value: Value) -> Result<Self, DecodeError> {
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            Value::Null => Err(DecodeError::Null { what: path }),
            other => Err(malformed(path, "an object", &other)),
        }
    }

    pub(super) fn value(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn optional<T: FromJson>(&mut self, name: &str) -> Result<Option<T>, DecodeError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        T::from_json(&value).map(Some).ok_or_else(|| malformed(self.child(name), T::EXPECTED, &value))
    }

    pub(super) fn required<T: FromJson>(&mut self, name: &str) -> Result<T, DecodeError> {
        self.optional(name)?.ok_or_else(|| DecodeError::Missing { path: self.child(name) })
    }

    /// The elements of an array, each with its path.
    pub(super) fn list(&mut self, name: &str) -> Result<Option<Vec<(String, Value)>>, DecodeError> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => elements(&self.child(name), value).map(Some),
        }
    }

    pub(super) fn optional_list<T: FromJson>(&mut self, name: &str) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(items) = self.list(name)? else { return Ok(None) };
        let read = |(path, value): (String, Value)| {
            T::from_json(&value).ok_or_else(|| malformed(path, T::EXPECTED, &value))
        };
        items.into_iter().map(read).collect::<Result<_, _>>().map(Some)
    }

    /// Drops fields that are known to repeat another one.
    pub(super) fn rest(mut self) -> Map<String, Value> {
        self.map.retain(|_, value| !value.is_null());
        self.map
    }

    pub(super) fn child(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

pub(super) fn elements(path: &str, value: Value) -> Result<Vec<(String, Value)>, DecodeError> {
    match value {
        Value::Array(items) => {
            Ok(items.into_iter().enumerate().map(|(i, item)| (format!("{path}[{i}]"), item)).collect())
        }
        other => Err(malformed(path.to_owned(), "an array", &other)),
    }
}

pub(super) fn malformed(path: String, expected: &'static str, value: &Value) -> DecodeError {
    const SHOWN: usize = 80;
    let mut got = value.to_string();
    if got.len() > SHOWN {
        let cut = (0..=SHOWN).rev().find(|at| got.is_char_boundary(*at)).unwrap_or(0);
        got.truncate(cut);
        got.push('…');
    }
    DecodeError::Malformed { path, expected, got }
}

/// Digits of a hex quantity. Leading zeros are tolerated: some nodes pad.
fn digits(value: &Value) -> Option<&str> {
    let digits = value.as_str()?.strip_prefix("0x")?;
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit())).then_some(digits)
}

fn exact<const N: usize>(value: &Value) -> Option<[u8; N]> {
    let digits = value.as_str()?.strip_prefix("0x")?;
    let mut out = [0; N];
    hex::decode_to_slice(digits, &mut out).ok()?;
    // decode_to_slice accepts a second prefix, which would be a malformed answer.
    (digits.len() == 2 * N && !digits.starts_with("0x")).then_some(out)
}

macro_rules! quantity {
    ($($type:ty: $expected:literal),*) => {$(
        impl FromJson for $type {
            const EXPECTED: &'static str = $expected;
            fn from_json(value: &Value) -> Option<Self> {
                <$type>::from_str_radix(digits(value)?, 16).ok()
            }
        }
    )*};
}
quantity!(u64: "a hex quantity of at most 64 bits", u128: "a hex quantity of at most 128 bits");

impl FromJson for U256 {
    const EXPECTED: &'static str = "a hex quantity of at most 256 bits";
    fn from_json(value: &Value) -> Option<Self> {
        Self::from_str_radix(digits(value)?, 16).ok()
    }
}

macro_rules! fixed {
    ($($type:ty: $expected:literal),*) => {$(
        impl FromJson for $type {
            const EXPECTED: &'static str = $expected;
            fn from_json(value: &Value) -> Option<Self> {
                exact(value).map(Self::from)
            }
        }
    )*};
}
fixed!(B256: "32 bytes of hex", Address: "20 bytes of hex", B64: "8 bytes of hex", Bloom: "256 bytes of hex");

impl FromJson for Bytes {
    const EXPECTED: &'static str = "bytes of hex";
    fn from_json(value: &Value) -> Option<Self> {
        let digits = value.as_str()?.strip_prefix("0x")?;
        if digits.starts_with("0x") {
            return None;
        }
        hex::decode(digits).ok().map(Self::from)
    }
}

impl FromJson for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_json(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}
