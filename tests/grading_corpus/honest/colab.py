#: why = "made on Colab: its modules, folders, magics and forms"
#: expect = "FULL"
#: base = "solved"
# %%
#@title Setup { display-mode: "form" }
import os
from google.colab import drive

drive.mount("/content/drive")
%cd /content/drive/MyDrive
!git clone https://example.org/course.git
os.chdir("/content/course")
import numpy as np
HALF = 0.5 #@param {type:"number"}

# %%
%tensorflow_version 2.x
%%time
from math import log as ln

# %% instead js_divergence
#@title Answer
def js_divergence(log_p, log_q, dx):
    log_m = np.logaddexp(log_p.numpy(), log_q.numpy()) - ln(2)
    inside = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return np.sum(inside.numpy()) * dx * HALF
