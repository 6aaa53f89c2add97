-- The data model of the first version. Times of windows and of the service's own doings are
-- TIMESTAMPTZ; timestamps of events are BIGINT milliseconds since the epoch, because a
-- producer may stamp what no calendar holds. Ranges of offsets are [start, end).

CREATE EXTENSION IF NOT EXISTS btree_gist;

-- Topics ---------------------------------------------------------------------------------

CREATE TABLE topics (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cluster text NOT NULL,
    name text NOT NULL,
    topic_id text NOT NULL,
    newest boolean NOT NULL DEFAULT true,
    timestamp_type text CHECK (timestamp_type IN ('create_time', 'log_append_time')),
    retention_ms bigint,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (cluster, name, topic_id)
);
CREATE UNIQUE INDEX topics_newest ON topics (cluster, name) WHERE newest;
COMMENT ON TABLE topics IS 'Incarnations of topics: a topic deleted and made again is another row';
COMMENT ON COLUMN topics.id IS 'Our own key for the incarnation';
COMMENT ON COLUMN topics.cluster IS 'Name of the Kafka cluster in our settings';
COMMENT ON COLUMN topics.name IS 'Name of the topic';
COMMENT ON COLUMN topics.topic_id IS 'The id that Kafka gave this incarnation, in its base64 form; empty where the brokers give none';
COMMENT ON COLUMN topics.newest IS 'Whether this is the incarnation that was seen last under this name';
COMMENT ON COLUMN topics.timestamp_type IS 'message.timestamp.type when it was last looked at: whose clock stamps the records';
COMMENT ON COLUMN topics.retention_ms IS 'retention.ms when it was last looked at; null for none, or where it may not be read';
COMMENT ON COLUMN topics.first_seen_at IS 'When a plan first met this incarnation';

CREATE TABLE topic_partitions (
    topic bigint NOT NULL REFERENCES topics,
    partition integer NOT NULL,
    low_watermark bigint NOT NULL,
    high_watermark bigint NOT NULL,
    last_stable_offset bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);
COMMENT ON TABLE topic_partitions IS 'The partitions of a topic as they were last seen';
COMMENT ON COLUMN topic_partitions.topic IS 'The topic''s incarnation';
COMMENT ON COLUMN topic_partitions.partition IS 'Number of the partition';
COMMENT ON COLUMN topic_partitions.low_watermark IS 'First offset that the broker still had';
COMMENT ON COLUMN topic_partitions.high_watermark IS 'Next offset to be written';
COMMENT ON COLUMN topic_partitions.last_stable_offset IS 'Where the first open transaction began; the high watermark without one';
COMMENT ON COLUMN topic_partitions.first_seen_at IS 'When the partition was first seen';
COMMENT ON COLUMN topic_partitions.seen_at IS 'When the watermarks were asked last';

CREATE TABLE boundaries (
    topic bigint NOT NULL REFERENCES topics,
    partition integer NOT NULL,
    at timestamptz NOT NULL,
    boundary_offset bigint CHECK (boundary_offset >= 0),
    older_start bigint NOT NULL,
    older_end bigint NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, at),
    CHECK (0 <= older_start AND older_start <= older_end)
);
COMMENT ON TABLE boundaries IS 'Durable facts: the first offset of a partition whose timestamp is at or after a time';
COMMENT ON COLUMN boundaries.topic IS 'The topic''s incarnation';
COMMENT ON COLUMN boundaries.partition IS 'Number of the partition';
COMMENT ON COLUMN boundaries.at IS 'The time that was looked up';
COMMENT ON COLUMN boundaries.boundary_offset IS 'The smallest answer ever seen; null while every answer was that there is no such event';
COMMENT ON COLUMN boundaries.older_start IS 'Low watermark of the first of the look-ups that passed over a connected stretch of older events';
COMMENT ON COLUMN boundaries.older_end IS 'End of that stretch: everything from older_start up to here is older than the time';
COMMENT ON COLUMN boundaries.first_seen_at IS 'When the time was first looked up';
COMMENT ON COLUMN boundaries.seen_at IS 'When a look-up last changed what is known';

CREATE TABLE sealed_times (
    topic bigint NOT NULL REFERENCES topics,
    at timestamptz NOT NULL,
    partitions integer NOT NULL,
    sealed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, at)
);
COMMENT ON TABLE sealed_times IS 'Times whose boundary is known in every partition that the topic had then; in a partition that appears later the boundary is 0';
COMMENT ON COLUMN sealed_times.topic IS 'The topic''s incarnation';
COMMENT ON COLUMN sealed_times.at IS 'The time';
COMMENT ON COLUMN sealed_times.partitions IS 'How many partitions the topic had';
COMMENT ON COLUMN sealed_times.sealed_at IS 'When the last of the boundaries was recorded';

CREATE TABLE poison_records (
    topic bigint NOT NULL REFERENCES topics,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    record_timestamp bigint NOT NULL,
    judged_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, record_offset)
);
COMMENT ON TABLE poison_records IS 'Records stamped so far ahead of time when they were first looked at that they are no boundary; a verdict is for good';
COMMENT ON COLUMN poison_records.topic IS 'The topic''s incarnation';
COMMENT ON COLUMN poison_records.partition IS 'Number of the partition';
COMMENT ON COLUMN poison_records.record_offset IS 'Offset of the record';
COMMENT ON COLUMN poison_records.record_timestamp IS 'Its timestamp, milliseconds since the epoch';
COMMENT ON COLUMN poison_records.judged_at IS 'When it was first looked at, by the database''s clock';

-- Snapshots and their runs -----------------------------------------------------------------

CREATE TABLE snapshots (
    id uuid PRIMARY KEY,
    cluster text NOT NULL,
    topic_name text NOT NULL,
    topic bigint REFERENCES topics,
    superseded_at timestamptz,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    capture text NOT NULL CHECK (capture IN ('events', 'offsets')),
    on_loss text NOT NULL CHECK (on_loss IN ('report', 'fail')),
    labels jsonb NOT NULL DEFAULT '{}',
    run integer NOT NULL DEFAULT 0,
    completeness text CHECK (completeness IN ('provisional', 'settled', 'sealed')),
    result jsonb,
    last_error jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (window_start < window_end),
    CHECK ((completeness IS NULL) = (result IS NULL))
);
CREATE UNIQUE INDEX snapshots_request ON snapshots (cluster, topic_name, window_start, window_end, capture)
    WHERE superseded_at IS NULL;
CREATE INDEX snapshots_topic ON snapshots (topic_name, window_start);
CREATE INDEX snapshots_labels ON snapshots USING gin (labels jsonb_path_ops);
COMMENT ON TABLE snapshots IS 'One topic, one window, and everything known about it; lives for good';
COMMENT ON COLUMN snapshots.id IS 'Public id; grows with the time of creation (UUID version 7)';
COMMENT ON COLUMN snapshots.cluster IS 'Name of the Kafka cluster in our settings';
COMMENT ON COLUMN snapshots.topic_name IS 'Name of the topic';
COMMENT ON COLUMN snapshots.topic IS 'The topic''s incarnation; null until the first plan has met it';
COMMENT ON COLUMN snapshots.superseded_at IS 'When another incarnation of the topic was met: the same request then means another snapshot';
COMMENT ON COLUMN snapshots.window_start IS 'First moment of the window';
COMMENT ON COLUMN snapshots.window_end IS 'First moment after the window';
COMMENT ON COLUMN snapshots.capture IS 'What is taken: the events, or only the offset ranges';
COMMENT ON COLUMN snapshots.on_loss IS 'Whether lost offsets are only reported or fail the run';
COMMENT ON COLUMN snapshots.labels IS 'Labels of the last request: an object of strings';
COMMENT ON COLUMN snapshots.run IS 'Number of the newest run';
COMMENT ON COLUMN snapshots.completeness IS 'Whether the snapshot may still grow, as of the last run that succeeded';
COMMENT ON COLUMN snapshots.result IS 'What the snapshot holds and lacks, as of the last run that succeeded';
COMMENT ON COLUMN snapshots.last_error IS 'The last error that a run of the sealer ended with, or that a run is being tried again for';
COMMENT ON COLUMN snapshots.created_at IS 'When it was first asked for';
COMMENT ON COLUMN snapshots.updated_at IS 'When anything in it changed last';

CREATE TABLE runs (
    snapshot_id uuid NOT NULL REFERENCES snapshots,
    run integer NOT NULL,
    origin text NOT NULL CHECK (origin IN ('request', 'sealer')),
    outcome text CHECK (outcome IN ('succeeded', 'failed', 'cancelled')),
    error jsonb,
    offsets_total bigint,
    records_added bigint NOT NULL DEFAULT 0,
    requested_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    cancel_requested_at timestamptz,
    PRIMARY KEY (snapshot_id, run),
    CHECK ((outcome IS NULL) = (finished_at IS NULL)),
    CHECK ((outcome = 'failed') = (error IS NOT NULL) OR outcome IS NULL)
);
CREATE UNIQUE INDEX runs_open ON runs (snapshot_id) WHERE outcome IS NULL;
CREATE INDEX runs_queued ON runs (requested_at) WHERE started_at IS NULL AND outcome IS NULL;
COMMENT ON TABLE runs IS 'Attempts to bring a snapshot up to date; at most one is open';
COMMENT ON COLUMN runs.snapshot_id IS 'The snapshot';
COMMENT ON COLUMN runs.run IS 'Number of the run, from 1';
COMMENT ON COLUMN runs.origin IS 'Who asked for it: a request, or the sealer by itself';
COMMENT ON COLUMN runs.outcome IS 'How it ended; null while it is open';
COMMENT ON COLUMN runs.error IS 'Why it failed: kind, message, partition';
COMMENT ON COLUMN runs.offsets_total IS 'Offsets that the plan found missing and there; null before the plan';
COMMENT ON COLUMN runs.records_added IS 'Events that this run has stored so far';
COMMENT ON COLUMN runs.requested_at IS 'When it was asked for';
COMMENT ON COLUMN runs.started_at IS 'When a worker first took it up';
COMMENT ON COLUMN runs.finished_at IS 'When it ended';
COMMENT ON COLUMN runs.cancel_requested_at IS 'When someone asked to stop it';

CREATE TABLE tasks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    snapshot_id uuid NOT NULL,
    run integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('plan', 'read', 'finish')),
    offsets_done bigint NOT NULL DEFAULT 0,
    records bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    token bigint NOT NULL DEFAULT 0,
    attempt_id uuid,
    worker text,
    lease_expires_at timestamptz,
    available_at timestamptz NOT NULL DEFAULT now(),
    failing_since timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    FOREIGN KEY (snapshot_id, run) REFERENCES runs
);
CREATE INDEX tasks_open ON tasks (available_at, id) WHERE ended_at IS NULL;
CREATE INDEX tasks_run ON tasks (snapshot_id, run);
COMMENT ON TABLE tasks IS 'Parts of a run that one worker does: plan it, read some ranges, finish it';
COMMENT ON COLUMN tasks.id IS 'Key; grows with the time of creation';
COMMENT ON COLUMN tasks.snapshot_id IS 'The snapshot';
COMMENT ON COLUMN tasks.run IS 'The run';
COMMENT ON COLUMN tasks.kind IS 'What is to be done';
COMMENT ON COLUMN tasks.offsets_done IS 'Offsets read past so far; for people to watch, decides nothing';
COMMENT ON COLUMN tasks.records IS 'Events read so far; for people to watch';
COMMENT ON COLUMN tasks.bytes IS 'Bytes of files written so far; for people to watch';
COMMENT ON COLUMN tasks.attempts IS 'How often a worker has taken the task';
COMMENT ON COLUMN tasks.token IS 'Fencing token: grows with every lease; a write with an older one changes nothing';
COMMENT ON COLUMN tasks.attempt_id IS 'Random id of the last lease, so that a number given out twice after a failover does no harm';
COMMENT ON COLUMN tasks.worker IS 'Who holds or held the last lease; for people to read';
COMMENT ON COLUMN tasks.lease_expires_at IS 'When the lease ends by the database''s clock; null or past: free';
COMMENT ON COLUMN tasks.available_at IS 'Not to be taken before this time (back-off after an error)';
COMMENT ON COLUMN tasks.failing_since IS 'When the first of the errors in a row occurred; null after progress';
COMMENT ON COLUMN tasks.created_at IS 'When it was made';
COMMENT ON COLUMN tasks.ended_at IS 'When it was done or its run ended; null while open';

CREATE TABLE task_ranges (
    task_id bigint NOT NULL REFERENCES tasks ON DELETE CASCADE,
    partition integer NOT NULL,
    offsets int8range NOT NULL CHECK (NOT isempty(offsets)),
    EXCLUDE USING gist (task_id WITH =, partition WITH =, offsets WITH &&)
);
COMMENT ON TABLE task_ranges IS 'What a task is to read, recorded before the first read; what is left of it is this less what is stored';
COMMENT ON COLUMN task_ranges.task_id IS 'The task';
COMMENT ON COLUMN task_ranges.partition IS 'Number of the partition';
COMMENT ON COLUMN task_ranges.offsets IS 'The offsets';

CREATE TABLE snapshot_partitions (
    snapshot_id uuid NOT NULL REFERENCES snapshots,
    partition integer NOT NULL,
    start_offset bigint NOT NULL,
    end_offset bigint NOT NULL,
    sealed boolean NOT NULL,
    start_uncertain boolean NOT NULL,
    low_watermark bigint NOT NULL,
    high_watermark bigint NOT NULL,
    last_stable_offset bigint NOT NULL,
    lost_offsets bigint NOT NULL,
    planned_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (snapshot_id, partition),
    CHECK (0 <= start_offset AND start_offset <= end_offset)
);
COMMENT ON TABLE snapshot_partitions IS 'What a snapshot''s window means in each partition, as of its newest plan';
COMMENT ON COLUMN snapshot_partitions.snapshot_id IS 'The snapshot';
COMMENT ON COLUMN snapshot_partitions.partition IS 'Number of the partition';
COMMENT ON COLUMN snapshot_partitions.start_offset IS 'First offset of the window';
COMMENT ON COLUMN snapshot_partitions.end_offset IS 'First offset after the window; the last stable offset while no later event is known';
COMMENT ON COLUMN snapshot_partitions.sealed IS 'Whether both boundaries are known';
COMMENT ON COLUMN snapshot_partitions.start_uncertain IS 'Whether retention may have taken events of the window before anyone looked';
COMMENT ON COLUMN snapshot_partitions.low_watermark IS 'First offset that the broker had when the run planned, and again when it ended';
COMMENT ON COLUMN snapshot_partitions.high_watermark IS 'Next offset to be written when the run planned';
COMMENT ON COLUMN snapshot_partitions.last_stable_offset IS 'Where the first open transaction began when the run planned; the high watermark without one';
COMMENT ON COLUMN snapshot_partitions.lost_offsets IS 'Offsets of the window that are gone from the broker and not stored';
COMMENT ON COLUMN snapshot_partitions.planned_at IS 'When the range was planned';

-- What is stored -----------------------------------------------------------------------------

CREATE TABLE files (
    id uuid PRIMARY KEY,
    topic bigint NOT NULL REFERENCES topics,
    object_name text NOT NULL UNIQUE,
    records bigint NOT NULL CHECK (records > 0),
    bytes bigint NOT NULL CHECK (bytes > 0),
    sha256 bytea NOT NULL CHECK (length(sha256) = 32),
    min_timestamp bigint,
    max_timestamp bigint,
    snapshot_id uuid NOT NULL,
    run integer NOT NULL,
    task_id bigint NOT NULL,
    attempt_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX files_topic_time ON files (topic, min_timestamp, max_timestamp);
COMMENT ON TABLE files IS 'Files that readers may see; an object that is not named here does not exist for them';
COMMENT ON COLUMN files.id IS 'Random id, part of the object''s name';
COMMENT ON COLUMN files.topic IS 'The topic''s incarnation';
COMMENT ON COLUMN files.object_name IS 'Name of the object below the storage URL';
COMMENT ON COLUMN files.records IS 'Events in the file';
COMMENT ON COLUMN files.bytes IS 'Size of the file';
COMMENT ON COLUMN files.sha256 IS 'SHA-256 of the file';
COMMENT ON COLUMN files.min_timestamp IS 'Smallest timestamp of its events, milliseconds since the epoch; null if none has one';
COMMENT ON COLUMN files.max_timestamp IS 'Largest timestamp of its events, milliseconds since the epoch; null if none has one';
COMMENT ON COLUMN files.snapshot_id IS 'The snapshot whose run wrote it; others may share it';
COMMENT ON COLUMN files.run IS 'The run that wrote it';
COMMENT ON COLUMN files.task_id IS 'The task that wrote it';
COMMENT ON COLUMN files.attempt_id IS 'The lease under which it was written';
COMMENT ON COLUMN files.created_at IS 'When it became visible';

CREATE TABLE segments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic bigint NOT NULL REFERENCES topics,
    capture text NOT NULL CHECK (capture IN ('events', 'offsets')),
    partition integer NOT NULL,
    offsets int8range NOT NULL CHECK (NOT isempty(offsets) AND lower(offsets) >= 0),
    file_id uuid REFERENCES files,
    records bigint NOT NULL CHECK (records >= 0),
    untimed_records bigint NOT NULL,
    min_timestamp bigint,
    max_timestamp bigint,
    CONSTRAINT segments_store_an_offset_once
        EXCLUDE USING gist (topic WITH =, capture WITH =, partition WITH =, offsets WITH &&),
    CHECK ((file_id IS NULL) = (records = 0))
);
CREATE INDEX segments_file ON segments (file_id);
COMMENT ON TABLE segments IS 'Offset ranges that are stored, and the file each is in; the constraint makes storing an offset twice impossible';
COMMENT ON COLUMN segments.id IS 'Key';
COMMENT ON COLUMN segments.topic IS 'The topic''s incarnation';
COMMENT ON COLUMN segments.capture IS 'Whether the events are stored, or only the range is recorded';
COMMENT ON COLUMN segments.partition IS 'Number of the partition';
COMMENT ON COLUMN segments.offsets IS 'The offsets that were read past';
COMMENT ON COLUMN segments.file_id IS 'The file that holds the events; null if there were none (control records, aborted, compacted away) or only the range is recorded';
COMMENT ON COLUMN segments.records IS 'Events in the range';
COMMENT ON COLUMN segments.untimed_records IS 'Events without a timestamp';
COMMENT ON COLUMN segments.min_timestamp IS 'Smallest timestamp of its events, milliseconds since the epoch';
COMMENT ON COLUMN segments.max_timestamp IS 'Largest timestamp of its events, milliseconds since the epoch';

CREATE TABLE snapshot_segments (
    snapshot_id uuid NOT NULL REFERENCES snapshots,
    segment_id bigint NOT NULL REFERENCES segments,
    partition integer NOT NULL,
    start_offset bigint NOT NULL,
    end_offset bigint NOT NULL,
    records bigint NOT NULL,
    out_of_window_records bigint NOT NULL,
    min_timestamp bigint,
    max_timestamp bigint,
    PRIMARY KEY (snapshot_id, partition, start_offset),
    CHECK (0 <= start_offset AND start_offset < end_offset)
);
CREATE UNIQUE INDEX snapshot_segments_segment ON snapshot_segments (segment_id, snapshot_id);
COMMENT ON TABLE snapshot_segments IS 'What of each segment belongs to a snapshot, counted from its window';
COMMENT ON COLUMN snapshot_segments.snapshot_id IS 'The snapshot';
COMMENT ON COLUMN snapshot_segments.segment_id IS 'The segment, perhaps written for another snapshot';
COMMENT ON COLUMN snapshot_segments.partition IS 'Number of the partition';
COMMENT ON COLUMN snapshot_segments.start_offset IS 'First offset of the segment that belongs to the snapshot';
COMMENT ON COLUMN snapshot_segments.end_offset IS 'First offset after what belongs to the snapshot';
COMMENT ON COLUMN snapshot_segments.records IS 'Events in there';
COMMENT ON COLUMN snapshot_segments.out_of_window_records IS 'Of these, events whose own timestamp is outside the window or missing';
COMMENT ON COLUMN snapshot_segments.min_timestamp IS 'Smallest timestamp in there, milliseconds since the epoch';
COMMENT ON COLUMN snapshot_segments.max_timestamp IS 'Largest timestamp in there, milliseconds since the epoch';

-- Waking up ------------------------------------------------------------------------------------
-- Hints only: whoever misses one finds the same by asking again a little later.

CREATE FUNCTION notify_task() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('strandline_tasks', '');
    RETURN NULL;
END $$;
COMMENT ON FUNCTION notify_task() IS 'Tells sleeping workers that there is something to do';
CREATE TRIGGER tasks_made AFTER INSERT ON tasks FOR EACH STATEMENT EXECUTE FUNCTION notify_task();

CREATE FUNCTION notify_run_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('strandline_ended', NEW.snapshot_id::text);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION notify_run_ended() IS 'Tells those who wait for a snapshot that its run has ended';
CREATE TRIGGER runs_ended AFTER UPDATE OF outcome ON runs FOR EACH ROW
    WHEN (OLD.outcome IS NULL AND NEW.outcome IS NOT NULL) EXECUTE FUNCTION notify_run_ended();
