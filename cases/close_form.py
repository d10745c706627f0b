"""The close dialog: its choices, what was chosen so far, and what would follow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, QueryDict

from cases import dossier, factsheet
from cases.closing import IncompleteClose, reasons_to_close
from cases.notes import RefusedText
from cases.workflow import CaseError, Disposition
from transactions.codes import FRAUD_TYPE

FRAUD_WORDS = {"lost_stolen": "Lost or stolen", "synthetic_id": "Synthetic identity"}


def close_form(
    request: HttpRequest,
    alerts: list[dossier.Flagged],
    form: QueryDict | None,
    refusal: CaseError | None,
    others: Sequence[dossier.Sum] = (),
) -> dict[str, Any]:
    """The close dialog: its choices, what was chosen so far, and what follows. `others`: alerts not on the page."""
    given = form if form is not None else QueryDict()
    wanted = given.get("disposition") or request.GET.get("close", "")
    disposition = wanted if wanted in Disposition else Disposition.CONFIRMED_FRAUD
    exceptions = exceptions_of(given)
    return {
        "open": "disposition" in given or bool(request.GET.get("close")),
        "dispositions": Disposition.choices,
        "disposition": disposition,
        "fraud_types": [(value, FRAUD_WORDS.get(value) or factsheet.spoken(value)) for value in FRAUD_TYPE],
        "fraud_type": given.get("fraud_type", ""),
        "reasons": reasons_to_close(),
        "reason": given.get("close_reason", ""),
        "rationale": given.get("rationale", "") if not isinstance(refusal, RefusedText) else "",
        "errors": refusal.errors if isinstance(refusal, IncompleteClose) else {},
        "exceptions": [(each, exceptions.get(each.alert.pk, "")) for each in alerts],
        "effects": dossier.consequences(alerts, disposition, exceptions, others),
        "script": dossier.for_script(alerts, others),
    }


def exceptions_of(form: QueryDict) -> dict[int, str]:
    """Payments set otherwise than the case: fields named verdict-<alert id>."""
    return {int(name[8:]): value for name, value in form.items() if re.fullmatch(r"verdict-\d{1,18}", name) and value}
