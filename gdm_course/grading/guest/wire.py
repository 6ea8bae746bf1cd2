"""Frames between judge and box: u64 length, then the safetensors layout; never a pickle.

    frame = u64 n | u64 h | JSON header, h bytes | little-endian buffers, n - 8 - h bytes

The header's `__metadata__` holds one JSON text, the message; arrays are called "0", "1"...
Whatever bytes come in, `decode` gives a message or raises `Malformed`, nothing else.
"""

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
# What students also return, and the wire's nearest type that holds every value of it.
WIDER = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.int8: torch.int32,
    torch.int16: torch.int32,
}
MAX_ARRAYS, MAX_DIMENSIONS, MAX_SIZE = 64, 8, 2**31
MAX_EMPTY = 2**16  # an array of no numbers: what its other sizes may multiply to
MAX_HEADER, MAX_BODY = 64 * 1024, 8 * 1024 * 1024
MAX_FRAME = 8 + MAX_HEADER + MAX_BODY


class Malformed(Exception):
    """These bytes are no frame, or this value cannot travel in one."""


def encode(message: dict, arrays: list[Tensor] | tuple[Tensor, ...] = ()) -> bytes:
    """Write one frame, its length included.

    Raises:
        Malformed: more arrays, dimensions or bytes than a frame may have, or a dtype that
            it does not know (complex numbers, say).
    """
    header: dict[str, Any] = {"__metadata__": {"message": json.dumps(message)}}
    if len(arrays) > MAX_ARRAYS:
        raise Malformed(f"{len(arrays)} arrays, at most {MAX_ARRAYS} travel in one frame")
    start, buffers = 0, []
    for i, array in enumerate(arrays):
        array = array.to(WIDER.get(array.dtype, array.dtype))
        end = start + array.numel() * array.element_size()
        shape = tuple(array.shape)
        fits = array.ndim <= MAX_DIMENSIONS and end <= MAX_BODY and not _absurd(shape)
        if array.dtype not in NAMES or not fits:
            raise Malformed(f"an array {shape} of {array.dtype} does not fit into a frame")
        entry = {"dtype": NAMES[array.dtype], "shape": [*array.shape]}
        header[str(i)] = {**entry, "data_offsets": [start, end]}
        buffers.append(array.detach().cpu().contiguous().numpy().tobytes())
        start = end
    text = json.dumps(header).encode()
    if len(text) > MAX_HEADER:
        raise Malformed(f"a header of {len(text)} bytes, at most {MAX_HEADER} travel")
    return struct.pack("<QQ", 8 + len(text) + start, len(text)) + text + b"".join(buffers)


def frame_length(prefix: bytes) -> int:
    """The number of bytes that follow the first eight of a frame.

    Raises:
        Malformed: longer than a frame may be, or too short to hold a header.
    """
    (length,) = struct.unpack("<Q", prefix)
    if not 10 <= length <= MAX_FRAME:
        raise Malformed(f"a frame of {length} bytes, expected 10 to {MAX_FRAME}")
    return length


def decode(frame: bytes) -> tuple[dict, list[Tensor]]:
    """Read what follows the first eight bytes of a frame.

    Returns:
        the message and its arrays, which own their memory.

    Raises:
        Malformed: anything at all is not as the layout says.
    """
    try:
        return _decode(frame)
    except Malformed:
        raise
    except Exception as error:  # of torch, of memory: a stranger's bytes end no judge
        raise Malformed(f"no frame: {type(error).__name__}") from None


def _decode(frame: bytes) -> tuple[dict, list[Tensor]]:
    if not 10 <= len(frame) <= MAX_FRAME:
        raise Malformed(f"a frame of {len(frame)} bytes, expected 10 to {MAX_FRAME}")
    (size,) = struct.unpack("<Q", frame[:8])
    if size > MAX_HEADER or 8 + size > len(frame):
        raise Malformed(f"a header of {size} bytes in a frame of {len(frame)}")
    header, body = _json_object(frame[8 : 8 + size]), memoryview(frame)[8 + size :]
    about = header.pop("__metadata__", None)
    if not isinstance(about, dict) or not isinstance(about.get("message"), str):
        raise Malformed("the header has no message")
    if len(header) > MAX_ARRAYS or [*header] != [str(i) for i in range(len(header))]:
        raise Malformed("arrays are not called 0, 1, 2, ..., or there are too many")
    arrays, start = [], 0
    for entry in header.values():
        array, start = _array(entry, body, start)
        arrays.append(array)
    if start != len(body):
        raise Malformed(f"{len(body) - start} bytes belong to no array")
    return _json_object(about["message"].encode("utf-8", "replace")), arrays


def _array(entry: Any, body: memoryview, start: int) -> tuple[Tensor, int]:
    """Cut one array out of the body; buffers follow one another without gaps."""
    if not isinstance(entry, dict) or {*entry} != {"dtype", "shape", "data_offsets"}:
        raise Malformed("an array has exactly dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in DTYPES:
        raise Malformed("a dtype that frames do not know")
    if not _sizes(shape, MAX_SIZE) or len(shape) > MAX_DIMENSIONS or _absurd(shape):
        raise Malformed("a shape is a list of at most 8 sizes below 2^31")
    if not _sizes(offsets, MAX_BODY) or len(offsets) != 2 or offsets[0] != start:
        raise Malformed("offsets are two, and each array starts where the last one ended")
    end, dtype = offsets[1], DTYPES[kind]
    if end - start != math.prod(shape) * dtype.itemsize or end > len(body):
        raise Malformed("offsets and shape of an array do not agree")
    if start == end:
        return torch.empty(shape, dtype=dtype), end
    raw = bytearray(body[start:end])
    if dtype is torch.bool and max(raw) > 1:
        raise Malformed("a bool is 0 or 1")
    return torch.frombuffer(raw, dtype=dtype).reshape(shape), end


def _absurd(shape: Sequence[int]) -> bool:
    """Whether an array holds nothing, and yet is huge: torch's strides would overflow."""
    return 0 in shape and math.prod(n for n in shape if n) > MAX_EMPTY


def _sizes(value: Any, largest: int) -> bool:
    return isinstance(value, list) and all(
        type(n) is int and 0 <= n <= largest for n in value
    )


def _json_object(text: bytes) -> dict:
    try:
        found = json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # of the decoding, too
        raise Malformed(f"no JSON: {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise Malformed("JSON, but no object")
    return found


def _refuse(name: str) -> None:
    raise Malformed(f"{name} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict:
    if len({key for key, _ in pairs}) != len(pairs):
        raise Malformed("a JSON object has a key twice")
    return dict(pairs)
