"""A Llama checkpoint as an OpenVINO graph with its cache as state, the form that OpenVINO GenAI's pipelines take.

Runs where ``openvino`` is installed, without torch. Weights and arithmetic are fp32.
"""

from pathlib import Path
from typing import Any

import numpy as np

from kindling_engine.bench.stored import Floats, StoredCheckpoint

# Nodes are openvino's own type, and the library is only there in the venv of this peer.
Node = Any

_TO_END = np.iinfo(np.int64).max


def graph_convert(folder: Path, target: Path) -> None:
    """Write ``openvino_model.xml`` and ``.bin`` of the checkpoint in ``folder`` to the folder ``target``."""
    import openvino

    checkpoint = StoredCheckpoint(folder)
    target.mkdir(parents=True, exist_ok=True)
    openvino.save_model(_Graph(checkpoint).model(), target / "openvino_model.xml", compress_to_fp16=False)
    (target / "config.json").write_text((folder / "config.json").read_text())


class _Graph:
    """Inputs, state and nodes, named as the pipelines look for them."""

    def __init__(self, checkpoint: StoredCheckpoint) -> None:
        import openvino
        from openvino import opset13
        from openvino.op.util import Variable, VariableInfo

        self._ov, self._ops, self._variable, self._info = openvino, opset13, Variable, VariableInfo
        self._weights, config = checkpoint, checkpoint.config
        self._tied = config["tie_word_embeddings"]
        self._layers, self._hidden = config["num_hidden_layers"], config["hidden_size"]
        self._heads, self._kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self._head_dim = self._hidden // self._heads
        self._eps, self._theta = config["rms_norm_eps"], config["rope_theta"]
        self._assigned: list[Node] = []

    def model(self) -> Any:
        """The whole model: token ids ``[b, t]`` to logits ``[b, t, vocabulary]``."""
        ops = self._ops
        ids, seen, positions = (
            self._input(name, [-1, -1], "i64") for name in ("input_ids", "attention_mask", "position_ids")
        )
        self._beams = self._input("beam_idx", [-1], "i32")
        self._batch = ops.gather(ops.shape_of(ids), self._ints(0), self._int(0))
        self._cos, self._sin = self._rotation(positions)
        self._mask = self._causal_mask(ids, seen)
        embedding = self._weight("model.embed_tokens")
        states = ops.gather(embedding, ops.convert(ids, "i32"), self._int(0))
        for index in range(self._layers):
            states = self._layer(states, f"model.layers.{index}.", index)
        states = self._norm(states, "model.norm")
        logits = ops.matmul(states, embedding if self._tied else self._weight("lm_head"), False, True)
        logits.output(0).get_tensor().set_names({"logits"})
        inputs = [ids, seen, positions, self._beams]
        return self._ov.Model([ops.result(logits)], self._assigned, inputs, "llama")

    def _layer(self, states: Node, prefix: str, index: int) -> Node:
        ops = self._ops
        states = ops.add(
            states, self._attention(self._norm(states, f"{prefix}input_layernorm"), prefix, index)
        )
        normed = self._norm(states, f"{prefix}post_attention_layernorm")
        gate = ops.swish(self._linear(normed, f"{prefix}mlp.gate_proj"))
        inner = ops.multiply(gate, self._linear(normed, f"{prefix}mlp.up_proj"))
        return ops.add(states, self._linear(inner, f"{prefix}mlp.down_proj"))

    def _attention(self, states: Node, prefix: str, index: int) -> Node:
        ops = self._ops
        q = self._rotated(self._split(self._linear(states, f"{prefix}self_attn.q_proj"), self._heads))
        k = self._rotated(self._split(self._linear(states, f"{prefix}self_attn.k_proj"), self._kv_heads))
        v = self._split(self._linear(states, f"{prefix}self_attn.v_proj"), self._kv_heads)
        keys = self._repeated(self._cached(k, f"past_key_values.{index}.keypresent.{index}.key"))
        values = self._repeated(self._cached(v, f"past_key_values.{index}.valuepresent.{index}.value"))
        mixed = ops.scaled_dot_product_attention(q, keys, values, self._mask, causal=False)
        merged = ops.reshape(
            ops.transpose(mixed, self._ints(0, 2, 1, 3)), self._ints(0, 0, self._hidden), True
        )
        return self._linear(merged, f"{prefix}self_attn.o_proj")

    def _cached(self, new: Node, name: str) -> Node:
        """Earlier keys or values, in the beams' order, with the new ones behind them ``[b, kv heads, t, d]``."""
        ops, kv_heads, head_dim = self._ops, self._kv_heads, self._head_dim
        info = self._info()
        info.data_shape = self._ov.PartialShape([-1, kv_heads, -1, head_dim])
        info.data_type, info.variable_id = self._ov.Type.f32, name
        variable = self._variable(info)
        none = ops.concat([self._batch, self._ints(kv_heads, 0, head_dim)], 0)
        past = ops.read_value(ops.broadcast(self._float(0.0), none), variable)
        both = ops.concat([ops.gather(past, self._beams, self._int(0)), new], 2)
        self._assigned.append(ops.assign(both, variable))
        return both

    def _repeated(self, kv: Node) -> Node:
        """Each key or value head once for every query head that reads it."""
        ops, group = self._ops, self._heads // self._kv_heads
        if group == 1:
            return kv
        length = ops.gather(ops.shape_of(kv), self._ints(2), self._int(0))
        sizes = ops.concat(
            [self._batch, self._ints(self._kv_heads, group), length, self._ints(self._head_dim)], 0
        )
        spread = ops.broadcast(ops.unsqueeze(kv, self._int(2)), sizes, "BIDIRECTIONAL")
        return ops.reshape(spread, self._ints(0, self._heads, -1, self._head_dim), True)

    def _split(self, states: Node, heads: int) -> Node:
        split = self._ops.reshape(states, self._ints(0, 0, heads, self._head_dim), True)
        return self._ops.transpose(split, self._ints(0, 2, 1, 3))

    def _rotation(self, positions: Node) -> tuple[Node, Node]:
        """Cosines and sines ``[b, 1, t, d]`` of each position's angles."""
        ops, half = self._ops, self._head_dim // 2
        steps = self._theta ** -(np.arange(half, dtype=np.float64) / half)
        frequencies = ops.constant(steps.astype(np.float32).reshape(1, half, 1))
        angles = ops.matmul(
            frequencies, ops.convert(ops.unsqueeze(positions, self._int(1)), "f32"), False, False
        )
        turned = ops.transpose(angles, self._ints(0, 2, 1))
        twice = ops.concat([turned, turned], -1)
        return ops.unsqueeze(ops.cos(twice), self._int(1)), ops.unsqueeze(ops.sin(twice), self._int(1))

    def _rotated(self, x: Node) -> Node:
        ops, half, last = self._ops, self._head_dim // 2, self._ints(3)
        front = ops.slice(x, self._ints(0), self._ints(half), self._ints(1), last)
        back = ops.slice(x, self._ints(half), self._ints(_TO_END), self._ints(1), last)
        swapped = ops.concat([ops.multiply(back, self._float(-1.0)), front], -1)
        return ops.add(ops.multiply(x, self._cos), ops.multiply(swapped, self._sin))

    def _causal_mask(self, ids: Node, seen: Node) -> Node:
        """0 where a position may look and the lowest float elsewhere, ``[b, 1, t, past + t]``."""
        ops = self._ops
        total = ops.gather(ops.shape_of(seen), self._int(1), self._int(0))
        new = ops.gather(ops.shape_of(ids), self._int(1), self._int(0))
        rows = ops.range(ops.subtract(total, new), total, self._int(1), "i64")
        columns = ops.range(self._int(0), total, self._int(1), "i64")
        before = ops.less_equal(ops.unsqueeze(columns, self._int(0)), ops.unsqueeze(rows, self._int(1)))
        real = ops.unsqueeze(ops.convert(seen, "boolean"), self._ints(1, 2))
        open_ = ops.logical_and(ops.unsqueeze(before, self._ints(0, 1)), real)
        return ops.select(open_, self._float(0.0), self._float(float(np.finfo(np.float32).min)))

    def _norm(self, states: Node, name: str) -> Node:
        """x / √(mean(x²) + ε) · weight, spelled so that OpenVINO sees an RMS norm in it."""
        ops = self._ops
        mean = ops.reduce_mean(ops.power(states, self._float(2.0)), self._ints(-1), True)
        scale = ops.divide(self._float(1.0), ops.sqrt(ops.add(mean, self._float(self._eps))))
        return ops.multiply(ops.multiply(states, scale), self._constant(self._stored(name).reshape(1, 1, -1)))

    def _linear(self, states: Node, name: str) -> Node:
        return self._ops.matmul(states, self._weight(name), False, True)

    def _weight(self, name: str) -> Node:
        return self._constant(self._stored(name))

    def _stored(self, name: str) -> Floats:
        return self._weights[f"{name}.weight"]

    def _constant(self, weight: Floats) -> Node:
        return self._ops.constant(np.ascontiguousarray(weight))

    def _input(self, name: str, shape: list[int], dtype: str) -> Node:
        kind = getattr(self._ov.Type, dtype)
        parameter = self._ops.parameter(self._ov.PartialShape(shape), kind, name=name)
        parameter.output(0).get_tensor().set_names({name})
        return parameter

    def _ints(self, *values: int) -> Node:
        return self._ops.constant(np.array(values, dtype=np.int64))

    def _int(self, value: int) -> Node:
        return self._ops.constant(np.int64(value))

    def _float(self, value: float) -> Node:
        return self._ops.constant(np.float32(value))
