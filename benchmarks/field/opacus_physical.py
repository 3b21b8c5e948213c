"""Opacus with `BatchMemoryManager`: batches of up to 8 rows in memory."""

from functools import partial

import common
import opacus_lora


def main() -> None:
    common.main("Opacus, BatchMemoryManager", partial(opacus_lora.trained, physical=8))


if __name__ == "__main__":
    main()
