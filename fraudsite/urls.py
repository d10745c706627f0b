"""Every address of the house: the desk, the API, the probes."""

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from alerts.api import Explanation
from cases.api import CaseDetail
from scoring.api import ReasonCodes, Rescreen
from scoring.list_api import Entries, Entry, Lists
from transactions import problems, reference

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("desk/", admin.site.urls),
    path("api/v1/", include("transactions.urls")),
    path("api/v1/transactions/<int:transaction_id>/explanation", Explanation.as_view(), name="explanation"),
    path("api/v1/transactions/<int:transaction_id>/rescreen", Rescreen.as_view(), name="rescreen"),
    path("api/v1/lists", Lists.as_view(), name="api-lists"),
    path("api/v1/lists/<slug:name>/entries", Entries.as_view(), name="list-entries"),
    path("api/v1/lists/<slug:name>/entries/<int:entry_id>", Entry.as_view(), name="list-entry"),
    path("api/v1/reason-codes", ReasonCodes.as_view(), name="reason-codes"),
    path("api/v1/cases/<int:case_id>", CaseDetail.as_view(), name="case"),
    path("api/openapi.json", reference.OpenApiDocument.as_view(), name="openapi"),
    path("api/docs", reference.page, name="api-docs"),
    # Keep last of all below api/: what no view serves is a problem document too.
    re_path(r"^api/", problems.not_found),
]
