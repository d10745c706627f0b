"""Addresses below /api/v1/."""

from django.urls import path

from transactions import api

app_name = "api"
urlpatterns = [
    path("transactions", api.Transactions.as_view(), name="transactions"),
    path("transactions/<int:transaction_id>", api.TransactionDetail.as_view(), name="transaction"),
    path("labels", api.Labels.as_view(), name="labels"),
]
