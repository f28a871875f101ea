from django.apps import AppConfig


class NEMOConfig(AppConfig):
    name = "NEMO"
    default_auto_field = "django.db.models.AutoField"
