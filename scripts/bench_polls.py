#!/usr/bin/env python3
"""What one poll of one VM costs the daemon, beside one `ssh` with ControlMaster per poll.

Method, the same run for both: a rehearsal cloud of light VMs (one process, no shell behind them)
answers; the real daemon polls every VM on a 10 s interval, in a process of its own; then `ssh` is
started once per poll over an open master connection and reads the same block from the same VMs.
CPU is user + system time of the polling side alone: of the daemon's process, and of every `ssh`
process with its masters. Once direct (VMware's way), once through one jump (KVM's way).
Measured is the calm: every VM has answered, and one interval more has passed without a failure.
Rounds, judgement and listings of the cloud (every 30 s) are in it; a scrape of the whole page is
not, since only the counter of polls is asked for at both ends.
The lag is that of the daemon's own meter, over its last 40 s. The load of the machine is told,
because a busy one makes the seldom and short work of the daemon dearer than the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from stackward.catalog.fact_loop import (
    FactLoopSettings,
    fact_loop_command,
    fact_loop_script,
    tick_line,
)

INTERVAL_SECONDS = 10
CALM_WITHIN_SECONDS = 90
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--vms", type=int, default=500, help="light system VMs")
    parser.add_argument("--seconds", type=float, default=30, help="seconds that are measured")
    parser.add_argument("--ssh-polls", type=int, default=300, help="polls by ssh")
    parser.add_argument("--serve", choices=("direct", "jump"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments.serve, arguments.vms))
        return 0
    print(__doc__.split("\n\n", 1)[1])
    print(f"{arguments.vms} VMs, interval {INTERVAL_SECONDS} s, logs not followed\n", flush=True)
    print(f"{'way':8}{'daemon':>14}{'ssh':>14}{'ratio':>9}{'loop lag p99':>15}", flush=True)
    is_good = True
    for way in ("direct", "jump"):
        daemon, ssh, lag = measure(way, arguments.vms, arguments.seconds, arguments.ssh_polls)
        ratio = ssh / daemon
        is_good &= ratio >= 10 and lag < 0.020
        print(
            f"{way:8}{daemon * 1e6:>11.0f} us{ssh * 1e6:>11.0f} us{ratio:>8.1f}x{lag * 1e3:>12.1f} ms",
            flush=True,
        )
    print(
        "\ngoal: 10x cheaper or better, loop lag p99 under 20 ms: "
        + ("met" if is_good else "MISSED")
    )
    return 0 if is_good else 1


async def serve(way: str, vms: int) -> None:
    """The cloud's own process: say the configuration on one line, then serve until the end."""
    from stackward.rehearsal.server import Rehearsal
    from stackward.rehearsal.settings import GuestKind, Pace, RehearsalSettings

    settings = RehearsalSettings(
        zones=1,
        ssvms_per_zone=vms // 2,
        cpvms_per_zone=vms - vms // 2,
        hypervisor="VMware" if way == "direct" else "KVM",
        guests=GuestKind.LIGHT,
        pace=Pace(boot=0.1, agent_start=0.1),
    )
    async with Rehearsal(settings) as cloud:
        places = [guest.place for guest in cloud.stage.guests.values()]
        print(
            json.dumps(
                {
                    "config": cloud.daemon_config(),
                    "places": places[:20],
                    "inner": [vm.link_local for vm in list(cloud.world.vms.values())[:20]],
                    "jumps": cloud.jumps,
                    "vm_key": str(cloud.vm_key_path),
                    "jump_key": str(cloud.jump_key_path),
                }
            ),
            flush=True,
        )
        told_to_end = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_end.set)
        await told_to_end.wait()


def measure(way: str, vms: int, seconds: float, ssh_polls: int) -> tuple[float, float, float]:
    """CPU seconds per poll of the daemon and of ssh, and the daemon's loop lag."""
    with tempfile.TemporaryDirectory(prefix="stackward-bench-") as scratch:
        cloud = start([sys.executable, __file__, "--serve", way, "--vms", str(vms)], stdout=True)
        try:
            told = json.loads(cloud.stdout.readline())
            daemon, lag = measure_daemon(told, Path(scratch), vms, seconds)
            ssh = measure_ssh(way, told, Path(scratch), ssh_polls)
        finally:
            end(cloud)
    return daemon, ssh, lag


def measure_daemon(told: dict, scratch: Path, vms: int, seconds: float) -> tuple[float, float]:
    config = told["config"]
    config["ssh"] |= {"poll_interval_seconds": INTERVAL_SECONDS, "poll_timeout_seconds": 10}
    config["ssh"] |= {"jump_handshakes_max": 16}  # no real hypervisor has 500 of these VMs
    config["cloudstack"] |= {"listing_interval_seconds": 30}
    config["thresholds"] = {"stale_after_seconds": 60}
    config["logs"] = {"follow": False}
    config.pop("management_logs", None)
    config["state_directory"] = str(scratch / "state")
    path = scratch / "stackward.yaml"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "stackward", "run", "-c", str(path), "--log-format", "json"]
    daemon = start(command, stderr=True)
    try:
        url = None
        for line in daemon.stderr:
            event = json.loads(line)
            if event.get("event") == "started":
                url = f"http://127.0.0.1:{event['port']}/metrics"
                break
        drain(daemon.stderr)
        connected_after = until_calm(url, vms)
        counted = f"{url}?name[]=stackward_polls_total"
        polls, cpu = metric(counted, 'stackward_polls_total{source="ssh"}'), cpu_of(daemon.pid)
        time.sleep(seconds)
        polls = metric(counted, 'stackward_polls_total{source="ssh"}') - polls
        cpu = cpu_of(daemon.pid) - cpu
        page = fetch(url)
        failures = value(page, 'stackward_poll_failures_total{source="ssh"}')
        print(
            f"         {vms} VMs answered after {connected_after:.0f} s, then {polls:.0f} polls in "
            f"calm; {failures:.0f} failed in all; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        return cpu / polls, value(page, 'stackward_loop_lag_seconds{quantile="0.99"}')
    finally:
        end(daemon)


def until_calm(url: str, vms: int) -> float:
    """Until every VM has answered and a whole interval went by without a failure; seconds."""
    began = time.monotonic()
    connected = None
    failures = 0.0
    while time.monotonic() - began < CALM_WITHIN_SECONDS:
        page = fetch(url)
        failed = value(page, 'stackward_poll_failures_total{source="ssh"}')
        if page.count('probe="agent-process"} 1') < vms or failed > failures:
            connected = None
        elif connected is None:
            connected = time.monotonic()
        elif time.monotonic() - connected > INTERVAL_SECONDS:
            return connected - began
        failures = failed
        time.sleep(2)
    raise SystemExit(f"the daemon and its VMs were not calm within {CALM_WITHIN_SECONDS} s")


def measure_ssh(way: str, told: dict, scratch: Path, polls: int) -> float:
    """One `ssh` per poll over an open master, round robin over 20 VMs, one after another."""
    sockets = scratch / "s"
    sockets.mkdir()
    common = [
        *("-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
        *(
            "-o",
            "LogLevel=ERROR",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "KexAlgorithms=curve25519-sha256",
        ),
    ]
    jump = next(iter(told["jumps"].values()), None)
    masters: list[subprocess.Popen] = []
    targets = []
    for number, (place, inner) in enumerate(zip(told["places"], told["inner"], strict=True)):
        socket = f"{sockets}/{number}"
        target = [*common, "-i", told["vm_key"], "-S", socket]
        if way == "jump":
            through = (
                f"ssh {' '.join(common)} -i {told['jump_key']} -p {jump[1]} -W %h:%p root@{jump[0]}"
            )
            target += ["-o", f"ProxyCommand={through}", "-p", "3922", f"root@{inner}"]
        else:
            target += ["-p", str(place[1]), f"root@{place[0]}"]
        masters.append(start(["ssh", "-M", "-N", *target]))
        targets.append((socket, target))
    try:
        for socket, _ in targets:
            until_exists(Path(socket))
        question = fact_loop_script(FactLoopSettings()) + tick_line(1)
        before = children_cpu() + sum(cpu_of(pid) for one in masters for pid in tree(one.pid))
        for number in range(polls):
            _, target = targets[number % len(targets)]
            done = subprocess.run(
                ["ssh", *target, fact_loop_command()],
                input=question,
                capture_output=True,
                timeout=30,
                check=True,
            )
            if len(done.stdout) < 200:
                raise SystemExit(f"ssh got no block: {done.stdout!r}")
        after = children_cpu() + sum(cpu_of(pid) for one in masters for pid in tree(one.pid))
        return (after - before) / polls
    finally:
        for master in masters:
            end(master)


def until_exists(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        if time.monotonic() > deadline:
            raise SystemExit("ssh opened no master connection within 30 s")
        time.sleep(0.05)


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def tree(pid: int) -> list[int]:
    """The process and its children (the proxies of a jump)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as reply:
        return reply.read().decode()


def metric(url: str, name: str) -> float:
    return value(fetch(url), name)


def value(page: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


def start(command: list[str], *, stdout: bool = False, stderr: bool = False) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if stdout else None,
        stderr=subprocess.PIPE if stderr else None,
        start_new_session=True,
    )


def drain(stream: object) -> None:
    """Keep a pipe from filling; the lines are of no interest here."""
    import threading

    threading.Thread(target=lambda: [None for _ in stream], daemon=True).start()


def end(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
