"""Of NEMO-sensors 1.3.1: a reading updates its sensor."""

from django.db import models
from django.db.models.signals import post_save
from django.dispatch import receiver


class Sensor(models.Model):
    name = models.CharField(max_length=200)
    visible = models.BooleanField(default=True)
    data_label = models.CharField(blank=True, null=True, max_length=200)
    data_prefix = models.CharField(blank=True, null=True, max_length=100)
    data_suffix = models.CharField(blank=True, null=True, max_length=100)
    last_read = models.DateTimeField(null=True, blank=True)
    last_value = models.FloatField(null=True, blank=True)


class SensorData(models.Model):
    sensor = models.ForeignKey(Sensor, on_delete=models.CASCADE)
    created_date = models.DateTimeField(auto_now_add=True, db_index=True)
    value = models.FloatField()


@receiver(post_save, sender=SensorData)
def sensor_data_post_save(sender, instance, created, **kwargs):
    sensor = instance.sensor
    if not sensor.last_read or instance.created_date > sensor.last_read:
        sensor.last_read = instance.created_date
        sensor.last_value = instance.value
        sensor.save(update_fields=["last_read", "last_value"])
