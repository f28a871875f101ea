/*
 * Fuzzes the configuration as a text in memory. No file that the text names is looked at. What is
 * refused must have a reason, and what is accepted must bear being used.
 */
#include "core/config_private.h"
#include "tests/fuzz/fuzz_input.h"

#include <stdio.h>

static void use(const struct config *config)
{
    require(config->shards >= 1 && config->shards <= config->slots);
    require(config->broker_count >= 1 && config->route_count >= 1);
    require(config->redis.stream_count >= 1);
    for (size_t i = 0; i < config->route_count; i++)
        require(config->routes[i].broker < config->broker_count);
    for (size_t i = 0; i < config->redis.stream_count; i++) {
        const char *stream = config->redis.streams[i];
        require(config_is_pattern(stream) || config_route_of(config, stream) != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *faults = NULL;
    size_t length = 0;
    FILE *errors = open_memstream(&faults, &length);
    if (errors == NULL)
        return 0;
    struct config *config = config_parse("fuzz", (const char *)data, size, false, errors);
    fclose(errors);
    require((config == NULL) == (length > 0));
    if (config != NULL)
        use(config);
    config_free(config);
    free(faults);
    return 0;
}
