"""`isocenter ...` as a user types it, in a process of its own that has its libraries loaded already.

PyTorch takes seconds to load, and most tests of commands need it. A process that has loaded what commands load forks
for each command; the child runs `python -m isocenter` with its own arguments, folder, environment and streams.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

_LOADED = (
    "jinja2", "lightning_fabric", "matplotlib.pyplot", "nibabel", "numba", "PIL.Image", "pydantic", "pydicom",
    "safetensors.torch", "scipy.ndimage", "scipy.optimize", "scipy.signal", "scipy.spatial", "scipy.stats", "sklearn.svm",
    "torch", "torch._dynamo", "typer", "yaml",
)  # fmt: skip
"""Libraries alone: what isocenter itself loads, and when, is what the command shows."""


_ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""One thread: the tests run side by side, and a process of several threads cannot fork."""


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What a command ended with, and what it wrote."""
    command = [sys.executable, "-m", "isocenter", *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        asked = {
            "arguments": command[3:],
            "folder": str(Path.cwd()),
            "env": dict(os.environ),
            "out": str(out),
            "err": str(err),
        }
        code = _server().ask(asked)
        return subprocess.CompletedProcess(command, code, _text(out), _text(err))


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8").replace("\r\n", "\n")


class _Server:
    """The process that has its libraries loaded."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **_ALONE, "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        atexit.register(self.end)

    def ask(self, asked: dict[str, Any]) -> int:
        """Run a command: its exit code; minus a signal's number where one ended it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> None:
        """No command follows."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@cache
def _server() -> _Server:
    return _Server()


def _serve() -> None:
    for name in _LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a child that collects garbage would write to, and so copy, every page
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(json.loads(line))
            return
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(asked: dict[str, Any]) -> None:
    """Run the command that is asked for as `python -m isocenter` does."""
    make = os.O_WRONLY | os.O_CREAT
    for at, (path, how) in enumerate(((os.devnull, os.O_RDONLY), (asked["out"], make), (asked["err"], make))):
        opened = os.open(path, how, 0o600)
        os.dup2(opened, at)
        os.close(opened)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update({**asked["env"], **_ALONE})
    sys.path[0] = asked["folder"]
    sys.argv = ["isocenter", *asked["arguments"]]
    try:
        runpy.run_module("isocenter", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        _leave(end.code if isinstance(end.code, int) else int(end.code is not None))
    except BaseException:  # noqa: BLE001  the interpreter prints whatever comes
        sys.excepthook(*sys.exc_info())
        _leave(1)
    _leave(0)


def _leave(code: int) -> None:
    """End as the interpreter does, but for freeing what is loaded, object by object."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
