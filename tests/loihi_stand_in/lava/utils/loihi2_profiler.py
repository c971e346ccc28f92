"""Stand-in: the profiler's callbacks, with made-up values, called where the closed runtime service would call them."""

import numpy as np
from lava.magma.core.callback_fx import NxSdkCallbackFx
from lava.magma.runtime.runtime import Runtime

STEP_MICROSECONDS = 5.0


class _Callback(NxSdkCallbackFx):
    def __init__(self, **options):
        self.options = options

    def pre_run_callback(self, board=None, var_id_to_var_model_map=None):
        self.started = True

    def post_run_callback(self, board=None, var_id_to_var_model_map=None):
        assert self.started
        self.measured(board)


class Loihi2Power(_Callback):
    def measured(self, board):
        assert self.options == {"num_steps": board}
        self.vdd_power = np.full(3, 0.25)
        self.vddm_power = np.full(3, 0.5)
        self.vddio_power = np.full(3, 0.125)
        self.total_power = np.array([0.75, 0.875, 1.0])
        self.static_vdd_power, self.static_vddm_power, self.static_vddio_power = 0.125, 0.0625, 0.0625
        self.static_total_power = 0.25


class Loihi2ExecutionTime(_Callback):
    def measured(self, board):
        self.avg_time_per_step = STEP_MICROSECONDS


class Loihi2Memory(_Callback):
    def measured(self, board):
        self.chip_idx, self.core_idx = np.zeros(2, dtype=int), np.arange(2)
        self.total_mpds = np.array([0.5, 0.25])


class Loihi2Activity(_Callback):
    def measured(self, board):
        self.chip_idx, self.core_idx = np.zeros(2, dtype=int), np.arange(2)
        self.syn_ops, self.dendrite_updates = np.array([100, 20]) * board, np.array([8, 4]) * board
        self.axon_out, self.spikes_in = np.array([3, 1]) * board, np.array([2, 3]) * board


_run = Runtime._run


def _profiled(runtime, condition):
    """The board is the number of its steps here."""
    builders = runtime._executable.runtime_service_builders.values()
    callbacks = [callback for builder in builders for callback in builder.rs_kwargs.get("callback_fxs", ())]
    for callback in callbacks:
        callback.pre_run_callback(condition.num_steps, {})
    _run(runtime, condition)
    for callback in callbacks:
        callback.post_run_callback(condition.num_steps, {})


Runtime._run = _profiled
