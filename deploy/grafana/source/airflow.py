"""Airflow, by way of StatsD: is it well, is there room, why is a DAG late, what came of it?

Airflow's counters begin at 1: `increase` never sees the first event of a task, which for a daily
DAG that failed once is the only one. `since` counts it.
"""

from __future__ import annotations

from model import (
    GREEN,
    RED,
    Bars,
    Dashboard,
    Lines,
    Query,
    Row,
    Stat,
    Table,
    Variable,
    quantile,
)

DAG = 'dag_id=~"$dag_id"'
FILE = "bundle_name, file_name"


def since(metric: str, by: str, window: str, where: str = "") -> str:
    """How many events there were in a window, by labels; 0 for what was not there before it."""
    selected = ",".join(part for part in ("$sel", where) if part)
    now = f"sum by ({by}) ({metric}{{{selected}}})"
    before = f"sum by ({by}) ({metric}{{{selected}}} offset {window})"
    return f"clamp_min({now} - ({before} or {now} * 0), 0)"


def mean(metric: str, by: str = "dag_id") -> str:
    """The mean of what was observed in a quarter of an hour, of rare events, too."""
    total, count = (since(f"{metric}_{part}", by, "15m", DAG) for part in ("sum", "count"))
    return f"{total} / ({count} > 0)"


def most(metric: str) -> str:
    """The 95th percentile of what was observed in a quarter of an hour, by task."""
    buckets = since(f"{metric}_bucket", "le, dag_id, task_id", "15m", DAG)
    return f"histogram_quantile(0.95, {buckets})"


def lost(metric: str) -> str:
    """How many in five minutes; 0 where nothing has ever been lost."""
    return f"sum({since(metric, 'job', '5m')}) or vector(0)"


HEALTH = Row(
    "Is Airflow well?",
    [
        Stat(
            "Do the scheduler, the triggerer and the DAG processor live?",
            "Heartbeats in the last minute, of all that there are of each. None: it hangs, or is gone.",
            "short",
            [
                Query(f"sum(increase(airflow_{name}_heartbeat_total{{$sel}}[1m]))", legend)
                for name, legend in (
                    ("scheduler", "scheduler"),
                    ("triggerer", "triggerer"),
                    ("dag_processor", "DAG processor"),
                )
            ],
            width=8,
            height=6,
            thresholds=[(0.5, GREEN)],
            decimals=0,
        ),
        Stat(
            "Do all DAG files load?",
            "Files that fail to import, and DAGs that were found. A DAG that is missing here is not run.",
            "short",
            [
                Query("max(airflow_dag_processing_import_errors{$sel})", "files with errors"),
            ],
            width=4,
            height=6,
            thresholds=[(1, RED)],
        ),
        Stat(
            "How many DAGs are there?",
            "Found by the DAG processor in its last round. For a moment 0 after it was started.",
            "short",
            [Query("max(airflow_dagbag_size{$sel})", "DAGs")],
            width=4,
            height=6,
        ),
        Lines(
            "How long does a round of the scheduler take?",
            "95 % of the rounds, at most; and the part of it in which no other scheduler may choose tasks.",
            "s",
            [
                Query(quantile(0.95, "airflow_scheduler_scheduler_loop_duration"), "round"),
                Query(
                    quantile(0.95, "airflow_scheduler_critical_section_duration"),
                    "critical section",
                ),
            ],
            height=6,
            thresholds=[(10, RED)],
            marked=True,
        ),
    ],
)

ROOM = Row(
    "Is there room?",
    [
        Lines(
            "How many tasks wait, and where?",
            "Scheduled: for a slot. Queued: for the executor. Deferred: in the triggerer.",
            "short",
            [
                Query(
                    f"""sum by (state) (label_replace(
                    {{__name__=~"airflow_ti_(running|queued|scheduled|deferred)",$sel,{DAG}}},
                    "state", "$1", "__name__", "airflow_ti_(.+)"))""",
                    "{{state}}",
                )
            ],
            width=6,
            stacked=True,
        ),
        Lines(
            "How full are the pools?",
            "Slots that are taken, running and queued, of all slots. A full pool holds up every DAG that uses it.",
            "percentunit",
            [
                Query(
                    """sum by (pool_name) (airflow_pool_running_slots{$sel}
                    + airflow_pool_queued_slots{$sel})
                    / sum by (pool_name) (airflow_pool_running_slots{$sel}
                    + airflow_pool_queued_slots{$sel} + airflow_pool_open_slots{$sel})""",
                    "{{pool_name}}",
                )
            ],
            width=6,
            high=1,
            thresholds=[(0.9, RED)],
            marked=True,
        ),
        Lines(
            "Does a lack of slots hold up tasks?",
            "Tasks that could run if their pool had a slot, and tasks that the executor has not begun with.",
            "short",
            [
                Query(
                    "sum by (pool_name) (airflow_pool_starving_tasks{$sel})", "pool {{pool_name}}"
                ),
                Query("sum(airflow_executor_queued_tasks{$sel})", "executor"),
            ],
            width=6,
        ),
        Lines(
            "Is there room in the triggerer?",
            "Triggers that run, and how many more could. All deferred tasks wait here.",
            "short",
            [
                Query("sum(airflow_triggers_running{$sel})", "run"),
                Query("sum(airflow_triggerer_capacity_left{$sel})", "more could"),
            ],
            width=6,
        ),
    ],
)

LATE = Row(
    "Why is my DAG late? ($dag_id)",
    [
        Lines(
            "1. Was its run made late?",
            "From when a run was due until the scheduler made it: it is slow, or max_active_runs holds it back. Runs that catch up with the past show how old they are.",
            "s",
            [Query(mean("airflow_dagrun_schedule_delay"), "{{dag_id}}")],
            low=None,
            logarithmic=True,
        ),
        Lines(
            "2. Did its first task start late?",
            "From when the run could begin until its first task did. As all of these: of the last 15 minutes.",
            "s",
            [Query(mean("airflow_dagrun_first_task_start_delay"), "{{dag_id}}")],
        ),
        Lines(
            "3. Did its tasks wait for a slot?",
            "95 % of the waits from scheduled to queued: pools, parallelism, max_active_tasks.",
            "s",
            [
                Query(
                    most("airflow_task_scheduled_duration"),
                    "{{dag_id}}: {{task_id}}",
                )
            ],
        ),
        Lines(
            "4. Did its tasks take long?",
            "95 % of the tries, at most. A deferred task's is the part that was not in the triggerer.",
            "s",
            [
                Query(
                    most("airflow_task_duration"),
                    "{{dag_id}}: {{task_id}}",
                )
            ],
        ),
        Lines(
            "5. Were its tasks tried again?",
            "Tries in the last five minutes that failed, with more to come. Each costs its retry_delay.",
            "short",
            [
                Query(
                    since(
                        "airflow_ti_finish_total",
                        "dag_id, task_id",
                        "5m",
                        f'state="up_for_retry",{DAG}',
                    ),
                    "{{dag_id}}: {{task_id}}",
                )
            ],
        ),
        Lines(
            "6. How long do its runs take, all in all?",
            "Runs that succeeded: average, from start to end.",
            "s",
            [Query(mean("airflow_dagrun_duration_success"), "{{dag_id}}")],
        ),
    ],
)

OUTCOME = Row(
    "What came of it?",
    [
        Lines(
            "How do tries of tasks end?",
            "In the last five minutes, by state.",
            "short",
            [Query(since("airflow_ti_finish_total", "state", "5m", DAG), "{{state}}")],
            stacked=True,
        ),
        Table(
            "Which tasks have failed?",
            "In the time that is shown, when they had no more tries.",
            "short",
            [
                Query(
                    since(
                        "airflow_ti_finish_total",
                        "dag_id, task_id",
                        "$__range",
                        f'state="failed",{DAG}',
                    )
                    + " > 0"
                )
            ],
            decimals=0,
        ),
        Lines(
            "How do runs of DAGs end?",
            "In the last five minutes.",
            "short",
            [
                Query(
                    f"""sum({since(f"airflow_dagrun_duration_{state}_count", "dag_id", "5m", DAG)})""",
                    state,
                )
                for state in ("success", "failed")
            ],
            stacked=True,
        ),
        Table(
            "Which operators fail?",
            "Tries that failed in the time that is shown.",
            "short",
            [
                Query(
                    since("airflow_operator_failures_total", "operator_name", "$__range", DAG)
                    + " > 0"
                )
            ],
            decimals=0,
        ),
        Bars(
            "How long does it take to read a DAG file?",
            "Average in the time that is shown, of the slowest. Each holds up all others.",
            "s",
            [
                Query(
                    "topk(8, "
                    + since("airflow_dag_processing_last_duration_sum", FILE, "$__range")
                    + " / ("
                    + since("airflow_dag_processing_last_duration_count", FILE, "$__range")
                    + " > 0))",
                    "{{bundle_name}}/{{file_name}}",
                )
            ],
        ),
        Lines(
            "Were tasks lost?",
            "In the last five minutes: ended without a word (their process was killed), or silent for too long.",
            "short",
            [
                Query(
                    lost("airflow_scheduler_tasks_killed_externally_total"),
                    "ended without a word",
                ),
                Query(
                    lost("airflow_task_instances_without_heartbeats_killed_total"),
                    "silent",
                ),
            ],
        ),
    ],
)

AIRFLOW = Dashboard(
    "strandline-airflow",
    "Airflow",
    "Is Airflow well, is there room, why is a DAG late, and what came of it?",
    "airflow_scheduler_heartbeat_total",
    [HEALTH, ROOM, LATE, OUTCOME],
    variables=[Variable("dag_id", "DAG", "airflow_ti_start_total, dag_id")],
)
