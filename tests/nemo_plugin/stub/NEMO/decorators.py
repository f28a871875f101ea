"""administrator_required is Django's user_passes_test, without the app that this would need."""

from functools import wraps
from urllib.parse import quote

from django.shortcuts import redirect


def disable_session_expiry_refresh(f):
    f.disable_session_expiry_refresh = True
    return f


def administrator_required(view):
    @wraps(view)
    def wrapper(request, *args, **kwargs):
        if request.user.is_active and request.user.is_superuser:
            return view(request, *args, **kwargs)
        return redirect(f"/login/?next={quote(request.path)}")
    return wrapper


def customization(key, title):
    from NEMO.views.customization import CustomizationBase

    def customization_wrapper(customization_class):
        customization_instance = customization_class(key, title)
        CustomizationBase.add_instance(customization_instance)
        return customization_instance

    return customization_wrapper
