#!/usr/bin/env python3
"""What promxy costs in front of four real Prometheus servers: two groups of two replicas.

    . .ci/servers
    promxy/benches/cost.py target/release/promxy

Starts the servers (`PROMETHEUS3_BIN`) on loopback with made-up data, which `promtool` (beside `PROMETHEUS_BIN`) has written into
blocks, and promxy with its default settings. Prints CPU and time per query, resident memory, and how long starting and reloading take; compares the answers
with those of the servers. Needs nothing but Python's standard library.
"""

import asyncio
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

# The data: one sample each 15 s for two hours.
START = 1_750_000_000 // 7200 * 7200
SCRAPE = 15
SAMPLES = 480
# What the large query asks for: 4,000 series, 240 times, both replicas of one group.
WIDE_SERIES = 4000
WIDE_STEPS = 240
# What the middle query asks for: about 1.5 MB of JSON from both groups.
RUNTIME_SERIES = 160


def series(group):
    """Yields each series of a group: name, labels and a function from the sample's number to its value."""
    rng = random.Random(group)
    for number in range(10):
        yield "up", f'instance="10.0.{group}.{number}:9100",job="node"', lambda i: 1
    for number in range(RUNTIME_SERIES):
        base, slope = rng.randrange(10**7), rng.randrange(1, 5000)
        labels = f'instance="10.0.{group}.{number % 20}:9100",job="node",kind="k{number // 20}"'
        # Bytes, counts and seconds, as Go's runtime has them.
        values = [
            lambda i, b=base, s=slope: b + s * (i * 7919 % 1000),
            lambda i, s=slope: s + i * 3 % 17,
            lambda i, b=base, s=slope: round((b + s * i) / 9973, 6),
        ]
        yield "go_runtime", labels, values[number % 3]
    if group == 0:
        for number in range(WIDE_SERIES):
            start, slope = rng.randrange(100_000), rng.randrange(50, 500)
            labels = (
                f'code="{200 + number % 5}",handler="/api/v1/query_range",'
                f'instance="10.0.{number // 250}.{number % 250}:9090",job="prometheus"'
            )
            step = lambda i, b=start, s=slope: b + s * i + (i * 7919 + b) % s
            yield "http_requests_total", labels, step


def write_blocks(promtool, group, folder):
    """Writes the data of a group into blocks."""
    text = folder / "data.om"
    with text.open("w") as out:
        seen = None
        for name, labels, value in series(group):
            if name != seen:
                out.write(f"# TYPE {name.removesuffix('_total')} {'counter' if name.endswith('_total') else 'gauge'}\n")
                seen = name
            for i in range(SAMPLES):
                out.write(f"{name}{{{labels}}} {value(i)} {START + i * SCRAPE}\n")
        out.write("# EOF\n")
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder / "tsdb")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    text.unlink()


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def ask(port, path, connection=None, **params):
    """Returns status and body of a GET; without compression, as the body is to be counted."""
    kept = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    query = f"?{urllib.parse.urlencode(params)}" if params else ""
    kept.request("GET", path + query)
    answer = kept.getresponse()
    body = answer.read()
    if connection is None:
        kept.close()
    return answer.status, body


def wait_for(what, port, path, **params):
    """Polls until the answer is a 200, and returns when it was."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if ask(port, path, **params)[0] == 200:
                return time.monotonic()
        except OSError:
            pass
        time.sleep(0.001)
    sys.exit(f"{what} does not answer")


class Delays:
    """TCP proxies in front of servers, which hold answers back for some time."""

    def __init__(self, servers, seconds):
        self.seconds = seconds
        self.loop = asyncio.new_event_loop()
        self.ports = [self.loop.run_until_complete(self.listen(server)) for server in servers]
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    async def listen(self, server):
        async def connected(reader, writer):
            to, of = await asyncio.open_connection("127.0.0.1", server)
            await asyncio.gather(self.copy(reader, of, 0), self.copy(to, writer, self.seconds))

        listener = await asyncio.start_server(connected, "127.0.0.1", 0)
        return listener.sockets[0].getsockname()[1]

    @staticmethod
    async def copy(reader, writer, delay):
        try:
            while data := await reader.read(1 << 16):
                await asyncio.sleep(delay)
                writer.write(data)
        except OSError:
            pass
        writer.close()


class Promxy:
    """A running promxy."""

    def __init__(self, binary, folder, ports):
        self.config = folder / "promxy.yaml"
        self.configure(ports)
        self.port = free_port()
        command = [binary, f"--config={self.config}", f"--bind-addr=127.0.0.1:{self.port}"]
        began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.took_to_start = wait_for("promxy", self.port, "/api/v1/query", query="up", time=START + 60) - began

    def configure(self, ports, mark="0"):
        groups = [ports[:2], ports[2:]]
        lines = ["promxy:", "  server_groups:"]
        for name, targets in zip("ab", groups):
            listed = ", ".join(f"'127.0.0.1:{port}'" for port in targets)
            lines.append(f"  - labels: {{az: {name}, mark: '{mark}'}}")
            lines.append(f"    static_configs: [{{targets: [{listed}]}}]")
        self.config.write_text("\n".join(lines) + "\n")

    def cpu(self):
        """Returns seconds of CPU, the kernel's included."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, key):
        """Returns a line of the process's status in MB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024
        return 0.0

    def forget_peak(self):
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def measure(self, count, path, **params):
        """Asks a query many times over one connection: ms of CPU and of time for each, and the last body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        ask(self.port, path, connection, **params)
        cpu, began = self.cpu(), time.monotonic()
        for _ in range(count):
            status, body = ask(self.port, path, connection, **params)
            assert status == 200, body[:1000]
        took = (time.monotonic() - began) / count
        # What was handed to other threads ends a moment later.
        time.sleep(0.05)
        return (self.cpu() - cpu) / count * 1000, took * 1000, body

    def stop(self):
        self.process.terminate()
        self.process.wait()


def points(body):
    """Returns what an answer says, without the labels that promxy adds."""
    result = json.loads(body)["data"]["result"]
    named = {}
    for one in result:
        labels = tuple(sorted(pair for pair in one["metric"].items() if pair[0] not in ("az", "mark")))
        named[labels] = one.get("values") or one.get("value")
    return named


def compare(body, ports, path, **params):
    """Makes sure that an answer is that of the first replica of each group together."""
    expected = {}
    for port in (ports[0], ports[2]):
        expected |= points(ask(port, path, **params)[1])
    assert points(body) == expected, f"{params} has another answer"


def report(what, figure):
    print(f"{what:<58} {figure}", flush=True)


def measure(binary, folder, ports):
    promxy = Promxy(binary, folder, ports)
    try:
        report("start to the first answer", f"{promxy.took_to_start * 1000:.0f} ms")
        time.sleep(1)
        idle = promxy.memory("VmRSS")
        report("resident, idle", f"{idle:.1f} MB")

        at = {"query": "up", "time": START + 3600}
        cpu, took, body = promxy.measure(2000, "/api/v1/query", **at)
        compare(body, ports, "/api/v1/query", **at)
        report("up, instant", f"{cpu:.2f} ms CPU, {took:.2f} ms")

        middle = {"query": "go_runtime", "start": START + 3600, "end": START + 4500, "step": 5}
        cpu, took, body = promxy.measure(100, "/api/v1/query_range", **middle)
        compare(body, ports, "/api/v1/query_range", **middle)
        report(f"go_runtime, range, {len(body) / 1e6:.1f} MB", f"{cpu:.1f} ms CPU, {took:.1f} ms")

        time.sleep(2)
        before = promxy.memory("VmRSS")
        end = START + 3600 + (WIDE_STEPS - 1) * SCRAPE
        wide = {"query": "http_requests_total", "start": START + 3600, "end": end, "step": SCRAPE}
        for text in ("http_requests_total", "rate(http_requests_total[5m])", "sum by (code) (http_requests_total)"):
            wide["query"] = text
            promxy.forget_peak()
            cpu, took, body = promxy.measure(5, "/api/v1/query_range", **wide)
            peak = promxy.memory("VmHWM")
            compare(body, ports, "/api/v1/query_range", **wide)
            figures = f"{cpu / 1000:.3f} s CPU, {took / 1000:.3f} s, peak {peak - idle:.0f} MB above idle"
            report(f"{text}, {WIDE_SERIES * WIDE_STEPS:,} samples, {len(body) / 1e6:.1f} MB", figures)
        time.sleep(2)
        report("resident before and after these", f"{before:.1f} MB, {promxy.memory('VmRSS'):.1f} MB")

        took = []
        for mark in range(1, 6):
            promxy.configure(ports, mark)
            began = time.monotonic()
            promxy.process.send_signal(signal.SIGHUP)
            while f'"mark":"{mark}"'.encode() not in ask(promxy.port, "/api/v1/query", **at)[1]:
                pass
            took.append(time.monotonic() - began)
        report("reload, SIGHUP to the first answer by it", f"{max(took) * 1000:.0f} ms at most of {len(took)}")
    finally:
        promxy.stop()

    promxy = Promxy(binary, folder, Delays(ports, 0.1).ports)
    try:
        text = "sum(up) + count(up) + max(up) + min(up)"
        took = sorted(promxy.measure(1, "/api/v1/query", query=text, time=START + 3600)[1] for _ in range(10))
        report("four selectors, servers that take 100 ms", f"{took[0]:.0f} to {took[-1]:.0f} ms, median {took[5]:.0f} ms")
    finally:
        promxy.stop()


def main():
    binary = sys.argv[1]
    prometheus = os.environ["PROMETHEUS3_BIN"]
    promtool = Path(os.environ.get("PROMETHEUS_BIN", prometheus)).parent / "promtool"
    folder = Path(tempfile.mkdtemp(prefix="promxy-cost-"))
    servers, ports = [], []
    try:
        (folder / "prometheus.yml").write_text("global: {}\n")
        for group in range(2):
            own = folder / f"group{group}"
            own.mkdir()
            write_blocks(promtool, group, own)
            for replica in range(2):
                data = shutil.copytree(own / "tsdb", folder / f"data{group}{replica}")
                port = free_port()
                command = [
                    prometheus,
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={data}",
                    "--storage.tsdb.retention.time=100y",
                    f"--web.listen-address=127.0.0.1:{port}",
                ]
                servers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
                ports.append(port)
        for port in ports:
            wait_for("Prometheus", port, "/-/ready")
        measure(binary, folder, ports)
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
