//! Finding the boundary where Kafka's own answer is none: behind poison records, and where a
//! broker says "no such event" though there is one. By reading on.

use super::{Cluster, JobError, Shells};
use crate::db;
use crate::kafka::{Flow, ReadEnd};
use crate::snapshot::{
    Event, Failure, FailureKind, OffsetRange, PartitionLook, PoisonJudge, PoisonRecord, Timestamp,
    TopicName, Window,
};

/// Which of the window's ends.
#[derive(Clone, Copy)]
enum End {
    Start,
    End,
}

/// An answer of Kafka's that is no boundary.
struct Suspect {
    look: usize,
    end: End,
    at: Timestamp,
    /// Where to read on: what lies before is poison, or gone.
    from: OffsetRange,
    /// A record that is late enough, should reading on find none before it: one that no
    /// reader is shown, such as a control record.
    or_else: Option<i64>,
}

/// Puts the true boundaries in the place of answers that are poison records. Gives the
/// records that were found to be poison, the known ones among them, and the database's time.
pub(super) async fn judge(
    shells: &Shells,
    (cluster, name, topic_id): (&str, &TopicName, &str),
    window: &Window,
    looks: &mut [PartitionLook],
) -> Result<(Vec<PoisonRecord>, Timestamp), JobError> {
    let (now, known) = db::poison_verdicts(&shells.db, cluster, name.as_str(), topic_id).await?;
    let judge = PoisonJudge::new(now, known);
    let (suspects, mut poison) = suspect(&judge, window, looks);
    for suspect in suspects {
        let look = &looks[suspect.look];
        let known = db::boundary_fact(
            &shells.db,
            (cluster, name.as_str(), topic_id),
            look.partition,
            suspect.at,
        );
        let (answer, from) = match known.await? {
            Some(fact) if fact.offset.is_some() => (fact.offset, None),
            // An earlier look has read on from here, and found nothing so far.
            Some(fact) if fact.older.contains(suspect.from.start()) => {
                (None, Some(suspect.from.split_at(fact.older.end()).1))
            }
            _ => (None, Some(suspect.from)),
        };
        let answer = match from {
            None => answer,
            Some(from) => {
                let read_on = ReadOn {
                    partition: look.partition,
                    from,
                    at: suspect.at,
                    judge: judge.clone(),
                };
                let (found, more) = read_on.run(shells, name).await?;
                poison.extend(more);
                found.or(suspect.or_else)
            }
        };
        let look = &mut looks[suspect.look];
        match suspect.end {
            End::Start => look.start_answer = answer,
            End::End => look.end_answer = answer,
        }
    }
    poison.sort();
    poison.dedup();
    Ok((poison, now))
}

/// The answers that are no boundary, and the poison records that made them so.
fn suspect(
    judge: &PoisonJudge,
    window: &Window,
    looks: &[PartitionLook],
) -> (Vec<Suspect>, Vec<PoisonRecord>) {
    let mut poison = Vec::new();
    let mut suspects = Vec::new();
    for (number, look) in looks.iter().enumerate() {
        for (end, at, answer, timestamp) in [
            (End::Start, window.start(), look.start_answer, look.start_timestamp),
            (End::End, window.end(), look.end_answer, look.end_timestamp),
        ] {
            let there = OffsetRange::new(look.low_watermark, look.last_stable_offset);
            let partition = look.partition;
            match (answer, look.newest) {
                (Some(offset), _) if judge.is_poison(partition, offset, timestamp) => {
                    let timestamp = timestamp.unwrap_or(at);
                    poison.push(PoisonRecord { partition, offset, timestamp });
                    let from = there.split_at(offset.saturating_add(1)).1;
                    suspects.push(Suspect { look: number, end, at, from, or_else: None });
                }
                (None, Some((offset, newest))) if newest >= at => {
                    let is_boundary = !judge.is_poison(partition, offset, Some(newest));
                    let or_else = is_boundary.then_some(offset);
                    let from = if is_boundary { there.split_at(offset).0 } else { there };
                    suspects.push(Suspect { look: number, end, at, from, or_else });
                }
                _ => {}
            }
        }
    }
    (suspects, poison)
}

/// Reading on behind a poison record.
struct ReadOn {
    partition: i32,
    from: OffsetRange,
    at: Timestamp,
    judge: PoisonJudge,
}

impl ReadOn {
    async fn run(
        self,
        shells: &Shells,
        topic: &TopicName,
    ) -> Result<(Option<i64>, Vec<PoisonRecord>), JobError> {
        if self.from.is_empty() {
            return Ok((None, Vec::new()));
        }
        let (cluster, topic) = (shells.cluster.clone(), topic.clone());
        let read = tokio::task::spawn_blocking(move || self.read(&cluster, &topic));
        read.await.map_err(JobError::panicked)?
    }

    fn read(
        &self,
        cluster: &Cluster,
        topic: &TopicName,
    ) -> Result<(Option<i64>, Vec<PoisonRecord>), JobError> {
        let mut reader = cluster.readers.reader(topic, 1)?;
        let (mut found, mut poison) = (None, Vec::new());
        let mut on_event = |event: &Event<'_>| {
            let Some(timestamp) = event.timestamp.filter(|time| *time >= self.at) else {
                return Flow::Continue;
            };
            let (partition, offset) = (event.partition, event.offset);
            if self.judge.is_poison(partition, offset, Some(timestamp)) {
                poison.push(PoisonRecord { partition, offset, timestamp });
                return Flow::Continue;
            }
            found = Some(offset);
            Flow::Break
        };
        match reader.read(self.partition, self.from, &mut on_event, &|| false)? {
            ReadEnd::Complete | ReadEnd::Paused { .. } => Ok((found, poison)),
            ReadEnd::Stopped { next_offset } | ReadEnd::OutOfRange { next_offset } => {
                Err(JobError::Failed(Failure {
                    kind: FailureKind::KafkaUnavailable,
                    message: format!(
                        "events of partition {} of topic {topic} were deleted at offset {next_offset} while the boundary of {} was looked for",
                        self.partition, self.at
                    ),
                    partition: Some(self.partition),
                }))
            }
        }
    }
}
