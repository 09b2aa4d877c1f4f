-- Least privilege, where the roles exist (the platform creates logins; the names are fixed).
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'dagwright_controller') THEN
        GRANT USAGE ON SCHEMA public TO dagwright_controller;
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO dagwright_controller;
        GRANT INSERT, UPDATE, DELETE ON leader_epochs, aws_intents, pools, pool_tokens, rpc_pools, datasets,
            dataset_producers, dataset_versions, wants, jobs, job_outputs TO dagwright_controller;
        -- Cancelling what a removed stream or pool still had queued is desired state too.
        GRANT UPDATE (cancel_requested) ON tasks TO dagwright_controller;
        GRANT DELETE ON rpc_provider_health TO dagwright_controller;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO dagwright_controller;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'dagwright_dispatcher') THEN
        GRANT USAGE ON SCHEMA public TO dagwright_dispatcher;
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO dagwright_dispatcher;
        GRANT INSERT, UPDATE, DELETE ON tasks, task_outputs, attempts, task_history, outbox, partition_versions,
            partition_objects, events, border_conflicts, rpc_provider_health TO dagwright_dispatcher;
        GRANT UPDATE ON pools, jobs, datasets, dataset_versions TO dagwright_dispatcher;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO dagwright_dispatcher;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'dagwright_query') THEN
        GRANT USAGE ON SCHEMA public TO dagwright_query;
        GRANT SELECT ON datasets, dataset_versions, partition_versions, partition_objects TO dagwright_query;
    END IF;
END
$$;
