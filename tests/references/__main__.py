"""Records reference values again; see the package's text."""

from __future__ import annotations

import importlib
import pkgutil
import sys

from tests.references import FOLDER, record_torch, save


def main() -> None:
    families = sys.argv[1:] or sorted(m.name for m in pkgutil.iter_modules([str(FOLDER)]) if m.name != "__main__")
    for family in families:
        module = importlib.import_module(f"tests.references.{family}")
        arrays = module.record() if hasattr(module, "record") else record_torch(module.CASES)
        save(family, arrays)
        size = (FOLDER / f"{family}.npz").stat().st_size
        print(f"{family}: {len(arrays)} arrays, {size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
