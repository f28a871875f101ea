"""NEMO includes these at its root, before its own."""

from django.urls import path

from . import views

urlpatterns = [
    path("customization/streams/status/", views.status, name="nemo_streams_status"),
    path("customization/streams/test/", views.test_broker, name="nemo_streams_test"),
]
