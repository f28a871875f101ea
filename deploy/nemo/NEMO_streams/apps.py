"""The Django app. Whatever is wrong with the plugin's settings, NEMO starts: faults are logged here
and shown by `manage.py check` and `manage.py nemo_streams_check`."""

import logging
import sys
from importlib.metadata import PackageNotFoundError

from django.apps import AppConfig

logger = logging.getLogger(__name__)


class StreamsConfig(AppConfig):
    name = "NEMO_streams"
    label = "nemo_streams"
    verbose_name = "NEMO streams"
    default_auto_field = "django.db.models.AutoField"

    def ready(self):
        if {"migrate", "makemigrations"} & set(sys.argv[1:2]):
            return
        self.check_dependencies()
        from . import checks, conf, redis_stream, signals

        checks.register()
        conf.forget_on_change()
        redis_stream.follow_requests()
        for problem in conf.load()[1]:
            logger.error("NEMO_STREAMS in settings.py: %s; nothing is published", problem)
        signals.connect()
        self.add_page()

    def add_page(self):
        try:
            from . import customization  # noqa: F401  (importing it puts it on the list of pages)
        except Exception:  # a NEMO with other pages: publishing goes on with what was saved
            logger.exception("the settings page does not fit this NEMO and is not shown")

    def check_dependencies(self):
        try:
            from NEMO.plugins.utils import check_extra_dependencies

            check_extra_dependencies(self.name, ["NEMO", "NEMO-CE"])
        except (ImportError, PackageNotFoundError):
            logger.debug("run from source: the version of NEMO was not checked")
