-- Both queues are looked at from a place (priority, due time, id) on, so the place has to be the index's order.
DROP INDEX tasks_claim;
CREATE INDEX tasks_claim ON tasks (pool_id, priority, not_before, task_id) WHERE state = 'Queued';
DROP INDEX outbox_unsent;
CREATE INDEX outbox_unsent ON outbox (pool_id, priority, not_before, task_id) WHERE sent_at IS NULL;
-- 0 High, 1 Normal, 2 Low: a look goes through exactly these.
ALTER TABLE tasks ADD CHECK (priority BETWEEN 0 AND 2);

-- Cancelling must not read every task to find the few that are marked.
CREATE INDEX tasks_cancel ON tasks (task_id) WHERE cancel_requested;
CREATE INDEX jobs_removed ON jobs (job_id) WHERE removed_at IS NOT NULL;

-- A message lives and dies with its task's state, in the same transaction (I5). The constraint would read and lock the task's row
-- for each message, and look for messages of each task that ends.
ALTER TABLE outbox DROP CONSTRAINT outbox_task_id_fkey;

-- Ranges that touch are found by the index of the exclusion constraint; earlier revisions of a range by one of their own, which is
-- empty until something was invalidated.
DROP INDEX partition_versions_upper;
CREATE INDEX partition_versions_past ON partition_versions USING gist (namespace, version, range) WHERE NOT current;

-- One notification per statement and job or pool: statements move sets.
CREATE FUNCTION notify_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dagwright_plan', j.job_id::text) FROM (SELECT DISTINCT job_id FROM ended) AS j;
    RETURN NULL;
END
$$;
DROP TRIGGER task_history_plan ON task_history;
CREATE TRIGGER task_history_plan AFTER INSERT ON task_history
    REFERENCING NEW TABLE AS ended FOR EACH STATEMENT EXECUTE FUNCTION notify_ended();

CREATE OR REPLACE FUNCTION notify_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dagwright_tasks', p.pool_id::text) FROM (SELECT DISTINCT pool_id FROM offered) AS p;
    RETURN NULL;
END
$$;
DROP TRIGGER outbox_tasks ON outbox;
CREATE TRIGGER outbox_tasks AFTER INSERT ON outbox
    REFERENCING NEW TABLE AS offered FOR EACH STATEMENT EXECUTE FUNCTION notify_tasks();

-- These tables turn over completely many times an hour; their dead rows are to go before indexes grow.
ALTER TABLE tasks SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE task_outputs SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_analyze_scale_factor = 0.05);
