"""The sockets. `fraudsite/asgi.py` puts the checks of origin and session before them."""

from django.urls import path

from alerts.consumers import AlertFeed

websocket_urlpatterns = [path("ws/alerts/", AlertFeed.as_asgi())]
