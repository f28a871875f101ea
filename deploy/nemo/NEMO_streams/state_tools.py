"""State of tools, as NEMO's own methods see it (in_use, delayed_logoff_in_progress,
scheduled_outage_in_progress, required_resource_is_unavailable), for many tools with a handful of
queries. A tool, its parent and its siblings are one machine: who uses one of them uses all."""

from collections import defaultdict

from django.db.models import OuterRef, Q, Subquery

from . import display, entries
from .text import cut, iso, person

URGENCY = {-1: "low", 0: "normal", 1: "high"}
TASKS_SHOWN = 20


def in_families_of(tools):
    """These tools, their parents, siblings and children: NEMO has no grandchildren."""
    from NEMO.models import Tool

    tools = list(tools)
    parents = Tool.objects.filter(pk__in=tools).exclude(parent_tool_id=None).values("parent_tool_id")
    return (Q(pk__in=tools) | Q(parent_tool_id__in=tools) | Q(pk__in=parents)
            | Q(parent_tool_id__in=parents))


class Picture:
    """What the database says about the families of some tools."""

    def __init__(self, ids, context):
        from NEMO.models import Reservation, Tool, UsageEvent

        self.now = context.now
        # has_ended grows with each end of a usage and is indexed with the tool: this finds the last
        # one without reading a tool's whole history.
        ended = UsageEvent.objects.filter(tool_id=OuterRef("pk"), has_ended__gt=0)
        coming = Reservation.objects.filter(tool_id=OuterRef("pk"), cancelled=False, missed=False,
                                            shortened=False, start__gt=self.now)
        self.family = defaultdict(list)
        self.tools = {}
        for tool in Tool.objects.filter(in_families_of(ids)).annotate(
                last_usage=Subquery(ended.order_by("-has_ended").values("pk")[:1]),
                next_reservation=Subquery(coming.order_by("start").values("pk")[:1])):
            self.tools[tool.pk] = tool
            self.family[tool.parent_tool_id or tool.pk].append(tool)
        roots = list(self.family)
        self.read_usages(context)
        self.read_reservations()
        self.read_outages(roots)
        self.read_tasks(roots)

    def root_of(self, tool_id):
        return self.tools[tool_id].parent_tool_id or tool_id

    def read_usages(self, context):
        from NEMO.models import UsageEvent

        wanted = {tool.last_usage for tool in self.tools.values()} - {None}
        for mark in context.marks.values():
            if mark.get("facts", {}).get("usage"):
                wanted.add(mark["facts"]["usage"])
        self.usages = defaultdict(dict)
        present = Q(tool_id__in=list(self.tools)) & (Q(end=None) | Q(end__gt=self.now))
        for usage in UsageEvent.objects.filter(Q(pk__in=wanted) | present).select_related("user"):
            if usage.tool_id in self.tools:
                self.usages[self.root_of(usage.tool_id)][usage.pk] = usage

    def read_reservations(self):
        from NEMO.models import Reservation

        ids = {tool.next_reservation for tool in self.tools.values()} - {None}
        self.reservations = {}
        for one in Reservation.objects.filter(pk__in=ids).select_related("user"):
            root = self.root_of(one.tool_id)
            if root not in self.reservations or one.start < self.reservations[root].start:
                self.reservations[root] = one

    def read_outages(self, roots):
        from NEMO.models import Resource, ScheduledOutage, UnplannedOutage

        self.unplanned = {outage.tool_id: outage.start for outage in UnplannedOutage.objects
                          .filter(tool_id__in=roots, end=None).order_by("-start")}
        dependents = Resource.fully_dependent_tools.through.objects.filter(tool_id__in=roots)
        self.resources, self.scheduled = defaultdict(list), defaultdict(list)
        by_resource = defaultdict(list)
        for tool, resource, name, available in dependents.order_by("resource__name").values_list(
                "tool_id", "resource_id", "resource__name", "resource__available"):
            by_resource[resource].append(tool)
            if not available:
                self.resources[tool].append((resource, name))
        missing = {resource for found in self.resources.values() for resource, _ in found}
        self.resource_since = {outage.resource_id: outage.start for outage in UnplannedOutage
                               .objects.filter(resource_id__in=missing, end=None)}
        for outage in ScheduledOutage.objects.filter(
                Q(tool_id__in=roots) | Q(resource_id__in=list(by_resource)),
                start__lte=self.now, end__gt=self.now).order_by("start"):
            for tool in [outage.tool_id] if outage.tool_id else by_resource[outage.resource_id]:
                self.scheduled[tool].append(outage)

    def read_tasks(self, roots):
        from NEMO.models import Task, TaskHistory

        self.tasks, self.task_status = defaultdict(list), {}
        for task in Task.objects.filter(tool_id__in=roots, resolved=False,
                                        cancelled=False).order_by("creation_time", "pk"):
            self.tasks[task.tool_id].append(task)
        ids = [task.pk for tasks in self.tasks.values() for task in tasks]
        for task, status in TaskHistory.objects.filter(task_id__in=ids).order_by("time", "pk") \
                .values_list("task_id", "status"):
            self.task_status[task] = status


class ToolState:
    """One tool at one moment."""

    def __init__(self, picture, id, facts):
        tool, root = picture.tools[id], picture.root_of(id)
        self.id, self.name, self.now = id, tool.name, picture.now
        self.usages = picture.usages[root]
        self.tasks, self.status = picture.tasks[root], picture.task_status
        self.reservation = picture.reservations.get(root)
        self.operational = picture.tools[root].operational
        self.resources, self.outages = picture.resources[root], picture.scheduled[root]
        running = [usage for usage in self.usages.values() if usage.end is None]
        cooling = [usage for usage in self.usages.values() if usage.end and usage.end > self.now]
        over = [usage for usage in self.usages.values() if usage.end and usage.end <= self.now]
        self.last = max(over + cooling, key=lambda usage: usage.end, default=None)
        self.usage = min(running, key=lambda usage: usage.start, default=None) or \
            max(cooling, key=lambda usage: usage.end, default=None)
        self.in_use = bool(running)
        self.until = None
        # NEMO lets a user finish when an outage begins; a tool that is shut down is shut down.
        if not self.operational or (not self.in_use and (self.resources or self.outages)):
            self.down_since(picture, root)
        elif self.in_use:
            self.state, self.since = "in_use", self.usage.start
        elif self.usage:
            self.state, self.until = "cooldown", self.usage.end
            self.since = None
        else:
            self.state, self.since = "idle", self.last.end if self.last else None
        self.cooling = self.usage is not None and not self.in_use  # also while it is down
        self.cooling_since = self.cooldown_begin(facts) if self.cooling else None

    def down_since(self, picture, root):
        starts = [picture.resource_since.get(resource) for resource, _ in self.resources]
        starts += [outage.start for outage in self.outages]
        if not self.operational:
            starts = [picture.unplanned.get(root)]
        elif self.outages and not self.resources:
            self.until = max(outage.end for outage in self.outages)
        self.state = "down"
        self.since = min((start for start in starts if start), default=None)

    def cooldown_begin(self, facts):
        """NEMO keeps only when a cooldown ends. It began when we first saw it, if before that we
        saw the same usage run."""
        if facts.get("usage") != self.usage.pk:
            return None
        return facts.get("cooling_since") if facts.get("cooling") else iso(self.now)

    def problems(self):
        words = []
        for task in self.tasks[:TASKS_SHOWN]:
            marks = [word for word, is_so in (("shutdown", task.force_shutdown),
                                              ("safety hazard", task.safety_hazard)) if is_so]
            words.append(": ".join([f"task {task.pk}", *([", ".join(marks)] if marks else [])]))
        words += [f"resource: {cut(name, 80)}" for _, name in self.resources[:TASKS_SHOWN]]
        return words + [f"outage: {cut(outage.title, 80)}"
                        for outage in self.outages[:TASKS_SHOWN]]

    def facts(self):
        facts = {"state": self.state, "in_use": self.in_use, "cooling": self.cooling}
        if self.usage:
            facts["usage"] = self.usage.pk
        if self.cooling_since:
            facts["cooling_since"] = self.cooling_since
        return facts

    def state_body(self, context):
        return context.head(
            tool_id=self.id, tool_name=self.name, operational=self.operational,
            in_use=self.in_use, state=self.state,
            user=person(self.usage.user, context.choice.names) if self.usage else None,
            since=self.cooling_since if self.state == "cooldown" else iso(self.since),
            usage_id=self.usage.pk if self.usage else None, until=iso(self.until),
            problems=self.problems())

    def tasks_body(self, context):
        limit = context.choice.text_limit
        return context.head(
            tool_id=self.id, tool_name=self.name, count=len(self.tasks),
            tasks=entries.fitting({"id": task.pk, "urgency": URGENCY.get(task.urgency, "normal"),
                    "shutdown": bool(task.force_shutdown),
                    "safety_hazard": bool(task.safety_hazard),
                    "problem": cut(task.problem_description, limit) or None,
                    "status": cut(self.status.get(task.pk), limit) or None,
                    "created": iso(task.creation_time),
                    "estimated_resolution": iso(task.estimated_resolution_time)}
                   for task in self.tasks[:TASKS_SHOWN]))

    def next_body(self, context):
        one = self.reservation
        return context.head(tool_id=self.id, tool_name=self.name, next=one and {
            "reservation_id": one.pk, "user": person(one.user, context.choice.names),
            "start": iso(one.start), "end": iso(one.end)})

    def made(self, context):
        choice, found = context.choice, []
        for wanted, topic, type, body in (
                (choice.tool_states, "state", "tool.state", self.state_body),
                (choice.tool_tasks, "tasks", "tool.tasks", self.tasks_body),
                (choice.tool_next, "next", "tool.next", self.next_body)):
            if wanted:
                found.append(entries.state(f"tools/{self.id}/{topic}", type, body(context),
                                           context.ts))
        if choice.display:
            found.append(display.message(self, choice))
        return found, self.facts(), self


def tools(ids, context):
    picture = Picture(ids, context)
    for id in ids:
        if id in picture.tools:
            facts = context.marks.get(id, {}).get("facts", {})
            yield id, lambda id=id, facts=facts: ToolState(picture, id, facts).made(context)
