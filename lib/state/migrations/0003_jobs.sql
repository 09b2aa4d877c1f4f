-- Versions exist per namespace: data belongs to (namespace, version).
CREATE TABLE dataset_versions (
    namespace text NOT NULL,
    version uuid NOT NULL,
    materialization bytea NOT NULL CHECK (length(materialization) = 32),
    operator text NOT NULL,
    semantics integer NOT NULL,
    output text NOT NULL,
    column_schema integer NOT NULL,
    state text NOT NULL DEFAULT 'Building' CHECK (state IN ('Building', 'Served', 'Warm', 'Retained')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (namespace, version)
);

-- Who wants a version: one row per owner revision within its history limit.
CREATE TABLE wants (
    namespace text NOT NULL,
    version uuid NOT NULL,
    owner_kind text NOT NULL,
    owner_name text NOT NULL,
    revision bigint NOT NULL,
    suspended boolean NOT NULL DEFAULT false,
    priority smallint NOT NULL DEFAULT 1,
    PRIMARY KEY (namespace, version, owner_kind, owner_name),
    FOREIGN KEY (namespace, version) REFERENCES dataset_versions
);

-- Jobs of Dags and streams of ChainSyncs: the rows that the planner locks.
CREATE TABLE jobs (
    job_id uuid PRIMARY KEY,
    namespace text NOT NULL,
    owner_kind text NOT NULL CHECK (owner_kind IN ('ChainSync', 'Dag')),
    owner_name text NOT NULL,
    name text NOT NULL,
    generation bigint NOT NULL,
    operator text NOT NULL,
    semantics integer NOT NULL,
    config jsonb NOT NULL,
    pool_id uuid NOT NULL REFERENCES pools,
    rpc_pool text,
    -- Wanted blocks: [target_start, target_end). `follow` is null for a fixed target, else
    -- {"finalized": {}} | {"safe": {}} | {"blocks": n}, and the head follower moves target_end.
    target_start bigint NOT NULL CHECK (target_start >= 0),
    target_end bigint NOT NULL,
    follow jsonb,
    head bigint,
    head_at timestamptz,
    chunk_size bigint NOT NULL CHECK (chunk_size > 0),
    max_in_flight integer NOT NULL CHECK (max_in_flight > 0),
    max_attempts integer NOT NULL CHECK (max_attempts > 0),
    backoff_ms bigint NOT NULL,
    max_backoff_ms bigint NOT NULL,
    timeout_seconds integer NOT NULL CHECK (timeout_seconds BETWEEN 1 AND 39600),
    -- 0 High, 1 Normal, 2 Low
    priority smallint NOT NULL DEFAULT 1,
    suspended boolean NOT NULL DEFAULT false,
    removed_at timestamptz,
    planned_at timestamptz,
    UNIQUE (namespace, owner_kind, owner_name, name)
);
CREATE INDEX jobs_to_plan ON jobs (planned_at NULLS FIRST) WHERE removed_at IS NULL AND NOT suspended;

-- What each job writes: its current version per output, and the Dataset that points at it.
CREATE TABLE job_outputs (
    job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    output text NOT NULL,
    namespace text NOT NULL,
    version uuid NOT NULL,
    dataset_id uuid REFERENCES datasets,
    PRIMARY KEY (job_id, output),
    FOREIGN KEY (namespace, version) REFERENCES dataset_versions
);
CREATE INDEX job_outputs_version ON job_outputs (namespace, version);
