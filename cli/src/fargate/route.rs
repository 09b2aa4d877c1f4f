//! Requests of the Docker Engine API as values.

use std::collections::BTreeMap;

/// A call that the engine understands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    Ping,
    Version,
    List {
        all: bool,
        labels: Vec<String>,
    },
    Create {
        name: Option<String>,
    },
    Inspect(String),
    Start(String),
    Stop {
        id: String,
        grace_seconds: u64,
    },
    Kill {
        id: String,
        signal: String,
    },
    /// Not Docker's: Fargate takes a Spot task back.
    Interrupt(String),
    Remove {
        id: String,
        force: bool,
    },
    Wait(String),
    Logs {
        id: String,
        follow: bool,
        tail: Option<usize>,
    },
    Pull(String),
    Tag(String),
    InspectImage(String),
    Distribution(String),
    /// Networks and volumes: accepted and without effect, every container is on loopback.
    Ignored {
        path: String,
    },
}

/// `None` for a call outside the subset.
pub(super) fn parse(method: &str, path: &str, query: Option<&str>) -> Option<Call> {
    let query = Query::parse(query.unwrap_or_default());
    let path = without_version(path);
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match segments.as_slice() {
        ["_ping"] => Some(Call::Ping),
        ["version" | "info"] => Some(Call::Version),
        ["containers", rest @ ..] => container_call(method, rest, &query),
        ["images", "create"] if method == "POST" => Some(Call::Pull(pulled_reference(&query))),
        ["images", name @ .., "tag"] if method == "POST" => Some(Call::Tag(decode(&name.join("/")))),
        ["images", name @ .., "json"] if method == "GET" => Some(Call::InspectImage(decode(&name.join("/")))),
        ["distribution", name @ .., "json"] if method == "GET" => {
            Some(Call::Distribution(decode(&name.join("/"))))
        }
        ["networks" | "volumes", ..] => Some(Call::Ignored { path: path.to_owned() }),
        _ => None,
    }
}

fn container_call(method: &str, rest: &[&str], query: &Query) -> Option<Call> {
    match (method, rest) {
        ("GET", ["json"]) => Some(Call::List { all: query.flag("all"), labels: query.labels() }),
        ("POST", ["create"]) => Some(Call::Create { name: query.get("name") }),
        ("GET", [id, "json"]) => Some(Call::Inspect(decode(id))),
        ("POST", [id, "start"]) => Some(Call::Start(decode(id))),
        ("POST", [id, "stop"]) => {
            let grace_seconds = query.get("t").and_then(|t| t.parse().ok()).unwrap_or(10);
            Some(Call::Stop { id: decode(id), grace_seconds })
        }
        ("POST", [id, "kill"]) => {
            let signal = query.get("signal").unwrap_or_else(|| "KILL".to_owned());
            Some(Call::Kill { id: decode(id), signal })
        }
        ("POST", [id, "interrupt"]) => Some(Call::Interrupt(decode(id))),
        ("POST", [id, "wait"]) => Some(Call::Wait(decode(id))),
        ("GET", [id, "logs"]) => Some(Call::Logs {
            id: decode(id),
            follow: query.flag("follow"),
            tail: query.get("tail").and_then(|lines| lines.parse().ok()),
        }),
        ("DELETE", [id]) => Some(Call::Remove { id: decode(id), force: query.flag("force") }),
        _ => None,
    }
}

/// Clients put `/v1.43` before every path.
fn without_version(path: &str) -> &str {
    let Some(rest) = path.strip_prefix("/v") else { return path };
    match rest.split_once('/') {
        Some((version, _)) if version.starts_with(|c: char| c.is_ascii_digit()) => &rest[version.len()..],
        _ => path,
    }
}

fn pulled_reference(query: &Query) -> String {
    let image = query.get("fromImage").unwrap_or_default();
    match query.get("tag") {
        Some(digest) if digest.starts_with("sha256:") => format!("{image}@{digest}"),
        Some(tag) if !tag.is_empty() => format!("{image}:{tag}"),
        _ => image,
    }
}

fn decode(text: &str) -> String {
    Query::parse(&format!("v={}", text.replace('+', "%2B"))).get("v").unwrap_or_default()
}

struct Query(BTreeMap<String, String>);

impl Query {
    fn parse(text: &str) -> Self {
        Self(serde_urlencoded::from_str(text).unwrap_or_default())
    }

    fn get(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.0.get(key).map(String::as_str), Some("1" | "true" | "True"))
    }

    /// `filters={"label":["key=value"]}`, or the same as a map to booleans.
    fn labels(&self) -> Vec<String> {
        let filters = self.0.get("filters").and_then(|f| serde_json::from_str::<serde_json::Value>(f).ok());
        match filters.as_ref().and_then(|f| f.get("label")) {
            Some(serde_json::Value::Array(labels)) => {
                labels.iter().filter_map(|label| label.as_str().map(str::to_owned)).collect()
            }
            Some(serde_json::Value::Object(labels)) => labels
                .iter()
                .filter(|(_, wanted)| wanted.as_bool() == Some(true))
                .map(|(k, _)| k.clone())
                .collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> String {
        "abc".to_owned()
    }

    #[test]
    fn calls_are_understood_with_and_without_a_version() {
        let cases = [
            ("GET", "/_ping", "", Call::Ping),
            ("HEAD", "/v1.43/_ping", "", Call::Ping),
            ("GET", "/v1.43/containers/abc/json", "", Call::Inspect(id())),
            ("POST", "/containers/abc/start", "", Call::Start(id())),
            ("POST", "/v1.24/containers/abc/stop", "t=5", Call::Stop { id: id(), grace_seconds: 5 }),
            ("POST", "/containers/abc/stop", "", Call::Stop { id: id(), grace_seconds: 10 }),
            ("POST", "/containers/abc/kill", "signal=TERM", Call::Kill { id: id(), signal: "TERM".into() }),
            ("DELETE", "/v1.43/containers/abc", "v=True&force=1", Call::Remove { id: id(), force: true }),
            ("POST", "/containers/abc/wait", "", Call::Wait(id())),
            ("POST", "/containers/abc/interrupt", "", Call::Interrupt(id())),
            (
                "GET",
                "/containers/abc/logs",
                "follow=1&tail=all",
                Call::Logs { id: id(), follow: true, tail: None },
            ),
            ("GET", "/containers/abc/logs", "tail=5", Call::Logs { id: id(), follow: false, tail: Some(5) }),
            ("POST", "/containers/create", "name=n", Call::Create { name: Some("n".into()) }),
            ("POST", "/images/create", "fromImage=a%2Fb&tag=1", Call::Pull("a/b:1".into())),
            ("POST", "/images/create", "fromImage=a/b&tag=sha256:00", Call::Pull("a/b@sha256:00".into())),
            ("GET", "/images/a/b%3A1/json", "", Call::InspectImage("a/b:1".into())),
            ("GET", "/v1.43/distribution/a/b:1/json", "", Call::Distribution("a/b:1".into())),
            ("POST", "/images/a/b@sha256:00/tag", "repo=a/b", Call::Tag("a/b@sha256:00".into())),
            ("GET", "/networks", "", Call::Ignored { path: "/networks".into() }),
        ];
        for (method, path, query, expected) in cases {
            assert_eq!(parse(method, path, Some(query)), Some(expected), "{method} {path}?{query}");
        }
    }

    #[test]
    fn label_filters_come_as_list_or_map() {
        let expected = Some(Call::List { all: true, labels: vec!["a=b".into()] });
        for filters in ["{\"label\":[\"a=b\"]}", "{\"label\":{\"a=b\":true,\"c\":false}}"] {
            let query = serde_urlencoded::to_string([("all", "True"), ("filters", filters)]).unwrap();
            assert_eq!(parse("GET", "/containers/json", Some(&query)), expected);
        }
    }

    #[test]
    fn what_is_outside_the_subset_is_refused() {
        for (method, path) in
            [("POST", "/containers/abc/exec"), ("GET", "/swarm"), ("PUT", "/containers/abc"), ("GET", "/v1")]
        {
            assert_eq!(parse(method, path, None), None, "{method} {path}");
        }
    }
}
