-- Statuses count failed tasks every other second, and most tasks wait.
CREATE INDEX tasks_failed ON tasks (job_id) WHERE state = 'Failed';
