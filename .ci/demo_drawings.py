"""Copies the drawings that the default shop uses from npm's @lobehub/fluent-emoji-3d 1.1.0 (MIT):

npm pack @lobehub/fluent-emoji-3d@1.1.0 && tar xzf lobehub-fluent-emoji-3d-1.1.0.tgz
.venv/bin/python .ci/demo_drawings.py package/assets"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from recsys.demo.pictures import DRAWINGS
from recsys.demo.product_types import product_types


def main(assets: Path) -> int:
    DRAWINGS.mkdir(exist_ok=True)
    for name in sorted({each.picture for each in product_types()}):
        # Some code points have a variation selector, which says nothing here.
        source = next(
            f for f in (assets / f"{name}.webp", assets / f"{name}-fe0f.webp") if f.exists()
        )
        shutil.copyfile(source, DRAWINGS / f"{name}.webp")
    size = sum(file.stat().st_size for file in DRAWINGS.glob("*.webp"))
    print(f"{len(list(DRAWINGS.glob('*.webp')))} drawings, {size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
