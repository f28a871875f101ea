"""NEMO's key-value settings: an empty value deletes the row, and the default counts again."""

from abc import ABC

from NEMO.models import Customization


class CustomizationBase(ABC):
    _instances = {}
    variables = {}
    files = []

    def __init__(self, key, title):
        self.key = key
        self.title = title

    @staticmethod
    def add_instance(inst):
        CustomizationBase._instances[inst.key] = inst

    def validate(self, name, value):
        pass

    @classmethod
    def get(cls, name, raise_exception=True, use_cache=True):
        try:
            return Customization.objects.get(name=name).value
        except Customization.DoesNotExist:
            return cls.variables[name]

    @classmethod
    def get_bool(cls, name, raise_exception=True):
        return cls.get(name, raise_exception) == "enabled"

    @classmethod
    def set(cls, name, value):
        if name not in cls.variables:
            raise KeyError(name)
        if value:
            Customization.objects.update_or_create(name=name, defaults={"value": value})
        else:
            Customization.objects.filter(name=name).delete()
