"""One Lava run in a process of its own: `python -m fastsnn_deploy.backends.lava.job FOLDER`.

FOLDER holds `job.json` (arguments of the run), `graph.net` or the path of one, `images.npy` and `progress.npy`. The
run leaves one file for each recorded series and `done`, or `error.txt`, written by whichever process failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastsnn_deploy.backends.lava import session
from fastsnn_deploy.backends.lava.compatibility import import_lava
from fastsnn_deploy.backends.lava.timing import plan
from fastsnn_deploy.errors import DeployError
from fastsnn_deploy.formats import netx

CHANNEL_SLOTS = 2
"""Messages a Lava channel can hold; the default of 64 takes 30 times the shared memory and is no faster."""


def main(folder: Path) -> None:
    """Run the job in `folder`. Ends the process; never raises."""
    run_job(folder, _run)


def run_job(folder: Path, job: Callable[[Path], None]) -> None:
    """Run a job in its folder: leaves `done`, or `error.txt` and ends the process. Never raises."""
    try:
        watch_parent()
        job(folder)
        (folder / "done").touch()
    except BaseException as error:
        report(folder, error)
        # Lava's threads and children would keep the interpreter from ending; the parent ends the session
        os._exit(1)


def report(folder: Path, error: BaseException) -> None:
    """Write `error.txt`: the message, and the traceback unless the user is to act on it. The first report stays."""
    text = str(error)
    if not isinstance(error, DeployError):
        trace = "".join(traceback.format_exception(error))
        text = f"Lava failed: {type(error).__name__}: {error}\n\n{trace}"
    own = folder / f"error-{os.getpid()}.txt"
    own.write_text(text, encoding="utf-8")
    with contextlib.suppress(FileExistsError):
        os.link(own, folder / "error.txt")


def _run(folder: Path) -> None:
    arguments = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    graph = netx.read(arguments["file"])
    timing = plan(graph, arguments["images"], arguments["steps"])
    import_lava()
    from lava.magma.core.run_conditions import RunSteps

    from fastsnn_deploy.backends.lava.network import Network

    report_from_children(folder)
    search_models_once()
    names = {key: arguments[key] for key in ("spikes", "potentials", "models")}
    entry = {"starts": tuple(arguments["starts"]), "rows": arguments["rows"]}
    network = Network(graph, timing, folder, **entry, **names)
    network.root.create_runtime(run_config(arguments["models"]), compile_config={"pypy_channel_size": CHANNEL_SLOTS})
    finished = threading.Event()
    watch_children(folder, network.root.runtime, finished)
    network.root.run(RunSteps(num_steps=timing.length))
    finished.set()
    network.root.stop()


def run_config(models: str) -> Any:
    """Fixed-point models of Lava, the convolution's own or ours; without the tag Lava silently takes floating point."""
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.conv.process import Conv

    from fastsnn_deploy.backends.lava.processes.fast_conv import PyConvMatrix

    exceptions = {Conv: PyConvMatrix} if models == "fast" else {}
    return Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=exceptions)


def report_from_children(folder: Path) -> None:
    """Make every process that Lava forks write its exception; Lava itself would wait for it for ever."""
    from lava.magma.runtime.message_infrastructure.multiprocessing import SystemProcess

    original = SystemProcess.run

    def run(process: Any) -> None:
        target = process._target

        def reporting(*args: Any, **kwargs: Any) -> Any:
            try:
                return target(*args, **kwargs)
            except BaseException as error:
                report(folder, error)
                raise

        process._target = reporting
        original(process)

    SystemProcess.run = run


def search_models_once() -> None:
    """Search the models of a process class once, not once for each process: each search executes many files."""
    from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs

    search = ProcGroupDiGraphs._find_proc_models
    found: dict[type, Any] = {}

    def cached(proc: Any) -> Any:
        if type(proc) not in found:
            found[type(proc)] = search(proc)
        return list(found[type(proc)])

    ProcGroupDiGraphs._find_proc_models = staticmethod(cached)


def watch_children(folder: Path, runtime: Any, finished: threading.Event) -> None:
    """Report a forked process that ends before the run does (killed, out of memory, crash)."""
    actors = list(runtime._messaging_infrastructure.actors)

    def watch() -> None:
        while not finished.wait(0.1):
            dead = [actor for actor in actors if not actor.is_alive()]
            if dead and not finished.is_set():
                report(folder, RuntimeError(f"a Lava process ended during the run (exit code {dead[0].exitcode})"))
                return

    threading.Thread(target=watch, daemon=True).start()


def watch_parent() -> None:
    """End the whole session when the process that started it is gone, however it ended."""
    parent, group = os.getppid(), os.getpgid(0)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        session.remove(session.shared_memory(session.members(group)))
        os.killpg(group, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
