/*
 * Patterns of stream names, as Redis' SCAN MATCH has them, so that a stream that Redis finds is
 * also one that a route takes. Redis tries every place for every star, which is exponential; here
 * a failed try goes back to the last star only, which finds the same.
 */
#include <stdio.h>
#include <string.h>

#include "core/config.h"
#include "core/site_config.h"

/* Whether a class, which begins behind its '[', holds c; *end is what follows the class. The ways
 * of Redis at the edges: an unclosed class ends with the pattern, and ']' always closes. */
static bool class_holds(const char *at, char c, const char **end)
{
    bool negated = *at == '^';
    bool held = false;
    if (negated)
        at++;
    while (*at != '\0' && *at != ']') {
        if (at[0] == '\\' && at[1] != '\0') {
            held = held || at[1] == c;
            at += 2;
        } else if (at[1] == '-' && at[2] != '\0') {
            char low = at[0] < at[2] ? at[0] : at[2];
            char high = at[0] < at[2] ? at[2] : at[0];
            held = held || (c >= low && c <= high);
            at += 3;
        } else {
            held = held || *at == c;
            at++;
        }
    }
    *end = *at == ']' ? at + 1 : at;
    return held != negated;
}

/* Whether the first item of the pattern, not a star, takes c; *rest is what follows it. */
static bool item_takes(const char *pattern, char c, const char **rest)
{
    if (*pattern == '[')
        return class_holds(pattern + 1, c, rest);
    if (pattern[0] == '\\' && pattern[1] != '\0')
        pattern++;
    else if (*pattern == '?') {
        *rest = pattern + 1;
        return true;
    }
    *rest = pattern + 1;
    return *pattern == c;
}

bool config_pattern_matches(const char *pattern, const char *name)
{
    const char *after_star = NULL; /* where to try again, and from which character */
    const char *retry = NULL;
    while (*name != '\0') {
        const char *rest = NULL;
        if (*pattern == '*') {
            after_star = ++pattern;
            retry = name;
        } else if (*pattern != '\0' && item_takes(pattern, *name, &rest)) {
            pattern = rest;
            name++;
        } else if (after_star != NULL) {
            pattern = after_star;
            name = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

/* What is left of the pattern when its items, up to a star, have taken the text; NULL: they do not.
 */
static const char *take_text(const char *pattern, const char *text)
{
    while (*text != '\0' && *pattern != '*') {
        if (*pattern == '\0' || !item_takes(pattern, *text++, &pattern))
            return NULL;
    }
    return pattern;
}

bool config_pattern_may_take(const char *pattern, const char *site)
{
    char tag[64];
    snprintf(tag, sizeof tag, "{%s}", site);
    for (const char *at = pattern, *rest; *at != '\0'; at = rest) {
        if (take_text(at, tag) != NULL)
            return true;
        if (item_takes(at, '{', &rest) && *at != '?' && *at != '[')
            return false; /* the tag is another one */
    }
    return false;
}

bool config_pattern_takes_all(const char *pattern, const char *site)
{
    char text[64];
    snprintf(text, sizeof text, "nemo:{%s}:", site);
    const char *rest = take_text(pattern, text);
    return rest != NULL && strcmp(rest, "*") == 0;
}

bool config_is_pattern(const char *text)
{
    return strpbrk(text, "*?[") != NULL;
}

const struct config_route *config_file_route_of(const struct config *config, const char *stream)
{
    for (size_t i = 0; i < config->route_count - config->site_route_count; i++)
        if (config_pattern_matches(config->routes[i].streams, stream))
            return &config->routes[i];
    return NULL;
}

const struct config_route *config_route_of(const struct config *config, const char *stream)
{
    const struct config_route *route = config_file_route_of(config, stream);
    return route != NULL ? site_config_route(config, route, stream) : NULL;
}
