#: why = "loopback, vsock, packet, alg, netlink, raw"
#: expect = "HELD"
#: base = "solved"
# %%
import socket

import torch


def attempt(canary, port):
    return torch.tensor([_can(f, k) for f, k in KINDS] + [_connects(port)])


KINDS = [(40, 1), (17, 3), (38, 5), (16, 3), (2, 3), (2, 2), (10, 1)]


def _can(family, kind):
    try:
        socket.socket(family, kind).close()
        return 1.0
    except OSError:
        return 0.0


def _connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return 1.0
    except OSError:
        return 0.0
