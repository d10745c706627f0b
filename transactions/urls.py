"""Addresses below /api/v1/."""

from django.urls import path

from transactions import api

app_name = "api"
urlpatterns = [
    path("transactions", api.Transactions.as_view(), name="transactions"),
    path("transactions/bulk", api.Bulk.as_view(), name="bulk"),
    path("jobs/<int:job_id>", api.Job.as_view(), name="job"),
    path("jobs/<int:job_id>/result", api.JobResult.as_view(), name="job-result"),
    path("transactions/<int:transaction_id>", api.TransactionDetail.as_view(), name="transaction"),
    path("labels", api.Labels.as_view(), name="labels"),
]
