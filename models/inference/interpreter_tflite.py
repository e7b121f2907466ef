"""The runtimes behind one door: finding one that works here, opening files safely, loading delegates; errors as ModelError."""

import ctypes
import functools
import hashlib
import importlib
import mmap
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.inference.errors import ModelError, Reason
from models.inference.model_file import ModelFile, check_model_file, check_size
from models.inference.runtime_probe_linux import RUNTIMES
from models.inference.types import TensorInfo

CHILD_PROBE_S = 120.0
_CHILD_PROBE = "import sys; from {module} import Interpreter as I; I(model_path=sys.argv[1]).allocate_tensors()"
_opened_in_child: set[tuple[str, int, int]] = set()


@dataclass(frozen=True, slots=True)
class Runtime:
    """One TFLite runtime that works on this machine."""

    package: str
    version: str
    module: str
    interpreter: Callable[..., Any]
    load_delegate: Callable[..., Any]

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@functools.cache
def find_runtime(wanted: str = "") -> Runtime:
    """The first runtime that can be imported AND build an interpreter; raises ModelError `no_runtime` with why none can.

    tflite-runtime 2.14.0 beside numpy 2 imports well and fails at the first interpreter, so importing proves nothing. What a
    runtime does to its process while it builds one cannot be caught here: who must survive that asks `runtime_probe_linux` first
    and names the package that is `wanted`.
    """
    faults = []
    for package, module_name in RUNTIMES:
        if wanted and package != wanted:
            continue
        try:
            module = importlib.import_module(module_name)
            version = _version(package, module_name)
        except (ImportError, AttributeError) as error:  # AttributeError: numpy's C interface of another major version
            faults.append(f"{package}: {error}")
            continue
        fault = _build_fault(module.Interpreter)
        if fault is None:
            return Runtime(package, version, module_name, module.Interpreter, module.load_delegate)
        faults.append(f"{package} {version}: {fault}")
    raise ModelError("no_runtime", "no TFLite runtime works here; install ai-edge-litert. " + "; ".join(faults))


def _version(package: str, module_name: str) -> str:
    """What the package says of itself. Its metadata is asked only where it is silent: that costs 25 ms of a cold start."""
    said = getattr(importlib.import_module(module_name.partition(".")[0]), "__version__", "")
    if said:
        return str(said)
    from importlib.metadata import version

    return version(package)


def _build_fault(interpreter: Callable[..., Any]) -> str | None:
    """Why this runtime cannot even refuse a file that is no model, None if it can."""
    try:
        interpreter(model_content=b"\0" * 64)
    except ValueError:
        return None
    except (SystemError, ImportError, RuntimeError) as error:
        return str(error.__cause__ or error)
    return None


def look_at(path: Path, sha256: str | None = None) -> ModelFile:
    """What the file is, by its bytes alone; raises ModelError `missing`, `too_large`, `wrong_hash`, `not_a_model`, `corrupt`.

    With a hash given, nothing of the file is believed, and no interpreter sees it, before its bytes have that hash.
    """
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            check_size(size_bytes, path.name)
            if size_bytes == 0:
                return check_model_file(b"", path.name)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                found = hashlib.sha256(data).hexdigest() if sha256 is not None else None
                if found != sha256:
                    raise ModelError("wrong_hash", f"{path.name} has the sha256 {found}, not {sha256}: fetch it again")
                return check_model_file(data, path.name)
    except FileNotFoundError as error:
        raise ModelError("missing", f"there is no model file {path}") from error
    except OSError as error:
        raise ModelError("missing", f"the model file {path} cannot be read: {error.strerror or error}") from error


def open_interpreter(
    path: Path, *, threads: int, delegate_library: str | None, runtime: str = "", sha256: str | None = None
) -> tuple[Any, Runtime, ModelFile]:
    """An interpreter with its tensors allocated; an Edge TPU file runs through the delegate, any other on the CPU."""
    file = look_at(path, sha256)
    if file.for_edgetpu and delegate_library is None:
        raise ModelError("needs_edgetpu", f"{path.name} is compiled for an Edge TPU and no delegate library was named")
    used = find_runtime(runtime)
    if used.package == "tflite-runtime" and not file.for_edgetpu:
        _open_in_child(used, path)
    delegates = [_delegate(used, delegate_library)] if file.for_edgetpu and delegate_library is not None else None
    try:
        interpreter = used.interpreter(model_path=str(path), num_threads=threads, experimental_delegates=delegates)
        interpreter.allocate_tensors()
    except ValueError as error:
        raise ModelError("corrupt", f"{path.name} is damaged: {_first_line(error)}") from error
    except RuntimeError as error:
        if delegates:
            raise ModelError("delegate_failed", f"the Edge TPU did not take {path.name}: {_first_line(error)}") from error
        reason: Reason = "unsupported" if "unresolved custom op" in str(error).lower() else "corrupt"
        raise ModelError(reason, f"{used} cannot prepare {path.name}: {_first_line(error)}") from error
    return interpreter, used, file


def _delegate(runtime: Runtime, library: str) -> Any:
    """The loaded delegate; raises ModelError `delegate_missing` or `delegate_failed`."""
    try:
        # Looked at by hand first: load_delegate leaves an ignored AttributeError on stderr where the library is absent or none.
        plugin = ctypes.CDLL(library)
    except OSError as error:
        raise ModelError("delegate_missing", f"the delegate library cannot be loaded: {error}") from error
    if not hasattr(plugin, "tflite_plugin_create_delegate"):
        raise ModelError("delegate_failed", f"{library} is a library, but not a TFLite delegate")
    try:
        return runtime.load_delegate(library)
    except (ValueError, OSError, AttributeError) as error:
        raise ModelError("delegate_failed", f"{library} is there, but gives no accelerator: {_first_line(error)}") from error


def _open_in_child(runtime: Runtime, path: Path) -> None:
    """Open a file for the first time where a crash kills a child and not us; raises ModelError `corrupt` if it did."""
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if key in _opened_in_child:
        return
    import subprocess  # half a megabyte; with LiteRT nobody comes here

    command = [sys.executable, "-c", _CHILD_PROBE.format(module=runtime.module), str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=CHILD_PROBE_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelError("corrupt", f"{path.name} was not opened within {CHILD_PROBE_S:.0f} s") from error
    if done.returncode < 0:
        raise ModelError("corrupt", f"{path.name} crashes {runtime} (signal {-done.returncode}): fetch it again")
    _opened_in_child.add(key)


def tensor_infos(interpreter: Any, file: ModelFile | None = None) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs of an interpreter, with the names that its signature gives them and the roles that its file tells.

    Raises ModelError `corrupt` where a name is no text.
    """
    try:
        return _tensor_infos(interpreter, file)
    except UnicodeDecodeError as error:
        raise ModelError("corrupt", f"a tensor of the model has a name that is no text: {error}") from error


def _tensor_infos(interpreter: Any, file: ModelFile | None) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    inputs: dict[int, str] = {}
    outputs: dict[int, str] = {}
    listed: dict[str, Any] = getattr(interpreter, "_get_full_signature_list", dict)()
    for signature in listed.values():
        inputs.update({index: name for name, index in signature["inputs"].items()})
        outputs.update({index: name for name, index in signature["outputs"].items()})
    return (
        tuple(_info(detail, inputs) for detail in interpreter.get_input_details()),
        tuple(_info(detail, outputs, file) for detail in interpreter.get_output_details()),
    )


def _info(detail: dict[str, Any], signature_names: dict[int, str], file: ModelFile | None = None) -> TensorInfo:
    scale, zero_point = detail["quantization"]
    index = int(detail["index"])
    shape = tuple(int(side) for side in detail["shape"])
    name = signature_names.get(index, "")
    role = file.role_of(index) if file is not None else ""
    return TensorInfo(detail["name"], shape, np.dtype(detail["dtype"]), float(scale), int(zero_point), name, index, role)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
