"""What stands beside a verdict of verify: the model as it was named, the key, what the trainer recorded."""

import json
from dataclasses import asdict
from pathlib import Path

from dpaudit.errors import UsageError, unread
from dpaudit.findings.verification import AuditedModel, Conformance, KeyFacts, Recorded, Visible
from dpaudit.planting.audit_key import AuditKey
from dpaudit.stages import verify_kept
from dpaudit.stages.audited import Audited
from dpaudit.storage.custody import file_digest
from dpaudit.terminal import visible

SEEN_MOST = 400  # characters of what a check saw: it is somebody else's file, and goes onto the page


def named(audited: Audited, base: str | None) -> AuditedModel:
    weights = audited.adapter / "adapter_model.safetensors" if audited.adapter else None
    return AuditedModel(
        kind="adapter" if audited.adapter else "endpoint" if audited.endpoint else "model",
        name=str(audited.adapter) if audited.adapter else audited.model,
        sha256=file_digest(weights) if weights is not None and weights.is_file() else None,
        endpoint=audited.endpoint,
        base=base or audited.base,
        tokenizer=audited.tokenizer,
        files=verify_kept.digest_of(audited),
    )


def of_key(key: AuditKey, data: Path | None) -> KeyFacts:
    seen = key.visibility
    return KeyFacts(
        key.unit,
        key.family,
        key.shape,
        key.rows,
        len(key.coins),
        data_checked=data is not None,
        visibility=Visible(**asdict(seen)) if seen else None,
        bits=key.bits,
        taken=key.taken,
        plan="held out" if key.held_out else "planted",
    )


def recorded(file: Path | None) -> Conformance | None:
    """What `ConformanceCallback` recorded. Raises UsageError for another file."""
    if file is None:
        return None
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
        checks = [
            Recorded(**{key: visible(str(check[key]), SEEN_MOST) for key in ("check", "result", "seen")})
            for check in written["checks"]
        ]
    except OSError as error:
        raise unread(f"--conformance {file}", "the JSON that ConformanceCallback wrote", error) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(
            f"--conformance {file}", "the JSON that ConformanceCallback wrote", "another file"
        ) from None
    return Conformance(tuple(checks))
