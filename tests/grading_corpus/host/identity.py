#: why = "no capabilities, no new privileges, filtered, not the host's root"
#: expect = "HELD"
#: base = "solved"
#: rungs = ["L3", "L3u"]
# %%
import torch


def attempt(canary, port):
    about = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    caps = [float(int(about[f"Cap{k}"], 16) != 0) for k in ("Inh", "Prm", "Eff", "Amb")]
    sealed = [float(about["NoNewPrivs"].strip() != "1"), float(about["Seccomp"].strip() != "2")]
    root = float(open("/proc/self/uid_map").read().split()[1] == "0")
    return torch.tensor([*caps, *sealed, root])
