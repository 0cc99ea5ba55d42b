"""cortexff: cortical areas that learn by the Forward-Forward algorithm, awake and asleep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cortexff.graph import load_model
    from cortexff.log import open_results

__version__ = "0.1.0"
__all__ = ["load_model", "open_results"]


def __getattr__(name: str) -> Any:
    # Imported when first used: `import cortexff` stays quick.
    if name == "load_model":
        from cortexff.graph import load_model

        return load_model
    if name == "open_results":
        from cortexff.log import open_results

        return open_results
    raise AttributeError(f"module 'cortexff' has no attribute '{name}'")
