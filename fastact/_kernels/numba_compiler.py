"""How Numba compiles kernels: in few passes, and each function once, however many others it is part of.

By itself Numba runs passes that only other kinds of code need, finds out the types of every operation two or three times, and has
LLVM optimise every function and make machine code of it, although all but the kernels themselves are only inlined in others, where
that is done again.
"""

from __future__ import annotations

import operator
from types import SimpleNamespace

from llvmlite.ir.instructions import ConditionalBranch
from numba import types
from numba.core import cgutils, typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.lowering import Lower

_signatures = {}


def _signature(typing, function, args):
    """What a function of Numba's, an operator or an intrinsic takes and returns for types of arguments, found out once."""
    if not any(template.prefer_literal for template in function.templates) and not any(isinstance(arg, types.BaseTuple) for arg in args):
        args = tuple(types.unliteral(arg) for arg in args)
    if (function, args) not in _signatures:
        _signatures[function, args] = function.get_call_type(typing, args, {})
    return _signatures[function, args]


class _Typing:
    """Numba's knowledge of types, which by itself finds out anew what every single addition returns."""

    def __init__(self, context):
        self.context = context

    def __getattr__(self, name):
        return getattr(self.context, name)

    def resolve_function_type(self, function, args, keywords):
        if isinstance(function, types.Function) and not keywords:
            return _signature(self.context, function, args)
        return self.context.resolve_function_type(function, args, keywords)


class _Lower(Lower):
    """Makes LLVM's instructions, without what only objects that are counted need, and without asking for their types again."""

    def incref(self, kind, value):
        pass

    def decref(self, kind, value):
        pass

    def storevar(self, value, name, argidx=None):
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))

    def alloca_lltype(self, name, lltype, datamodel=None):
        return cgutils.alloca_once(self.builder, lltype, name=name)

    def _called(self, operation, signature, kinds, values):
        function = self.context.typing_context.resolve_value_type(operation)
        signature = _signature(self.context.typing_context, function, signature.args)
        values = [self.context.cast(self.builder, *each) for each in zip(values, kinds, signature.args)]
        return self.context.get_function(function, signature)(self.builder, values), signature.return_type

    def lower_binop(self, kind, expression, operation):
        operands = expression.lhs.name, expression.rhs.name
        kinds, values = ([find(name) for name in operands] for find in (self.typeof, self.loadvar))
        value, found = self._called(operation, self.fndesc.calltypes[expression], kinds, values)
        return self.context.cast(self.builder, value, found, kind)

    def lower_getitem(self, kind, expression, value, index, signature):
        kinds, values = ([find(variable.name) for variable in (value, index)] for find in (self.typeof, self.loadvar))
        value, found = self._called(operator.getitem, signature, kinds, values)
        return self.context.cast(self.builder, value, found, kind)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(typed_passes.NativeLowering):
    _name = "kernel_lowering"
    lowering_class = _Lower


class _Passes(PassManager):
    """Enough for functions without closures, generators, rewritten array expressions and ``with``.

    By itself Numba looks after each pass which variables live where.
    """

    def _runPass(self, index, step, state):
        step.analysis = self._analysis
        step.run_pass(state)


_passes = _Passes("kernel")
for step in (untyped_passes.TranslateByteCode, untyped_passes.FixupArgs, untyped_passes.IRProcessing, untyped_passes.DeadBranchPrune,
             untyped_passes.ReconstructSSA, typed_passes.NopythonTypeInference, typed_passes.PreLowerStripPhis,
             typed_passes.AnnotateTypes, _Lowering, typed_passes.NoPythonBackend):  # fmt: skip
    _passes.add_pass(step)
_passes.finalize()


class _Library(JITCodeLibrary):
    """Code of which LLVM makes the most in one go, instead of three: functions, a module cheaply, and all of it."""

    def _optimize_functions(self, module):
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self):
        if hasattr(self._codegen, "_mpm_full"):  # Numba 0.60 and its like, with LLVM's older kind of passes
            self._codegen._mpm_full.run(self._final_module)
        else:
            passes, builder = self._codegen._module_pass_manager()
            passes.run(self._final_module, builder)


class _Part(_Library):
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

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalized = True

    def get_pointer_to_function(self, name):
        return 0


class Whole(CompilerBase):
    """Compiles what is called."""

    library = _Library

    def __init__(self, typingctx, targetctx, library, *rest):
        super().__init__(_Typing(typingctx), targetctx, self.library(targetctx.codegen(), "kernel"), *rest)

    def define_pipelines(self):
        return [_passes]


class Part(Whole):
    """Compiles what other functions consist of."""

    library = _Part
