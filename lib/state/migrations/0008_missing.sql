-- Lost objects are few; whoever shows them must not read every partition to find them.
CREATE INDEX partition_versions_missing ON partition_versions (namespace, version) WHERE missing_since IS NOT NULL;
