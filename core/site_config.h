/*
 * Settings of sites in the configuration: for each site that has some, and each route that lets it,
 * a broker and a route of its own, made from those of the file. Here they are judged too, in words
 * for the admin of the site. When they are applied is not decided here.
 */
#ifndef NEMOGATE_CORE_SITE_CONFIG_H
#define NEMOGATE_CORE_SITE_CONFIG_H

#include "core/config.h"
#include "core/log.h"
#include "core/site_settings.h"

#define SITE_ERROR_TEXT 400

/* Puts the set into the configuration, before anyone borrows it; the set is borrowed from then on.
 * Says in the log what is used. A site whose settings cannot be used (a secret is missing) gets a
 * route that carries nothing. log may be NULL. false: memory is short. */
MUST_CHECK bool site_config_apply(struct config *config, const struct site_set *set,
                                  const struct log *log);

/* Whether the settings could be applied on the route of the file where they were met and on all
 * others that concern the site. false: error (SITE_ERROR_TEXT bytes) says what is wrong and what
 * would be right; it holds no secret. */
MUST_CHECK bool site_config_judge(const struct config *config, const struct config_route *route,
                                  const struct site_settings *settings, char *error);

/* Whether streams of the site may come to this route: its pattern does not exclude it, and none
 * before it takes them all. */
bool site_config_concerns(const struct config *config, const struct config_route *route,
                          const char *site);
/* Why a site cannot be carried as its settings want it, on one of its routes; NULL: it can. */
const char *site_config_fault(const struct config *config, const char *site);

/* The route of a stream that takes this route of the file: itself, or what was made of it. */
const struct config_route *site_config_route(const struct config *config,
                                             const struct config_route *route, const char *stream);

/* A site that could be used in the one configuration and cannot in the other; NULL: none. */
const struct config_route *site_config_worse(const struct config *now, const struct config *next);

#endif
