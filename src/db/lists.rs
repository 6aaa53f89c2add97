//! Lists of snapshots, newest first, each read off an index in its order, so that a page takes
//! the same time whatever the number of snapshots and however deep it lies.

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::snapshots::{COLUMNS, SnapshotRow, TABLES, read_row};
use super::{Attempt, Database, DbError, DbTime};
use crate::snapshot::{Completeness, State, Timestamp, TopicGlob};

/// Which snapshots to list; what is `None` or empty does not narrow.
#[derive(Clone, Debug, Default)]
pub struct SnapshotFilter {
    /// Name of the cluster.
    pub cluster: Option<String>,
    /// Name of the topic.
    pub topic: Option<String>,
    /// Of topics that one of these patterns stands for.
    pub topics: Vec<TopicGlob>,
    /// Any of these states.
    pub states: Vec<State>,
    /// This completeness.
    pub completeness: Option<Completeness>,
    /// Windows that end after this time.
    pub window_from: Option<Timestamp>,
    /// Windows that start before this time.
    pub window_to: Option<Timestamp>,
    /// All of these labels.
    pub labels: BTreeMap<String, String>,
}

/// A part of a list: at most `limit` items, those after `after`.
#[derive(Clone, Copy, Debug)]
pub struct Page<K> {
    /// The last item of the page before.
    pub after: Option<K>,
    /// How many at most.
    pub limit: i64,
}

/// Snapshots, newest first.
pub async fn list_snapshots(
    db: &Database,
    filter: &SnapshotFilter,
    page: Page<Uuid>,
) -> Result<Vec<SnapshotRow>, DbError> {
    const WHAT: &str = "list snapshots";
    let client = db.client().await?;
    let query = Query::new(filter, page);
    let statement = match query.plan {
        Plan::Same => client.prepare_cached(&query.sql).await,
        Plan::ByValues => client.prepare(&query.sql).await,
    };
    let values: Vec<&(dyn ToSql + Sync)> =
        query.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
    let rows = client.query(&statement.attempt(WHAT)?, &values).await.attempt(WHAT)?;
    rows.iter().map(read_row).collect()
}

/// Whether the best way to find the page depends on what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// No: planned once for each connection.
    Same,
    /// Of two labels either may be the rarer one, a span of time may hold anything: planned
    /// each time.
    ByValues,
}

/// Items of the usual pages, with one more to see whether there is another page. Others are
/// not kept prepared: there are many.
const USUAL_LIMITS: [i64; 2] = [51, 201];

struct Query {
    sql: String,
    values: Vec<Box<dyn ToSql + Send + Sync>>,
    plan: Plan,
}

impl Query {
    /// Only conditions that are asked for are in the text: one that may be null keeps Postgres
    /// from its indexes. The same goes for the number of items, which we have checked.
    fn new(filter: &SnapshotFilter, page: Page<Uuid>) -> Self {
        let mut values: Vec<Box<dyn ToSql + Send + Sync>> = Vec::new();
        let mut tables = String::from("snapshots s");
        let mut conditions = String::from("true");
        let mut narrow = |condition: &str, value: Box<dyn ToSql + Send + Sync>| {
            values.push(value);
            conditions += &format!(" AND {condition}").replace('?', &format!("${}", values.len()));
        };
        if let Some(cluster) = filter.cluster.clone() {
            narrow("s.cluster = ?", Box::new(cluster));
        }
        if let Some(topic) = filter.topic.clone() {
            narrow("s.topic_name = ?", Box::new(topic));
        }
        if !filter.topics.is_empty() {
            let patterns: Vec<String> = filter.topics.iter().map(like).collect();
            narrow("s.topic_name LIKE ANY(?)", Box::new(patterns));
        }
        if let Some(time) = filter.window_from {
            narrow("s.window_end > ?", Box::new(DbTime(time)));
        }
        if let Some(time) = filter.window_to {
            narrow("s.window_start < ?", Box::new(DbTime(time)));
        }
        for (number, (key, value)) in filter.labels.iter().enumerate() {
            tables += &format!(" JOIN snapshot_labels l{number} ON l{number}.snapshot_id = s.id");
            narrow(&format!("l{number}.label_key = ?"), Box::new(key.clone()));
            narrow(&format!("l{number}.label_value = ?"), Box::new(value.clone()));
        }
        if let Some(after) = page.after {
            narrow("s.id < ?", Box::new(after));
        }
        if let Some(completeness) = filter.completeness {
            conditions += &format!(" AND s.completeness = '{}'", completeness.as_str());
        }
        let span = filter.window_from.is_some() || filter.window_to.is_some();
        let by_values = span
            || !filter.topics.is_empty()
            || filter.labels.len() + usize::from(filter.topic.is_some()) > 1
            || !USUAL_LIMITS.contains(&page.limit);
        let way = if span && filter.topic.is_some() { Way::BySpan } else { Way::InOrder };
        Query {
            sql: page_sql(way, &tables, &conditions, &filter.states, page.limit),
            values,
            plan: if by_values { Plan::ByValues } else { Plan::Same },
        }
    }
}

/// The pattern in SQL's signs.
fn like(glob: &TopicGlob) -> String {
    let sign = |c| match c {
        '*' => "%".to_owned(),
        '?' => "_".to_owned(),
        '_' => "\\_".to_owned(),
        other => other.to_string(),
    };
    glob.as_str().chars().map(sign).collect()
}

/// How a page is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Snapshot by snapshot, newest first, until the page is full.
    InOrder,
    /// All of the span, which are then put in order: one topic has few of them, and Postgres,
    /// which can't know, would pass over all that are newer.
    BySpan,
}

/// First the ids of the page, then what is shown of them. Each state is looked for by itself:
/// together they would be in no index's order.
fn page_sql(way: Way, tables: &str, conditions: &str, states: &[State], limit: i64) -> String {
    let mut states = states.to_vec();
    states.sort_by_key(|state| state.as_str());
    states.dedup();
    let newest = |tables: &str, conditions: &str| {
        let all = format!("s.id FROM {tables} WHERE {conditions}");
        match way {
            Way::InOrder => format!("(SELECT {all} ORDER BY s.id DESC LIMIT {limit})"),
            // OFFSET 0 keeps the order out of it.
            Way::BySpan => format!(
                "(SELECT id FROM (SELECT {all} OFFSET 0) span ORDER BY id DESC LIMIT {limit})"
            ),
        }
    };
    let of_state = |state: &State| {
        // The index on runs is read from where the page begins only if that is said of them.
        let of_runs = conditions.replace("s.id <", "r.snapshot_id <");
        let tables = format!("{tables} JOIN runs r ON r.snapshot_id = s.id AND r.run = s.run");
        newest(&tables, &format!("{conditions} AND {of_runs} AND {}", in_state(*state)))
    };
    let ids = match states.as_slice() {
        [] => newest(tables, conditions),
        states => states.iter().map(of_state).collect::<Vec<_>>().join(" UNION ALL "),
    };
    // OFFSET 0 keeps Postgres from joining first and sorting afterwards.
    format!(
        "-- list_snapshots
         SELECT shown.* FROM (SELECT id FROM ({ids}) found ORDER BY id DESC LIMIT {limit}) page
         CROSS JOIN LATERAL (SELECT {COLUMNS} {TABLES} WHERE s.id = page.id OFFSET 0) shown
         ORDER BY page.id DESC"
    )
}

const fn in_state(state: State) -> &'static str {
    match state {
        State::Queued => "r.outcome IS NULL AND r.started_at IS NULL",
        State::Running => "r.outcome IS NULL AND r.started_at IS NOT NULL",
        State::Succeeded => "r.outcome = 'succeeded' AND r.shown",
        State::Failed => "r.outcome = 'failed' AND r.shown",
        State::Cancelled => "r.outcome = 'cancelled' AND r.shown",
    }
}
