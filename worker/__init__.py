"""The learner. Its processes wait passively for each other's threads: OpenMP's spin while they wait, and where the app
needs the cores too they burn what they wait for (a consolidation on 2 busy cores took 3.6 times the CPU time and was 5
times slower). It has to be said before torch is loaded.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
