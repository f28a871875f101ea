"""One view that does what NEMO's tool control does: it enables a tool, outside any transaction. And
NEMO's customization pages, behind the plugin's own, as NEMO includes them."""

from django.http import HttpResponse
from django.urls import include, path

from NEMO.models import UsageEvent, User
from NEMO.views import customization


def enable_tool(request, tool_id):
    user = User.objects.get()
    UsageEvent.objects.create(user=user, operator=user, tool_id=tool_id)
    return HttpResponse()


urlpatterns = [
    path("enable_tool/<int:tool_id>/", enable_tool),
    path("login/", lambda request: HttpResponse("log in"), name="login"),
    path("", include("NEMO_streams.urls")),
    path("customization/<str:key>/", customization.customization, name="customization"),
    path("customize/<str:key>/", customization.customize, name="customize"),
    path("customize/<str:key>/<str:element>/", customization.customize, name="customize"),
]
