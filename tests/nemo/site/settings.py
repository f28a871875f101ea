"""Settings of a NEMO that a test starts (nemo_site.py): NEMO's own test settings on a sqlite file in
the test's folder, with the new plugin, the older one, or both. What differs comes by environment."""

import os

from NEMO.tests.test_settings import *  # noqa: F403

FOLDER = os.environ["NEMO_TEST_FOLDER"]
PLUGINS = os.environ["NEMO_TEST_PLUGINS"].split(",")


class NoMigrations:
    """All tables are made from the models, in seconds instead of half a minute."""

    def __contains__(self, _):
        return True

    def __getitem__(self, _):
        return None


MIGRATION_MODULES = NoMigrations()
INSTALLED_APPS = [*PLUGINS, *INSTALLED_APPS]  # noqa: F405
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3", "NAME": f"{FOLDER}/nemo.db",
    "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"}}}
AUTHENTICATION_BACKENDS = ["NEMO.views.authentication.RemoteUserAuthenticationBackend"]
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
INTERLOCKS_ENABLED = False
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
MEDIA_ROOT = FOLDER
LOGGING = {
    "version": 1, "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {"django.request": {"level": "WARNING"}},
}
NEMO_STREAMS = {"site": os.environ["NEMO_TEST_SITE"], "redis_url": os.environ["NEMO_TEST_REDIS"]}
