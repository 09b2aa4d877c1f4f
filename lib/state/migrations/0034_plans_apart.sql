-- When a job was planned, and for which target, lies beside the job. Every claim, lease and commit looks the job up once per task; what
-- changes with each plan would leave a trail of dead versions there, which all of them read for as long as an old snapshot lives.
-- Nobody writes a job between the copy of its row and the trigger.
LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE;
CREATE TABLE job_plans (
    job_id uuid PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    -- Neither suspended nor removed: the queue of the planner is read without the others.
    live boolean NOT NULL,
    planned_at timestamptz,
    -- The target that it was last planned for. Only one that no longer lies within the job's target can have left tasks outside: with a
    -- target that merely grows, nobody has to look for them.
    planned_target int8range
);
INSERT INTO job_plans (job_id, live, planned_at, planned_target)
SELECT job_id, removed_at IS NULL AND NOT suspended, planned_at, planned_target FROM jobs;
CREATE INDEX job_plans_due ON job_plans (planned_at NULLS FIRST) WHERE live;
ALTER TABLE jobs DROP COLUMN planned_at, DROP COLUMN planned_target;

-- A job that is new or was edited is the next to be planned.
CREATE FUNCTION job_to_plan() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO job_plans AS p (job_id, live) VALUES (NEW.job_id, NEW.removed_at IS NULL AND NOT NEW.suspended)
    ON CONFLICT (job_id) DO UPDATE SET live = excluded.live, planned_at = NULL;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION job_to_plan() FROM PUBLIC;
CREATE TRIGGER jobs_to_plan AFTER INSERT OR UPDATE OF generation, suspended, removed_at ON jobs
    FOR EACH ROW EXECUTE FUNCTION job_to_plan();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'dagwright_controller') THEN
        GRANT SELECT ON job_plans TO dagwright_controller;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'dagwright_dispatcher') THEN
        GRANT SELECT, UPDATE ON job_plans TO dagwright_dispatcher;
    END IF;
END
$$;
