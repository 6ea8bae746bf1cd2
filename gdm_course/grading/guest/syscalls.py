"""System calls that no exercise needs, by number: x86_64, aarch64.

Other machines' numbers are in the kernel's `include/uapi/asm-generic/unistd.h`; those from
424 on are the same everywhere.
"""

_EACH = {
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "perf_event_open": (298, 241),
    # namespaces, mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "mount": (165, 40),
    "umount2": (166, 39),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    # the machine
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "adjtimex": (159, 171),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "quotactl": (179, 60),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    # wide doors into the kernel
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # memory that belongs to no process and no file system with a size
    "vmsplice": (278, 75),
    "memfd_create": (319, 279),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
}
# io_uring (3), open_tree .. fspick, pidfd_getfd, process_madvise, mount_setattr,
# quotactl_fd, landlock (whose rules nobody counts), memfd_secret
_NEW = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 442, 443)
_NEW += (444, 445, 446, 447)
_X86_ONLY = (156, 172, 173, 174)  # _sysctl, iopl, ioperm, create_module

DENIED = {
    "x86_64": (*(x86 for x86, _ in _EACH.values()), *_X86_ONLY, *_NEW),
    "aarch64": (*(arm for _, arm in _EACH.values()), *_NEW),
}
CLONE = {"x86_64": 56, "aarch64": 220}
SOCKET = {"x86_64": 41, "aarch64": 198}
IOCTL = {"x86_64": 16, "aarch64": 29}
MMAP = {"x86_64": 9, "aarch64": 222}
PRCTL = {"x86_64": 157, "aarch64": 167}
FCNTL = {"x86_64": 72, "aarch64": 25}
CLONE3 = 435
