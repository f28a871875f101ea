"""What the settings page asks while it is open: how the gateway is, and a test of a broker. For
those who may see the page."""

from django.http import JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_POST
from NEMO.decorators import administrator_required, disable_session_expiry_refresh

from . import broker, broker_test, conf, gateway_status, redis_stream


@disable_session_expiry_refresh
@never_cache
@administrator_required
@require_GET
def status(request):
    config, problems = conf.load()
    report = gateway_status.Report()
    if config is None:
        for problem in problems:
            report.say(gateway_status.DANGER, f"NEMO_STREAMS in settings.py: {problem}")
        return JsonResponse(report.as_json())
    try:
        found = redis_stream.writer(config).call(gateway_status.look(config),
                                                 redis_stream.budget())
    except redis_stream.Unavailable as error:
        report.say(gateway_status.DANGER, f"Redis at {config.address} does not answer ({error}). "
                                          "What happens in NEMO now is published later")
        return JsonResponse(report.as_json())
    return JsonResponse(gateway_status.read(found, config).as_json())


@never_cache
@administrator_required
@require_POST
@sensitive_post_parameters()
def test_broker(request):
    """Of the address and the authority as typed, saved or not."""
    def refuse(sentence):
        return JsonResponse(broker_test.Result(False, sentence).as_json())

    typed = request.POST.get("broker_url", "").strip()
    if not typed:
        return refuse("Type an address first: the broker that the gateway itself has configured is "
                      "not known to NEMO")
    try:
        address = broker.address(typed)
    except ValueError as error:
        return refuse(f"The address {error}")
    try:
        ca = broker.certificates(request.POST.get("broker_ca", "").strip())
    except ValueError as error:
        return refuse(f"The authority {error}")
    return JsonResponse(broker_test.run(address, ca, request.user.pk).as_json())
