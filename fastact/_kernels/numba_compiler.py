"""How Numba compiles kernels: in few passes, and each function once, however many others it is part of.

By itself Numba runs passes that only other kinds of code need, and has LLVM optimise every function and make machine code of it,
although all but the kernels themselves are only inlined in others, where that is done again.
"""

from __future__ import annotations

from types import SimpleNamespace

from llvmlite.ir.instructions import ConditionalBranch
from numba.core import typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager

PASSES = (untyped_passes.TranslateByteCode, untyped_passes.FixupArgs, untyped_passes.IRProcessing, untyped_passes.DeadBranchPrune,
          untyped_passes.ReconstructSSA, typed_passes.NopythonTypeInference, typed_passes.PreLowerStripPhis,
          typed_passes.IRLegalization, typed_passes.AnnotateTypes, typed_passes.NativeLowering, typed_passes.NoPythonBackend)  # fmt: skip
"""Enough for functions without closures, generators, rewritten array expressions and ``with``."""


class Whole(CompilerBase):
    """Compiles what is called."""

    def define_pipelines(self):
        manager = PassManager("kernel")
        for step in PASSES:
            manager.add_pass(step)
        manager.finalize()
        return [manager]


class _Part(JITCodeLibrary):
    """Code that is neither optimised nor made machine code of."""

    codegen = SimpleNamespace(set_env=lambda name, environment: None)  # there is no memory in which that could be set

    def add_ir_module(self, module):
        """... without the odds that a call fails: LLVM would infer of loops with calls that they are short, and not unroll but mask them."""
        for function in module.functions:
            for block in function.blocks:
                end = block.terminator
                if isinstance(end, ConditionalBranch) and getattr(end.operands[0], "opname", "") == "xor":  # not (call succeeded)
                    end.metadata.pop("prof", None)
        super().add_ir_module(module)

    def _optimize_functions(self, module):
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalized = True

    def get_pointer_to_function(self, name):
        return 0


class Part(Whole):
    """Compiles what other functions consist of."""

    def __init__(self, typingctx, targetctx, library, *rest):
        super().__init__(typingctx, targetctx, _Part(targetctx.codegen(), "part"), *rest)
