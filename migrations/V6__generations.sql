-- How a store tells that the database was restored to an earlier state. A program of version 5
-- beside it does not count; what it commits is told of with the next commit of a newer one.

ALTER TABLE sweeps ADD COLUMN generation bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN sweeps.generation IS 'How often the object store was told that files were committed. A store that was told more often has files that this database has forgotten';
