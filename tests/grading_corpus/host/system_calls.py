#: why = "ptrace, unshare, mount, chroot, io_uring, keyctl, bpf and others: EPERM"
#: expect = "HELD"
#: base = "solved"
#: machine = "x86_64"
# %%
import ctypes
import errno

import torch

libc = ctypes.CDLL(None, use_errno=True)
# ptrace, unshare, mount, umount2, chroot, pivot_root, setns, io_uring_setup, keyctl, add_key,
# bpf, perf_event_open, userfaultfd, open_by_handle_at, process_vm_readv, memfd_create, shmget
NUMBERS = [101, 272, 165, 166, 161, 155, 308, 425, 250, 248, 321, 298, 323, 304, 310, 319, 29]


def attempt(canary, port):
    out = []
    for number in NUMBERS:
        got = libc.syscall(number, 0, 0, 0, 0, 0, 0)
        out.append(float(got >= 0 or ctypes.get_errno() != errno.EPERM))
    return torch.tensor(out)
