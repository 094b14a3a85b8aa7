"""The encoder and one decoder step of a model as ONNX graphs.

They are written out operator by operator from the weights, with the equations of `precis.models` beside them, and not
traced: so every axis stays free (documents, words, beams, steps), padding is exact through the recurrent operators'
own `sequence_lens`, and neither torch nor an exporter is needed. A weight or an option that is not used here is a
reason to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from precis.errors import PrecisError

OPSET = 17  # LayerNorm aside nothing newer is needed, and every onnxruntime of the last years runs it
IR_VERSION = 8
LOWEST = np.float32(np.finfo(np.float32).min)  # where attention is masked: -inf less itself would be NaN

# what training alone needs, and what says how large things are: nothing to do for it here
_NO_MATTER = frozenset(
    {
        "source_vocabulary_size", "target_vocabulary_size", "shared_vocabulary", "embedding_size", "hidden_size",
        "decoder_size", "dropout", "word_dropout", "label_smoothing", "coverage_weight", "pointing_weight",
    }
)  # fmt: skip
_KNOWN = frozenset(
    {
        "cell", "layers", "bidirectional", "tie_embeddings", "readout", "attention", "input_feeding",
        "attend_with_cell", "intra_attention", "coverage", "coverage_on", "generation",
    }
)  # fmt: skip
# torch's order of the gates, and where ONNX wants each of them
_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}
_OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}

Array = NDArray[Any]
Shape = Sequence[str | int]


class ModelGraphs:
    """The two graphs of a model.

    Args:
        name: encoder_decoder, attention or pointer.
        options: of model.json.
        weights: of model.safetensors, float32.

    Attributes:
        encoder, decoder: the graphs.
        state: names of the tensors that one step hands to the next, with their shapes: "documents", "beams", "words"
            and "steps" are free; "steps" is 0 before the first.
        memory: names of what the encoder leaves for the decoder.
        copies: whether the decoder gives p_gen_logit.
        attends: whether it gives attention.
        generates: whether it gives log_probs; without them the end is all that is generated.

    Raises:
        PrecisError: the model has something that is not exported; the message names it.
    """

    def __init__(self, name: str, options: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
        unknown = sorted(
            key for key, value in options.items() if value and key not in _NO_MATTER and key not in _KNOWN
        )
        if name not in ("encoder_decoder", "attention", "pointer") or unknown:
            what = f"the options {', '.join(unknown)}" if unknown else f"models of the kind {name!r}"
            raise PrecisError(f"ONNX export has nothing for {what}: serve this model with torch")
        self.name = name
        self._options = options
        self._prefix = "seq2seq." if name == "pointer" else ""
        self._weights = _Weights(weights)
        self.attends = name != "encoder_decoder"
        self.copies = name == "pointer"
        self.generates = options.get("generation") != "pointer_only"
        coverage = bool(options.get("coverage"))
        self._coverage = coverage if options.get("coverage_on") is None else bool(options["coverage_on"])
        if coverage and not self._coverage:
            self._weights.leave(f"{self._prefix}decoder.attention.w_c")
        cell, layers = str(options["cell"]), int(options["layers"])
        self._cell, self._layers = cell, layers
        self._decoder_size = int(options["decoder_size"])
        self._encoder_size = int(options["hidden_size"]) * (2 if options["bidirectional"] else 1)
        self._projects_keys = options.get("attention") == "additive"
        self.state = self._state_shapes()
        self.memory = self._memory_names()
        self.encoder = self._build_encoder()
        self.decoder = self._build_decoder()
        if unused := self._weights.unused():
            raise PrecisError(f"ONNX export does not know what to do with the weights {', '.join(unused)}")

    def _state_shapes(self) -> dict[str, Shape]:
        per_layer = ("documents", "beams", self._layers, self._decoder_size)
        state: dict[str, Shape] = {"hidden": per_layer}
        if self._cell == "lstm":
            state["cell"] = per_layer
        if self._options.get("input_feeding"):
            state["context"] = ("documents", "beams", self._encoder_size)
        if self._coverage:
            state["coverage"] = ("documents", "beams", "words")
        if self._options.get("intra_attention"):
            state["past"] = ("documents", "beams", "steps", self._decoder_size)
        return state

    def _memory_names(self) -> dict[str, Shape]:
        if not self.attends:
            return {"summary": ("documents", self._encoder_size)}
        states: dict[str, Shape] = {
            "encoder_states": ("documents", "words", self._encoder_size),
            "mask": ("documents", "words"),
        }
        if self._projects_keys:
            states["keys"] = ("documents", "words", self._encoder_size)
        return states

    def _build_encoder(self) -> onnx.ModelProto:
        graph = _Graph("encoder")
        ids = graph.input("ids", TensorProto.INT64, ("documents", "words"))
        lengths = graph.input("lengths", TensorProto.INT64, ("documents",))
        table = "embeddings.target" if self._options["shared_vocabulary"] else "embeddings.source"
        words = graph.op("Gather", graph.constant(self._weight(table)), ids, axis=0)  # (B, S, E)
        outputs = graph.op("Transpose", words, perm=[1, 0, 2])  # (S, B, E)
        sequence_lengths = graph.op("Cast", lengths, to=TensorProto.INT32)
        finals: list[list[str]] = []
        for layer in range(self._layers):
            directions = [f"encoder.forwards.{layer}"]
            if self._options["bidirectional"]:
                directions.append(f"encoder.backwards.{layer}")
            outputs, states = self._recurrent(graph, directions, outputs, sequence_lengths)
            finals.append(states)
        if not self.attends:
            graph.output("summary", finals[-1][0], TensorProto.FLOAT, self.memory["summary"])
            return graph.model()
        encoder_states = graph.op("Transpose", outputs, perm=[1, 0, 2])  # (B, S, C)
        graph.output("encoder_states", encoder_states, TensorProto.FLOAT, self.memory["encoder_states"])
        if self._projects_keys:
            keys = self._linear(graph, encoder_states, "decoder.attention.w_h")
            graph.output("keys", keys, TensorProto.FLOAT, self.memory["keys"])
        num_words = graph.op("Gather", graph.op("Shape", ids), graph.constant(np.int64(1)), axis=0)
        places = graph.op("Range", graph.constant(np.int64(0)), num_words, graph.constant(np.int64(1)))
        mask = graph.op("Less", places, graph.op("Unsqueeze", lengths, graph.constant(np.array([1]))))
        graph.output("mask", mask, TensorProto.BOOL, self.memory["mask"])
        # the bridge: relu(W h + b) of each layer's last states, h before c
        flat = [state for states in finals for state in states]
        reduced = [
            graph.op("Relu", self._linear(graph, state, f"bridge.reducers.{number}"))
            for number, state in enumerate(flat)
        ]
        num_states = len(finals[0])
        for place, name in enumerate(("hidden", "cell")[:num_states]):
            parts = [
                graph.op("Unsqueeze", part, graph.constant(np.array([1])))
                for part in reduced[place::num_states]
            ]
            stacked = graph.op("Concat", *parts, axis=1)  # (B, L, H)
            graph.output(name, stacked, TensorProto.FLOAT, ("documents", self._layers, self._decoder_size))
        return graph.model()

    def _build_decoder(self) -> onnx.ModelProto:
        graph = _Graph("decoder")
        previous_ids = graph.input("previous_ids", TensorProto.INT64, ("documents", "beams"))
        memory = {
            name: graph.input(name, TensorProto.BOOL if name == "mask" else TensorProto.FLOAT, shape)
            for name, shape in self.memory.items()
        }
        state = {name: graph.input(name, TensorProto.FLOAT, shape) for name, shape in self.state.items()}
        table = graph.constant(self._weight("embeddings.target"))
        inputs = graph.op("Gather", table, previous_ids, axis=0)  # (B, K, E)
        new_state: dict[str, str] = {}
        if self.attends:
            if "context" in state:  # the merge of See et al. (2017): x = W [x; h*] + b
                both = graph.op("Concat", inputs, state["context"], axis=2)
                inputs = self._linear(graph, both, "decoder.merge")
            hidden = self._advance(graph, "decoder.rnn.layers", inputs, previous_ids, state, new_state)
            features = self._attend(graph, inputs, hidden, memory, state, new_state)
        else:
            beams = graph.op("Shape", previous_ids)
            size = graph.op("Concat", beams, graph.constant(np.array([self._encoder_size])), axis=0)
            summary = graph.op("Unsqueeze", memory["summary"], graph.constant(np.array([1])))
            both = graph.op("Concat", inputs, graph.op("Expand", summary, size), axis=2)
            features = self._advance(graph, "decoder.layers", both, previous_ids, state, new_state)
        if self.generates:
            read = self._linear(graph, features, "output.readout")
            if self._options["readout"] == "tanh":
                read = graph.op("Tanh", read)
            matrix = self._weight("embeddings.target" if self._options["tie_embeddings"] else "output.weight")
            logits = graph.op("MatMul", read, graph.constant(np.ascontiguousarray(matrix.T)))
            logits = graph.op("Add", logits, graph.constant(self._weight("output.bias")))
            log_probs = graph.op("LogSoftmax", logits, axis=2)
            graph.output("log_probs", log_probs, TensorProto.FLOAT, ("documents", "beams", "vocabulary"))
        for name, value in new_state.items():
            shape = tuple("steps + 1" if size == "steps" else size for size in self.state[name])
            graph.output(f"new_{name}", value, TensorProto.FLOAT, shape)
        return graph.model()

    def _advance(
        self,
        graph: _Graph,
        layers: str,
        inputs: str,
        previous_ids: str,
        state: Mapping[str, str],
        new_state: dict[str, str],
    ) -> str:
        """One step of the recurrent layers, beams of all documents as rows; the top layer's h, (B, K, H)."""
        names = ("hidden", "cell") if self._cell == "lstm" else ("hidden",)
        rows = graph.op("Reshape", inputs, graph.constant(np.array([1, -1, self._input_size(layers)])))
        after: dict[str, list[str]] = {name: [] for name in names}
        for layer in range(self._layers):
            before = [
                graph.op(
                    "Reshape",
                    graph.op("Gather", state[name], graph.constant(np.int64(layer)), axis=2),
                    graph.constant(np.array([1, -1, self._decoder_size])),
                )
                for name in names
            ]
            rows, states = self._recurrent(graph, [f"{layers}.{layer}"], rows, "", before)
            for name, part in zip(names, states, strict=True):
                after[name].append(part)
        shape = graph.op(
            "Concat",
            graph.op("Shape", previous_ids),
            graph.constant(np.array([1, self._decoder_size])),
            axis=0,
        )
        for name in names:
            parts = [graph.op("Reshape", part, shape) for part in after[name]]  # (B, K, 1, H)
            new_state[name] = graph.op("Concat", *parts, axis=2)
        flat = graph.op(
            "Concat", graph.op("Shape", previous_ids), graph.constant(np.array([self._decoder_size])), axis=0
        )
        return graph.op("Reshape", after["hidden"][-1], flat)

    def _input_size(self, layers: str) -> int:
        return int(self._weight(f"{layers}.0.w_ih").shape[1])

    def _attend(
        self,
        graph: _Graph,
        inputs: str,
        hidden: str,
        memory: Mapping[str, str],
        state: Mapping[str, str],
        new_state: dict[str, str],
    ) -> str:
        """Attention, context, p_gen; what the readout reads, (B, K, F)."""
        query = hidden
        if self._options["attend_with_cell"]:
            top = graph.op("Gather", new_state["cell"], graph.constant(np.int64(self._layers - 1)), axis=2)
            query = graph.op("Concat", top, hidden, axis=2)
        scores = self._scores(graph, query, memory, state.get("coverage"))
        mask = graph.op("Unsqueeze", memory["mask"], graph.constant(np.array([1])))  # (B, 1, S)
        attention = graph.op("Softmax", graph.op("Where", mask, scores, graph.constant(LOWEST)), axis=2)
        graph.output("attention", attention, TensorProto.FLOAT, ("documents", "beams", "words"))
        if "coverage" in state:
            new_state["coverage"] = graph.op("Add", state["coverage"], attention)
        context = graph.op("MatMul", attention, memory["encoder_states"])
        if "context" in state:
            new_state["context"] = context
        features = [hidden, context]
        if "past" in state:
            features.append(self._attend_to_past(graph, hidden, state["past"]))
            one = graph.op("Unsqueeze", hidden, graph.constant(np.array([2])))
            new_state["past"] = graph.op("Concat", state["past"], one, axis=2)
        if self.copies:  # eq. 8 of See et al. (2017)
            read = graph.op("Concat", context, query, inputs, axis=2)
            logit = self._linear(graph, read, "gate", prefix="")
            graph.output("p_gen_logit", logit, TensorProto.FLOAT, ("documents", "beams", 1))
        return graph.op("Concat", *features, axis=2)

    def _scores(self, graph: _Graph, query: str, memory: Mapping[str, str], coverage: str | None) -> str:
        """Attention scores before the mask, (B, K, S): see `precis.models.attention`."""
        mode = self._options["attention"]
        w_c = self._weight("decoder.attention.w_c") if coverage is not None else None
        if mode in ("dot", "general"):
            if mode == "general":
                query = self._linear(graph, query, "decoder.attention.w")
            keys = graph.op("Transpose", memory["encoder_states"], perm=[0, 2, 1])
            scores = graph.op("MatMul", query, keys)
            if coverage is not None and w_c is not None:  # q . (k + w_c c) = q . k + (q . w_c) c
                slopes = graph.op("MatMul", query, graph.constant(w_c[:, None]))
                scores = graph.op("Add", scores, graph.op("Mul", slopes, coverage))
            return scores
        if mode not in ("concat", "additive"):
            raise PrecisError(f"ONNX export has no attention {mode!r}: serve this model with torch")
        keys = memory["keys" if mode == "additive" else "encoder_states"]
        if mode == "additive":
            query = self._linear(graph, query, "decoder.attention.w_s")
            v = self._weight("decoder.attention.v")
        else:
            v = np.full(self._encoder_size, self._weight("decoder.attention.concat_score_weight"), np.float32)
        last = graph.constant(np.array([2]))
        features = graph.op(
            "Add",
            graph.op("Unsqueeze", query, last),
            graph.op("Unsqueeze", keys, graph.constant(np.array([1]))),
        )  # (B, K, S, A)
        if coverage is not None and w_c is not None:
            covered = graph.op("Unsqueeze", coverage, graph.constant(np.array([3])))
            features = graph.op("Add", features, graph.op("Mul", covered, graph.constant(w_c)))
        products = graph.op(
            "MatMul", graph.op("Tanh", features), graph.constant(v[:, None].astype(np.float32))
        )
        return graph.op("Squeeze", products, graph.constant(np.array([3])))

    def _attend_to_past(self, graph: _Graph, hidden: str, past: str) -> str:
        """Intra-decoder attention (Paulus et al., 2018, eq. 6 to 8); 0 at the first step, which has no past."""
        query = self._linear(graph, hidden, "decoder.intra_attention.w")
        query = graph.op("Unsqueeze", query, graph.constant(np.array([3])))  # (B, K, H, 1)
        weights = graph.op("Softmax", graph.op("MatMul", past, query), axis=2)  # (B, K, t, 1)
        return graph.op(
            "ReduceSum", graph.op("Mul", weights, past), graph.constant(np.array([2])), keepdims=0
        )

    def _recurrent(
        self,
        graph: _Graph,
        directions: Sequence[str],
        inputs: str,
        sequence_lengths: str,
        initial: Sequence[str] = (),
    ) -> tuple[str, list[str]]:
        """A recurrent layer of one or two directions over (T, N, I) inputs.

        Returns:
            outputs (T, N, D*H), and the last states: h and, for an LSTM, c, (N, D*H) each.
        """
        w, r, b = (np.stack(parts) for parts in zip(*map(self._recurrent_weights, directions), strict=True))
        size = int(r.shape[2])
        attributes: dict[str, Any] = {"hidden_size": size}
        if len(directions) == 2:
            attributes["direction"] = "bidirectional"
        if self._cell == "gru":
            attributes["linear_before_reset"] = 1
        first = [graph.constant(w), graph.constant(r), graph.constant(b)]
        outputs = graph.ops(
            _OPERATORS[self._cell], 3 if self._cell == "lstm" else 2,
            inputs, *first, sequence_lengths, *initial, **attributes,
        )  # fmt: skip
        merged = graph.op("Transpose", outputs[0], perm=[0, 2, 1, 3])  # (T, N, D, H)
        merged = graph.op("Reshape", merged, graph.constant(np.array([0, 0, len(directions) * size])))
        states = []
        for final in outputs[1:]:  # (D, N, H)
            turned = graph.op("Transpose", final, perm=[1, 0, 2])
            states.append(graph.op("Reshape", turned, graph.constant(np.array([-1, len(directions) * size]))))
        return merged, states

    def _recurrent_weights(self, layer: str) -> tuple[Array, Array, Array]:
        """W (G*H, I), R (G*H, H) and both biases (2*G*H,), gates in ONNX's order."""
        order = _GATES[self._cell]

        def arranged(weight: Array) -> Array:
            return np.concatenate([np.split(weight, len(order))[gate] for gate in order])

        w, r = self._weight(f"{layer}.w_ih"), self._weight(f"{layer}.w_hh")
        if self._cell == "gru":
            first, second = self._weight(f"{layer}.b_ih"), self._weight(f"{layer}.b_hh")
        else:
            first = self._weight(f"{layer}.bias")
            second = np.zeros_like(first)
        return arranged(w), arranged(r), np.concatenate([arranged(first), arranged(second)])

    def _linear(self, graph: _Graph, inputs: str, layer: str, prefix: str | None = None) -> str:
        """W x + b; b where there is one."""
        prefix = self._prefix if prefix is None else prefix
        weight = self._weights.take(f"{prefix}{layer}.weight")
        product = graph.op("MatMul", inputs, graph.constant(np.ascontiguousarray(weight.T)))
        bias = f"{prefix}{layer}.bias"
        return (
            graph.op("Add", product, graph.constant(self._weights.take(bias)))
            if bias in self._weights
            else product
        )

    def _weight(self, name: str) -> Array:
        return self._weights.take(f"{self._prefix}{name}")


class _Weights:
    """The weights by name, and which of them were used."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = weights
        self._used: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._weights

    def take(self, name: str) -> Array:
        if name not in self._weights:
            raise PrecisError(
                f"model.safetensors has no {name}, which ONNX export needs: train the model again"
            )
        self._used.add(name)
        return np.asarray(self._weights[name], dtype=np.float32)

    def leave(self, name: str) -> None:
        """Say that a weight is not needed."""
        self._used.add(name)

    def unused(self) -> list[str]:
        return sorted(self._weights.keys() - self._used)


class _Graph:
    """An ONNX graph in the making; values are their names."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dtype: int, shape: Shape) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(self, name: str, value: str, dtype: int, shape: Shape) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def constant(self, value: Any) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, num_outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        outputs = [f"{kind.lower()}_{len(self._nodes)}_{number}" for number in range(num_outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, self._constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="precis",
        )
        onnx.checker.check_model(model)
        return model
