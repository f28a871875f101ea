#include "core/check.h"
int check_connect(const struct config *config, FILE *out)
{
    (void)config;
    (void)out;
    return 1;
}
