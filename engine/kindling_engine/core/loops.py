"""Which runner and which loop go with a model and a device."""

from kindling_engine.core.overlapped import OverlappedLoop
from kindling_engine.core.steps import Emit, Runner, StepLoop
from kindling_engine.embeddings.runner import DecoderEmbeddingRunner
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.lora.slabs import DeviceSlabs
from kindling_engine.models.base import Model
from kindling_engine.models.decoder import Decoder
from kindling_engine.runner.device_runner import DeviceRunner
from kindling_engine.runner.inputs import AdapterLookup, MakeLora
from kindling_engine.runner.runner import ModelRunner
from kindling_engine.runner.tuning import Tuning, decoder_tune
from kindling_engine.scheduler.scheduler import Scheduler

# Devices that work while the host plans. A CPU is its own host: nothing would be won there.
WORKING_APART = {"cuda"}


def runner_make(
    model: Model,
    storage: KvStorage,
    *,
    max_batch: int,
    max_length: int,
    adapter_lookup: AdapterLookup,
    batch_invariant: bool = False,
    make_lora: MakeLora = LoraBatch,
    slabs: DeviceSlabs | None = None,
    tuning: Tuning | None = None,
    state_slots: int = 0,
) -> ModelRunner:
    """The runner of a model; it has tuned and captured what it can when this returns.

    ``slabs`` as ``works_apart`` allows. Without ``tuning`` kernels run as they are tuned in this process already.
    ``state_slots``: as the KV manager has.
    """
    if isinstance(model, Decoder) and works_apart(model, batch_invariant=batch_invariant):
        runner = DeviceRunner(
            model,
            storage,
            max_batch=max_batch,
            max_length=max_length,
            adapter_lookup=adapter_lookup,
            slabs=slabs,
        )
        if tuning is not None and model.device.type == "cuda":
            decoder_tune(
                model,
                page_dtype=storage.layers[0][0].dtype,
                max_batch=max_batch,
                max_length=max_length,
                slabs=slabs,
                tuning=tuning,
            )
        runner.capture()
        return runner
    return (DecoderEmbeddingRunner if model.config.task == "embed" else ModelRunner)(
        model,
        storage,
        max_batch=max_batch,
        max_length=max_length,
        adapter_lookup=adapter_lookup,
        batch_invariant=batch_invariant,
        make_lora=make_lora,
        state_slots=state_slots,
    )


def works_apart(model: Model, *, batch_invariant: bool) -> bool:
    """Whether a model's rows live on its device."""
    apart = model.device.type in WORKING_APART and not batch_invariant
    return apart and isinstance(model, Decoder) and model.config.task == "generate"


def loop_make(scheduler: Scheduler, runner: Runner, *, emit: Emit) -> StepLoop:
    """The loop that a runner is made for."""
    if isinstance(runner, DeviceRunner):
        return OverlappedLoop(scheduler, runner, emit=emit)
    return StepLoop(scheduler, runner, emit=emit)
