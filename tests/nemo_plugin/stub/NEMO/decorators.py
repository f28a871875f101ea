def customization(key, title):
    from NEMO.views.customization import CustomizationBase

    def customization_wrapper(customization_class):
        customization_instance = customization_class(key, title)
        CustomizationBase.add_instance(customization_instance)
        return customization_instance

    return customization_wrapper
