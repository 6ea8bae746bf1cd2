#: why = "an endless loop that ignores every signal"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "timeout"
#: budget = { load = 8, ask = 2 }
# %% instead kl_gaussian
import signal
import time

for number in set(signal.valid_signals()) - {9, 17, 19}:
    signal.signal(number, signal.SIG_IGN)


def kl_gaussian(*args):
    while True:
        try:
            time.sleep(1)
        except BaseException:
            pass
