"""Every reader with changed files: each ends as accepted or in one clear message, within its time and memory.

    uv run python scripts/fuzz.py --seconds 3600            # goes on where docs/records/fuzz.json stopped
    uv run python scripts/fuzz.py --seconds 60 --reader NIR # one reader
    uv run python scripts/fuzz.py --show NIR 123            # one input again, with its traceback
    uv run python scripts/fuzz.py --guided NIR --seconds 60 # by the branches that inputs reach, with atheris

Input number n of a reader is made of `random.Random(f"{reader} {n}")`, so that each can be made again. Readers take
turns of equal time. Inputs run in forked processes that report after each one; one that dies, hangs or takes too much
is ended, its input is a failure, and the next process goes on behind it. An audit hook sees every file that is opened
and every program that is started.

Outcomes: accepted (read and used), refused (one message that names the file), and failures: traceback, unclear (no
file named, or characters that move a cursor), hang, memory, crash, outside (a file written or a program started).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.dont_write_bytecode = True
os.environ.setdefault("OMP_NUM_THREADS", "1")
if "--guided" in sys.argv:  # before anything of the package is loaded, and for what is loaded later
    import atheris

    atheris.instrument_imports(include=["fastsnn_deploy"]).__enter__()

from fastsnn_deploy.errors import DeployError, legible  # noqa: E402
from tests.hostile_readers import CORPUS, READERS  # noqa: E402

RECORD = ROOT / "docs" / "records" / "fuzz.json"
SECONDS = 10
"""Most processor time of one input."""
WAITING = 60
"""Most time of one input that does nothing; other programs may keep the processor meanwhile."""
BEYOND = 512 * 2**20
"""Most memory of one input beyond the size of its file."""
ADDRESSES = 16 * 2**30
"""Of the process, so that a failure does not take the machine along."""
TURN = 5.0
"""Seconds of one reader before the next."""
BATCH = 400
"""Inputs of one process: a new one has forgotten what the last one kept."""
FAILURES = ("traceback", "unclear", "hang", "memory", "crash", "outside")
STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect",
          "os.remove", "os.rename", "os.rmdir", "os.chmod", "os.chown", "os.symlink", "os.link")  # fmt: skip


def made(name: str, number: int) -> tuple[bytes, str]:
    """Input number `number` of a reader, and the ending of its name."""
    rng = random.Random(f"{name} {number}")
    reader = READERS[name]
    file = CORPUS / rng.choice(reader.files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return reader.change(file.read_bytes(), rng), file.suffix


class Watch:
    """What happens outside of the folder of an input. Python cannot take an audit hook away again, so there is one."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            inside = isinstance(path, int) or os.path.abspath(os.fsdecode(path)).startswith((self.folder, "/dev/null"))
            if writes and not inside:
                self.seen.append(f"writes {path}")
        elif event.startswith(STARTS) and not str(arguments[:1]).startswith(f"('{self.folder}"):
            self.seen.append(f"{event} {arguments!r:.200}")


def tried(name: str, path: Path, watch: Watch | None = None) -> tuple[str, str]:
    """(outcome, what was said) of one file."""
    reader = READERS[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if watch is not None:
        watch.folder, watch.seen = str(path.parent), []
    try:
        reader.use(reader.read(path))
        found = "accepted", ""
    except DeployError as error:
        text = str(error)
        clear = legible(text) == text and (path.stem in text or "network" in text)
        found = ("refused" if clear else "unclear"), text
    except BaseException:
        found = "traceback", traceback.format_exc()
    finally:
        if watch is not None:
            watch.folder = None
    if watch is not None and watch.seen:
        return "outside", "\n".join(watch.seen)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return ("memory", f"{grown:,} bytes") if grown > BEYOND + path.stat().st_size else found


def process(name: str, first: int, until: float, report: int) -> None:
    """Inputs one after the other, in a process of its own; a line of JSON for each into `report`."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for number in range(first, first + BATCH):
            content, ending = made(name, number)
            path = Path(folder) / f"input{ending}"
            path.write_bytes(content)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # both end the process, whatever it is in
            signal.alarm(WAITING)
            outcome, text = tried(name, path, watch)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            os.write(report, json.dumps([number, outcome, text[-3000:]]).encode() + b"\n")
            if outcome == "memory" or time.monotonic() > until:
                break


def turn(name: str, first: int, until: float) -> tuple[int, Counter[str], list[tuple[int, str, str]]]:
    """(next number, counts by outcome, failures) of one process of inputs."""
    ends = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(ends[0])
            process(name, first, until, ends[1])
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(3)
    os.close(ends[1])
    lines = os.fdopen(ends[0], "rb").read().splitlines()
    _, status = os.waitpid(child, 0)
    counts: Counter[str] = Counter()
    failures: list[tuple[int, str, str]] = []
    done = [json.loads(line) for line in lines if line.startswith(b"[")]
    for number, outcome, text in done:
        counts[outcome] += 1
        if outcome in FAILURES:
            failures.append((number, outcome, text))
    after = first + len(done)
    code = os.waitstatus_to_exitcode(status)
    if code:
        outcome = "hang" if -code in (signal.SIGALRM, signal.SIGPROF) else "crash"
        counts[outcome] += 1
        failures.append((after, outcome, f"exit code {code}"))
        after += 1
    return after, counts, failures


def warm(name: str) -> None:
    """Load what a reader needs, before processes are forked. Raises RuntimeError unless it takes its own corpus."""
    for file in READERS[name].files:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"input{Path(file).suffix}"
            path.write_bytes((CORPUS / file).read_bytes())
            outcome, text = tried(name, path)
        if outcome not in ("accepted", "refused"):
            raise RuntimeError(f"{name}: {file} is {outcome}: {text}")


def written(record: dict[str, Any]) -> None:
    """The record with its sums, on the disk after every turn."""
    totals: Counter[str] = Counter()
    for entry in record["readers"].values():
        totals.update({key: value for key, value in entry.items() if key != "seconds"})
    record |= {"date": str(date.today()), "command": "python scripts/fuzz.py", "total": dict(totals)}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


def run(names: list[str], seconds: float, kept: Path | None, record: dict[str, Any], keep: bool) -> int:
    """Readers in turn until the time is over; how many failed. The record is added to."""
    for name in names:
        warm(name)
    start, failed = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        for name in names:
            entry = record["readers"].setdefault(name, {"inputs": 0, "seconds": 0.0})
            begun = time.monotonic()
            after, counts, failures = turn(name, entry["inputs"], begun + TURN)
            entry["inputs"] = after
            entry["seconds"] = round(entry["seconds"] + time.monotonic() - begun, 1)
            for outcome, count in counts.items():
                entry[outcome] = entry.get(outcome, 0) + count
            for number, outcome, text in failures:
                failed += 1
                print(f"{name} {number}: {outcome}\n{text[-1500:]}", flush=True)
                if kept is not None:
                    content, ending = made(name, number)
                    (kept / f"{name.replace(' ', '-')}-{number}{ending}").write_bytes(content)
            if keep:
                written(record)
    return failed


def guided(name: str, seconds: float) -> None:
    """Inputs that reach new branches of the package are changed further (atheris, libFuzzer). Ends at a failure."""
    warm(name)
    folder = Path(tempfile.mkdtemp())
    reader = READERS[name]
    ending = Path(reader.files[0]).suffix

    def one(content: bytes) -> None:
        path = folder / f"input{ending}"
        path.write_bytes(content)
        outcome, text = tried(name, path)
        if outcome in FAILURES:
            raise RuntimeError(f"{outcome}: {text}")

    def change(content: bytes, most: int, seed: int) -> bytes:
        try:
            return reader.change(content, random.Random(seed))[:most]
        except Exception:  # no longer a file of this kind
            return READERS["pickled module"].change(content, random.Random(seed))[:most]

    seeds = folder / "seeds"
    seeds.mkdir()
    for file in reader.files:
        (seeds / file).write_bytes((CORPUS / file).read_bytes())
    options = [f"-max_total_time={int(seconds)}", f"-timeout={SECONDS}", "-rss_limit_mb=4096", "-max_len=200000"]
    atheris.Setup([sys.argv[0], str(seeds), *options], one, custom_mutator=change)
    atheris.Fuzz()


def main() -> int:
    """Fuzz, or show one input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--reader", choices=READERS, action="append")
    parser.add_argument("--failures", type=Path, help="folder for the inputs that fail")
    parser.add_argument("--no-record", action="store_true")
    parser.add_argument("--show", nargs=2, metavar=("READER", "NUMBER"))
    parser.add_argument("--guided", choices=READERS, metavar="READER")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    if chosen.guided:
        guided(chosen.guided, chosen.seconds)
        return 0
    if chosen.show:
        content, ending = made(chosen.show[0], int(chosen.show[1]))
        path = Path(tempfile.mkdtemp()) / f"input{ending}"
        path.write_bytes(content)
        print(path, *tried(chosen.show[0], path), sep="\n")
        return 0
    record = json.loads(RECORD.read_text()) if RECORD.exists() and not chosen.no_record else {"readers": {}}
    if chosen.failures:
        chosen.failures.mkdir(parents=True, exist_ok=True)
    failed = run(chosen.reader or list(READERS), chosen.seconds, chosen.failures, record, not chosen.no_record)
    print(json.dumps(record["readers"], indent=1))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
