"""Who is logged in is told by the web server, as with NEMO's REMOTE_USER."""

from types import SimpleNamespace

from NEMO.models import User

NOBODY = SimpleNamespace(is_active=False, is_superuser=False, is_authenticated=False)


def remote_user(get_response):
    def middleware(request):
        name = request.META.get("REMOTE_USER")
        request.user = User.objects.get(username=name) if name else NOBODY
        return get_response(request)
    return middleware
