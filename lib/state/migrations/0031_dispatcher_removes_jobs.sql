-- A removed job goes when nothing is left that names it; who ends its tasks sees that first.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'dagwright_dispatcher') THEN
        GRANT DELETE ON jobs TO dagwright_dispatcher;
    END IF;
END
$$;
