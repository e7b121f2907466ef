"""The fake Edge TPU for tests: builds its library with the system's C compiler, and makes model files that need it.

A model "compiled for the Edge TPU" is a real one whose input first goes through the operation `edgetpu-custom-op`. That is the
operation that the real compiler emits, that no CPU runtime has, and that the delegate takes over.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

SOURCE = Path(__file__).resolve().parent / "delegate"
OP = "edgetpu-custom-op"


def compile_delegate(target: Path) -> Path:
    """Compile the fake's library to `target`; once per machine and source, then copied."""
    sources = [SOURCE / "fake_edgetpu.c", SOURCE / "tflite_abi.h"]
    stamp = "-".join(str(source.stat().st_mtime_ns) for source in sources)
    built = Path(tempfile.gettempdir()) / f"rookery-fake-edgetpu-{os.getuid()}-{stamp}.so"
    if not built.exists():
        with Path(f"{built}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # test processes beside each other compile it once
            if not built.exists():
                part = Path(f"{built}.part")
                command = ["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]
                subprocess.run([*command, "-o", str(part), str(sources[0]), "-ldl"], check=True)
                part.replace(built)
    shutil.copyfile(built, target)
    return target


def compile_model(cpu_model: Path, target: Path) -> Path:
    """Write a model for the fake Edge TPU that answers as the CPU model does."""
    model = schema.ModelT.InitFromPackedBuf(cpu_model.read_bytes(), 0)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = OP.encode(), 1
    model.operatorCodes.append(code)
    graph = model.subgraphs[0]
    source = int(graph.inputs[0])
    arrived = schema.TensorT()
    for name, value in vars(graph.tensors[source]).items():
        setattr(arrived, name, value)
    arrived.name = b"arrived"
    graph.tensors.append(arrived)
    for operator in graph.operators:
        operator.inputs = [len(graph.tensors) - 1 if int(at) == source else int(at) for at in operator.inputs]
    transfer = schema.OperatorT()
    transfer.opcodeIndex = len(model.operatorCodes) - 1
    transfer.inputs, transfer.outputs = [source], [len(graph.tensors) - 1]
    transfer.customOptions = list(b"\0")
    graph.operators.insert(0, transfer)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(bytes(builder.Output()))
    return target


class FakeEdgeTpu:
    """One fake accelerator in a folder of its own: its library, its orders, its diary."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.library = compile_delegate(folder / "libfake_edgetpu.so")
        self._orders, self._diary = folder / "orders", folder / "diary"

    def order(self, words: str) -> None:
        """What it does from now on; see fake_edgetpu.c."""
        part = self._orders.with_suffix(".part")
        part.write_text(words + "\n")
        part.replace(self._orders)

    def diary(self) -> list[tuple[int, str]]:
        """(process id, create | prepare | invoke | destroy), in order."""
        try:
            lines = self._diary.read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(int(pid), word) for pid, word in (line.split() for line in lines)]
