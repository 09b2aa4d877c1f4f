-- Suspended jobs are few; whoever takes back what they had queued must not read every job.
CREATE INDEX jobs_suspended ON jobs (job_id) WHERE suspended AND removed_at IS NULL;
