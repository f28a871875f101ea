"""Django's system check of settings.py. Only warnings: an error would keep `manage.py migrate` and
`runserver` from working, and NEMO must run without its displays."""

from pathlib import Path

from django.core import checks

from . import conf, options


def settings_check(app_configs=None, **_):
    config, problems = conf.load()
    found = [checks.Warning(f"NEMO_STREAMS in settings.py: {problem}", id="nemo_streams.W001",
                            hint="Nothing is published until this is mended.")
             for problem in problems]
    for field in conf.FILES if config else ():
        path = getattr(config, field)
        try:
            if path:
                Path(path).read_bytes()
        except OSError as error:
            found.append(checks.Warning(f"NEMO_STREAMS in settings.py: {field} {path}: "
                                        f"{error.strerror}", id="nemo_streams.W002",
                                        hint="NEMO's user must be able to read it."))
    found.extend(checks.Warning(problem, id="nemo_streams.W003",
                                hint="Built-in rules of the program are wrong.")
                 for problem in options.faulty_defaults())
    return found


def register():
    checks.register(settings_check, "nemo_streams")
