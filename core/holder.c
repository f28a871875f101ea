/*
 * "instance/0123456789abcdef".
 */
#include "core/holder.h"

#include "core/engine.h"
#include "transport/net.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define NONCE_DIGITS 16u

static char *new_name(const char *instance)
{
    uint64_t nonce;
    char *name;
    if (getrandom(&nonce, sizeof nonce, 0) != sizeof nonce)
        nonce = net_now_us();
    if (asprintf(&name, "%s/%016" PRIx64, instance, nonce) < 0)
        return NULL;
    return name;
}

char *holder_name(const char *instance)
{
    const char *former = getenv(ENGINE_HOLDER_VARIABLE);
    size_t length = strlen(instance);
    bool goes_on = former != NULL && strncmp(former, instance, length) == 0 &&
                   former[length] == '/' && strlen(former) == length + 1 + NONCE_DIGITS;
    char *name = goes_on ? strdup(former) : new_name(instance);
    unsetenv(ENGINE_HOLDER_VARIABLE);
    return name;
}

bool holder_hand_on(const char *holder)
{
    return setenv(ENGINE_HOLDER_VARIABLE, holder, 1) == 0;
}
