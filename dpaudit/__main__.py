"""The program: `dpaudit`, `python -m dpaudit`, and `torchrun -m dpaudit`.

No garbage is looked for among what is loaded at the start, all of which stays: a twelfth of the processor's
time of a short command.
"""

import gc

gc.disable()

from dpaudit.cli import main  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    main()
