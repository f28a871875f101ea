"""Which objects a change reaches: a tool's family, what depends on a resource, the areas above and
below. Computed after the commit, from the database. A reference is (kind, id); (kind, None) is all
of a kind, for changes whose reach can no longer be asked, such as that of a deleted resource."""

from . import state_tools, states


def keys_of(references):
    found = {(kind, id) for kind, id in references if id is not None}
    for kind in {kind for kind, id in references if id is None}:
        table = states.model(kind)
        if table is not None:
            found |= {(kind, pk) for pk in table.objects.values_list("pk", flat=True)}
    found |= tasks_tools(ids_of("task", found))
    found |= dependents(ids_of("resource", found))
    found |= families(ids_of("tool", found))
    found |= neighbours(ids_of("area", found))
    return [f"{kind}/{id}" for kind, id in sorted(found, key=str) if kind in states.KINDS]


def ids_of(kind, references):
    return {id for of, id in references if of == kind}


def tasks_tools(tasks):
    if not tasks:
        return set()
    from NEMO.models import Task

    return {("tool", tool) for tool in Task.objects.filter(pk__in=tasks)
            .values_list("tool_id", flat=True)}


def dependents(resources):
    if not resources:
        return set()
    from NEMO.models import Resource

    found = set()
    for field, kind in (("fully_dependent_tools", "tool"), ("dependent_areas", "area")):
        through = getattr(Resource, field).through.objects.filter(resource_id__in=resources)
        found |= {(kind, id) for id in through.values_list(f"{kind}_id", flat=True)}
    return found


def families(tools):
    if not tools:
        return set()
    from NEMO.models import Tool

    rows = Tool.objects.filter(state_tools.in_families_of(tools))
    return {("tool", pk) for pk in rows.values_list("pk", flat=True)}


def neighbours(areas):
    if not areas:
        return set()
    from NEMO.models import Area

    parent_of = dict(Area.objects.values_list("pk", "parent_area_id"))

    def upwards(id):
        seen = []
        while id in parent_of and id not in seen:
            seen.append(id)
            id = parent_of[id]
        return seen

    above = {up for id in areas for up in upwards(id)}
    below = {id for id in parent_of if areas & set(upwards(id))}
    return {("area", id) for id in above | below}
