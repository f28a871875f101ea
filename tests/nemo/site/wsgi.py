"""What gunicorn serves: NEMO as it is, behind the part of a front server that says who is logged in."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"

from NEMO.wsgi import application as nemo  # noqa: E402


def application(environ, start_response):
    user = environ.get("HTTP_X_TEST_USER")
    if user:
        environ["REMOTE_USER"] = user
    return nemo(environ, start_response)
