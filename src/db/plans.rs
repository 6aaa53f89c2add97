//! The transaction in which a run's plan is recorded, before the first read.
//!
//! It begins by locking the topic's row, so that plans of one topic follow each other and
//! each builds on what the one before has recorded. Kafka was asked before it begins.

use std::collections::{BTreeMap, BTreeSet};

use deadpool_postgres::{GenericClient, Transaction};
use uuid::Uuid;

use super::sealing::make_newest;
use super::tasks::{add_read_tasks, end_task, lock_lease};
use super::{Attempt, ClaimedTask, DbError, DbTime, Lease};
use crate::snapshot::{
    BoundaryFact, Capture, OffsetRange, OffsetRanges, PartitionLook, PartitionPlan, PartitionRange,
    PoisonRecord, Timestamp, TimestampType, Window,
};

const WHAT: &str = "record a plan";

/// A topic as Kafka describes it now.
#[derive(Clone, Debug)]
pub struct SeenTopic<'a> {
    /// Name of the cluster in our settings.
    pub cluster: &'a str,
    /// Name of the topic.
    pub name: &'a str,
    /// Kafka's id, empty where the brokers give none.
    pub topic_id: &'a str,
    /// Whose clock stamps the records, if that may be read.
    pub timestamp_type: Option<TimestampType>,
    /// How long the brokers keep records, in milliseconds; `None` for good or unknown.
    pub retention_ms: Option<i64>,
}

/// What is recorded of a topic.
#[derive(Clone, Debug)]
pub struct KnownTopic {
    /// Our key for the incarnation.
    pub key: i64,
    /// The partitions that were seen before.
    pub partitions: BTreeSet<i32>,
}

/// The open transaction of a plan. Dropped without [`PlanTransaction::commit`], nothing
/// of it happened.
pub struct PlanTransaction<'a> {
    tx: Transaction<'a>,
}

impl<'a> PlanTransaction<'a> {
    /// Begins; `None` if the lease is gone.
    pub async fn begin(
        client: &'a mut deadpool_postgres::Client,
        lease: Lease,
    ) -> Result<Option<Self>, DbError> {
        let tx = client.transaction().await.attempt(WHAT)?;
        let held = lock_lease(&tx, lease).await?;
        Ok(held.then_some(PlanTransaction { tx }))
    }

    /// Begins a plan that only looks: it is never to be committed.
    pub async fn begin_dry(client: &'a mut deadpool_postgres::Client) -> Result<Self, DbError> {
        Ok(PlanTransaction { tx: client.transaction().await.attempt(WHAT)? })
    }

    /// The database's time.
    pub async fn now(&self) -> Result<Timestamp, DbError> {
        let sql = "-- now
            SELECT clock_timestamp()";
        let row = self.tx.query_one(sql, &[]).await.attempt("ask the database's clock")?;
        Ok(row.get::<_, DbTime>(0).0)
    }

    /// Records the topic, locks its row, and sets snapshots of its earlier incarnations
    /// aside: the same request then means a new snapshot.
    pub async fn observe_topic(&self, seen: &SeenTopic<'_>) -> Result<KnownTopic, DbError> {
        let key = make_newest(&self.tx, seen.cluster, seen.name, seen.topic_id).await?;
        self.tx
            .execute(
                "-- describe_topic
                 UPDATE topics SET timestamp_type = $2, retention_ms = $3 WHERE id = $1",
                &[&key, &seen.timestamp_type.map(TimestampType::as_str), &seen.retention_ms],
            )
            .await
            .attempt(WHAT)?;
        let sql = "-- known_partitions
            SELECT partition FROM topic_partitions WHERE topic = $1";
        let rows = self.tx.query(sql, &[&key]).await.attempt(WHAT)?;
        Ok(KnownTopic { key, partitions: rows.iter().map(|row| row.get(0)).collect() })
    }

    /// Says that the snapshot is one of this incarnation.
    pub async fn bind_snapshot(&self, snapshot_id: Uuid, topic: i64) -> Result<(), DbError> {
        let sql = "-- bind_snapshot
            UPDATE snapshots SET topic = $2, updated_at = clock_timestamp() WHERE id = $1 AND topic IS NULL";
        self.tx.execute(sql, &[&snapshot_id, &topic]).await.attempt(WHAT)?;
        Ok(())
    }

    /// Records which records are poison. A verdict that stands stays as it is.
    pub async fn record_verdicts(
        &self,
        topic: i64,
        poison: &[PoisonRecord],
    ) -> Result<(), DbError> {
        if poison.is_empty() {
            return Ok(());
        }
        self.tx
            .execute(
                "-- record_verdicts
                 INSERT INTO poison_records (topic, partition, record_offset, record_timestamp)
                 SELECT $1, p.* FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS p
                 ON CONFLICT DO NOTHING",
                &[
                    &topic,
                    &poison.iter().map(|record| record.partition).collect::<Vec<_>>(),
                    &poison.iter().map(|record| record.offset).collect::<Vec<_>>(),
                    &poison.iter().map(|record| record.timestamp.millis()).collect::<Vec<_>>(),
                ],
            )
            .await
            .attempt(WHAT)?;
        Ok(())
    }

    /// Records what a look showed, together with what earlier looks showed. In partitions
    /// that were not there when a time was sealed, the boundary of that time is 0.
    pub async fn record_look(
        &self,
        topic: &KnownTopic,
        window: &Window,
        looks: &[PartitionLook],
    ) -> Result<(), DbError> {
        let mut facts: BTreeMap<(i32, Timestamp), BoundaryFact> = looks
            .iter()
            .flat_map(|look| look.facts(window).map(|fact| ((look.partition, fact.at), fact)))
            .collect();
        if let Some(at) = self.newest_sealed_time(topic.key).await? {
            let is_new = |look: &&PartitionLook| !topic.partitions.contains(&look.partition);
            for look in looks.iter().filter(is_new) {
                let zero = BoundaryFact::seen(at, Some(0), 0, 0);
                facts
                    .entry((look.partition, at))
                    .and_modify(|fact| *fact = fact.merge(zero))
                    .or_insert(zero);
            }
        }
        for (partition, earlier) in self.facts_at(topic.key, &facts).await? {
            if let Some(fact) = facts.get_mut(&(partition, earlier.at)) {
                *fact = earlier.merge(*fact);
            }
        }
        self.upsert_facts(topic.key, &facts).await?;
        self.upsert_watermarks(topic.key, looks).await
    }

    async fn newest_sealed_time(&self, topic: i64) -> Result<Option<Timestamp>, DbError> {
        let sql = "-- newest_sealed_time
            SELECT max(at) FROM sealed_times WHERE topic = $1";
        let row = self.tx.query_one(sql, &[&topic]).await.attempt(WHAT)?;
        Ok(row.get::<_, Option<DbTime>>(0).map(|at| at.0))
    }

    async fn facts_at(
        &self,
        topic: i64,
        facts: &BTreeMap<(i32, Timestamp), BoundaryFact>,
    ) -> Result<Vec<(i32, BoundaryFact)>, DbError> {
        let times: BTreeSet<Timestamp> = facts.keys().map(|(_, at)| *at).collect();
        let times: Vec<DbTime> = times.into_iter().map(DbTime).collect();
        let rows = self
            .tx
            .query(
                "-- facts_at
                 SELECT partition, at, boundary_offset, older_start, older_end
                 FROM boundaries WHERE topic = $1 AND at = ANY($2)",
                &[&topic, &times],
            )
            .await
            .attempt(WHAT)?;
        Ok(rows
            .iter()
            .map(|row| {
                let fact = BoundaryFact {
                    at: row.get::<_, DbTime>("at").0,
                    offset: row.get("boundary_offset"),
                    older: OffsetRange::new(row.get("older_start"), row.get("older_end")),
                };
                (row.get("partition"), fact)
            })
            .collect())
    }

    async fn upsert_facts(
        &self,
        topic: i64,
        facts: &BTreeMap<(i32, Timestamp), BoundaryFact>,
    ) -> Result<(), DbError> {
        let partitions: Vec<i32> = facts.keys().map(|(partition, _)| *partition).collect();
        let column = |of: fn(&BoundaryFact) -> i64| facts.values().map(of).collect::<Vec<i64>>();
        self.tx
            .execute(
                "-- upsert_boundaries
                 INSERT INTO boundaries AS b
                     (topic, partition, at, boundary_offset, older_start, older_end)
                 SELECT $1, f.* FROM unnest($2::int[], $3::timestamptz[], $4::bigint[],
                     $5::bigint[], $6::bigint[]) AS f
                 ON CONFLICT (topic, partition, at) DO UPDATE SET
                     boundary_offset = excluded.boundary_offset, seen_at = now(),
                     older_start = excluded.older_start, older_end = excluded.older_end
                 WHERE (b.boundary_offset, b.older_start, b.older_end) IS DISTINCT FROM
                     (excluded.boundary_offset, excluded.older_start, excluded.older_end)",
                &[
                    &topic,
                    &partitions,
                    &facts.keys().map(|(_, at)| DbTime(*at)).collect::<Vec<_>>(),
                    &facts.values().map(|fact| fact.offset).collect::<Vec<_>>(),
                    &column(|fact| fact.older.start()),
                    &column(|fact| fact.older.end()),
                ],
            )
            .await
            .attempt(WHAT)?;
        Ok(())
    }

    async fn upsert_watermarks(&self, topic: i64, looks: &[PartitionLook]) -> Result<(), DbError> {
        let column = |of: fn(&PartitionLook) -> i64| looks.iter().map(of).collect::<Vec<i64>>();
        self.tx
            .execute(
                "-- upsert_watermarks
                 INSERT INTO topic_partitions AS w
                     (topic, partition, low_watermark, high_watermark, last_stable_offset)
                 SELECT $1, l.* FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::bigint[]) AS l
                 ON CONFLICT (topic, partition) DO UPDATE SET
                     low_watermark = greatest(w.low_watermark, excluded.low_watermark),
                     high_watermark = greatest(w.high_watermark, excluded.high_watermark),
                     last_stable_offset =
                         greatest(w.last_stable_offset, excluded.last_stable_offset),
                     seen_at = now()",
                &[
                    &topic,
                    &looks.iter().map(|look| look.partition).collect::<Vec<_>>(),
                    &column(|look| look.low_watermark),
                    &column(|look| look.high_watermark),
                    &column(|look| look.last_stable_offset),
                ],
            )
            .await
            .attempt(WHAT)?;
        Ok(())
    }

    /// What is known about the boundaries of the window in each partition, cut down to what
    /// the core needs: the smallest offsets seen for the two ends or any later time, and one
    /// look, if there is one, that shows what lies below the start to be older.
    pub async fn facts(
        &self,
        topic: i64,
        window: &Window,
        looks: &[PartitionLook],
    ) -> Result<BTreeMap<i32, Vec<BoundaryFact>>, DbError> {
        let rows = self
            .tx
            .query(
                "-- boundary_facts
                 WITH ends AS (
                     SELECT l.partition, l.last_stable_offset,
                         (SELECT min(boundary_offset) FROM boundaries WHERE topic = $1
                             AND partition = l.partition AND at >= $4) AS start_offset,
                         (SELECT min(boundary_offset) FROM boundaries WHERE topic = $1
                             AND partition = l.partition AND at >= $5) AS end_offset
                     FROM unnest($2::int[], $3::bigint[]) AS l(partition, last_stable_offset))
                 SELECT e.partition, e.start_offset, e.end_offset,
                     shown.at, shown.older_start, shown.older_end
                 FROM ends e LEFT JOIN LATERAL (
                     SELECT b.at, b.older_start, b.older_end FROM boundaries b
                     WHERE b.topic = $1 AND b.partition = e.partition AND b.at <= $4
                       AND b.older_start < coalesce(e.start_offset, e.last_stable_offset)
                       AND b.older_end >= coalesce(e.start_offset, e.last_stable_offset)
                     LIMIT 1) shown ON true",
                &[
                    &topic,
                    &looks.iter().map(|look| look.partition).collect::<Vec<_>>(),
                    &looks.iter().map(|look| look.last_stable_offset).collect::<Vec<_>>(),
                    &DbTime(window.start()),
                    &DbTime(window.end()),
                ],
            )
            .await
            .attempt(WHAT)?;
        let nothing = OffsetRange::new(0, 0);
        let facts = rows.iter().map(|row| {
            let known = |at, column| BoundaryFact { at, offset: row.get(column), older: nothing };
            let mut facts =
                vec![known(window.start(), "start_offset"), known(window.end(), "end_offset")];
            if let Some(DbTime(at)) = row.get("at") {
                let older = OffsetRange::new(row.get("older_start"), row.get("older_end"));
                facts.push(BoundaryFact { at, offset: None, older });
            }
            (row.get("partition"), facts)
        });
        Ok(facts.collect())
    }

    /// What is stored of these ranges, by whatever window's run.
    pub async fn stored(
        &self,
        topic: i64,
        capture: Capture,
        ranges: &[PartitionRange],
    ) -> Result<BTreeMap<i32, OffsetRanges>, DbError> {
        stored_ranges(&self.tx, topic, capture, ranges).await
    }

    /// Records what the window means in each partition.
    pub async fn record_partitions(
        &self,
        task: &ClaimedTask,
        topic: i64,
        plans: &[PartitionPlan],
    ) -> Result<(), DbError> {
        let column = |of: fn(&PartitionPlan) -> i64| plans.iter().map(of).collect::<Vec<i64>>();
        let flag = |of: fn(&PartitionPlan) -> bool| plans.iter().map(of).collect::<Vec<bool>>();
        self.tx
            .execute(
                "-- upsert_snapshot_partitions
                 INSERT INTO snapshot_partitions (snapshot_id, partition, start_offset, end_offset,
                     low_watermark, high_watermark, last_stable_offset, lost_offsets, sealed,
                     start_uncertain)
                 SELECT $1, p.* FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::bigint[],
                     $6::bigint[], $7::bigint[], $8::bigint[], $9::bool[], $10::bool[]) AS p
                 ON CONFLICT (snapshot_id, partition) DO UPDATE SET
                     start_offset = excluded.start_offset, end_offset = excluded.end_offset,
                     low_watermark = excluded.low_watermark,
                     high_watermark = excluded.high_watermark,
                     last_stable_offset = excluded.last_stable_offset,
                     lost_offsets = excluded.lost_offsets, sealed = excluded.sealed,
                     start_uncertain = excluded.start_uncertain, planned_at = now()",
                &[
                    &task.snapshot_id,
                    &plans.iter().map(|plan| plan.look.partition).collect::<Vec<_>>(),
                    &column(|plan| plan.range.start()),
                    &column(|plan| plan.range.end()),
                    &column(|plan| plan.look.low_watermark),
                    &column(|plan| plan.look.high_watermark),
                    &column(|plan| plan.look.last_stable_offset),
                    &column(|plan| plan.lost.len()),
                    &flag(|plan| plan.sealed),
                    &flag(|plan| plan.start_uncertain),
                ],
            )
            .await
            .attempt(WHAT)?;
        if plans.iter().all(|plan| plan.sealed) {
            let times = [DbTime(task.window.start()), DbTime(task.window.end())];
            self.tx
                .execute(
                    "-- record_sealed_times
                     INSERT INTO sealed_times (topic, at, partitions)
                     SELECT $1, at, $3 FROM unnest($2::timestamptz[]) AS at
                     ON CONFLICT (topic, at) DO NOTHING",
                    &[&topic, &times.as_slice(), &(plans.len() as i32)],
                )
                .await
                .attempt(WHAT)?;
        }
        Ok(())
    }

    /// What an event of the topic takes in its files, by those with the newest events; `None`
    /// without files.
    pub async fn bytes_per_record(&self, topic: i64) -> Result<Option<f64>, DbError> {
        let sql = "-- bytes_per_record
            SELECT (sum(bytes) / sum(records))::float8 AS bytes_per_record
            FROM (SELECT bytes, records FROM files
                WHERE topic = $1 AND min_timestamp IS NOT NULL
                ORDER BY min_timestamp DESC LIMIT 50) newest";
        Ok(self.tx.query_one(sql, &[&topic]).await.attempt(WHAT)?.get("bytes_per_record"))
    }

    /// Records what is to be read, as tasks, or what `capture: offsets` takes, as segments.
    pub async fn record_work(
        &self,
        task: &ClaimedTask,
        topic: i64,
        tasks: &[Vec<PartitionRange>],
    ) -> Result<(), DbError> {
        let ranges = tasks.concat();
        let total: i64 = ranges.iter().map(|part| part.range.len()).sum();
        let sql = "-- record_total
            UPDATE runs SET offsets_total = $3 WHERE snapshot_id = $1 AND run = $2";
        self.tx.execute(sql, &[&task.snapshot_id, &task.run, &total]).await.attempt(WHAT)?;
        match task.capture {
            Capture::Events => {
                add_read_tasks(&self.tx, task.snapshot_id, task.run, tasks).await?;
            }
            Capture::Offsets => self.record_offsets(topic, &ranges).await?,
        }
        Ok(())
    }

    async fn record_offsets(&self, topic: i64, ranges: &[PartitionRange]) -> Result<(), DbError> {
        let (partitions, starts, ends) = columns(ranges);
        self.tx
            .execute(
                "-- record_offsets
                 INSERT INTO segments (topic, capture, partition, offsets, records, untimed_records)
                 SELECT $1, 'offsets', p, int8range(s, e), 0, 0
                 FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS r(p, s, e)",
                &[&topic, &partitions, &starts, &ends],
            )
            .await
            .attempt(WHAT)?;
        Ok(())
    }

    /// Ends the plan's task and makes all of it visible at once.
    pub async fn commit(self, lease: Lease) -> Result<(), DbError> {
        end_task(&self.tx, lease, None).await?;
        self.tx.commit().await.attempt(WHAT)
    }

    /// Makes visible what was observed, and leaves the task open.
    pub async fn commit_observations(self) -> Result<(), DbError> {
        self.tx.commit().await.attempt(WHAT)
    }
}

/// What is stored of these ranges.
pub(super) async fn stored_ranges(
    client: &impl GenericClient,
    topic: i64,
    capture: Capture,
    ranges: &[PartitionRange],
) -> Result<BTreeMap<i32, OffsetRanges>, DbError> {
    let (partitions, starts, ends) = columns(ranges);
    let sql = "-- stored_ranges
        SELECT g.partition, lower(g.offsets) AS start_offset, upper(g.offsets) AS end_offset
        FROM unnest($3::int[], $4::bigint[], $5::bigint[]) AS r(p, s, e)
        JOIN segments g ON g.topic = $1 AND g.capture = $2 AND g.partition = r.p
            AND g.offsets && int8range(r.s, r.e)";
    let rows = client
        .query(sql, &[&topic, &capture.as_str(), &partitions, &starts, &ends])
        .await
        .attempt("look up what is stored")?;
    let mut stored: BTreeMap<i32, OffsetRanges> = BTreeMap::new();
    for row in rows {
        let range = OffsetRange::new(row.get("start_offset"), row.get("end_offset"));
        stored.entry(row.get("partition")).or_default().insert(range);
    }
    Ok(stored)
}

fn columns(ranges: &[PartitionRange]) -> (Vec<i32>, Vec<i64>, Vec<i64>) {
    let mut columns = (vec![], vec![], vec![]);
    for part in ranges.iter().filter(|part| !part.range.is_empty()) {
        columns.0.push(part.partition);
        columns.1.push(part.range.start());
        columns.2.push(part.range.end());
    }
    columns
}
