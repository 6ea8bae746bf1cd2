#: why = "a frame whose array is empty, and whose strides overflow in torch"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "malformed"
# %% instead kl_gaussian
import json
import os
import struct


def everywhere(data):
    for fd in range(3, 64):
        try:
            os.write(fd, data)
        except OSError:
            pass


def kl_gaussian(*args):
    array = {"dtype": "F32", "shape": [2**31, 2**31, 2**31, 0], "data_offsets": [0, 0]}
    message = json.dumps({"id": 2, "ok": True})
    text = json.dumps({"__metadata__": {"message": message}, "0": array}).encode()
    everywhere(struct.pack("<QQ", 8 + len(text), len(text)) + text)
