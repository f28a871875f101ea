"""Django settings for the stub of NEMO: one sqlite file per test process."""

import os
import tempfile

SECRET_KEY = "test"
USE_TZ = True
TIME_ZONE = "America/New_York"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = ["NEMO_streams", "NEMO", "NEMO_sensors"]
FOLDER = tempfile.mkdtemp(prefix="nemo-plugin-")
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3",
                         "NAME": os.path.join(FOLDER, "nemo.db"), "OPTIONS": {"timeout": 20}}}
NEMO_STREAMS = {"site": "lab", "redis_url": "redis://127.0.0.1:1/0"}
LOGGING_CONFIG = None
