"""PostgreSQL, for exporters from 0.11 on: no label `server`, sums over pg_stat_activity_count."""

from __future__ import annotations

from model import RED, YELLOW, Dashboard, Lines, Query, Row, Stat, Variable

RATE = "[$__rate_interval]"
DB = 'datname=~"$datname",datname!~"template.*"'


def checkpoints(kind: str, since_17: str) -> str:
    """PostgreSQL 17 has moved them to a view of their own."""
    old = f"sum(rate(pg_stat_bgwriter_checkpoints_{kind}_total{{$sel}}{RATE}))"
    new = f"sum(rate(pg_stat_checkpointer_num_{since_17}_total{{$sel}}{RATE}))"
    return f"{old} or {new}"


ROWS = [
    Row(
        "Is it well?",
        [
            Stat(
                "Does it answer?",
                "Whether the exporter could ask it.",
                "bool_yes_no",
                [Query("min(pg_up{$sel})")],
                width=4,
                height=5,
                thresholds=[(1, "green")],
            ),
            Stat(
                "Which share of the connections is taken?",
                "Of max_connections. When all are, nobody gets in, replicas of Strandline among them.",
                "percentunit",
                [
                    Query(
                        "sum(pg_stat_activity_count{$sel}) / sum(pg_settings_max_connections{$sel})"
                    )
                ],
                width=5,
                height=5,
                high=1,
                thresholds=[(0.7, YELLOW), (0.9, RED)],
            ),
            Stat(
                "How long has the longest transaction been open?",
                "While it is, dead rows stay. Strandline keeps none open while it waits for Kafka or the store.",
                "s",
                [Query('max(pg_stat_activity_max_tx_duration{$sel,datname=~"$datname"})')],
                width=5,
                height=5,
                thresholds=[(300, YELLOW), (3600, RED)],
            ),
            Stat(
                "Do transactions wait for each other in a circle?",
                "Deadlocks in the time that is shown.",
                "short",
                [Query(f"sum(increase(pg_stat_database_deadlocks{{$sel,{DB}}}[$__range]))")],
                width=5,
                height=5,
                thresholds=[(1, YELLOW)],
                decimals=0,
            ),
            Stat(
                "Which share of the pages is in memory?",
                "Pages that were asked for and found in PostgreSQL's own cache. Low and busy: more shared_buffers.",
                "percentunit",
                [
                    Query(
                        f"""sum(rate(pg_stat_database_blks_hit{{$sel,{DB}}}{RATE}))
                        / (sum(rate(pg_stat_database_blks_hit{{$sel,{DB}}}{RATE}))
                        + sum(rate(pg_stat_database_blks_read{{$sel,{DB}}}{RATE})))"""
                    )
                ],
                width=5,
                height=5,
                high=1,
                thresholds=[(0.9, YELLOW), (0.97, "green")],
            ),
        ],
    ),
    Row(
        "What does it do?",
        [
            Lines(
                "What do connections do?",
                "By state. Idle in transaction: somebody has begun and does not go on.",
                "short",
                [Query(f"sum by (state) (pg_stat_activity_count{{$sel,{DB}}})", "{{state}}")],
                stacked=True,
            ),
            Lines(
                "How many transactions are there?",
                "Committed, by database; and all that were taken back.",
                "ops",
                [
                    Query(
                        f"sum by (datname) (rate(pg_stat_database_xact_commit{{$sel,{DB}}}{RATE}))",
                        "{{datname}}",
                    ),
                    Query(
                        f"sum(rate(pg_stat_database_xact_rollback{{$sel,{DB}}}{RATE}))",
                        "taken back",
                    ),
                ],
            ),
            Lines(
                "How many rows are changed?",
                "All databases that are chosen.",
                "rowsps",
                [
                    Query(f"sum(rate(pg_stat_database_tup_{what}{{$sel,{DB}}}{RATE}))", what)
                    for what in ("inserted", "updated", "deleted")
                ],
            ),
            Lines(
                "What is locked?",
                "Locks that are held, by mode, without the ones that reading takes.",
                "short",
                [
                    Query(
                        f"""sum by (mode) (pg_locks_count{{$sel,{DB},mode!="accesssharelock"}})""",
                        "{{mode}}",
                    )
                ],
                stacked=True,
            ),
            Lines(
                "Is more written than the checkpoints expect?",
                "Checkpoints by the clock, and those that the log forced: if these are not few, raise max_wal_size.",
                "ops",
                [
                    Query(checkpoints("timed", "timed"), "by the clock"),
                    Query(checkpoints("req", "requested"), "forced"),
                ],
            ),
            Lines(
                "Do queries spill to the disk?",
                "Temporary files. A lot: more work_mem, or a better index.",
                "Bps",
                [
                    Query(
                        f"sum by (datname) (rate(pg_stat_database_temp_bytes{{$sel,{DB}}}{RATE}))",
                        "{{datname}}",
                    )
                ],
            ),
        ],
    ),
    Row(
        "Does it grow?",
        [
            Lines(
                "How large are the databases?",
                "With indexes and dead rows.",
                "bytes",
                [Query(f"max by (datname) (pg_database_size_bytes{{$sel,{DB}}})", "{{datname}}")],
                width=12,
            ),
            Lines(
                "How many connections does each database have?",
                "Strandline: up to 18 for each replica. Airflow: several for each of its processes.",
                "short",
                [
                    Query(
                        f"sum by (datname) (pg_stat_database_numbackends{{$sel,{DB}}})",
                        "{{datname}}",
                    )
                ],
                width=12,
            ),
        ],
    ),
]

POSTGRES = Dashboard(
    "strandline-postgres",
    "PostgreSQL",
    "Is PostgreSQL well, what does it do, and does it grow?",
    "pg_up",
    ROWS,
    variables=[
        Variable("datname", "Database", 'pg_database_size_bytes{job=~"$job"}, datname'),
    ],
)
