//! Base URLs of a replicated service, given as a comma-separated list: one is used until it fails, then the next.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Base URLs of one service's replicas; clones share which one is in use.
#[derive(Clone)]
pub struct Endpoints(Arc<Inner>);

struct Inner {
    urls: Vec<String>,
    current: AtomicUsize,
}

/// A URL that was handed out, to be named when it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    index: usize,
    /// Base URL without a trailing slash.
    pub base: String,
}

/// Why a list of URLs cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointsError {
    /// The list is empty.
    #[error("no URL is given")]
    Empty,
    /// An entry is not an HTTP URL.
    #[error("\"{0}\" is not a URL: it must start with http:// or https://")]
    NotHttp(String),
}

impl FromStr for Endpoints {
    type Err = EndpointsError;

    fn from_str(list: &str) -> Result<Self, EndpointsError> {
        let mut urls = Vec::new();
        for url in list.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(EndpointsError::NotHttp(url.to_owned()));
            }
            urls.push(url.trim_end_matches('/').to_owned());
        }
        if urls.is_empty() {
            return Err(EndpointsError::Empty);
        }
        Ok(Self(Arc::new(Inner { urls, current: AtomicUsize::new(0) })))
    }
}

impl Endpoints {
    /// The replica in use.
    #[must_use]
    pub fn current(&self) -> Endpoint {
        let index = self.0.current.load(Ordering::Relaxed) % self.0.urls.len();
        Endpoint { index, base: self.0.urls[index].clone() }
    }

    /// Turns to the next replica, unless somebody already turned away from `failed`.
    pub fn failed(&self, failed: &Endpoint) {
        let next = (failed.index + 1) % self.0.urls.len();
        let _ = self.0.current.compare_exchange(failed.index, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.urls.join(","))
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoints").field(&self.0.urls).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_replica_is_left_once_for_all_clones() {
        let endpoints: Endpoints = "http://a/, http://b".parse().unwrap();
        let first = endpoints.current();
        assert_eq!(first.base, "http://a");
        endpoints.clone().failed(&first);
        endpoints.failed(&first);
        assert_eq!(endpoints.current().base, "http://b");
        endpoints.failed(&endpoints.current());
        assert_eq!(endpoints.current().base, "http://a");
    }

    #[test]
    fn what_is_no_http_url_is_refused() {
        assert_eq!(" , ".parse::<Endpoints>().unwrap_err(), EndpointsError::Empty);
        assert_eq!(
            "http://a,ftp://b".parse::<Endpoints>().unwrap_err(),
            EndpointsError::NotHttp("ftp://b".into())
        );
    }
}
