-- The generation of the job under which a task ran out of attempts: an edit of the spec gives it another round.
ALTER TABLE tasks ADD COLUMN failed_generation bigint;
