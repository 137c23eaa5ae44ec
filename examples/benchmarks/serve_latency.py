"""How long answers of `cgd serve` take while 50 ask at once.

    python examples/benchmarks/serve_latency.py --index feats.npy IMAGES [--at-once 50]
        [--requests 1000]

A real server in a process of its own on the loopback; every client sends its next question when the
last is answered. First by rows of the index, then with pictures of IMAGES (JPEG bytes: decoding and
the network are in it).
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from cgdcli.images.finding import find_images


def asked(port: int, questions: list[tuple[str, bytes | None]], at_once: int) -> list[float]:
    """Seconds of each answer."""
    waiting, spent, lock = iter(questions), list[float](), threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while True:
            with lock:
                question = next(waiting, None)
            if question is None:
                return
            started = time.perf_counter()
            path, data = question
            connection.request("POST" if data else "GET", path, data)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise SystemExit(f"{answer.status}: {body[:200]!r}")
            with lock:
                spent.append(time.perf_counter() - started)

    threads = [threading.Thread(target=client) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--requests", type=int, default=1_000)
    given = parser.parse_args()
    line = [sys.executable, "-m", "cgdcli", "serve", "--index", str(given.index), "--port", "0"]
    with subprocess.Popen([*line, "--rate", "100000", "-q"], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().decode().strip().rstrip("/").rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/api/index")
        rows = json.loads(connection.getresponse().read())["rows"]
        by_row = [(f"/api/search?row={i * 37 % rows}&k=30", None) for i in range(given.requests)]
        files = [image.file for image in find_images(given.images).images][: given.requests]
        pictures = [file.read_bytes() for file in files]
        by_picture: list[tuple[str, bytes | None]] = [
            ("/api/search?k=30", pictures[i % len(pictures)]) for i in range(given.requests)
        ]
        print(f"{rows} rows, {given.at_once} at once, {given.requests} requests\n")
        print("| asked with | answers/s | p50 ms | p95 ms | longest ms |\n" + "| --- " * 5 + "|")
        for name, questions in (("a row", by_row), ("a picture", by_picture)):
            asked(port, questions[: given.at_once], given.at_once)  # the first ones start things
            started = time.perf_counter()
            spent = sorted(asked(port, list(questions), given.at_once))
            rate = len(spent) / (time.perf_counter() - started)
            p50, p95 = statistics.median(spent), spent[int(0.95 * len(spent))]
            times = " | ".join(f"{1e3 * seconds:.0f}" for seconds in (p50, p95, spent[-1]))
            print(f"| {name} | {rate:.0f} | {times} |")
        server.terminate()


if __name__ == "__main__":
    main()
