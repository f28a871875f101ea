"""The fields, relations and saves of NEMO 8.0.2 that matter to NEMO_streams."""

from django.db import models
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.utils import timezone


class User(models.Model):
    username = models.CharField(max_length=100, unique=True)
    first_name = models.CharField(max_length=100)
    last_name = models.CharField(max_length=100)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    is_superuser = models.BooleanField(default=False)
    is_service_personnel = models.BooleanField(default=False)

    is_authenticated = True

    def get_full_name(self):
        return self.get_name() + " (" + self.username + ")"

    def get_name(self):
        return self.first_name + " " + self.last_name


class InterlockCard(models.Model):
    server = models.CharField(max_length=100)


class Interlock(models.Model):
    class State(object):
        UNKNOWN = -1
        UNLOCKED = 1
        LOCKED = 2

    name = models.CharField(null=True, blank=True, max_length=200)
    card = models.ForeignKey(InterlockCard, on_delete=models.CASCADE)
    state = models.IntegerField(default=State.UNKNOWN)
    most_recent_reply = models.TextField(default="None")
    most_recent_reply_time = models.DateTimeField(null=True, blank=True)


class Tool(models.Model):
    name = models.CharField(max_length=100, unique=True)
    parent_tool = models.ForeignKey("Tool", related_name="tool_children_set", null=True, blank=True,
                                    on_delete=models.CASCADE)
    visible = models.BooleanField(default=True)
    _operational = models.BooleanField(db_column="operational", default=False)
    _interlock = models.OneToOneField(Interlock, db_column="interlock_id", blank=True, null=True,
                                      on_delete=models.SET_NULL)

    class Meta:
        ordering = ["name"]

    def is_child_tool(self):
        return self.parent_tool_id is not None

    @property
    def operational(self):
        return self.parent_tool.operational if self.is_child_tool() else self._operational

    @operational.setter
    def operational(self, value):
        if self.is_child_tool():
            raise AttributeError("Cannot set property operational on a child/alternate tool")
        self._operational = value

    def get_family_tool_ids(self):
        tool_ids = list(self.tool_children_set.values_list("id", flat=True))
        if self.is_child_tool():
            tool_ids.append(self.parent_tool_id)
        tool_ids.append(self.id)
        return tool_ids

    def in_use(self):
        return UsageEvent.objects.filter(tool_id__in=self.get_family_tool_ids(), end=None).exists()

    def save(self, force_insert=False, force_update=False, using=None, update_fields=None):
        if self.parent_tool_id:
            fresh_tool = Tool(id=self.id, parent_tool=self.parent_tool, name=self.name,
                              visible=False)
            self.__dict__.update(fresh_tool.__dict__)
        super().save(force_insert, force_update, using, update_fields)


class Area(models.Model):
    name = models.CharField(max_length=200)
    parent_area = models.ForeignKey("self", related_name="area_children_set", null=True, blank=True,
                                    on_delete=models.CASCADE)
    requires_reservation = models.BooleanField(default=False)
    maximum_capacity = models.PositiveIntegerField(default=0)
    count_staff_in_occupancy = models.BooleanField(default=True)
    count_service_personnel_in_occupancy = models.BooleanField(default=True)


class StaffCharge(models.Model):
    pass


def save_with_has_ended(row, *args, **kwargs):
    model = type(row)
    if row.end is None:
        row.has_ended = 0
    elif not row.has_ended:
        last = model.objects.aggregate(models.Max("has_ended"))["has_ended__max"] or 0
        row.has_ended = last + 1
    super(model, row).save(*args, **kwargs)


class UsageEvent(models.Model):
    user = models.ForeignKey(User, related_name="usage_event_user", on_delete=models.CASCADE)
    operator = models.ForeignKey(User, related_name="usage_event_operator",
                                 on_delete=models.CASCADE)
    tool = models.ForeignKey(Tool, related_name="+", on_delete=models.CASCADE)
    start = models.DateTimeField(default=timezone.now)
    end = models.DateTimeField(null=True, blank=True)
    has_ended = models.PositiveBigIntegerField(default=0)
    validated = models.BooleanField(default=False)

    class Meta:
        ordering = ["-start"]
        constraints = [models.UniqueConstraint(fields=["tool", "has_ended"],
                                               name="unique_tool_has_ended")]

    save = save_with_has_ended


class AreaAccessRecord(models.Model):
    area = models.ForeignKey(Area, on_delete=models.CASCADE)
    customer = models.ForeignKey(User, on_delete=models.CASCADE)
    start = models.DateTimeField(default=timezone.now)
    end = models.DateTimeField(null=True, blank=True)
    has_ended = models.PositiveBigIntegerField(default=0)
    staff_charge = models.ForeignKey(StaffCharge, blank=True, null=True, on_delete=models.CASCADE)

    save = save_with_has_ended


class Reservation(models.Model):
    user = models.ForeignKey(User, related_name="reservation_user", on_delete=models.CASCADE)
    tool = models.ForeignKey(Tool, null=True, blank=True, on_delete=models.CASCADE)
    area = models.ForeignKey(Area, null=True, blank=True, on_delete=models.CASCADE)
    start = models.DateTimeField("start")
    end = models.DateTimeField("end")
    cancelled = models.BooleanField(default=False)
    missed = models.BooleanField(default=False)
    shortened = models.BooleanField(default=False)
    title = models.TextField(default="", blank=True)


class Task(models.Model):
    urgency = models.IntegerField()
    tool = models.ForeignKey(Tool, on_delete=models.CASCADE)
    force_shutdown = models.BooleanField(default=None)
    safety_hazard = models.BooleanField(default=None)
    creation_time = models.DateTimeField(default=timezone.now)
    problem_description = models.TextField(blank=True, null=True)
    estimated_resolution_time = models.DateTimeField(null=True, blank=True)
    cancelled = models.BooleanField(default=False)
    resolved = models.BooleanField(default=False)

    class Meta:
        ordering = ["-creation_time"]


class TaskHistory(models.Model):
    task = models.ForeignKey(Task, related_name="history", on_delete=models.CASCADE)
    status = models.CharField(max_length=200)
    time = models.DateTimeField(auto_now_add=True)


class Resource(models.Model):
    name = models.CharField(max_length=200)
    available = models.BooleanField(default=True)
    fully_dependent_tools = models.ManyToManyField(Tool, blank=True,
                                                   related_name="required_resource_set")
    partially_dependent_tools = models.ManyToManyField(Tool, blank=True,
                                                       related_name="nonrequired_resource_set")
    dependent_areas = models.ManyToManyField(Area, blank=True, related_name="required_resources")
    restriction_message = models.TextField(blank=True)


class SafetyIssue(models.Model):
    reporter = models.ForeignKey(User, blank=True, null=True, on_delete=models.SET_NULL)
    location = models.CharField(null=True, blank=True, max_length=200)
    creation_time = models.DateTimeField(auto_now_add=True)
    visible = models.BooleanField(default=True)
    concern = models.TextField()
    resolved = models.BooleanField(default=False)


class Alert(models.Model):
    title = models.CharField(blank=True, max_length=200)
    category = models.CharField(blank=True, max_length=200)
    contents = models.TextField()
    debut_time = models.DateTimeField()
    expiration_time = models.DateTimeField(null=True, blank=True)
    user = models.ForeignKey(User, null=True, blank=True, related_name="alerts",
                             on_delete=models.CASCADE)
    expired = models.BooleanField(default=False)
    deleted = models.BooleanField(default=False)


class Closure(models.Model):
    name = models.CharField(max_length=200)


class ClosureTime(models.Model):
    closure = models.ForeignKey(Closure, on_delete=models.CASCADE)
    start_time = models.DateTimeField()
    end_time = models.DateTimeField()


class Customization(models.Model):
    name = models.CharField(primary_key=True, max_length=50)
    value = models.TextField()


class ScheduledOutage(models.Model):
    start = models.DateTimeField()
    end = models.DateTimeField()
    title = models.CharField(max_length=100)
    tool = models.ForeignKey(Tool, blank=True, null=True, on_delete=models.CASCADE)
    area = models.ForeignKey(Area, blank=True, null=True, on_delete=models.CASCADE)
    resource = models.ForeignKey(Resource, blank=True, null=True, on_delete=models.CASCADE)


class UnplannedOutage(models.Model):
    tool = models.ForeignKey(Tool, null=True, blank=True, on_delete=models.CASCADE)
    resource = models.ForeignKey(Resource, null=True, blank=True, on_delete=models.CASCADE)
    start = models.DateTimeField()
    end = models.DateTimeField(blank=True, null=True)


def track(is_up, **item):
    down = UnplannedOutage.objects.filter(end__isnull=True, **item).first()
    if not is_up and not down:
        UnplannedOutage.objects.create(start=timezone.now(), **item)
    if is_up and down:
        down.end = timezone.now()
        down.save()


@receiver(post_save, sender=Tool)
def track_tool_operational_status(sender, instance, **kwargs):
    track(instance.operational, tool=instance)


@receiver(post_save, sender=Resource)
def track_resource_availability_status(sender, instance, **kwargs):
    track(instance.available, resource=instance)
