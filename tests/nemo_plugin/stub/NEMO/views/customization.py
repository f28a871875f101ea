"""NEMO's key-value settings: an empty value deletes the row, and the default counts again. The cache,
which other processes do not clear, is there to be stumbled over."""

from abc import ABC

from django.apps import apps
from django.contrib import messages
from django.http import HttpResponseNotFound
from django.shortcuts import redirect, render
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.views.decorators.http import require_GET, require_POST

from NEMO.decorators import administrator_required
from NEMO.models import Customization


class CustomizationBase(ABC):
    _instances = {}
    _variables_cache = None
    variables = {}
    files = []

    def __init__(self, key, title):
        self.key = key
        self.title = title

    @staticmethod
    def add_instance(inst):
        CustomizationBase._instances[inst.key] = inst

    @staticmethod
    def get_instance(key):
        return CustomizationBase._instances.get(key)

    @staticmethod
    def invalidate_cache():
        CustomizationBase._variables_cache = None

    def template(self):
        app = apps.get_containing_app_config(type(self).__module__)
        for app_dir in [app.label, app.name, ""]:
            try:
                path = (f"{app_dir}{'/' if app_dir else ''}customizations/"
                        f"customizations_{self.key}.html")
                get_template(path)
                return path
            except TemplateDoesNotExist:
                pass

    def validate(self, name, value):
        pass

    @classmethod
    def get(cls, name, raise_exception=True, use_cache=True):
        if CustomizationBase._variables_cache is None:
            CustomizationBase._variables_cache = dict(
                Customization.objects.values_list("name", "value"))
        return CustomizationBase._variables_cache.get(name, cls.variables[name])

    @classmethod
    def set(cls, name, value):
        if name not in cls.variables:
            raise KeyError(name)
        if value:
            Customization.objects.update_or_create(name=name, defaults={"value": value})
        else:
            Customization.objects.filter(name=name).delete()
        CustomizationBase.invalidate_cache()


@administrator_required
@require_GET
def customization(request, key="application"):
    customization_instance = CustomizationBase.get_instance(key)
    if not customization_instance:
        return HttpResponseNotFound(f"Customizations with key: '{key}' not found")
    return render(request, "customizations/customizations.html", customization_instance.context())


@administrator_required
@require_POST
def customize(request, key, element=None):
    customization_instance = CustomizationBase.get_instance(key)
    if not customization_instance:
        return HttpResponseNotFound(f"Customizations with key: '{key}' not found")
    errors = customization_instance.save(request, element)
    if errors:
        messages.error(request, "Please correct the errors below:")
        return render(request, "customizations/customizations.html",
                      {"errors": errors, **customization_instance.context()})
    messages.success(request, f"{customization_instance.title} settings saved successfully")
    return redirect("customization", key)
