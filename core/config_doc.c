/*
 * The reference and the sample, made from the key table: what they say is what is read.
 */
#include <string.h>

#include "core/config_private.h"

/* A text between backticks in a cell of a table. */
static void write_code(const char *text, FILE *out)
{
    fputc('`', out);
    for (; *text != '\0'; text++) {
        if (*text == '|')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('`', out);
}

static void write_default(const struct config_key *key, FILE *out)
{
    if (key->required)
        fputs("required", out);
    else if (key->fallback[0] == '\0')
        fputs("empty", out);
    else if (key->type == CONFIG_TYPE_PATTERNS)
        fprintf(out, "`[\"%s\"]`", key->fallback);
    else
        write_code(key->fallback, out);
}

static void write_key_row(const struct config_key *key, FILE *out)
{
    char path[CONFIG_PATH_TEXT];
    config_table_path(key->section, key->name, path);
    fprintf(out, "| `%s` | %s | ", path, config_type_name(key->type));
    write_default(key, out);
    fputs(" | ", out);
    config_range_write(key, out);
    fprintf(out, " | %s |\n", key->help);
}

void config_write_reference(FILE *out)
{
    size_t count = 0;
    const struct config_key *keys = config_keys(&count);
    fputs("| Key | Type | Default | Range | Meaning |\n", out);
    fputs("| --- | --- | --- | --- | --- |\n", out);
    for (size_t section = 0; section < CONFIG_SECTION_COUNT; section++) {
        const struct config_section_info *info = config_section_info((enum config_section)section);
        if (info->is_list)
            fprintf(out, "| `%s` | list | %s | %zu to %zu items | %s |\n", info->name,
                    info->required        ? "required"
                    : info->smallest == 0 ? "none"
                                          : "one item",
                    info->smallest, info->largest, info->help);
        for (size_t i = 0; i < count; i++)
            if (keys[i].section == section)
                write_key_row(&keys[i], out);
    }
}

/* ---- The sample --------------------------------------------------------------------------- */

static void write_value(const struct config_key *key, FILE *out)
{
    const char *text = key->fallback;
    bool is_plain = strpbrk(text, "{}*") == NULL;
    if (key->type == CONFIG_TYPE_PATTERNS)
        fprintf(out, " [\"%s\"]", text);
    else if (text[0] != '\0')
        fprintf(out, is_plain ? " %s" : " \"%s\"", text);
}

/* Where a line of the sample begins. */
struct margin {
    size_t depth;
    bool in_item; /* the next key is the first of a list's item */
};

/* What explains is indented like what it explains; a key that is commented out has its '#' in the
 * first column instead: taking the '#' away, and nothing else, makes it count. */
static void write_key(const struct config_key *key, struct margin *margin, FILE *out)
{
    int indent = (int)margin->depth * 2;
    fprintf(out, "%*s# %s (", indent, "", key->help);
    config_range_write(key, out);
    fprintf(out, ")\n%s%*s%s%s:", key->required ? "" : "#", margin->in_item ? indent - 2 : indent,
            "", margin->in_item ? "- " : "", key->name);
    write_value(key, out);
    fputc('\n', out);
    margin->in_item = false;
}

static void write_section_head(const struct config_section_info *info, size_t depth, bool is_inner,
                               FILE *out)
{
    int indent = info->is_list ? 0 : (int)(depth - 1) * 2;
    fprintf(out, "%s%*s# %s\n", is_inner ? "" : "\n", indent, "", info->help);
    fprintf(out, "%s%*s%s:\n", is_inner ? "#" : "", indent, "", info->name);
}

static void write_section(enum config_section section, size_t depth, FILE *out)
{
    const struct config_section_info *info = config_section_info(section);
    size_t count = 0;
    const struct config_key *keys = config_keys(&count);
    bool is_root = section == CONFIG_SECTION_ROOT;
    bool is_inner = !is_root && info->parent != CONFIG_SECTION_ROOT;
    struct margin margin = {.depth = depth, .in_item = info->is_list};
    if (!is_root)
        write_section_head(info, depth, is_inner, out);
    for (size_t i = 0; i < count; i++)
        if (keys[i].section == section)
            write_key(&keys[i], &margin, out);
    for (size_t i = CONFIG_SECTION_ROOT + 1; i < CONFIG_SECTION_COUNT; i++) {
        const struct config_section_info *inner = config_section_info((enum config_section)i);
        if (inner->parent == section)
            write_section(inner->id, depth + (inner->is_list ? 2 : 1), out);
    }
}

void config_write_sample(FILE *out)
{
    fputs("# Configuration of nemogate. Where a line begins with '#', a key shows its default:\n"
          "# take the '#' away to change it. ${NAME} is replaced by that variable of the\n"
          "# environment, $$ is a dollar. Passwords belong in files.\n\n",
          out);
    write_section(CONFIG_SECTION_ROOT, 0, out);
}
