"""Strandline itself: is it well, what becomes of requests and runs, what holds it up."""

from __future__ import annotations

from model import GREEN, RED, YELLOW, Bars, Dashboard, Lines, Query, Row, Stat, quantile

RATE = "[$__rate_interval]"

WELL = Row(
    "Is it well?",
    [
        Stat(
            "How many replicas are there?",
            "Replicas that answer Prometheus. One that has ended is not counted; compare with how many there should be.",
            "none",
            [Query("sum(up{$sel})")],
            width=4,
            height=5,
            thresholds=[(1, YELLOW), (2, GREEN)],
        ),
        Stat(
            "Which share of requests fails?",
            "Answers with 5xx, of all. Those with 4xx are the caller's.",
            "percentunit",
            [
                Query(
                    f"""(sum(rate(strandline_http_requests_total{{$sel,code=~"5.."}}{RATE})) or vector(0))
                    / sum(rate(strandline_http_requests_total{{$sel}}{RATE}))"""
                )
            ],
            width=4,
            height=5,
            thresholds=[(0.001, YELLOW), (0.01, RED)],
        ),
        Stat(
            "How long has a run waited for a worker?",
            "The one that waits longest. Grows without end if no replica has workers.",
            "s",
            [Query("max(strandline_oldest_queued_age_seconds{$sel})")],
            width=4,
            height=5,
            thresholds=[(60, YELLOW), (900, RED)],
        ),
        Stat(
            "How long has a task made no progress?",
            "The task that fails longest, again and again. What it meets is below, under tried again.",
            "s",
            [Query("max(strandline_oldest_failing_age_seconds{$sel})")],
            width=4,
            height=5,
            thresholds=[(60, YELLOW), (300, RED)],
        ),
        Stat(
            "How many offsets were lost?",
            "In the time that is shown: events that retention took before they were read.",
            "short",
            [Query("sum(increase(strandline_lost_offsets_total{$sel}[$__range]))")],
            width=4,
            height=5,
            thresholds=[(1, RED)],
            decimals=0,
        ),
        Stat(
            "How old is what replicas say of all?",
            "Queue, ages and topics are read from PostgreSQL every ten seconds. While it is away, they stay as they were.",
            "s",
            [Query("time() - max(strandline_state_timestamp_seconds{$sel} > 0)")],
            width=4,
            height=5,
            thresholds=[(60, YELLOW), (300, RED)],
        ),
    ],
)

REQUESTS = Row(
    "What is asked, and how is it answered?",
    [
        Lines(
            "How many requests are answered, and with what?",
            "By status. Waiting for a snapshot is one request, however long.",
            "reqps",
            [
                Query(
                    f"sum by (code) (rate(strandline_http_requests_total{{$sel}}{RATE}))",
                    "{{code}}",
                )
            ],
            stacked=True,
        ),
        Lines(
            "How long do answers take?",
            "Requests that did not ask to wait.",
            "s",
            [
                Query(
                    quantile(0.5, "strandline_http_request_duration_seconds", where='waited="no"'),
                    "half of them, at most",
                ),
                Query(
                    quantile(0.99, "strandline_http_request_duration_seconds", where='waited="no"'),
                    "99 %, at most",
                ),
            ],
            thresholds=[(1, RED)],
            marked=True,
        ),
        Lines(
            "Who is turned away?",
            "By a limit (429: rate, wrong_tokens, streams, queue), or for want of a good token (401).",
            "reqps",
            [
                Query(
                    f"""sum by (limit) (rate(strandline_refused_requests_total{{$sel}}{RATE})) > 0
                    or sum by (reason) (rate(strandline_auth_failures_total{{$sel}}{RATE})) > 0""",
                    "{{limit}} {{reason}}",
                )
            ],
        ),
    ],
)

RUNS = Row(
    "What becomes of snapshots?",
    [
        Lines(
            "How do runs end?",
            "A run is one go at a snapshot; the sealer's are among them.",
            "ops",
            [
                Query(
                    f"sum by (outcome) (rate(strandline_runs_ended_total{{$sel}}{RATE}))",
                    "{{outcome}}",
                )
            ],
            stacked=True,
        ),
        Lines(
            "How long do runs take, and how long do they wait?",
            "Runs of the last 15 minutes that succeeded, from request to end; and the part of it before a worker had time.",
            "s",
            [
                Query(
                    quantile(
                        0.5,
                        "strandline_run_duration_seconds",
                        where='outcome="succeeded"',
                        window="15m",
                    ),
                    "half of the runs",
                ),
                Query(
                    quantile(
                        0.95,
                        "strandline_run_duration_seconds",
                        where='outcome="succeeded"',
                        window="15m",
                    ),
                    "95 % of the runs",
                ),
                Query(
                    quantile(0.95, "strandline_queue_wait_seconds", window="15m"),
                    "95 % of the waits",
                ),
            ],
        ),
        Bars(
            "Why do runs fail, and why are tasks tried again?",
            "In the time that is shown, by code. docs/operating.md says what to do.",
            "short",
            [
                Query(
                    "sum by (code) (increase(strandline_run_failures_total{$sel}[$__range])) > 0.5",
                    "failed: {{code}}",
                ),
                Query(
                    "sum by (code) (increase(strandline_task_retries_total{$sel}[$__range])) > 0.5",
                    "tried again: {{code}}",
                ),
            ],
            thresholds=[(1, YELLOW)],
            decimals=0,
        ),
    ],
)

WORK = Row(
    "Is there enough of it?",
    [
        Lines(
            "Are there workers to spare?",
            "Workers of all replicas, and runs that have not ended. Queued runs beside idle workers: look at Kafka.",
            "short",
            [
                Query("sum(strandline_workers{$sel})", "workers"),
                Query("sum(strandline_workers_busy{$sel})", "busy workers"),
                Query("max by (state) (strandline_open_runs{$sel})", "{{state}} runs"),
            ],
            width=8,
        ),
        Lines(
            "What do workers do?",
            "Workers that are at it, on average, by kind of task.",
            "short",
            [
                Query(
                    f"sum by (kind) (rate(strandline_task_duration_seconds_sum{{$sel}}{RATE}))",
                    "{{kind}}",
                )
            ],
            stacked=True,
        ),
        Lines(
            "How many events are read and stored?",
            "Read but not stored: stale, or there already.",
            "rowsps",
            [
                Query(f"sum(rate(strandline_records_read_total{{$sel}}{RATE}))", "read"),
                Query(f"sum(rate(strandline_records_stored_total{{$sel}}{RATE}))", "stored"),
            ],
        ),
        Lines(
            "How many bytes are read and stored?",
            "What Kafka sent, and the files that came of it.",
            "Bps",
            [
                Query(
                    f"sum(rate(strandline_record_bytes_read_total{{$sel}}{RATE}))",
                    "read from Kafka",
                ),
                Query(f"sum(rate(strandline_file_bytes_stored_total{{$sel}}{RATE}))", "files"),
            ],
        ),
        Lines(
            "How much of the machine does a replica take?",
            "Cores, by replica.",
            "short",
            [
                Query(
                    f"sum by (instance) (rate(process_cpu_seconds_total{{$sel}}{RATE}))",
                    "{{instance}}",
                )
            ],
        ),
        Lines(
            "How much memory does a replica take?",
            "Resident memory, by replica. It grows with the workers, not with the window.",
            "bytes",
            [
                Query(
                    "max by (instance) (process_resident_memory_bytes{$sel})",
                    "{{instance}}",
                )
            ],
        ),
    ],
)

OTHERS = Row(
    "Is it Kafka, the store or PostgreSQL?",
    [
        Lines(
            "How long do they take to answer?",
            "95 % of the requests of each kind, at most.",
            "s",
            [
                Query(
                    quantile(0.95, "strandline_kafka_request_duration_seconds", "op"),
                    "Kafka: {{op}}",
                ),
                Query(
                    quantile(0.95, "strandline_store_request_duration_seconds", "op"),
                    "store: {{op}}",
                ),
                Query(quantile(0.95, "strandline_commit_duration_seconds"), "PostgreSQL: commit"),
            ],
            width=6,
            height=9,
        ),
        Lines(
            "How often do they fail?",
            "Errors of each. Most are tried again by themselves; what is not shows above, where runs end.",
            "ops",
            [
                Query(f"sum(rate(strandline_kafka_errors_total{{$sel}}{RATE}))", "Kafka"),
                Query(f"sum(rate(strandline_store_errors_total{{$sel}}{RATE}))", "store"),
                Query(
                    f"""sum(rate(strandline_commits_total{{$sel,outcome!~"committed|conflict"}}{RATE}))""",
                    "PostgreSQL: commits",
                ),
            ],
            width=6,
            height=9,
        ),
        Bars(
            "Which errors are these?",
            "In the time that is shown: Kafka's by the name that its client library has for them, the store's by what was asked.",
            "short",
            [
                Query(
                    """sum by (code) (increase(strandline_kafka_errors_total{$sel}[$__range])) > 0.5
                    or sum by (op) (increase(strandline_store_errors_total{$sel}[$__range])) > 0.5""",
                    "{{code}}{{op}}",
                )
            ],
            width=6,
            height=9,
            thresholds=[(1, YELLOW)],
            decimals=0,
        ),
        Lines(
            "Are there enough connections to PostgreSQL?",
            "Of each replica's pool. Statements that wait for one for long: raise nothing, look for what holds them.",
            "short",
            [
                Query('sum(strandline_db_connections{$sel,state="busy"})', "busy"),
                Query('sum(strandline_db_connections{$sel,state="limit"})', "limit"),
                Query("sum(strandline_db_waiting{$sel})", "statements that wait"),
            ],
            width=6,
            height=9,
        ),
    ],
)

TOPICS = Row(
    "Does sealing keep up, and is everything stored before retention takes it?",
    [
        Lines(
            "How long ago did the oldest provisional window end?",
            "By topic. Normal until the grace period is over; from then on it should be settled, and is not: the sealer has no worker, or no Kafka.",
            "s",
            [
                Query(
                    """clamp_min(time() - min by (topic)
                    (strandline_topic_oldest_provisional_window_end_timestamp_seconds{$sel}), 0)""",
                    "{{topic}}",
                )
            ],
        ),
        Lines(
            "How many snapshots may still grow?",
            "By topic. Windows that have not ended are among them.",
            "short",
            [Query("max by (topic) (strandline_topic_unsealed_snapshots{$sel})", "{{topic}}")],
            stacked=True,
        ),
        Lines(
            "How soon does retention take what is not stored?",
            "By topic: until the oldest window whose run is queued, under way or failed begins to be older than the topic keeps events. Below zero events may be gone. No line: all is stored.",
            "s",
            [
                Query(
                    """max by (topic) (strandline_topic_retention_seconds{$sel})
                    - (time() - min by (topic)
                    (strandline_topic_oldest_unstored_window_start_timestamp_seconds{$sel}))""",
                    "{{topic}}",
                )
            ],
            thresholds=[(0, YELLOW), (3600, GREEN)],
            low=None,
            marked=True,
        ),
    ],
)

STRANDLINE = Dashboard(
    "strandline",
    "Strandline",
    "Is Strandline well, what becomes of requests and runs, and what holds it up? All replicas together.",
    "strandline_build_info",
    [WELL, REQUESTS, RUNS, WORK, OTHERS, TOPICS],
)
