"""MinIO, by its own endpoint (v2, which the image of docker-compose.yml and newer ones have)."""

from __future__ import annotations

from model import GREEN, RED, YELLOW, Dashboard, Lines, Query, Row, Stat

RATE = "[$__rate_interval]"

ROWS = [
    Row(
        "Is it well?",
        [
            Stat(
                "Can it be written to?",
                "Whether enough drives are there.",
                "bool_yes_no",
                [Query("min(minio_cluster_health_status{$sel})")],
                width=8,
                height=5,
                thresholds=[(1, GREEN)],
            ),
            Stat(
                "How many drives are away?",
                "Of all nodes.",
                "short",
                [Query("max(minio_cluster_drive_offline_total{$sel})")],
                width=8,
                height=5,
                thresholds=[(1, RED)],
            ),
            Stat(
                "Which share of the space is free?",
                "Of what can be used. Without space no snapshot ends.",
                "percentunit",
                [
                    Query(
                        """max(minio_cluster_capacity_usable_free_bytes{$sel})
                        / max(minio_cluster_capacity_usable_total_bytes{$sel})"""
                    )
                ],
                width=8,
                height=5,
                high=1,
                thresholds=[(0.1, YELLOW), (0.2, GREEN)],
            ),
        ],
    ),
    Row(
        "What is asked of it, and how fast does it answer?",
        [
            Lines(
                "How many requests are there?",
                "By what is asked.",
                "reqps",
                [
                    Query(
                        f"sum by (api) (rate(minio_s3_requests_total{{$sel}}{RATE})) > 0", "{{api}}"
                    )
                ],
                stacked=True,
                width=12,
            ),
            Lines(
                "How long until the first byte?",
                "95 % of the requests, at most. MinIO counts all below 50 ms as one.",
                "s",
                [
                    Query(
                        f"""histogram_quantile(0.95, sum by (le, api)
                        (rate(minio_s3_requests_ttfb_seconds_distribution{{$sel}}{RATE}))) >= 0""",
                        "{{api}}",
                    )
                ],
                width=12,
            ),
            Lines(
                "What goes wrong?",
                "4xx: what was asked for is not there, or may not be. A look for what is not there yet is normal. 5xx: MinIO's own.",
                "reqps",
                [
                    Query(
                        f"sum by (api) (rate(minio_s3_requests_4xx_errors_total{{$sel}}{RATE}))",
                        "4xx {{api}}",
                    ),
                    Query(
                        f"sum(rate(minio_s3_requests_5xx_errors_total{{$sel}}{RATE})) or vector(0)",
                        "5xx",
                    ),
                ],
                width=12,
            ),
            Lines(
                "How much goes in and out?",
                "Bytes of requests and answers.",
                "Bps",
                [
                    Query(f"sum(rate(minio_s3_traffic_received_bytes{{$sel}}{RATE}))", "in"),
                    Query(f"sum(rate(minio_s3_traffic_sent_bytes{{$sel}}{RATE}))", "out"),
                ],
                width=12,
            ),
        ],
    ),
]

MINIO = Dashboard(
    "strandline-minio",
    "MinIO",
    "Is MinIO well, what is asked of it, and how fast does it answer?",
    "minio_cluster_health_status",
    ROWS,
)
