"""The machine, by the node exporter, from 1.5 on."""

from __future__ import annotations

from model import GREEN, RED, YELLOW, Bars, Dashboard, Lines, Query, Row, Stat

RATE = "[$__rate_interval]"
# What lies in memory, or is a picture of another disk.
DISKS = 'fstype!~"tmpfs|overlay|squashfs|iso9660|ramfs|fuse.*"'
# Parts of disks, and disks in files, are counted with the whole.
DEVICES = 'device!~"(loop|ram|zram|sr|dm-).*"'
INTERFACES = 'device!~"(lo|veth|br-|docker|cali|flannel|cni).*"'

NOW = Row(
    "Is there enough of it?",
    [
        Bars(
            "How busy are the cores?",
            "Share of all cores' time.",
            "percentunit",
            [
                Query(
                    f"""1 - avg by (instance)
                    (rate(node_cpu_seconds_total{{$sel,mode="idle"}}{RATE}))""",
                    "{{instance}}",
                )
            ],
            width=6,
            height=6,
            high=1,
            thresholds=[(0.8, YELLOW), (0.95, RED)],
        ),
        Bars(
            "How much memory is taken?",
            "Share that programs could not get: caches are not in it.",
            "percentunit",
            [
                Query(
                    """1 - max by (instance) (node_memory_MemAvailable_bytes{$sel})
                    / max by (instance) (node_memory_MemTotal_bytes{$sel})""",
                    "{{instance}}",
                )
            ],
            width=6,
            height=6,
            high=1,
            thresholds=[(0.8, YELLOW), (0.95, RED)],
        ),
        Bars(
            "How full are the disks?",
            "Share of what anybody but root may use.",
            "percentunit",
            [
                Query(
                    f"""1 - max by (instance, device) (node_filesystem_avail_bytes{{$sel,{DISKS}}})
                    / max by (instance, device) (node_filesystem_size_bytes{{$sel,{DISKS}}})""",
                    "{{instance}} {{device}}",
                )
            ],
            width=6,
            height=6,
            high=1,
            thresholds=[(0.8, YELLOW), (0.9, RED)],
        ),
        Stat(
            "How much of a disk is left in a day?",
            "Share that is free then, of the disk that is worst off, if it goes on as in the last hour.",
            "percentunit",
            [
                Query(
                    f"""min(clamp(max by (instance, device)
                    (predict_linear(node_filesystem_avail_bytes{{$sel,{DISKS}}}[1h], 24 * 3600))
                    / max by (instance, device) (node_filesystem_size_bytes{{$sel,{DISKS}}}), 0, 1))"""
                )
            ],
            width=6,
            height=6,
            high=1,
            thresholds=[(0.05, YELLOW), (0.15, GREEN)],
        ),
    ],
)

TIME = Row(
    "What is it busy with?",
    [
        Lines(
            "What do the cores do?",
            "Cores, by what they do. iowait: nothing, as a disk has not answered. steal: the host gave them to others.",
            "short",
            [
                Query(
                    f"""sum by (mode) (rate(node_cpu_seconds_total{{$sel,mode!="idle"}}{RATE})) > 0""",
                    "{{mode}}",
                )
            ],
            stacked=True,
        ),
        Lines(
            "Do programs wait for cores, disks or memory?",
            "Share of the time in which at least one did.",
            "percentunit",
            [
                Query(
                    f"max by (instance) (rate(node_pressure_cpu_waiting_seconds_total{{$sel}}{RATE}))",
                    "{{instance}}: cores",
                ),
                Query(
                    f"max by (instance) (rate(node_pressure_io_waiting_seconds_total{{$sel}}{RATE}))",
                    "{{instance}}: disks",
                ),
                Query(
                    f"max by (instance) (rate(node_pressure_memory_waiting_seconds_total{{$sel}}{RATE}))",
                    "{{instance}}: memory",
                ),
            ],
            high=1,
        ),
        Lines(
            "What is memory used for?",
            "Page cache is given back when programs want it.",
            "bytes",
            [
                Query(
                    """sum(node_memory_MemTotal_bytes{$sel} - node_memory_MemAvailable_bytes{$sel})""",
                    "programs",
                ),
                Query(
                    """sum(node_memory_MemAvailable_bytes{$sel} - node_memory_MemFree_bytes{$sel})""",
                    "can be given back",
                ),
                Query("sum(node_memory_MemFree_bytes{$sel})", "free"),
            ],
            stacked=True,
        ),
        Lines(
            "How busy are the disks?",
            "Share of the time in which a disk had something to do. Many disks can do more at a time.",
            "percentunit",
            [
                Query(
                    f"""max by (instance, device)
                    (rate(node_disk_io_time_seconds_total{{$sel,{DEVICES}}}{RATE}))""",
                    "{{instance}} {{device}}",
                )
            ],
            high=1,
            thresholds=[(0.9, RED)],
            marked=True,
        ),
        Lines(
            "How much is read and written?",
            "All disks together.",
            "Bps",
            [
                Query(f"sum(rate(node_disk_read_bytes_total{{$sel,{DEVICES}}}{RATE}))", "read"),
                Query(
                    f"sum(rate(node_disk_written_bytes_total{{$sel,{DEVICES}}}{RATE}))", "written"
                ),
            ],
        ),
        Lines(
            "How much goes over the network?",
            "All interfaces to the outside.",
            "Bps",
            [
                Query(
                    f"sum(rate(node_network_receive_bytes_total{{$sel,{INTERFACES}}}{RATE}))",
                    "received",
                ),
                Query(
                    f"sum(rate(node_network_transmit_bytes_total{{$sel,{INTERFACES}}}{RATE}))",
                    "sent",
                ),
            ],
        ),
    ],
)

NODE = Dashboard(
    "strandline-node",
    "Machine",
    "Is there enough of the machine, and what is it busy with?",
    "node_uname_info",
    [NOW, TIME],
)
