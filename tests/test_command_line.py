"""``python -m fastact``, as a user runs it: in a process of its own, in a folder of its own."""

import re
import subprocess
import sys

import pytest

import fastact as fa

PNG = b"\x89PNG"


@pytest.fixture
def run(tmp_path):
    """The command with these arguments, run in tmp_path."""

    def run(*arguments):
        command = [sys.executable, "-m", "fastact", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return run


def test_train_reaches_97_percent(run, tmp_path):
    done = run("train")
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"accuracy on held-out digits: ([\d.]+)%", done.stdout)[1]) >= 97
    config = fa.backends.config()
    assert f"kernels: {config['backend']}, {config['instruction_set']}, threads: {config['threads']}" in done.stdout
    assert re.search(r"epoch \d+/40", done.stderr) and "val_accuracy=" in done.stderr
    assert (tmp_path / "fastact-digits.png").read_bytes().startswith(PNG)


def test_train_with_options(run, tmp_path):
    options = ["--activation", "tanh", "--epochs", "1", "--seed", "3", "--batch-size", "128", "--learning-rate", "0.01",
               "--output", "tanh.png"]  # fmt: skip
    done = run("train", *options)
    assert done.returncode == 0, done.stderr
    assert "Activation('tanh')" in done.stdout and "1 epoch " in done.stdout
    assert (tmp_path / "tanh.png").read_bytes().startswith(PNG)


def test_plot(run, tmp_path):
    done = run("plot", "leaky_relu", "--parameter", "negative_slope=0.03", "--interval", "-2", "2")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "leaky_relu.png").read_bytes().startswith(PNG)
    assert run("plot", "gelu", "--output", "figure.svg").returncode == 0
    assert "<svg" in (tmp_path / "figure.svg").read_text()


def test_plot_all(run, tmp_path):
    done = run("plot", "--all", "--out", "gallery")
    assert done.returncode == 0, done.stderr
    assert {path.stem for path in (tmp_path / "gallery").iterdir()} == {*fa.list_activations(), "softmax"}


def test_info(run):
    done = run("info")
    assert done.returncode == 0, done.stderr
    assert fa.backends.config()["instruction_set"] in done.stdout


@pytest.mark.parametrize("arguments, message", [
    (["plot", "gleu"], "unknown activation 'gleu'; did you mean gelu"),
    (["plot", "threshold"], "threshold"),
    (["plot"], "which activation? or --all"),
    (["plot", "relu", "--parameter", "slope"], "not like negative_slope=0.03"),
    (["plot", "relu", "--parameter", "slope=1"], "slope"),
    (["plot", "relu", "--output", "relu.txt"], "must end in .png"),
    (["plot", "relu", "--output", "nowhere/relu.png"], "no folder nowhere"),
    (["train", "--activation", "sigmoyd"], "unknown activation 'sigmoyd'; did you mean sigmoid"),
    (["train", "--epochs", "0"], "must be at least 1"),
    (["train", "--learning-rate", "-1"], "must be positive"),
    (["train", "--seed", "-1"], "must be at least 0"),
    (["vendor", "copy", "--only", "gelu,gleu"], "no function 'gleu' to copy"),
    (["vendor", "a-copy"], "'a-copy' cannot be the name of a package"),
    (["vendor", "class"], "'class' cannot be the name of a package"),
    (["vendor", "copy", "--only", "gelu, gleu"], "no function 'gleu' to copy"),
    (["vendor", "copy", "--cython", "--numba"], "not allowed with"),
    (["bench", "gelu", "--sizes", "0"], "'0' is not like 1000 or 2^20"),
    (["bench", "gelu", "--sizes", "2^-3"], "'2^-3' is not like 1000 or 2^20"),
    (["bench", "gelu", "--threads", "0"], "'0' is no number of threads"),
    (["bench", "gelu", "--json", "nowhere/figures.json"], "no folder nowhere"),
    (["trian"], "invalid choice"),
    ([], "required"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")  # fmt: skip
def test_errors_have_status_2(run, tmp_path, arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())


def test_what_cannot_be_written_is_named(run, tmp_path):
    (tmp_path / "file").touch()
    for arguments in (["plot", "--all", "--out", "file"], ["vendor", "file/copy", "--only", "gelu"]):
        done = run(*arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("fastact: ") and "file" in done.stderr


def test_missing_extra_is_named(tmp_path):
    code = """
import runpy, sys
sys.modules["sklearn"] = sys.modules["matplotlib"] = sys.modules["matplotlib.figure"] = None
sys.argv = ["fastact", sys.argv[1], *sys.argv[2:]]
runpy.run_module("fastact", run_name="__main__")
"""
    for arguments in (["train"], ["plot", "relu"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1
        assert "pip install 'fastact[nn]'" in done.stderr and "Traceback" not in done.stderr
