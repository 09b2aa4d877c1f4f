//! What a provider's JSON-RPC error means. Codes say little (-32005 is a range limit here and a rate limit there), so the
//! message decides, and shapes of range limits are tried before those of rate limits: "Block range limit exceeded." holds
//! "limit exceeded".

/// The meaning of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The request's own fault, or a limit that the caller can respect: another provider would say the same or less.
    Caller,
    /// The provider lacks this block, now or for good; another may have it.
    Missing,
    /// Too fast, or the quota is used up.
    RateLimited,
    /// The provider's own trouble.
    Provider,
}

const RANGE: [&str; 24] = [
    "block range should work",
    "try with this block range",
    "requested too many blocks",
    "block range limit exceeded",
    "block range is too",
    "block range too large",
    "range is too large",
    "max block range",
    "maximum block range",
    "max range",
    "block range greater than",
    "block range exceeds",
    "exceeds the range allowed",
    "at most",
    "limited to",
    "backend response too large",
    "query exceeds max",
    "exceeds limit of",
    "query returned more than",
    "response size should not",
    "is too big",
    "too many results",
    "logs over more",
    "try paginating",
];
const RATE: [&str; 10] = [
    "rate limit",
    "too many requests",
    "request limit",
    "limit exceeded",
    "has exceeded",
    "reached the free tier",
    "monthly capacity",
    "limit for your current plan",
    "quota",
    "throttl",
];
const MISSING: [&str; 9] = [
    "unknown block",
    "block not found",
    "header not found",
    "cannot query unfinalized data",
    "after last accepted block",
    "invalid block height",
    "missing trie node",
    "beyond current head",
    "no state available",
];

/// Classifies an error of a JSON-RPC answer.
#[must_use]
pub fn classify(code: i64, message: &str) -> ErrorClass {
    let message = message.to_ascii_lowercase();
    let has = |shapes: &[&str]| shapes.iter().any(|shape| message.contains(shape));
    // Quota words come first: "limited to"-like texts about a plan must never make the caller split its ranges.
    if has(&["free tier", "monthly capacity", "current plan"]) {
        ErrorClass::RateLimited
    } else if has(&RANGE) {
        ErrorClass::Caller
    } else if has(&MISSING) {
        ErrorClass::Missing
    } else if has(&RATE) || code == 429 {
        ErrorClass::RateLimited
    } else if matches!(code, -32600 | -32601 | -32602 | 3) || has(&["execution reverted"]) {
        ErrorClass::Caller
    } else {
        ErrorClass::Provider
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_decides() {
        for (code, message, class) in [
            (-32005, "Block range limit exceeded.", ErrorClass::Caller),
            (-32005, "rate limit exceeded", ErrorClass::RateLimited),
            (-32602, "this block range should work: [0x1, 0x2]", ErrorClass::Caller),
            (-32601, "Method not found", ErrorClass::Caller),
            (-32602, "invalid argument 0", ErrorClass::Caller),
            (3, "execution reverted: no", ErrorClass::Caller),
            (-32000, "header not found", ErrorClass::Missing),
            (-32000, "cannot query unfinalized data", ErrorClass::Missing),
            (-32603, "internal error", ErrorClass::Provider),
            (-32000, "upstream broke", ErrorClass::Provider),
            (-32000, "You have reached the free tier; limited to 5", ErrorClass::RateLimited),
            (429, "slow down", ErrorClass::RateLimited),
        ] {
            assert_eq!(classify(code, message), class, "{code} {message}");
        }
    }
}
