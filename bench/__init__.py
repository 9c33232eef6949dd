"""Benchmarks of fastact: speed beside its peers, and accuracy over every float32."""

import sys
from pathlib import Path

# Run from the clone, Python would find the clone's own fastact/ first, which holds no compiled kernels
# unless it was built in place: let an installed package win.
if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parents[1]:
    sys.path.append(sys.path.pop(0))
