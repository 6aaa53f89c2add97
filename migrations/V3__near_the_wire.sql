-- What lists and the work itself need with a million ended snapshots. A program of version 2 goes
-- on beside it: triggers keep what it does not know of. Building the indexes holds writers back,
-- with a million snapshots for about twenty seconds.

-- A list by state looks for runs that show their snapshots' states. Without this it would pass
-- over every failure that was made good by a later run.
ALTER TABLE runs ADD COLUMN shown boolean NOT NULL DEFAULT true;
COMMENT ON COLUMN runs.shown IS 'Whether it may be the run that its snapshot shows: false for one that a later run has replaced, and for one of the sealer''s until it succeeds or is asked for; kept by a trigger, a hint for indexes';
UPDATE runs r SET shown = false FROM snapshots s WHERE s.id = r.snapshot_id AND s.run <> r.run;

CREATE FUNCTION show_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE runs SET shown = (run = NEW.run)
    WHERE snapshot_id = NEW.id AND shown <> (run = NEW.run);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION show_run() IS 'Notes that a snapshot shows another of its runs';
CREATE TRIGGER snapshots_show_another_run AFTER UPDATE OF run ON snapshots
    FOR EACH ROW WHEN (OLD.run <> 0 AND OLD.run <> NEW.run) EXECUTE FUNCTION show_run();

-- Lists by topic and by state are read off in their order, newest first.
CREATE INDEX snapshots_topic_newest ON snapshots (topic_name, id);
-- Those of a topic in a span of time, without a look at the rows.
CREATE INDEX snapshots_windows ON snapshots (topic_name, window_start, window_end, id);
DROP INDEX snapshots_topic;
CREATE INDEX runs_outcome ON runs (outcome, snapshot_id) WHERE outcome IS NOT NULL AND shown;
CREATE INDEX snapshots_unsealed ON snapshots (completeness, id)
    WHERE completeness IN ('provisional', 'settled');
-- The queue, to be counted as before and to be listed; and the runs under way without it.
CREATE INDEX runs_waiting ON runs (snapshot_id) WHERE started_at IS NULL AND outcome IS NULL;
DROP INDEX runs_queued;
CREATE INDEX runs_started ON runs (snapshot_id) WHERE started_at IS NOT NULL AND outcome IS NULL;

-- What each plan and each round of the sealer ask of a topic, whatever the number of its windows.
CREATE INDEX snapshots_incarnation ON snapshots (topic, completeness) WHERE superseded_at IS NULL;

-- Every claim leaves a dead version behind, at the place where the next claim looks first. The
-- table is small, so it is cleaned after a few hundred of them and not after a fifth of the queue.
ALTER TABLE tasks SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Labels, one a row, so that a list by label is read off in order as well: a GIN index finds
-- all that carry a label before the first page can be sorted. A trigger keeps them, whichever
-- program writes the snapshots.
CREATE TABLE snapshot_labels (
    label_key text NOT NULL,
    label_value text NOT NULL,
    snapshot_id uuid NOT NULL,
    PRIMARY KEY (label_key, label_value, snapshot_id)
);
COMMENT ON TABLE snapshot_labels IS 'The labels of snapshots, to find them by; kept by a trigger';
COMMENT ON COLUMN snapshot_labels.label_key IS 'The label''s key';
COMMENT ON COLUMN snapshot_labels.label_value IS 'Its value';
COMMENT ON COLUMN snapshot_labels.snapshot_id IS 'The snapshot; no foreign key, the trigger removes what is gone';

CREATE FUNCTION record_labels() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM snapshot_labels l USING jsonb_each_text(OLD.labels) AS o(key, value)
        WHERE (l.label_key, l.label_value, l.snapshot_id) = (o.key, o.value, OLD.id);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO snapshot_labels SELECT key, value, NEW.id FROM jsonb_each_text(NEW.labels);
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION record_labels() IS 'Brings a snapshot''s rows of snapshot_labels up to date';
CREATE TRIGGER snapshots_labelled AFTER INSERT OR DELETE ON snapshots
    FOR EACH ROW EXECUTE FUNCTION record_labels();
CREATE TRIGGER snapshots_relabelled AFTER UPDATE OF labels ON snapshots
    FOR EACH ROW WHEN (OLD.labels <> NEW.labels) EXECUTE FUNCTION record_labels();

INSERT INTO snapshot_labels SELECT l.key, l.value, s.id FROM snapshots s, jsonb_each_text(s.labels) AS l
ORDER BY 1, 2, 3;
ANALYZE snapshot_labels;
DROP INDEX snapshots_labels;
