"""What to do when a start fails for want of memory."""

OUT_OF_MEMORY = (
    "There is not enough memory for the model and its cache. Lower --kv-tokens or --max-batch, keep the weights "
    "smaller with --weights (fp16 or int8wo on a CPU, fp8 on a Hopper GPU), or serve a smaller model."
)
