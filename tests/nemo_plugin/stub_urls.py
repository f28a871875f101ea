"""Two views that save outside any transaction, as NEMO's do: one enables a tool, one shuts a tool
down and up again and again. And NEMO's customization pages, behind the plugin's own, as NEMO
includes them."""

from django.http import HttpResponse
from django.urls import include, path

from NEMO.models import Tool, UsageEvent, User
from NEMO.views import customization


def enable_tool(request, tool_id):
    user = User.objects.get()
    UsageEvent.objects.create(user=user, operator=user, tool_id=tool_id)
    return HttpResponse()


def save_often(request, tool_id, times):
    tool = Tool.objects.get(pk=tool_id)
    for _ in range(times):
        tool.operational = not tool.operational
        tool.save()
    return HttpResponse()


urlpatterns = [
    path("enable_tool/<int:tool_id>/", enable_tool),
    path("save_often/<int:tool_id>/<int:times>/", save_often),
    path("login/", lambda request: HttpResponse("log in"), name="login"),
    path("", include("NEMO_streams.urls")),
    path("customization/<str:key>/", customization.customization, name="customization"),
    path("customize/<str:key>/", customization.customize, name="customize"),
    path("customize/<str:key>/<str:element>/", customization.customize, name="customize"),
]
