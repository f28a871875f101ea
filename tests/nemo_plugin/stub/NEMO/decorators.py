from django.contrib.auth.decorators import user_passes_test


def disable_session_expiry_refresh(f):
    f.disable_session_expiry_refresh = True
    return f


def administrator_required(view):
    return user_passes_test(lambda u: u.is_active and u.is_superuser)(view)


def customization(key, title):
    from NEMO.views.customization import CustomizationBase

    def customization_wrapper(customization_class):
        customization_instance = customization_class(key, title)
        CustomizationBase.add_instance(customization_instance)
        return customization_instance

    return customization_wrapper
