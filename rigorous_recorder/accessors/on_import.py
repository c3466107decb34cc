"""Puts `.rr` on the frames of a library once somebody imports it, so that a process that only records imports none."""

from __future__ import annotations

import sys
from importlib import import_module
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from ..errors import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _Finder:
    """Stands first among the finders of modules, asks the others, and has `.rr` registered after the library has run.

    A name is forgotten only then: libraries also ask for a spec just to learn whether another library is there.
    """

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._asking: set[tuple[int, str]] = set()

    def wait_for(self, name: str) -> None:
        self._waiting.add(name)
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        asking = (get_ident(), name)
        if name not in self._waiting or asking in self._asking:  # the latter: another finder that asks all others
            return None
        self._asking.add(asking)
        try:
            others = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
            spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        finally:
            self._asking.discard(asking)
        if spec is not None and hasattr(spec.loader, "exec_module") and hasattr(spec.loader, "__dict__"):
            self._wrap(name, spec.loader)
        return spec

    def _wrap(self, name: str, loader: Any) -> None:
        """Have a loader tell when it has run the library. Those of applications in one file load all modules with one."""
        if isinstance(loader, type):
            return
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            if module.__name__ != name:
                execute(module)
                return
            vars(loader).pop("exec_module", None)  # the loader is again what it was
            execute(module)
            self._waiting.discard(name)
            if not self._waiting and self in sys.meta_path:
                sys.meta_path.remove(self)
            register(name)

        loader.exec_module = exec_module


_finder: Final = _Finder()


class _Late(type):
    """The metaclass of classes that stand for accessors until one is used: a process that needs none imports none."""

    _module: str

    def _accessor(cls) -> type[Any]:
        accessor: type[Any] = getattr(import_module(f"{__package__}.{cls._module}"), cls.__name__)
        return accessor

    def __call__(cls, frame: object) -> Any:
        return cls._accessor()(frame)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls._accessor())

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls._accessor(), name)

    def __dir__(cls) -> list[str]:
        return dir(cls._accessor())


def _put_on_pandas(pandas: ModuleType) -> None:
    _put(pandas.DataFrame, pandas.api.extensions.register_dataframe_accessor, "pandas", "PandasAccessor")


def _put_on_polars(polars: ModuleType) -> None:
    _put(polars.DataFrame, polars.api.register_dataframe_namespace, "polars", "EagerAccessor")
    _put(polars.LazyFrame, polars.api.register_lazyframe_namespace, "polars", "LazyAccessor")


def _put(frame: type, put: Callable[[str], Callable[[Any], Any]], module: str, accessor: str) -> None:
    """Put `.rr` on a kind of frame; again changes nothing."""
    if type(getattr(frame, "rr", None)).__module__ != __name__:
        about = (
            "`.rr` of a frame: rows by lineage (`under`, `latest`), its tree (`levels`, `tree`), which columns are inherited "
            f"(`inherited`, `own`, `drop_inherited`). It is `rigorous_recorder.accessors.{module}.{accessor}`, "
            "imported at its first use."
        )
        put("rr")(_Late(accessor, (), {"_module": module, "__doc__": about}))


LIBRARIES: Final[dict[str, Callable[[ModuleType], None]]] = {"pandas": _put_on_pandas, "polars": _put_on_polars}


def register(name: str) -> None:
    """Put `.rr` on the frames of a library that is imported. What goes wrong is a warning: it must not break the import."""
    try:
        LIBRARIES[name](sys.modules[name])
    except Exception as error:  # noqa: BLE001  (whatever a version of the library that we do not know makes of it)
        warn(
            f"{name} has no `.rr`: {type(error).__name__}: {error}. Hint: rigorous_recorder.under(frame, ...) may work."
        )


def install() -> None:
    """Register `.rr` with the libraries that are imported, and wait for the others. Costs under a millisecond."""
    for name in LIBRARIES:
        if name in sys.modules:
            register(name)
        else:
            _finder.wait_for(name)
