-- That no block of a version is covered twice stays a constraint; what it compares becomes cheaper. A range of a version is a box: as wide
-- as the range, half as high as the distance to the next version, at a height that is the hash of namespace and version. To choose a
-- place for a box, the index multiplies four numbers per entry, where it unpacked a uuid and a range. The version is compared as well: only
-- namespaces that share a version, and whose hashes of it agree in all 50 bits, would be taken for one.
CREATE FUNCTION range_box(namespace text, version uuid, range int8range) RETURNS box LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN box(
        -- 50 bits: the numbers of a box hold 53.
        point(lower(range), uuid_hash_extended(version, hashtextextended(namespace, 0)) >> 14),
        point(upper(range) - 1, (uuid_hash_extended(version, hashtextextended(namespace, 0)) >> 14) + 0.5::float8));

-- Heights that a box holds exactly; and a range without a box would not be compared at all.
ALTER TABLE task_outputs DROP CONSTRAINT task_outputs_once,
    ADD CHECK (NOT isempty(range) AND range <@ int8range(0, 9007199254740992)),
    ADD CONSTRAINT task_outputs_once EXCLUDE USING gist (range_box(namespace, version, range) WITH &&, version WITH =);
ALTER TABLE partition_versions DROP CONSTRAINT partition_versions_once,
    ADD CHECK (NOT isempty(range) AND range <@ int8range(0, 9007199254740992)),
    ADD CONSTRAINT partition_versions_once EXCLUDE USING gist (range_box(namespace, version, range) WITH &&, version WITH =)
        WHERE (current);
