"""Says when loops are compiled, which happens once for each processor and version: numba keeps them on disk."""

from __future__ import annotations

from threading import Lock
from typing import Any

from numba.core import event

from fastsnn_deploy.simulators.notices import tell

LINE = "compiling the simulator's loops for this processor: once, some ten seconds; they are kept for the next start"


class _Listener(event.Listener):
    """Tells of the first compilation of a loop of this package in this process."""

    def __init__(self) -> None:
        self.told, self.lock = False, Lock()

    def on_start(self, event: Any) -> None:
        loop = getattr(event.data.get("dispatcher"), "py_func", None)
        with self.lock:
            if self.told or not getattr(loop, "__module__", "").startswith("fastsnn_deploy."):
                return
            self.told = True
        tell(LINE)

    def on_end(self, event: Any) -> None:
        pass


LISTENER = _Listener()
event.register("numba:compile", LISTENER)  # type: ignore[no-untyped-call]
