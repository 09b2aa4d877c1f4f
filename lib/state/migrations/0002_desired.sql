CREATE EXTENSION IF NOT EXISTS btree_gist;

-- WorkerPools as the controller wants them, and what the scaler knows.
CREATE TABLE pools (
    pool_id uuid PRIMARY KEY,
    namespace text NOT NULL,
    name text NOT NULL,
    slots integer NOT NULL CHECK (slots > 0),
    -- run: {"service": {"min", "max", "tasksPerWorker", "cooldownSeconds"}} or {"onDemand": {"max"}}
    run jsonb NOT NULL,
    lease_seconds integer NOT NULL CHECK (lease_seconds BETWEEN 10 AND 43200),
    queue_url text,
    dead_letter_queue_url text,
    ecs_cluster text,
    service_arn text,
    generation bigint NOT NULL,
    -- Set by the scaler alone.
    desired_workers integer NOT NULL DEFAULT 0,
    running_workers integer NOT NULL DEFAULT 0,
    scaled_at timestamptz,
    last_backlog_at timestamptz,
    dead_letters bigint NOT NULL DEFAULT 0,
    deleted_at timestamptz
);
CREATE UNIQUE INDEX pools_name ON pools (namespace, name) WHERE deleted_at IS NULL;

-- Hashes of the tokens that speak for a pool; more than one while a rotation rolls out.
CREATE TABLE pool_tokens (
    token_sha256 bytea PRIMARY KEY CHECK (length(token_sha256) = 32),
    pool_id uuid NOT NULL REFERENCES pools ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz
);
CREATE INDEX pool_tokens_pool ON pool_tokens (pool_id);

-- RpcPools as the gateway is to serve them (contracts::gateway::RpcPoolConfig), without a key in them.
CREATE TABLE rpc_pools (
    rpc_pool_id uuid PRIMARY KEY,
    namespace text NOT NULL,
    name text NOT NULL,
    chain_id bigint NOT NULL,
    config jsonb NOT NULL,
    generation bigint NOT NULL,
    UNIQUE (namespace, name)
);
-- Moves with every change of what the gateway must know.
CREATE SEQUENCE gateway_revision;

-- What the gateway last reported.
CREATE TABLE rpc_provider_health (
    namespace text NOT NULL,
    pool text NOT NULL,
    provider text NOT NULL,
    state text NOT NULL,
    head bigint,
    error_rate_percent double precision NOT NULL,
    message text NOT NULL,
    since timestamptz NOT NULL,
    reported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (namespace, pool, provider)
);

-- Datasets hold pointers; data belongs to (namespace, version).
CREATE TABLE datasets (
    dataset_id uuid PRIMARY KEY,
    namespace text NOT NULL,
    name text NOT NULL,
    storage jsonb NOT NULL,
    schema jsonb NOT NULL,
    read_roles text[] NOT NULL DEFAULT '{}',
    share_with text[] NOT NULL DEFAULT '{}',
    generation bigint NOT NULL,
    -- Swapped by cutover alone.
    served_version uuid,
    served_since timestamptz,
    deleted_at timestamptz
);
CREATE UNIQUE INDEX datasets_name ON datasets (namespace, name) WHERE deleted_at IS NULL;

-- One producer per Dataset; the first claimant holds it until it lets go.
CREATE TABLE dataset_producers (
    dataset_id uuid PRIMARY KEY REFERENCES datasets,
    owner_kind text NOT NULL,
    owner_name text NOT NULL,
    job text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);
