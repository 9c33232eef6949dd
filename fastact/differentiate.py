"""The derivative of a Python function of one number, from its source: forward mode, a line of derivative for each line."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import textwrap

import numpy as np


def _call(function, *arguments):
    return ast.Call(ast.Attribute(ast.Name("_math", ast.Load()), function, ast.Load()), list(arguments), [])


def _product(a, b):
    return ast.BinOp(a, ast.Mult(), b)


def _quotient(a, b):
    return ast.BinOp(a, ast.Div(), b)


def _sum(a, b):
    return ast.BinOp(a, ast.Add(), b)


def _difference(a, b):
    return ast.BinOp(a, ast.Sub(), b)


def _number(value):
    return ast.Constant(float(value))


def _square(a):
    return _product(a, a)


def _one_over_root(sign, u):
    """1 / sqrt(1 + u^2) or 1 / sqrt(1 - u^2)"""
    return _quotient(_number(1), _call("sqrt", (_sum if sign > 0 else _difference)(_number(1), _square(u))))


# f'(u) of the functions of one argument, by the name that the math module, or NumPy, has for them.
DERIVATIVES = {
    "exp": lambda u: _call("exp", u),
    "exp2": lambda u: _product(_call("exp2", u), _number(math.log(2))),
    "expm1": lambda u: _call("exp", u),
    "log": lambda u: _quotient(_number(1), u),
    "log2": lambda u: _quotient(_number(1 / math.log(2)), u),
    "log10": lambda u: _quotient(_number(1 / math.log(10)), u),
    "log1p": lambda u: _quotient(_number(1), _sum(_number(1), u)),
    "sqrt": lambda u: _quotient(_number(0.5), _call("sqrt", u)),
    "sin": lambda u: _call("cos", u),
    "cos": lambda u: ast.UnaryOp(ast.USub(), _call("sin", u)),
    "tan": lambda u: _sum(_number(1), _square(_call("tan", u))),
    "asin": lambda u: _one_over_root(-1, u),
    "acos": lambda u: ast.UnaryOp(ast.USub(), _one_over_root(-1, u)),
    "atan": lambda u: _quotient(_number(1), _sum(_number(1), _square(u))),
    "sinh": lambda u: _call("cosh", u),
    "cosh": lambda u: _call("sinh", u),
    "tanh": lambda u: _difference(_number(1), _square(_call("tanh", u))),
    "asinh": lambda u: _one_over_root(1, u),
    "atanh": lambda u: _quotient(_number(1), _difference(_number(1), _square(u))),
    "erf": lambda u: _product(_number(2 / math.sqrt(math.pi)), _call("exp", ast.UnaryOp(ast.USub(), _square(u)))),
    "erfc": lambda u: _product(_number(-2 / math.sqrt(math.pi)), _call("exp", ast.UnaryOp(ast.USub(), _square(u)))),
    "fabs": lambda u: _call("copysign", _number(1), u),
    "floor": lambda u: _number(0),
    "ceil": lambda u: _number(0),
}
NUMPY_NAMES = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arctanh": "atanh", "absolute": "fabs",
               "abs": "fabs"}  # fmt: skip
FUNCTIONS = {getattr(math, name): name for name in DERIVATIVES if hasattr(math, name)} | {abs: "fabs"}
FUNCTIONS |= {
    getattr(np, name): NUMPY_NAMES.get(name, name) for name in [*DERIVATIVES, *NUMPY_NAMES] if hasattr(np, name)
}


def derivative_of(function):
    """A Python function of the same arguments that returns the derivative with respect to the first.

    It follows assignments, ``if``, conditional expressions, + - * / **, ``abs``, ``min`` and ``max`` of two, the functions of
    one argument of the math module and of NumPy, and fastact's own activations. At a kink it is the derivative of the branch
    that is taken.

    Raises
    ------
    TypeError
        If the source is not to be had, or holds anything else.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError) as error:
        raise _Refusal(function, f"its source is not to be had ({error})") from None
    definitions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.Lambda))
                   and getattr(node, "name", "<lambda>") == function.__name__]  # fmt: skip
    if len(definitions) != 1:
        raise _Refusal(function, "there are several functions in that place of its source")
    definition = definitions[0]
    body = [ast.Return(definition.body)] if isinstance(definition, ast.Lambda) else definition.body
    names = _Namespace(function)
    differentiation = _Differentiation(function, names, body)
    made = ast.FunctionDef(f"{function.__name__}_derivative" if function.__name__.isidentifier() else "derivative", definition.args,
                           differentiation.start() + differentiation.block(body), [], None)  # fmt: skip
    made.args = ast.arguments([], [ast.arg(a.arg) for a in definition.args.args], None, [], [], None, [])
    if hasattr(made, "type_params"):
        made.type_params = []
    module = ast.fix_missing_locations(ast.Module([made], []))
    namespace = {**function.__globals__, **names.closure, "_math": math, **names.added}
    exec(compile(module, f"<derivative of {function.__name__}>", "exec"), namespace)
    derivative = namespace[made.name]
    derivative.__defaults__ = function.__defaults__
    return derivative


class _Refusal(TypeError):
    def __init__(self, function, why):
        super().__init__(
            f"no derivative of {function.__name__} can be found: {why}; give it with @activation(derivative=...)"
        )


class _Namespace:
    """What the names in a function's source mean."""

    def __init__(self, function):
        cells = function.__closure__ or ()
        self.closure = dict(zip(function.__code__.co_freevars, (cell.cell_contents for cell in cells)))
        self.known = {**vars(builtins), **function.__globals__, **self.closure}
        self.added = {}

    def value(self, node):
        """Of a name or an attribute of one; None if it has none."""
        if isinstance(node, ast.Name):
            return self.known.get(node.id)
        if isinstance(node, ast.Attribute):
            return getattr(self.value(node.value), node.attr, None)
        return None

    def add(self, value):
        name = f"_added_{len(self.added)}"
        self.added[name] = value
        return ast.Name(name, ast.Load())


class _Differentiation:
    """``slope(node)`` is an expression for the derivative of another, None standing for 0."""

    def __init__(self, function, names, body):
        self.function, self.names = function, names
        self.variable = function.__code__.co_varnames[0]
        assigned = {node.id for line in body for node in ast.walk(line) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        # The variables that may depend on the first argument, each with the name of the variable that holds its derivative. An
        # argument that is assigned to has one from the start: the assignment may lie in a branch that is not taken.
        arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
        self.slopes = {name: f"_d_{name}" for name in arguments if name in assigned}

    def refuse(self, node, why=None):
        text = ast.unparse(node).splitlines()[0]
        raise _Refusal(self.function, why or f"it is not clear what to make of {text!r}")

    # Statements -----------------------------------------------------------------------------------------------------

    def start(self):
        """The derivatives of arguments, where they are variables."""
        return [ast.Assign([ast.Name(slope, ast.Store())], _number(name == self.variable)) for name, slope in self.slopes.items()]

    def block(self, statements):
        lines = []
        for statement in statements:
            lines += self.statement(statement)
        return lines

    def statement(self, node):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return []  # the docstring
        if isinstance(node, ast.Return) and node.value is not None:
            return [ast.Return(self.slope(node.value) or _number(0))]
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            node = ast.Assign([node.target], node.value)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            node = ast.Assign([node.target], ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value))
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            slope = self.slope(node.value)
            lines = [ast.Assign([ast.Name(f"_d_{name}", ast.Store())], slope or _number(0)), node]
            self.slopes[name] = f"_d_{name}"
            return lines
        if isinstance(node, ast.If):
            return [ast.If(node.test, self.block(node.body) or [ast.Pass()], self.block(node.orelse))]
        if isinstance(node, ast.Pass):
            return [node]
        self.refuse(node)

    # Expressions ----------------------------------------------------------------------------------------------------

    def slope(self, node):
        if isinstance(node, ast.Constant):
            return None
        if isinstance(node, ast.Name):
            if node.id in self.slopes:
                return ast.Name(self.slopes[node.id], ast.Load())
            return _number(1) if node.id == self.variable else None
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            inner = self.slope(node.operand)
            return inner and ast.UnaryOp(node.op, inner)
        if isinstance(node, ast.IfExp):
            yes, no = self.slope(node.body), self.slope(node.orelse)
            return ast.IfExp(node.test, yes or _number(0), no or _number(0)) if yes or no else None
        if isinstance(node, ast.BinOp):
            return self.of_operation(node)
        if isinstance(node, ast.Call):
            return self.of_call(node)
        if isinstance(node, ast.Attribute) and isinstance(self.names.value(node), (int, float)):
            return None  # math.pi
        self.refuse(node)

    def of_operation(self, node):
        a, b = node.left, node.right
        da, db = self.slope(a), self.slope(b)
        if not da and not db:
            return None
        if isinstance(node.op, (ast.Add, ast.Sub)):
            if not db:
                return da
            if not da:
                return db if isinstance(node.op, ast.Add) else ast.UnaryOp(ast.USub(), db)
            return ast.BinOp(da, node.op, db)
        if isinstance(node.op, ast.Mult):
            terms = [_product(d, other) for d, other in ((da, b), (db, a)) if d]
            return _sum(*terms) if len(terms) == 2 else terms[0]
        if isinstance(node.op, ast.Div):
            if not db:
                return _quotient(da, b)
            of_b = _product(_quotient(node, b), db)
            return _difference(_quotient(da, b), of_b) if da else ast.UnaryOp(ast.USub(), of_b)
        if isinstance(node.op, ast.Pow):
            of_base = da and _product(_product(b, ast.BinOp(a, ast.Pow(), _difference(b, _number(1)))), da)
            of_exponent = db and _product(_product(node, _call("log", a)), db)
            return _sum(of_base, of_exponent) if of_base and of_exponent else of_base or of_exponent
        self.refuse(node)

    def of_call(self, node):
        function, arguments = self.names.value(node.func), node.args
        slopes = [self.slope(argument) for argument in arguments]
        if node.keywords and any(self.slope(keyword.value) for keyword in node.keywords):
            self.refuse(node)
        if not any(slopes):
            return None
        if function in (min, max, np.minimum, np.maximum) and len(arguments) == 2:
            smaller = ast.Lt() if function in (min, np.minimum) else ast.Gt()
            test = ast.Compare(arguments[1], [smaller], [arguments[0]])
            return ast.IfExp(test, slopes[1] or _number(0), slopes[0] or _number(0))
        derivative = getattr(function, "derivative", None)
        if callable(derivative) and slopes[0] and not any(slopes[1:]):
            outer = ast.Call(self.names.add(derivative), arguments, node.keywords)
        elif (
            isinstance(function, type(abs)) | isinstance(function, np.ufunc)
            and function in FUNCTIONS
            and len(arguments) == 1
        ):
            outer = DERIVATIVES[FUNCTIONS[function]](arguments[0])
        else:
            self.refuse(node, f"the derivative of {ast.unparse(node.func)} is not known")
        return _product(outer, slopes[0])
