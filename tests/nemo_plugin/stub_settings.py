"""Django settings for the stub of NEMO: one sqlite file per test process."""

import os
import tempfile

SECRET_KEY = "test"
USE_TZ = True
TIME_ZONE = "America/New_York"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = ["NEMO_streams", "NEMO", "NEMO_sensors", "django.contrib.messages"]
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "stub_urls"
LOGIN_URL = "login"
MIDDLEWARE = ["django.middleware.common.CommonMiddleware",
              "django.middleware.csrf.CsrfViewMiddleware", "NEMO.middleware.remote_user",
              "django.contrib.messages.middleware.MessageMiddleware"]
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
              "OPTIONS": {"context_processors": [
                  "django.template.context_processors.request",
                  "django.contrib.messages.context_processors.messages"]}}]
FOLDER = tempfile.mkdtemp(prefix="nemo-plugin-")
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3",
                         "NAME": os.path.join(FOLDER, "nemo.db"), "OPTIONS": {"timeout": 20}}}
NEMO_STREAMS = {"site": "lab", "redis_url": "redis://127.0.0.1:1/0"}
LOGGING_CONFIG = None
