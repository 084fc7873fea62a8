"""Problems as numpy arrays, written as safetensors files by hand, and the token recurrence in float64 that answers them."""
import itertools
import json
import struct

import numpy

DTYPES = {"BF16": 2, "F32": 4, "I32": 4, "I64": 8, "F16": 2, "F64": 8, "U8": 1, "BOOL": 1}


def to_bf16(x):
    """float -> uint16 bits, to nearest even."""
    bits = numpy.ascontiguousarray(x, numpy.float32).view(numpy.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(numpy.uint16)


def from_bf16(bits):
    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)


class Problem:
    """tensors: name -> (dtype word, array of the stored bits)."""

    def __init__(self):
        self.tensors, self.metadata, self.path = {}, {}, None

    def put(self, name, values, dtype):
        numbers = {"F32": "<f4", "I32": "<i4", "I64": "<i8", "F16": "<f2", "F64": "<f8", "U8": "u1", "BOOL": "?"}
        stored = to_bf16(values) if dtype == "BF16" else numpy.ascontiguousarray(values, numbers[dtype])
        self.tensors[name] = (dtype, stored)

    def get(self, name):
        """float64 values, None if absent."""
        if name not in self.tensors:
            return None
        dtype, stored = self.tensors[name]
        return (from_bf16(stored) if dtype == "BF16" else stored).astype(numpy.float64)

    def save(self, path):
        header, data = {"__metadata__": self.metadata}, b""
        for name, (dtype, stored) in self.tensors.items():
            raw = stored.tobytes()
            header[name] = {"dtype": dtype, "shape": list(stored.shape), "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)
        return path


def make_problem(rng, B, T, H, HV, K, V, bounds=None, gate="sigmoid_lower_bound", dtype="BF16", states=True, cu_dtype="I64"):
    p = Problem()
    for name, shape in {"q": (B, T, H, K), "k": (B, T, H, K), "v": (B, T, HV, V), "g": (B, T, HV, K), "beta": (B, T, HV)}.items():
        p.put(name, rng.standard_normal(shape), dtype)
    if gate == "precomputed":
        p.put("g", -0.1 * numpy.abs(rng.standard_normal((B, T, HV, K))), dtype)
    else:
        p.put("A_log", rng.uniform(-1, 1, HV), "F32")
        p.put("dt_bias", rng.standard_normal((HV, K)), "F32")
    N = B if bounds is None else len(bounds) - 1
    if bounds is not None:
        p.put("cu_seqlens", bounds, cu_dtype)
    if states:
        p.put("initial_state", 0.3 * rng.standard_normal((N, HV, V, K)), "F32")
    p.metadata = {"gate": gate, "lower_bound": "-4.0" if gate == "sigmoid_lower_bound" else "none", "scale": "0.3"}
    return p


def sigmoid(x):
    return 1 / (1 + numpy.exp(-x))


def log_decay(p):
    """log a [B,T,HV,K]."""
    g = p.get("g")
    if p.metadata["gate"] == "precomputed":
        return numpy.minimum(g, 0)
    x = g + (0 if p.get("dt_bias") is None else p.get("dt_bias"))
    size = 1 if p.get("A_log") is None else numpy.exp(p.get("A_log"))[:, None]
    if p.metadata["gate"] == "softplus":
        return -size * numpy.logaddexp(0, x)
    return float(p.metadata["lower_bound"]) * sigmoid(size * x)


def recurrence(p, after=None):
    """out [B,T,HV,V] and final states [N,HV,V,K]: S <- Diag(a) S; u = b (v - S^T k); S <- S + k u^T; o = scale S^T q.

    after: a dict that gets the states [HV,V,K] after each token, by (sequence, tokens).
    """
    q, k, v = p.get("q"), p.get("k"), p.get("v")
    q, k = (x / numpy.sqrt((x * x).sum(-1, keepdims=True) + 1e-6) for x in (q, k))
    (B, T, H, K), (HV, V) = q.shape, v.shape[2:]
    scale = float(p.metadata.get("scale", K**-0.5))
    a, b = numpy.exp(log_decay(p)), sigmoid(p.get("beta"))
    bounds = p.get("cu_seqlens")
    spans = [(n, 0, T) for n in range(B)] if bounds is None else [(0, int(x), int(y)) for x, y in itertools.pairwise(bounds)]
    out, final = numpy.zeros((B, T, HV, V)), numpy.zeros((len(spans), HV, V, K))
    for n, (row, begin, end) in enumerate(spans):
        for hv in range(HV):
            h = hv // (HV // H)
            S = numpy.zeros((K, V)) if p.get("initial_state") is None else p.get("initial_state")[n, hv].T.copy()
            for t in range(begin, end):
                S *= a[row, t, hv][:, None]
                u = b[row, t, hv] * (v[row, t, hv] - S.T @ k[row, t, h])
                S += numpy.outer(k[row, t, h], u)
                out[row, t, hv] = scale * S.T @ q[row, t, h]
                if after is not None:
                    after.setdefault((n, t + 1 - begin), numpy.zeros((HV, V, K)))[hv] = S.T
            final[n, hv] = S.T
    return out, final


def add_answers(p):
    out, final = recurrence(p)
    p.put("out", out, "F32")
    p.put("final_state", final, "F32")


def relative_rms(got, want):
    return float(numpy.sqrt(((got - want) ** 2).sum() / (want**2).sum()))
