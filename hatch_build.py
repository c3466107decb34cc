"""Compiles `rigorous_recorder/_native.c` when the package is built, where that is possible; without it all works, slower."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

SOURCE = "rigorous_recorder/_native.c"


class CompileNative(BuildHookInterface):
    """Puts the compiled module beside its source, for the wheel and for an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  (hatchling's)
        """Compile, and say in the wheel's name for which Python and machine it is; on failure it is one for all."""
        if self.target_name != "wheel" or sysconfig.get_config_var("Py_GIL_DISABLED"):
            return
        compiled = Path(self.root, SOURCE).with_name("_native" + sysconfig.get_config_var("EXT_SUFFIX"))
        compiled.unlink(missing_ok=True)
        self._compile()
        if not compiled.exists():
            self.app.display_warning(f"{SOURCE} was not compiled: recording will take some three times as long")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append(str(compiled.relative_to(self.root)))

    def _compile(self) -> None:
        extension = Extension("rigorous_recorder._native", [SOURCE], extra_compile_args=["-O3"], optional=True)
        command = build_ext(Distribution({"name": "rigorous-recorder", "ext_modules": [extension]}))
        command.build_temp = str(Path(self.directory, "native"))
        command.inplace = True
        command.ensure_finalized()
        command.run()
