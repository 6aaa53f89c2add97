-- What fairness, a worker that dies each time, a run that is ended by whoever asks, and the
-- sweeper need. A program of version 1 goes on beside it: every column has a default that
-- means what was meant before.

ALTER TABLE tasks
    ADD COLUMN due_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN deaths integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN tasks.due_at IS 'The task that is due first is taken first: the first few of a run when it was asked for, later ones later, so that a small snapshot overtakes a large one and none waits for ever';
COMMENT ON COLUMN tasks.deaths IS 'How many leases in a row ran out without being given back or moving the task on: its workers died';
CREATE INDEX tasks_due ON tasks (due_at, id) WHERE ended_at IS NULL;
DROP INDEX tasks_open;
CREATE INDEX tasks_attempt ON tasks (attempt_id) WHERE attempt_id IS NOT NULL;
COMMENT ON COLUMN tasks.offsets_done IS 'Offsets read past, as far as any attempt came; for people to watch, decides nothing';

-- Tasks go when their run ends, so that the table holds open work alone; what they came to
-- stays with the run.
ALTER TABLE runs
    ADD COLUMN offsets_done bigint,
    ADD COLUMN records bigint,
    ADD COLUMN bytes bigint;
COMMENT ON COLUMN runs.offsets_done IS 'Offsets that its tasks read past; null while it is open';
COMMENT ON COLUMN runs.records IS 'Events that its tasks read; null while it is open';
COMMENT ON COLUMN runs.bytes IS 'Bytes of files that its tasks wrote; null while it is open';
COMMENT ON COLUMN runs.cancel_requested_at IS 'When someone cancelled it; null if nobody did';

UPDATE runs r SET offsets_done = coalesce(t.offsets_done, 0), records = coalesce(t.records, 0),
    bytes = coalesce(t.bytes, 0)
FROM runs o LEFT JOIN (
    SELECT snapshot_id, run, sum(offsets_done)::bigint AS offsets_done,
        sum(records)::bigint AS records, sum(bytes)::bigint AS bytes
    FROM tasks WHERE kind = 'read' GROUP BY snapshot_id, run) t USING (snapshot_id, run)
WHERE (r.snapshot_id, r.run) = (o.snapshot_id, o.run) AND r.outcome IS NOT NULL;
DELETE FROM tasks t USING runs r
WHERE (r.snapshot_id, r.run) = (t.snapshot_id, t.run) AND r.outcome IS NOT NULL;

CREATE TABLE sweeps (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    swept_at timestamptz NOT NULL
);
COMMENT ON TABLE sweeps IS 'When the object store was last looked through for what no commit names: one row, so that one replica at a time does it';
COMMENT ON COLUMN sweeps.one IS 'There is one row';
COMMENT ON COLUMN sweeps.swept_at IS 'When the last sweep began';
