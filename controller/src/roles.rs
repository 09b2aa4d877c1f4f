//! Which IAM roles the workers of a namespace may act as. Whoever may write a WorkerPool chooses the image that gets the role's
//! keys, so that naming a role is taking it; AWS itself only knows which roles this controller may pass, for all namespaces.

use std::str::FromStr;

use wildmatch::WildMatch;

/// One entry of the allow-list: workers of the namespace may act as the roles that the pattern matches.
#[derive(Clone, Debug, PartialEq)]
pub struct AllowedRole {
    namespace: WildMatch,
    arn: WildMatch,
}

/// Why an entry cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not namespace=arn, such as demo=arn:aws:iam::123456789012:role/demo-*")]
pub struct AllowedRoleError(String);

impl FromStr for AllowedRole {
    type Err = AllowedRoleError;

    fn from_str(text: &str) -> Result<Self, AllowedRoleError> {
        let entry = text
            .trim()
            .split_once('=')
            .filter(|(namespace, arn)| !namespace.is_empty() && arn.starts_with("arn:"));
        let (namespace, arn) = entry.ok_or_else(|| AllowedRoleError(text.to_owned()))?;
        Ok(Self { namespace: WildMatch::new(namespace), arn: WildMatch::new(arn) })
    }
}

impl AllowedRole {
    /// Whether any entry lets workers of `namespace` act as `arn`.
    #[must_use]
    pub fn any(entries: &[Self], namespace: &str, arn: &str) -> bool {
        entries.iter().any(|entry| entry.namespace.matches(namespace) && entry.arn.matches(arn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<AllowedRole> {
        entries.iter().map(|entry| entry.parse().expect("an entry")).collect()
    }

    #[test]
    fn a_role_is_a_namespaces_own_unless_a_pattern_says_more() {
        let role = |name: &str| format!("arn:aws:iam::123456789012:role/{name}");
        let entries = list(&[
            "demo=arn:aws:iam::123456789012:role/demo-*",
            "*=arn:aws:iam::123456789012:role/shared",
            "team-?=arn:aws:iam::123456789012:role/team",
        ]);
        let allowed = |namespace, name: &str| AllowedRole::any(&entries, namespace, &role(name));
        assert!(allowed("demo", "demo-a") && allowed("demo", "shared") && allowed("other", "shared"));
        assert!(allowed("team-a", "team"));
        assert!(!allowed("other", "demo-a"), "another namespace's");
        assert!(!allowed("demo", "admin") && !allowed("team-aa", "team") && !allowed("demo", "x-shared"));
        assert!(!AllowedRole::any(&[], "demo", &role("shared")), "an empty list allows nothing");
    }

    #[test]
    fn an_entry_that_makes_no_sense_is_refused_at_the_start() {
        for text in ["", "demo", "=arn:aws:iam::1:role/x", "demo=role/x", "arn:aws:iam::1:role/x"] {
            let error = text.parse::<AllowedRole>().expect_err(text);
            assert!(error.to_string().contains("namespace=arn"), "{error}");
        }
    }
}
