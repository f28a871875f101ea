/*
 * Settings of sites, for `check`: those that Redis has as applied become part of the configuration,
 * as `run` has them, so that the brokers that sites have chosen are tried, too.
 */
#ifndef NEMOGATE_CORE_CHECK_SITES_H
#define NEMOGATE_CORE_CHECK_SITES_H

#include "core/config.h"
#include "core/site_settings.h"

#include <stdio.h>

/* A warning where several sites could name each other's secrets. */
void check_sites_warn(const struct config *config, FILE *out);
/* Asks Redis, for some seconds at most, and puts what it has into the configuration, which borrows
 * the set from then on; a line for each site. What is wrong with Redis is said elsewhere. false:
 * the settings of a site cannot be used. */
bool check_sites(struct config *config, struct site_set *set, FILE *out);

#endif
