use std::collections::BTreeMap;

use dagwright_crds::{
    RPC_KEY_LABEL, RpcPool,
    conditions::{INVALID_SPEC, NOT_OWNED, SECRET_MISSING, SECRET_NOT_LABELLED},
    rpc_pool::UrlSource,
};

use super::observe::{Observed, Source, Url, copy_name};
use crate::{
    context::{Context, OWNER_TAG},
    engine::Stall,
    reconcile::place,
};

/// A pool whose URLs are all there.
pub(super) struct Wanted {
    /// By provider, for those whose URL is in a Secret.
    pub(super) copies: BTreeMap<String, Copy>,
}

/// A copy as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) name: String,
    pub(super) url: Url,
    /// Version of the Secret, written as a tag.
    pub(super) version: String,
}

pub(super) fn validate(ctx: &Context, pool: &RpcPool, seen: &Observed) -> Result<Wanted, Stall> {
    let (namespace, name) = place(pool);
    let owner = ctx.owner("RpcPool", &namespace, &name);
    let mut copies = BTreeMap::new();
    for (n, provider) in pool.spec.providers.iter().enumerate() {
        let UrlSource::SecretKeyRef(reference) = &provider.url else { continue };
        let path = format!("spec.providers[{n}].url.secretKeyRef");
        let (secret, key) = (&reference.name, &reference.key);
        let (url, version) = match seen.sources.get(&provider.name) {
            None | Some(Source::Missing) => {
                return Err(Stall::new(
                    SECRET_MISSING,
                    format!("{path}: there is no Secret {secret}; create it"),
                ));
            }
            Some(Source::NotLabelled) => {
                let fix = format!("kubectl label -n {namespace} secret {secret} {RPC_KEY_LABEL}=true");
                let message = format!(
                    "{path}: Secret {secret} lacks the label {RPC_KEY_LABEL}, so it is not read; to allow it: {fix}"
                );
                return Err(Stall::new(SECRET_NOT_LABELLED, message));
            }
            Some(Source::KeyMissing) => {
                return Err(Stall::new(
                    SECRET_MISSING,
                    format!("{path}: Secret {secret} has no text under the key {key}"),
                ));
            }
            Some(Source::Found { url, version }) => (url, version),
        };
        if !is_url(&url.0) {
            return Err(Stall::new(
                INVALID_SPEC,
                format!("{path}: key {key} of Secret {secret} holds no http or https URL"),
            ));
        }
        let copy = copy_name(ctx, pool, &provider.name);
        if let Some(state) = seen.copies.get(&provider.name)
            && state.tags.get(OWNER_TAG) != Some(&owner)
        {
            let message = format!(
                "secret {copy} of Secrets Manager belongs to another owner; remove it, or rename the provider"
            );
            return Err(Stall::new(NOT_OWNED, message));
        }
        copies.insert(provider.name.clone(), Copy { name: copy, url: url.clone(), version: version.clone() });
    }
    Ok(Wanted { copies })
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|r| !r.is_empty() && !r.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_other_text() {
        assert!(is_url("https://eth.example/v2/key") && is_url("http://u:p@node:8545"));
        assert!(!is_url("ftp://x") && !is_url("https://") && !is_url("https://a b") && !is_url("key"));
    }
}
