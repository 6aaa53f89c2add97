-- Fills the database with ended snapshots as if the service had made them: each is a copy of one
-- of the real ones of topic `flights`, under a topic, a window and an id of its own.
--
-- Topics take turns, an hour at a time, so ids and rows lie as they do after months of hourly
-- runs. One in a hundred failed, one in two hundred was cancelled, one in twenty was brought up
-- to date by the sealer. Topic `rare` has twenty snapshots, the oldest of all; ten carry a label
-- that no other has.
--
-- {snapshots} and {topics} are put in by the program. Constraints that slow the filling down are
-- made again at its end, so what is filled in is checked all the same.

-- One transaction: all of it or none, for the topics tell whether it was done.
BEGIN;
SET LOCAL session_replication_role = replica;
SET LOCAL maintenance_work_mem = '512MB';

CREATE UNLOGGED TABLE bench_real AS
SELECT row_number() OVER (ORDER BY s.id) - 1 AS number, s.id, s.topic, f.id AS file_id
FROM snapshots s
JOIN LATERAL (
    SELECT f.id FROM files f WHERE f.snapshot_id = s.id ORDER BY f.created_at LIMIT 1) f ON true
WHERE s.topic_name = 'flights' AND s.completeness = 'sealed';

INSERT INTO topics (cluster, name, topic_id, timestamp_type, retention_ms)
SELECT t.cluster, CASE n WHEN 0 THEN 'rare' ELSE 'orders-' || lpad(n::text, 3, '0') END,
    encode(decode(md5('topic' || n), 'hex'), 'base64'), t.timestamp_type, t.retention_ms
FROM generate_series(0, {topics}) AS n, topics t
WHERE t.name = 'flights';

CREATE UNLOGGED TABLE bench_made AS
SELECT n, i.asked_at, t.id AS topic, t.name, r.id AS real_id, r.file_id AS real_file,
    timestamptz '2024-01-01 00:00Z' + i.hour * interval '1 hour' AS window_start, i.hour,
    (lpad(to_hex((extract(epoch FROM i.asked_at) * 1000)::bigint), 12, '0')
        || '7' || substr(md5('snapshot' || n), 1, 3) || 'a' || substr(md5('snapshot' || n), 4, 15))::uuid AS id,
    md5('file' || n)::uuid AS file_id,
    CASE WHEN n % 100 = 3 THEN 'failed' WHEN n % 200 = 7 THEN 'cancelled' ELSE 'succeeded' END AS outcome,
    CASE WHEN n % 20 = 0 THEN 2 ELSE 1 END AS run
FROM generate_series(0, {snapshots} - 1) AS n
CROSS JOIN LATERAL (SELECT n / {topics} AS hour,
    timestamptz '2024-01-01 01:05Z' + n / {topics} * interval '1 hour'
        + n % {topics} * interval '20 ms' AS asked_at) i
CROSS JOIN LATERAL (SELECT CASE WHEN n % {topics} = 0 AND i.hour < 20 THEN 'rare'
    ELSE 'orders-' || lpad((n % {topics} + 1)::text, 3, '0') END AS name) w
JOIN topics t USING (name)
JOIN bench_real r ON r.number = n % (SELECT count(*) FROM bench_real)
ORDER BY n;

ALTER TABLE segments DROP CONSTRAINT segments_store_an_offset_once;

INSERT INTO snapshots (id, cluster, topic_name, topic, window_start, window_end, capture, on_loss,
    labels, run, completeness, result, created_at, updated_at)
SELECT m.id, s.cluster, m.name, m.topic, m.window_start, m.window_start + interval '1 hour',
    s.capture, s.on_loss,
    jsonb_build_object('dag_id', m.name || '_hourly', 'team', 'team-' || m.topic % 5)
        || CASE WHEN m.n < 10 THEN '{"backfill": "first"}' ELSE '{}' END::jsonb,
    m.run, CASE m.outcome WHEN 'succeeded' THEN s.completeness END,
    CASE m.outcome WHEN 'succeeded' THEN s.result END, m.asked_at, m.asked_at + interval '2 s'
FROM bench_made m JOIN snapshots s ON s.id = m.real_id
ORDER BY m.n;

INSERT INTO runs (snapshot_id, run, origin, outcome, error, offsets_total, records_added,
    requested_at, started_at, finished_at, offsets_done, records, bytes, shown)
SELECT m.id, n.run, CASE n.run WHEN 1 THEN 'request' ELSE 'sealer' END, m.outcome,
    CASE m.outcome WHEN 'failed' THEN
        '{"code": "KAFKA_UNAVAILABLE", "message": "no broker could be reached", "partition": null}'::jsonb END,
    r.offsets_total, r.records_added, m.asked_at, m.asked_at + interval '1 s',
    m.asked_at + interval '2 s', r.offsets_done, r.records, r.bytes, n.run = m.run
FROM bench_made m
JOIN runs r ON r.snapshot_id = m.real_id AND r.run = 1
CROSS JOIN LATERAL generate_series(1, m.run) AS n(run)
ORDER BY m.n;

INSERT INTO snapshot_partitions (snapshot_id, partition, start_offset, end_offset, sealed,
    start_uncertain, low_watermark, high_watermark, last_stable_offset, lost_offsets, planned_at)
SELECT m.id, p.partition, m.hour * 1000, (m.hour + 1) * 1000, p.sealed, p.start_uncertain,
    p.low_watermark, p.high_watermark, p.last_stable_offset, p.lost_offsets, m.asked_at
FROM bench_made m
JOIN snapshot_partitions p ON p.snapshot_id = m.real_id AND p.partition < 2
ORDER BY m.n;

INSERT INTO files (id, topic, object_name, records, bytes, sha256, min_timestamp, max_timestamp,
    snapshot_id, run, task_id, attempt_id, created_at)
SELECT m.file_id, m.topic, 'default/' || m.name || '/' || m.file_id || '.parquet', f.records,
    f.bytes, f.sha256, extract(epoch FROM m.window_start)::bigint * 1000,
    extract(epoch FROM m.window_start)::bigint * 1000 + 3599000, m.id, 1, f.task_id, f.attempt_id,
    m.asked_at + interval '2 s'
FROM bench_made m JOIN files f ON f.id = m.real_file
WHERE m.outcome = 'succeeded'
ORDER BY m.n;

INSERT INTO segments (topic, capture, partition, offsets, file_id, records, untimed_records,
    min_timestamp, max_timestamp)
SELECT m.topic, 'events', p, int8range(m.hour * 1000, (m.hour + 1) * 1000), m.file_id, 1000, 0,
    extract(epoch FROM m.window_start)::bigint * 1000,
    extract(epoch FROM m.window_start)::bigint * 1000 + 3599000
FROM bench_made m, generate_series(0, 1) AS p
WHERE m.outcome = 'succeeded'
ORDER BY m.n;

INSERT INTO snapshot_segments (snapshot_id, segment_id, partition, start_offset, end_offset,
    records, out_of_window_records, min_timestamp, max_timestamp)
SELECT f.snapshot_id, g.id, g.partition, lower(g.offsets), upper(g.offsets), g.records, 0,
    g.min_timestamp, g.max_timestamp
FROM segments g JOIN files f ON f.id = g.file_id JOIN bench_made m ON m.id = f.snapshot_id
ORDER BY g.id;

INSERT INTO boundaries (topic, partition, at, boundary_offset, older_start, older_end)
SELECT DISTINCT ON (m.topic, p, m.window_start) m.topic, p, m.window_start, m.hour * 1000, 0, m.hour * 1000
FROM bench_made m, generate_series(0, 1) AS p
ORDER BY m.topic, p, m.window_start;

INSERT INTO sealed_times (topic, at, partitions)
SELECT DISTINCT m.topic, m.window_start, 2 FROM bench_made m;

INSERT INTO snapshot_labels
SELECT l.key, l.value, s.id FROM snapshots s, jsonb_each_text(s.labels) AS l
WHERE s.topic_name <> 'flights' ORDER BY 1, 2, 3;
ALTER TABLE segments ADD CONSTRAINT segments_store_an_offset_once
    EXCLUDE USING gist (topic WITH =, capture WITH =, partition WITH =, offsets WITH &&);
DROP TABLE bench_made, bench_real;
COMMIT;
