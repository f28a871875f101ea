"""One view that does what NEMO's tool control does: it enables a tool, outside any transaction."""

from django.http import HttpResponse
from django.urls import path

from NEMO.models import UsageEvent, User


def enable_tool(request, tool_id):
    user = User.objects.get()
    UsageEvent.objects.create(user=user, operator=user, tool_id=tool_id)
    return HttpResponse()


urlpatterns = [path("enable_tool/<int:tool_id>/", enable_tool)]
