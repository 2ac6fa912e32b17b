"""The structures of FC-ABI-1.0.0 for Python files that export the four functions themselves."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class _ReadOnly:
    """Fields that are set once; whoever changes them gets a TypeError (ABI-9.1, ABI-11.1)."""

    __slots__: tuple[str, ...] = ()

    def __init__(self, *values: Any) -> None:
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} belongs to the runtime and is read only")

    def __delattr__(self, name: str) -> NoReturn:
        raise TypeError(f"{type(self).__name__} belongs to the runtime and is read only")


class RuntimeContext(_ReadOnly):
    """What ``femtoclaw_module_init`` gets. The function table is ``femtoclaw.sdk`` itself: workspace, settings, secret."""

    __slots__ = ("abi_version", "runtime_id")
    abi_version: int
    runtime_id: int


class ExecutionRequest(_ReadOnly):
    """``execution_id`` (64 bits), ``capability`` and ``arguments_json``, both text."""

    __slots__ = ("arguments_json", "capability", "execution_id")
    execution_id: int
    capability: str
    arguments_json: str

    def __init__(self, execution_id: int, capability: str, arguments_json: str) -> None:
        super().__init__(arguments_json, capability, execution_id)


class ExecutionResponse:
    """``status_code`` (0 success; 1 to 4 an error of ``femtoclaw_module.h``) and ``result_json``, text or bytes."""

    __slots__ = ("result_json", "status_code")

    def __init__(self) -> None:
        self.status_code = -1
        self.result_json: str | bytes | None = None
