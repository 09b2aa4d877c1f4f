-- The target that a job was last planned for. Only one that no longer lies within the job's target can have left tasks outside: with a
-- target that merely grows, nobody has to look for them.
ALTER TABLE jobs ADD COLUMN planned_target int8range;
