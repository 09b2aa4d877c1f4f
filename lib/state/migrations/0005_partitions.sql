-- Coverage: which ranges of a version are committed, and where their objects lie. Unpartitioned: correctness lives here.
CREATE TABLE partition_versions (
    partition_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text NOT NULL,
    version uuid NOT NULL,
    range int8range NOT NULL CHECK (NOT isempty(range)),
    revision bigint NOT NULL DEFAULT 1,
    current boolean NOT NULL DEFAULT true,
    stale boolean NOT NULL DEFAULT false,
    content_hash bytea NOT NULL,
    first_parent_hash bytea NOT NULL,
    last_hash bytea NOT NULL,
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    verification text NOT NULL,
    task_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    missing_since timestamptz,
    checked_at timestamptz,
    FOREIGN KEY (namespace, version) REFERENCES dataset_versions,
    EXCLUDE USING gist (namespace WITH =, version WITH =, range WITH &&) WHERE (current)
);
CREATE INDEX partition_versions_lower ON partition_versions (namespace, version, lower(range)) WHERE current;
CREATE INDEX partition_versions_upper ON partition_versions (namespace, version, upper(range)) WHERE current;
CREATE INDEX partition_versions_check ON partition_versions (checked_at NULLS FIRST) WHERE current;

CREATE TABLE partition_objects (
    partition_id bigint NOT NULL REFERENCES partition_versions ON DELETE CASCADE,
    n integer NOT NULL,
    bucket text NOT NULL,
    key text NOT NULL UNIQUE,
    bytes bigint NOT NULL,
    sha256 text NOT NULL,
    rows bigint NOT NULL,
    PRIMARY KEY (partition_id, n)
);

-- What commits tell dependents; found again by comparing partitions when lost.
CREATE TABLE events (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text NOT NULL,
    version uuid NOT NULL,
    range int8range NOT NULL,
    revision bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    routed_at timestamptz
);
CREATE INDEX events_unrouted ON events (event_id) WHERE routed_at IS NULL;

-- Neighbours whose hashes do not link: shown as Stalled ForkAtBorder until resolved.
CREATE TABLE border_conflicts (
    namespace text NOT NULL,
    version uuid NOT NULL,
    height bigint NOT NULL,
    below_hash bytea NOT NULL,
    above_parent_hash bytea NOT NULL,
    task_id uuid NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (namespace, version, height)
);
