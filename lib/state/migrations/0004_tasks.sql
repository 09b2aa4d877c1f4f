-- Unfinished tasks, and failed ones until they are redriven. Completed and cancelled ones move to task_history.
CREATE TABLE tasks (
    task_id uuid PRIMARY KEY,
    job_id uuid NOT NULL REFERENCES jobs,
    pool_id uuid NOT NULL REFERENCES pools,
    range int8range NOT NULL CHECK (NOT isempty(range)),
    state text NOT NULL CHECK (state IN ('Queued', 'Running', 'Failed')),
    priority smallint NOT NULL,
    not_before timestamptz NOT NULL,
    -- Ordinal of the attempt that runs, or of the one that the next claim makes.
    attempt integer NOT NULL DEFAULT 1 CHECK (attempt > 0),
    attempts_spent integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL,
    releases integer NOT NULL DEFAULT 0,
    avoid_providers text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The lease, while Running.
    attempt_id uuid,
    lease_token uuid,
    lease_expires_at timestamptz,
    worker_id uuid,
    started_at timestamptz,
    progress_at timestamptz,
    blocks_done bigint NOT NULL DEFAULT 0,
    cancel_requested boolean NOT NULL DEFAULT false,
    last_error text,
    last_reason text,
    failed_at timestamptz,
    CHECK ((state = 'Running') = (attempt_id IS NOT NULL AND lease_token IS NOT NULL AND lease_expires_at IS NOT NULL))
);
CREATE INDEX tasks_claim ON tasks (pool_id, priority, not_before) WHERE state = 'Queued';
CREATE INDEX tasks_leases ON tasks (lease_expires_at) WHERE state = 'Running';
CREATE INDEX tasks_job ON tasks (job_id, state);

-- What an unfinished task will cover. The constraint makes planning idempotent: two tasks can never cover one block of one version.
CREATE TABLE task_outputs (
    task_id uuid NOT NULL REFERENCES tasks ON DELETE CASCADE,
    output text NOT NULL,
    namespace text NOT NULL,
    version uuid NOT NULL,
    range int8range NOT NULL,
    PRIMARY KEY (task_id, output),
    FOREIGN KEY (namespace, version) REFERENCES dataset_versions,
    EXCLUDE USING gist (namespace WITH =, version WITH =, range WITH &&)
);

-- Every try. Finished ones are history; correctness depends on none of them.
CREATE TABLE attempts (
    attempt_id uuid NOT NULL,
    task_id uuid NOT NULL,
    number integer NOT NULL,
    state text NOT NULL CHECK (state IN ('Running', 'Succeeded', 'Errored', 'Expired', 'Released', 'Canceled')),
    worker_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    reason text,
    message text,
    provider text,
    PRIMARY KEY (attempt_id)
);
CREATE INDEX attempts_task ON attempts (task_id, number);

-- Finished tasks, by the day they finished; old partitions are dropped whole.
CREATE TABLE task_history (
    task_id uuid NOT NULL,
    job_id uuid NOT NULL,
    pool_id uuid NOT NULL,
    range int8range NOT NULL,
    outputs text[] NOT NULL,
    state text NOT NULL CHECK (state IN ('Completed', 'Canceled')),
    attempt integer NOT NULL,
    attempt_id uuid,
    lease_token uuid,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task_id, finished_at)
) PARTITION BY RANGE (finished_at);
CREATE TABLE task_history_default PARTITION OF task_history DEFAULT;
CREATE INDEX task_history_job ON task_history (job_id, finished_at);

-- Messages to be sent: one per (task, attempt), written with the transition that made the task claimable.
CREATE TABLE outbox (
    task_id uuid NOT NULL REFERENCES tasks ON DELETE CASCADE,
    attempt integer NOT NULL,
    pool_id uuid NOT NULL,
    priority smallint NOT NULL,
    not_before timestamptz NOT NULL,
    sent_at timestamptz,
    sends integer NOT NULL DEFAULT 0,
    PRIMARY KEY (task_id, attempt)
);
CREATE INDEX outbox_unsent ON outbox (pool_id, priority, not_before) WHERE sent_at IS NULL;
CREATE INDEX outbox_sent ON outbox (pool_id, sent_at) WHERE sent_at IS NOT NULL;
