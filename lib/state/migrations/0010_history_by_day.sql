-- What is over lies in partitions by day (UTC) and leaves with them: `history_prepare` makes a day's partitions, `history_drop` ends old
-- ones. The default partitions catch what no day is there for, so that no row is ever refused; whoever makes a day's partitions
-- moves its rows over.

-- An attempt's row is written when it ends. While it runs, its task's row says all there is to say.
CREATE TABLE attempts_by_day (
    attempt_id uuid NOT NULL,
    task_id uuid NOT NULL,
    number integer NOT NULL,
    state text NOT NULL CHECK (state IN ('Succeeded', 'Errored', 'Expired', 'Released', 'Canceled')),
    worker_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason text,
    message text,
    provider text,
    -- By task and not by attempt: new entries lie side by side, and no random page is written for each.
    PRIMARY KEY (task_id, number, finished_at)
) PARTITION BY RANGE (finished_at);
CREATE TABLE attempts_default PARTITION OF attempts_by_day DEFAULT;
INSERT INTO attempts_by_day (attempt_id, task_id, number, state, worker_id, started_at, finished_at, reason, message, provider)
SELECT attempt_id, task_id, number, state, worker_id, started_at, finished_at, reason, message, provider
FROM attempts WHERE state <> 'Running' AND finished_at IS NOT NULL;
DROP TABLE attempts;
ALTER TABLE attempts_by_day RENAME TO attempts;

-- Nothing routes events yet; an index for that comes with who does.
CREATE SEQUENCE events_ids;
SELECT setval('events_ids', GREATEST(1, (SELECT COALESCE(max(event_id), 0) + 1 FROM events)), false);
CREATE TABLE events_by_day (
    event_id bigint NOT NULL DEFAULT nextval('events_ids'),
    namespace text NOT NULL,
    version uuid NOT NULL,
    range int8range NOT NULL,
    revision bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    routed_at timestamptz,
    PRIMARY KEY (event_id, created_at)
) PARTITION BY RANGE (created_at);
CREATE TABLE events_default PARTITION OF events_by_day DEFAULT;
INSERT INTO events_by_day (event_id, namespace, version, range, revision, created_at, routed_at)
SELECT event_id, namespace, version, range, revision, created_at, routed_at FROM events;
DROP TABLE events;
ALTER TABLE events_by_day RENAME TO events;

-- Both run with the owner's rights: a dispatcher may make and end days, and nothing else of the schema. A lock that is not to be
-- had soon is left for the next try: everybody else would queue up behind the wait.
CREATE FUNCTION history_prepare(day date) RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    parent record;
    part text;
    first timestamptz := day::timestamp AT TIME ZONE 'UTC';
    next timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    FOR parent IN
        SELECT * FROM (VALUES ('task_history', 'finished_at'), ('attempts', 'finished_at'), ('events', 'created_at')) AS v (name, clock)
    LOOP
        part := parent.name || to_char(day, '"_"YYYYMMDD');
        CONTINUE WHEN to_regclass(part) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, parent.name);
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent.name || '_default');
        EXECUTE format(
            'WITH moved AS (DELETE FROM %1$I WHERE %2$I >= $1 AND %2$I < $2 RETURNING *) INSERT INTO %3$I SELECT * FROM moved',
            parent.name || '_default', parent.clock, part) USING first, next;
        -- Attached and not created in place: that would lock out everybody who reads or writes history.
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent.name, part, first, next);
        RETURN NEXT part;
    END LOOP;
END
$$;

CREATE FUNCTION history_drop(before date) RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    parent record;
    part text;
BEGIN
    FOR parent IN
        SELECT * FROM (VALUES ('task_history', 'finished_at'), ('attempts', 'finished_at'), ('events', 'created_at')) AS v (name, clock)
    LOOP
        FOR part IN
            SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = parent.name::regclass AND c.relname ~ '_[0-9]{8}$'
              AND to_date(right(c.relname, 8), 'YYYYMMDD') < before
            ORDER BY c.relname
        LOOP
            EXECUTE format('DROP TABLE %I', part);
            RETURN NEXT part;
        END LOOP;
        EXECUTE format('DELETE FROM %I WHERE %I < $1', parent.name || '_default', parent.clock)
            USING before::timestamp AT TIME ZONE 'UTC';
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION history_prepare(date), history_drop(date) FROM PUBLIC;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'dagwright_controller') THEN
        GRANT SELECT ON attempts, events TO dagwright_controller;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'dagwright_dispatcher') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON attempts, events TO dagwright_dispatcher;
        GRANT USAGE ON SEQUENCE events_ids TO dagwright_dispatcher;
        GRANT EXECUTE ON FUNCTION history_prepare(date), history_drop(date) TO dagwright_dispatcher;
    END IF;
END
$$;
