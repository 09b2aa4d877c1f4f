-- Edges for latency, never for truth: whoever misses a notification finds the same rows at its next pass.

-- Jobs whose plan may have changed, by their id.
CREATE FUNCTION notify_plan() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dagwright_plan', COALESCE(NEW.job_id, OLD.job_id)::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER jobs_plan
    AFTER INSERT OR UPDATE OF target_start, target_end, chunk_size, max_in_flight, suspended, removed_at ON jobs
    FOR EACH ROW EXECUTE FUNCTION notify_plan();
CREATE TRIGGER job_outputs_plan AFTER INSERT OR UPDATE OR DELETE ON job_outputs
    FOR EACH ROW EXECUTE FUNCTION notify_plan();
CREATE TRIGGER task_history_plan AFTER INSERT ON task_history
    FOR EACH ROW EXECUTE FUNCTION notify_plan();

-- Pools that have something to claim, by their id.
CREATE FUNCTION notify_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dagwright_tasks', NEW.pool_id::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER outbox_tasks AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION notify_tasks();

-- What the RPC gateway has to know has changed.
CREATE FUNCTION notify_gateway() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('dagwright_gateway', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER rpc_pools_gateway AFTER INSERT OR UPDATE OR DELETE ON rpc_pools
    FOR EACH STATEMENT EXECUTE FUNCTION notify_gateway();
CREATE TRIGGER pool_tokens_gateway AFTER INSERT OR UPDATE OR DELETE ON pool_tokens
    FOR EACH STATEMENT EXECUTE FUNCTION notify_gateway();
