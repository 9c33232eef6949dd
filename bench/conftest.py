"""Options of ``pytest bench``: those of ``python -m fastact bench`` that choose arrays and threads."""

from bench import cases
from bench.compare import shape, size


def pytest_addoption(parser):
    group = parser.getgroup("fastact")
    add = group.addoption
    add("--sizes", nargs="+", type=size, default=cases.SIZES[1:2], help="elements, such as 2^20")
    add("--shapes", nargs="+", type=shape, default=cases.SHAPES[:1], help="of functions and losses of rows")
    add("--dtypes", nargs="+", choices=cases.DTYPES, default=["float32"])
    add("--layouts", nargs="+", choices=cases.LAYOUTS, default=[cases.CONTIGUOUS])
    add("--new-memory", action="store_true", help="functions make their results, as without out=")
    add("--threads", type=int, help="of each library")
    add("--compiled", action="store_true", help="PyTorch compiled too, which takes seconds for each function")
