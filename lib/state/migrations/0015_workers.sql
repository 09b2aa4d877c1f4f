-- Worker processes as they report themselves: who is there, and who is on its way out.
CREATE TABLE workers (
    worker_id uuid PRIMARY KEY,
    pool_id uuid NOT NULL REFERENCES pools,
    -- From the ECS metadata endpoint; none outside of ECS.
    task_arn text,
    -- family:revision that it was started with.
    task_definition text,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Set by the scaler: it is to claim nothing more.
    draining boolean NOT NULL DEFAULT false,
    -- Said by the worker: it holds nothing and claims nothing.
    drained boolean NOT NULL DEFAULT false,
    left_at timestamptz
) WITH (fillfactor = 70);
CREATE INDEX workers_there ON workers (pool_id, seen_at) WHERE left_at IS NULL;
CREATE INDEX workers_task ON workers (task_arn);

-- What RunTask is told to start, written before it is called: a call whose answer was lost is looked for before it is repeated.
CREATE TABLE worker_launches (
    launch_id uuid PRIMARY KEY,
    pool_id uuid NOT NULL REFERENCES pools,
    -- AWS starts at most ten tasks by one call.
    wanted integer NOT NULL CHECK (wanted BETWEEN 1 AND 10),
    task_definition_arn text NOT NULL,
    state text NOT NULL DEFAULT 'Intended' CHECK (state IN ('Intended', 'Started', 'Ended', 'Failed')),
    task_arns text[] NOT NULL DEFAULT '{}',
    calls integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    message text
);
-- One call at a time: two dispatchers that both think they scale cannot both intend.
CREATE UNIQUE INDEX worker_launches_intended ON worker_launches (pool_id) WHERE state = 'Intended';
CREATE INDEX worker_launches_open ON worker_launches (pool_id) WHERE state IN ('Intended', 'Started');

ALTER TABLE pools
    -- What a worker is started with, by the controller: {"family", "taskDefinitionArn", "subnets", "securityGroups",
    -- "assignPublicIp", "capacity": [{"provider", "weight", "base"}]}; none until its parts are there.
    ADD COLUMN launch jsonb,
    -- Failures to start workers in a row, by the scaler; forgotten when one comes up and when `launch` changes.
    ADD COLUMN start_failures integer NOT NULL DEFAULT 0,
    ADD COLUMN start_failed_at timestamptz,
    -- In ECS's words.
    ADD COLUMN start_error text,
    -- When ECS, by its own clock, stopped the last task that was counted as a failure.
    ADD COLUMN start_failure_seen timestamptz;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'dagwright_controller') THEN
        GRANT SELECT ON workers, worker_launches TO dagwright_controller;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'dagwright_dispatcher') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON workers, worker_launches TO dagwright_dispatcher;
    END IF;
END
$$;
