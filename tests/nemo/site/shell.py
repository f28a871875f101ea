"""An admin's shell on a NEMO: each line of standard input is {"code": ...}, Python to run; each line of
the answer {"result": ...}, the value that the code gave to `result`, or {"error": traceback}."""

import json
import os
import sys
import traceback
from datetime import timedelta

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from django.utils import timezone  # noqa: E402
from NEMO import models  # noqa: E402


def populate(tools, captain="captain"):
    """Users, a project, and tools that they may use; the ids."""
    account = models.Account.objects.create(name="Account")
    project = models.Project.objects.create(name="Project", account=account)
    users = {}
    for username, first, last in ((captain, "Anna", "Captain"), ("rm\u00fcller", "Ren\u00e9", "M\u00fcller"),
                                  ("li", "\u674e", "\u5c0f\u9f99"), ("star", "Star \U0001f600", "Night"),
                                  ("bob", "Robert", "Brown")):
        users[username] = models.User.objects.create(
            username=username, first_name=first, last_name=last, email=f"{len(users)}@example.org",
            badge_number=len(users) + 1, training_required=False,
            is_staff=username == captain, is_superuser=username == captain)
        users[username].projects.add(project)
    made = [models.Tool.objects.create(name=name, _operational=True, _category="Demo", visible=True,
                                       _max_delayed_logoff=60) for name in tools]
    for user in users.values():
        user.qualifications.add(*made)
    return {"project": project.pk, "tools": [tool.pk for tool in made],
            "users": {name: user.pk for name, user in users.items()}}


def enable(tool, user, project):
    usage = models.UsageEvent.objects.create(user_id=user, operator_id=user, project_id=project,
                                             tool_id=tool)
    return usage.pk


def disable(tool):
    usage = models.UsageEvent.objects.get(tool_id=tool, end=None)
    usage.end = timezone.now()
    usage.save()
    return usage.pk


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what NEMO or a plugin prints is no answer
    names = {"models": models, "timezone": timezone, "timedelta": timedelta, "os": os,
             "transaction": transaction, "call_command": call_command, "populate": populate,
             "enable": enable, "disable": disable}
    for line in sys.stdin:
        names["result"] = None
        try:
            exec(compile(json.loads(line)["code"], "<test>", "exec"), names)
            answer = {"result": names["result"]}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer, default=str), file=answers, flush=True)


main()
