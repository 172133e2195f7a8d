"""What a deployment can be set to, and how that is said."""

from kindling_engine.protocol.kv_dtypes import AUTO, KV_DTYPES
from kindling_engine.protocol.weight_forms import CHECKPOINT, WEIGHT_FORMS
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.models import Deployment

MAX_REPLICAS = 64


def settings_check(*, replicas: int | None, weights: str | None, kv_dtype: str | None) -> None:
    """Refuse what is no setting; None is none. Whether a device can have a form, the engine finds out.

    Raises:
        KindlingError: replicas_invalid, weights_unknown, kv_dtype_unknown.
    """
    if replicas is not None and not 1 <= replicas <= MAX_REPLICAS:
        raise KindlingError("replicas_invalid", f"Replicas are 1 to {MAX_REPLICAS}.", param="replicas")
    if weights is not None and weights not in WEIGHT_FORMS:
        text = f"There is no form of weights {weights!r}; there are {', '.join(WEIGHT_FORMS)}."
        raise KindlingError("weights_unknown", text, param="weights")
    if kv_dtype is not None and kv_dtype not in KV_DTYPES:
        text = f"Keys and values cannot be kept as {kv_dtype!r}; there are {', '.join(KV_DTYPES)}."
        raise KindlingError("kv_dtype_unknown", text, param="kv_dtype")


def what_runs(deployment: Deployment) -> str:
    """A deployment's settings in words."""
    form = "" if deployment.weights == CHECKPOINT else f", weights as {deployment.weights}"
    kept = "" if deployment.kv_dtype == AUTO else f", keys and values as {deployment.kv_dtype}"
    count = deployment.desired_replicas
    return f"{deployment.model.ref} with {count} replica{'' if count == 1 else 's'}{form}{kept}"
