"""Keys of real units that were held out: their texts are read again, and leave this machine only if asked."""

from pathlib import Path

from dpaudit.errors import UsageError
from dpaudit.planting import hold_out
from dpaudit.planting.audit_key import AuditKey
from dpaudit.stages.audited import Audited

PRESUMES = {
    "planted": "that this model was trained on the planted file and nobody filtered canaries out; a model of "
    "other data gets the same word",
    "held out": "that this model was trained on the file as it was written; a model of other data gets the "
    "same word",
}
UNITS = {"planted": "canaries", "held out": "units"}


def check_sending(key: AuditKey, audited: Audited, send_real_rows: bool) -> None:
    """Raises UsageError where real rows would go to a server without a word, or the word has no use."""
    if send_real_rows and not (key.held_out and audited.endpoint):
        raise UsageError(
            "--send-real-rows",
            "an --endpoint and a key of `plant --hold-out`",
            "no --endpoint" if key.held_out else "a key of canaries, which are no real rows",
            "leave the option out",
        )
    if key.held_out and audited.endpoint and not send_real_rows:
        raise UsageError(
            "--endpoint",
            "a model on this machine, or --send-real-rows: the key is of real rows, whose texts the server "
            "would see",
            "no --send-real-rows",
            "give --adapter or --model; add the option only where the server may see the data",
        )


def opened(key: AuditKey, key_file: Path, data: Path | None) -> AuditKey:
    """The key with the texts that the model is asked for; raises UsageError where they are not in `data`."""
    return hold_out.restored(key, key_file, data) if key.held_out else key
