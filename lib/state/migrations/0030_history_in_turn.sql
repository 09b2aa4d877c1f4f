-- Each of history's tables has its days made and dropped in a transaction of its own, and whoever waits for its lock, with everybody
-- else behind, waits for a tenth of a second: there are days of time for the next try.

CREATE FUNCTION history_clock(parent text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN CASE parent WHEN 'task_history' THEN 'finished_at' WHEN 'attempts' THEN 'finished_at' WHEN 'events' THEN 'created_at' END;
END
$$;

CREATE FUNCTION history_prepare(parent text, day date) RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    clock text := history_clock(parent);
    part text := parent || to_char(day, '"_"YYYYMMDD');
    first timestamptz := day::timestamp AT TIME ZONE 'UTC';
    next timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF clock IS NULL THEN
        RAISE EXCEPTION '% is no table of history', parent;
    END IF;
    IF to_regclass(part) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, parent);
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || '_default');
    EXECUTE format(
        'WITH moved AS (DELETE FROM %1$I WHERE %2$I >= $1 AND %2$I < $2 RETURNING *) INSERT INTO %3$I SELECT * FROM moved',
        parent || '_default', clock, part) USING first, next;
    -- Attached and not created in place: that would lock out everybody who reads or writes history.
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, part, first, next);
    RETURN NEXT part;
END
$$;

CREATE FUNCTION history_drop(parent text, before date) RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    clock text := history_clock(parent);
    part text;
BEGIN
    IF clock IS NULL THEN
        RAISE EXCEPTION '% is no table of history', parent;
    END IF;
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = parent::regclass AND c.relname ~ '_[0-9]{8}$'
          AND to_date(right(c.relname, 8), 'YYYYMMDD') < before
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        RETURN NEXT part;
    END LOOP;
    EXECUTE format('DELETE FROM %I WHERE %I < $1', parent || '_default', clock)
        USING before::timestamp AT TIME ZONE 'UTC';
END
$$;

-- All tables at once, for an installation that nobody uses yet and for replicas of the version before.
CREATE OR REPLACE FUNCTION history_prepare(day date) RETURNS SETOF text LANGUAGE sql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
    SELECT history_prepare(parent, day) FROM unnest('{task_history,attempts,events}'::text[]) AS parent
$$;
CREATE OR REPLACE FUNCTION history_drop(before date) RETURNS SETOF text LANGUAGE sql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
    SELECT history_drop(parent, before) FROM unnest('{task_history,attempts,events}'::text[]) AS parent
$$;
REVOKE ALL ON FUNCTION history_prepare(text, date), history_drop(text, date) FROM PUBLIC;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'dagwright_dispatcher') THEN
        GRANT EXECUTE ON FUNCTION history_prepare(text, date), history_drop(text, date) TO dagwright_dispatcher;
    END IF;
END
$$;
